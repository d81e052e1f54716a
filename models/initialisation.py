"""The one rule by which every network gets its first weights, so that no model starts ahead (PROTOCOL R20)."""

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draw fresh weights in place: He et al. 2015 (normal, fan out) for convolutions, 1 and 0 for norms.

    torchvision's ResNets use this rule; here it also covers decoders and heads, where the libraries
    each have their own. Draws from torch's global generator: seed it first.

    Args:
        network: any module; layers that are neither convolution, linear nor norm keep what they have.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm) and layer.weight is not None:
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
