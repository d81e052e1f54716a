"""FCN on a dilated ResNet, a comparator of Li et al. 2020 (figure 5).

Paper: Long et al. 2015, in the form that torchvision carries: features at stride 8, one 3x3 convolution to a
quarter of the channels, dropout 0.1, a 1x1 convolution, bilinear upsampling to the input's size.

What differs from torchvision: 1-channel stem, one logit, no auxiliary head, ResNet-18 and -34 dilated like
the deeper ones (PROTOCOL R20), and He initialisation like every model here. `encoder_weights: imagenet` is a
named ablation; the default is random.

ResNet-18: 11.8 M parameters, 3.1 G multiply-adds per 128 x 128 patch; 34: 21.9 M, 5.8 G; 50: 32.9 M, 8.6 G;
101: 51.9 M, 13.5 G.

    - {class_path: models.fcn.FCN, init_args: {backbone: resnet18}}
"""

from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.fcn import FCNHead

from models.encoders import Backbone, EncoderWeights, build_encoder, check_encoder, last_channels
from models.initialisation import initialise
from models.segmentation import SegmentationModule, TrainingOptions


class FCNNet(nn.Module):
    """The plain network: (B, 1, H, W) float32 to logits (B, 1, H, W); sides of any size."""

    def __init__(self, backbone: str, encoder_weights: str | None) -> None:
        super().__init__()
        self.encoder = build_encoder(backbone, encoder_weights)
        self.head = FCNHead(last_channels(self.encoder), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        features: list[Tensor] = self.encoder(images)
        coarse: Tensor = self.head(features[-1])
        return functional.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)


class FCN(SegmentationModule):
    """Fully convolutional network on a ResNet at output stride 8.

    Args:
        backbone: depth of the ResNet.
        encoder_weights: None (random, like all models) or "imagenet" (ablation; needs the weights at hand).
        **training: see `TrainingOptions`.
    """

    def __init__(
        self,
        *,
        backbone: Backbone = "resnet18",
        encoder_weights: EncoderWeights = None,
        **training: Unpack[TrainingOptions],
    ) -> None:
        check_encoder(backbone, encoder_weights)
        super().__init__(**training)

    net: FCNNet

    def build_net(self) -> FCNNet:
        """The network that `hparams` describe."""
        return FCNNet(self.hparams["backbone"], self.hparams["encoder_weights"])

    def initialise(self) -> None:
        """Fresh weights everywhere but in an encoder that came with its own."""
        initialise(self.net if self.hparams["encoder_weights"] is None else self.net.head)
