"""DeepLab-v3 on a dilated ResNet, a comparator of Li et al. 2020 (figure 5).

Paper: Chen et al. 2017 (arXiv 1706.05587), as segmentation_models_pytorch carries it: features at stride 8,
atrous spatial pyramid pooling at rates 12, 24, 36 with image pooling, 256 channels, bilinear upsampling.

What differs: 1-channel stem, one logit, no auxiliary head, He initialisation like every model here. On a
128 px patch the feature map has 16 x 16 positions, so rates 24 and 36 see mostly padding: the paper's
comparison is kept as it is. `encoder_weights: imagenet` is a named ablation; the default is random.

Trap: the image-pooling branch has a batch norm over one value per patch, so training on a batch of one
raises; the last, smaller batch of an epoch must hold two patches or be dropped.

ResNet-18: 15.9 M parameters, 4.2 G multiply-adds per 128 x 128 patch; 34: 26.0 M, 6.8 G; 50: 39.6 M, 10.2 G;
101: 58.6 M, 15.0 G.

    - {class_path: models.deeplabv3.DeepLabV3, init_args: {backbone: resnet18}}
"""

from typing import Unpack

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional

from models.encoders import OUTPUT_STRIDE, Backbone, EncoderWeights, check_encoder
from models.initialisation import initialise
from models.segmentation import SegmentationModule, TrainingOptions


class DeepLabV3Net(nn.Module):
    """The plain network: (B, 1, H, W) float32 to logits (B, 1, H, W); sides of any size."""

    def __init__(self, backbone: str, encoder_weights: str | None) -> None:
        super().__init__()
        whole = smp.DeepLabV3(
            backbone,
            encoder_weights=encoder_weights,
            encoder_output_stride=OUTPUT_STRIDE,
            in_channels=1,
            classes=1,
        )
        # smp's own forward refuses sides that are no multiple of 8; its parts do not.
        self.encoder = whole.encoder
        self.decoder = whole.decoder
        self.head = whole.segmentation_head[0]

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        coarse = self.head(self.decoder(self.encoder(images)))
        return functional.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)


class DeepLabV3(SegmentationModule):
    """DeepLab-v3 on a ResNet at output stride 8; train with two patches or more per batch.

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

    net: DeepLabV3Net

    def build_net(self) -> DeepLabV3Net:
        """The network that `hparams` describe."""
        return DeepLabV3Net(self.hparams["backbone"], self.hparams["encoder_weights"])

    def initialise(self) -> None:
        """Fresh weights everywhere but in an encoder that came with its own."""
        if self.hparams["encoder_weights"] is None:
            initialise(self.net)
        else:
            initialise(self.net.decoder)
            initialise(self.net.head)
