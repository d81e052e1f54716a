"""ResNet encoders at output stride 8, the same for every comparator (PROTOCOL R20).

torchvision cannot dilate ResNet-18 and -34; these encoders can, so no depth sees a coarser grid than another.
"""

from copy import deepcopy
from typing import Literal

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
EncoderWeights = Literal["imagenet"] | None
BACKBONES: tuple[str, ...] = ("resnet18", "resnet34", "resnet50", "resnet101")
OUTPUT_STRIDE = 8


def check_encoder(backbone: str, encoder_weights: str | None) -> None:
    """Refuse an unknown backbone or start before anything is built.

    Raises:
        ValueError: names what was got and what is there.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"got backbone {backbone!r}; wanted one of {', '.join(BACKBONES)}")
    if encoder_weights not in (None, "imagenet"):
        raise ValueError(f"got encoder_weights {encoder_weights!r}; wanted None or 'imagenet'")


def build_encoder(backbone: str, encoder_weights: str | None) -> nn.Module:
    """ResNet with a 1-channel stem: (B, 1, H, W) to a list of features, the last at stride 8.

    Args:
        backbone: see `Backbone`.
        encoder_weights: "imagenet" fetches weights when they are not on this machine; None never does.
    """
    encoder: nn.Module = smp.encoders.get_encoder(
        backbone, in_channels=1, weights=encoder_weights, output_stride=OUTPUT_STRIDE
    )
    return encoder


def output_stride(module: nn.Module) -> int | None:
    """Measure how much coarser than the page a model's ResNet sees it, by a forward pass without numbers.

    Args:
        module: Any model, best built under `torch.device("meta")`.

    Returns:
        Side of the input over side of the deepest features; None for a model without such an encoder.
    """
    encoder = next(
        (
            part
            for part in module.modules()
            if hasattr(part, "out_channels") and hasattr(part, "output_stride")
        ),
        None,
    )
    if encoder is None:
        return None
    size_px = 128
    with torch.no_grad():
        features: list[Tensor] = (
            deepcopy(encoder).to("meta").eval()(torch.zeros(1, 1, size_px, size_px, device="meta"))
        )
    return size_px // features[-1].shape[-1]


def last_channels(encoder: nn.Module) -> int:
    """Channels of the encoder's deepest features: 512 or 2048."""
    channels: list[int] = encoder.out_channels  # type: ignore[assignment]
    return channels[-1]
