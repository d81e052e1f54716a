"""HalfUNet, a residual U-Net that computes at half resolution and answers at full resolution.

Made for reading pages on a processor without a GPU. The pixels of every 2 x 2 square enter as four channels
(Shi et al. 2016, arXiv 1609.05158, in reverse) and leave the same way, so a stroke one pixel wide keeps its
place, while no convolution runs at full resolution, where a U-Net spends most of its time for the fewest
channels. The saving buys depth: the lowest of the five scales sees 32 x 32 pixels as one, enough to tell a
line of text or a grid from a trace.

    in      2 x 2 pixels to 4 channels, 3x3 conv to `width`
    down    residual blocks of 1, 2, 4, 6 and 8 times `width` channels, stride 2 between scales
    up      1x1 conv, bilinear x2, concatenation with the skip, residual block
    out     1x1 conv to 4 channels, 4 channels to 2 x 2 pixels

What differs from ResUNet-CBAM besides: no attention, because a gate that averages over the window makes a
pixel's answer depend on where the window lies; windows of 256 px, for the same reason of context; AdamW with
one cycle of the learning rate (Smith and Topin 2018, arXiv 1708.07120) in place of AdaBound, because a
training of an hour must end at a low rate.

Width 24: 3.4 M parameters, 0.51 G multiply-adds per 128 x 128 patch (ResUNet-CBAM of width 16: 1.04 G), and a
training step on one core takes 0.3 of that network's time.

    - {class_path: models.half_unet.HalfUNet, init_args: {width: 24}}
"""

import itertools
import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.resunet_cbam import MIN_WIDTH, ConvNorm, down_and_up
from models.segmentation import SegmentationModule, TrainingOptions

SCALES = (1, 2, 4, 6, 8)  # channels over width, from half resolution to a thirty-second
WARM_UP = 0.1  # share of the steps in which the learning rate rises


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.second = ConvNorm(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the block, rectified."""
        branch = self.second(functional.relu(self.first(features)))
        return functional.relu(branch + self.shortcut(features))


class Up(nn.Module):
    """One scale up, joined with the encoder's features of that scale."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.narrow = ConvNorm(inputs, outputs, 1)
        self.block = Block(2 * outputs, outputs)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """(B, inputs, h, w) and skip (B, outputs, H, W) to (B, outputs, H, W)."""
        narrow = functional.relu(self.narrow(features))
        larger = functional.interpolate(narrow, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        joined: Tensor = self.block(torch.cat([larger, skip], dim=1))
        return joined


class HalfResolutionUNet(nn.Module):
    """The plain network: (B, 1, H, W) float32 to logits (B, maps, H, W), any size."""

    def __init__(self, width: int, maps: int = 1) -> None:
        super().__init__()
        widths = [width * scale for scale in SCALES]
        self.enter = ConvNorm(4, width, 3)
        self.first = Block(width, width)
        self.down = nn.ModuleList(
            nn.Sequential(Block(narrow, wide, stride=2), Block(wide, wide))
            for narrow, wide in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            Up(wide, narrow) for narrow, wide in reversed(list(itertools.pairwise(widths)))
        )
        self.head = nn.Conv2d(width, 4 * maps, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (B, 1, H, W)."""
        height, width = images.shape[-2:]
        even = functional.pad(images, (0, width % 2, 0, height % 2))
        features = self.first(functional.relu(self.enter(functional.pixel_unshuffle(even, 2))))
        joined = down_and_up(features, self.down, self.up)
        logits: Tensor = functional.pixel_shuffle(self.head(joined), 2)
        return logits[..., :height, :width]


class HalfUNet(SegmentationModule):
    """U-Net at half resolution, trained with AdamW and one cycle of the learning rate.

    Args:
        width: channels at half resolution; the lowest scale has eight times as many.
        weight_decay: AdamW's.
        **training: see `TrainingOptions`; `final_lr` and `gamma` belong to AdaBound and have no part here.

    Example:
        >>> model = HalfUNet(width=16)
        >>> tuple(model(torch.zeros(2, 1, 64, 64)).shape)
        (2, 1, 64, 64)
    """

    window_px = 256

    def __init__(
        self, *, width: int = 24, weight_decay: float = 1e-2, **training: Unpack[TrainingOptions]
    ) -> None:
        if width < MIN_WIDTH:
            raise ValueError(f"got width {width}; wanted {MIN_WIDTH} or more, see MIN_WIDTH")
        super().__init__(**training)

    def build_net(self) -> nn.Module:
        """The network that `hparams` describe."""
        return HalfResolutionUNet(self.hparams["width"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; its rate is set step by step, see `on_train_batch_start`."""
        return torch.optim.AdamW(
            self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"]
        )

    def on_train_start(self) -> None:
        """Find out how long the training will be."""
        self._all_steps = int(self.trainer.estimated_stepping_batches)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step, which depends on its number alone."""
        rate = self.hparams["lr"] * one_cycle(self.global_step / self._all_steps)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate


def one_cycle(progress: float) -> float:
    """Share of the highest learning rate: a straight rise, then half a cosine down to nothing.

    Args:
        progress: share of the training that is done, 0 to 1.

    Example:
        >>> one_cycle(WARM_UP), one_cycle(1.0)
        (1.0, 0.0)
    """
    if progress < WARM_UP:
        return max(progress, 1e-3) / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1.0 - WARM_UP))
