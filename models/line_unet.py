"""LineUNet, a HalfUNet that also says where the line of each trace runs, begins and ends.

Beside the mask's logits the head gives, for every pixel, two weights that tell the height of a line in both
halves of a column (`models.heights`) and two logits for where leads begin and end (`models.lead_ends`), at a
cost of 0.3 % more multiply-adds. They are trained on the lines themselves, where a datamodule gives them
(`datamodules.traced.TracedScans`): by the distance in px, which is what a signal's error is made of, unlike
Dice, to which a steep stroke that lies half a pixel off is nearly perfect.

    - {class_path: models.line_unet.LineUNet, init_args: {width: 24}}
"""

from typing import Unpack

import torch
from torch import Tensor, nn

from models.half_unet import HalfResolutionUNet, HalfUNet
from models.heights import HALVES, height_loss
from models.lead_ends import KINDS, UNLIKELY, ends_loss
from models.segmentation import TrainingOptions

# In a network that has learnt most of it no part outweighs another: .12, .09 and .12 on pages held out.
HEIGHT_WEIGHT = 0.3  # per px
ENDS_WEIGHT = 0.03  # per point; the first choice, see `ends_weight`


class LineUNet(HalfUNet):
    """HalfUNet with maps for the height of the line and for the ends of leads.

    Batches may hold more than image and mask, see `datamodules.traced`:

    - `heights` (B, R, 2 P) float32: y of up to R lines in every half column of the patch, px, else NaN;
    - `begins`, `stops` (B, R, 2) float32: x, y of the first and last point of each, px, else NaN;
    - `is_traced` (B,) bool: patches of which all these are known.

    Args:
        width: As for `HalfUNet`.
        weight_decay: As for `HalfUNet`.
        ends_weight: Weight of the loss of leads' ends, per point, beside that of the mask.
        **training: As for `HalfUNet`.

    Example:
        >>> model = LineUNet(width=16)
        >>> images = torch.zeros(2, 1, 64, 64)
        >>> tuple(model(images).shape), tuple(model.maps(images).shape)
        ((2, 1, 64, 64), (2, 5, 64, 64))
    """

    def __init__(
        self,
        *,
        width: int = 24,
        weight_decay: float = 1e-2,
        ends_weight: float = ENDS_WEIGHT,
        **training: Unpack[TrainingOptions],
    ) -> None:
        if ends_weight < 0:
            raise ValueError(f"got ends_weight {ends_weight}; wanted 0 or more")
        super().__init__(width=width, weight_decay=weight_decay, **training)

    def build_net(self) -> nn.Module:
        """The network that `hparams` describe, with all its maps."""
        return HalfResolutionUNet(self.hparams["width"], maps=1 + HALVES + KINDS)

    def initialise(self) -> None:
        """First weights; ends are unlikely everywhere, or their maps would outweigh the mask at first."""
        super().initialise()
        net = self.net
        assert isinstance(net, HalfResolutionUNet)
        assert net.head.bias is not None
        with torch.no_grad():
            net.head.bias[-4 * KINDS :] = UNLIKELY  # four channels a map, one for each pixel of a square

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the mask, (B, 1, H, W), of images (B, 1, H, W) float32, 0 = paper, 1 = ink."""
        logits: Tensor = self.net(images)[:, :1]
        return logits

    def maps(self, images: Tensor) -> Tensor:
        """(B, 5, H, W) float32: waveform in [0, 1], weights of both halves, begins and ends in [0, 1]."""
        mask, weights, ends = self.net(images).float().split((1, HALVES, KINDS), dim=1)
        return torch.cat([mask.sigmoid(), weights, ends.sigmoid()], dim=1)

    def batch_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Loss of the mask, and of the lines where they are known."""
        mask, weights, ends = self.net(batch["image"]).split((1, HALVES, KINDS), dim=1)
        loss = self.loss(mask, batch["mask"])
        if "heights" not in batch:
            return loss
        of_heights = height_loss(weights, batch["heights"])
        of_ends = ends_loss(ends, batch["begins"], batch["stops"], batch["is_traced"])
        ends_weight: float = self.hparams["ends_weight"]
        return loss + HEIGHT_WEIGHT * of_heights + ends_weight * of_ends
