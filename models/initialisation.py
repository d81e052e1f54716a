"""The one rule by which every network gets its first weights, so that none starts ahead (PROTOCOL R20)."""

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draw fresh weights in place: He et al. 2015 (normal, fan in) for convolutions, 1 and 0 for norms.

    Fan in, not torchvision's fan out: a head with one output channel would start with weights of 1.4 and
    logits in the tens, and the focal loss at 5 instead of 0.2. Draws from torch's global generator: seed it
    first.

    Args:
        network: any module; layers that are neither convolution, linear nor norm keep what they have.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm) and layer.weight is not None:
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
