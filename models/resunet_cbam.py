"""ResUNet-CBAM, the network of Li et al. 2020: a residual U-Net with attention in every block.

Paper: Li et al. 2020 (doi 10.1016/j.compbiomed.2020.104077); CBAM: Woo et al. 2018; the details that the
text leaves open follow the network of the paper's supplement, smallest size ("resunet10", one block a stage).

    stem       7x7 conv, stride 1, 64 channels, BN, LeakyReLU(0.2)
    4 stages   128 / 256 / 512 / 1024 channels, stride 2 in the block
    4 ups      bilinear x2 (corners aligned), 3x3 conv, BN, LeakyReLU; concatenation with the skip; one block
    head       1x1 conv to one logit
    block      3x3 conv, BN, LeakyReLU, 3x3 conv, BN, CBAM, + shortcut (1x1 conv, BN), LeakyReLU

What differs: the supplement's network has the spatial gate off although the text says "CBAM"; here it is on
and `spatial_gate: false` gives the other. A decoder block carries one CBAM, on its branch as in the encoder:
a second one behind the block would make 36.4 M parameters, and the supplement's network has 36.3 M.

Width 64: 36.3 M parameters, 16.4 G multiply-adds per 128 x 128 patch; width 16: 2.3 M and 1.04 G.

    - {class_path: models.resunet_cbam.ResUNetCBAM, init_args: {width: 16}}
"""

from collections.abc import Iterable
from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.segmentation import SegmentationModule, TrainingOptions

NEGATIVE_SLOPE = 0.2
STAGES = 4
SPATIAL_KERNEL_PX = 7
MIN_WIDTH = 16  # torch 2.13 on CPUs with AMX corrupts memory in backward of narrower strided 1x1 convolutions

Downsample = Literal["stride", "maxpool"]


class ConvNorm(nn.Sequential):
    """Convolution without bias (the norm has one) and batch norm; keeps the size at stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel_px: int, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel_px, stride, padding=kernel_px // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs))


def activation() -> nn.LeakyReLU:
    """The network's only non-linearity besides the gates."""
    return nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)


class ChannelGate(nn.Module):
    """CBAM's channel attention (Woo et al. 2018, section 3.1): which channels matter, per patch.

    The same function as timm's `ChannelAttn` (held by a test); that one spends a third of a small network's
    time on a CPU, in 1x1 convolutions over a single pixel and in a maximum over channels-last memory.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W), every channel scaled by a factor in (0, 1)."""
        summaries = torch.cat([features.mean((2, 3)), _channel_maximum(features)])
        average, maximum = self.excite(self.squeeze(summaries).relu()).chunk(2)
        gate: Tensor = (average + maximum).sigmoid()[:, :, None, None]
        return features * gate


class SpatialGate(nn.Module):
    """CBAM's spatial attention (Woo et al. 2018, section 3.2): which pixels matter, over all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvNorm(2, 1, SPATIAL_KERNEL_PX)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W), every pixel scaled by a factor in (0, 1)."""
        summaries = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        gate: Tensor = self.conv(summaries).sigmoid()
        return features * gate


def _channel_maximum(features: Tensor) -> Tensor:
    """Maximum of every channel: (B, C, H, W) to (B, C), fast in channels-last memory too."""
    if features.is_contiguous():
        return features.amax((2, 3))
    # In two steps over long rows: torch reduces the short last axis of (B, H, W, C) one value at a time.
    batch, channels, _, width = features.shape
    rows = features.permute(0, 2, 3, 1).flatten(2)
    return rows.amax(1).view(batch, width, channels).amax(1)


def attention(channels: int, *, channel_gate: bool, spatial_gate: bool, reduction: int) -> nn.Module:
    """CBAM or the part of it that is switched on; keeps the shape."""
    gates: list[nn.Module] = []
    if channel_gate:
        gates.append(ChannelGate(channels, reduction))
    if spatial_gate:
        gates.append(SpatialGate())
    return nn.Sequential(*gates)


class Block(nn.Module):
    """Two 3x3 convolutions, attention, shortcut: (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, residual: bool, gates: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNorm(inputs, outputs, 3, stride), activation(), ConvNorm(outputs, outputs, 3), gates
        )
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module | None = None
        if residual:
            self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride)
        self.activation = activation()

    def forward(self, features: Tensor) -> Tensor:
        """Features of the block, rectified."""
        branch: Tensor = self.branch(features)
        if self.shortcut is not None:
            branch = branch + self.shortcut(features)
        rectified: Tensor = self.activation(branch)
        return rectified


class Up(nn.Module):
    """One decoder stage: twice the size, half the channels, joined with the encoder's of that size."""

    def __init__(self, channels: int, block: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Sequential(ConvNorm(channels, channels // 2, 3), activation())
        self.block = block

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """(B, C, h, w) and skip (B, C / 2, H, W) to (B, C / 2, H, W)."""
        # The skip's size instead of factor 2: the same for even sizes, and odd ones work too.
        larger = functional.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        joined: Tensor = self.block(torch.cat([self.conv(larger), skip], dim=1))
        return joined


def down_and_up(features: Tensor, down: Iterable[nn.Module], up: Iterable[nn.Module]) -> Tensor:
    """Run the stages of a U-Net: what enters a stage on the way down joins the way up at its size.

    Args:
        features: (B, C, H, W).
        down: Stages from features to smaller ones.
        up: As many stages from features and skip to features of the skip's size.
    """
    skips = []
    for stage in down:
        skips.append(features)
        features = stage(features)
    for stage in up:
        features = stage(features, skips.pop())
    return features


class ResUNet(nn.Module):
    """The plain network: (B, 1, H, W) float32 to logits (B, 1, H, W); sides of at least 16 px."""

    def __init__(
        self,
        width: int,
        *,
        channel_gate: bool,
        spatial_gate: bool,
        reduction: int,
        residual: bool,
        downsample: Downsample,
    ) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> Block:
            gates = attention(
                outputs, channel_gate=channel_gate, spatial_gate=spatial_gate, reduction=reduction
            )
            return Block(inputs, outputs, stride, residual=residual, gates=gates)

        def stage(inputs: int, outputs: int) -> nn.Module:
            if downsample == "stride":
                return block(inputs, outputs, stride=2)
            return nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), block(inputs, outputs))

        widths = [width * 2**depth for depth in range(STAGES + 1)]
        self.stem = nn.Sequential(ConvNorm(1, width, 7), activation())
        self.down = nn.ModuleList(stage(narrow, 2 * narrow) for narrow in widths[:-1])
        self.up = nn.ModuleList(Up(wide, block(wide, wide // 2)) for wide in reversed(widths[1:]))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.head(down_and_up(self.stem(images), self.down, self.up))
        return logits


class ResUNetCBAM(SegmentationModule):
    """Residual U-Net with CBAM (Li et al. 2020); the options beside `width` are named ablations.

    Args:
        width: channels of the stem, doubled by every stage; 64 = paper, 16 = small, for CPUs.
        spatial_gate: CBAM's spatial gate; off in the paper's supplement, on in its text.
        channel_gate: CBAM's channel gate.
        residual: shortcuts around the blocks.
        downsample: "stride" (the paper's) or "maxpool" (the plain U-Net's).
        reduction: ratio of CBAM's hidden layer.
        **training: see `TrainingOptions`.

    Example:
        >>> model = ResUNetCBAM(width=16)
        >>> tuple(model(torch.zeros(2, 1, 64, 64)).shape)
        (2, 1, 64, 64)
    """

    def __init__(
        self,
        *,
        width: int = 64,
        spatial_gate: bool = True,
        channel_gate: bool = True,
        residual: bool = True,
        downsample: Downsample = "stride",
        reduction: int = 8,
        **training: Unpack[TrainingOptions],
    ) -> None:
        if width < MIN_WIDTH:
            raise ValueError(f"got width {width}; wanted {MIN_WIDTH} or more, see MIN_WIDTH")
        if downsample not in ("stride", "maxpool"):
            raise ValueError(f"got downsample {downsample!r}; wanted 'stride' or 'maxpool'")
        if not 1 <= reduction <= width:
            raise ValueError(f"got reduction {reduction}; wanted 1 to width ({width})")
        super().__init__(**training)

    def build_net(self) -> nn.Module:
        """The network that `hparams` describe."""
        names = ("width", "channel_gate", "spatial_gate", "reduction", "residual", "downsample")
        return ResUNet(**{name: self.hparams[name] for name in names})
