"""What every generator of pages returns, and the label all of them draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datamodules.geometry import Geometry
from datamodules.layout import LEADS
from datamodules.rendering.strokes import stamp_mask
from datamodules.signals import Recording


@dataclass(frozen=True)
class RenderedPage:
    """A drawn page with its label and where everything lies.

    Attributes:
        image: (H, W) uint8 ink, 0 = paper and 255 = ink, of a binary page; else (H, W) uint8 grey or
            (H, W, 3) uint8 RGB, 255 = white.
        mask: (H, W) uint8, 1 = trace at its nominal stroke, clean and continuous.
        geometry: Where each lead was drawn.
        is_binary: Whether the image holds 0 and 255 only and goes into a 1-bit file.
        stroke_px: Nominal stroke width.
        grid: Kind of grid.
        off_px: Largest distance between the geometry and where a lead's zero lies; above 0 on pages that
            are bent or seen in perspective.
        jpeg_quality: Quality of the JPEG the page is stored as; None stores it unchanged.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    geometry: Geometry
    is_binary: bool
    stroke_px: float
    grid: str
    off_px: float = 0.0
    jpeg_quality: int | None = None


def traces(recording: Recording, geometry: Geometry) -> list[npt.NDArray[np.float64]]:
    """Points of every drawn stretch of lead on the scan, (n, 2) px each."""
    return [
        geometry.polyline(segment, recording.mv[LEADS.index(segment.lead)], recording.rate_hz)
        for segment in geometry.segments
    ]


def draw_mask(recording: Recording, geometry: Geometry, stroke_px: float) -> npt.NDArray[np.uint8]:
    """Draw the label: every trace clean and continuous (Li et al. 2020, section 2.2).

    Args:
        recording: The signals.
        geometry: Where they lie.
        stroke_px: Stroke width.

    Returns:
        (H, W) uint8 0/1.
    """
    mask = np.zeros((geometry.height, geometry.width), dtype=np.uint8)
    for points in traces(recording, geometry):
        stamp_mask(mask, points, stroke_px)
    return mask
