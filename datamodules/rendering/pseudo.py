"""Plain pseudo-noisy scans, only good enough to pre-train on (Li et al. 2020, section 2.2).

All leads on a binary page at the common scale, a thin or thick grid, and pepper-and-salt noise. Every
signal is drawn in six variants: two grids times three amounts of noise (PROTOCOL R15, R16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from datamodules.geometry import IDENTITY
from datamodules.layout import Layout
from datamodules.rendering.pages import RenderedPage, draw_mask
from datamodules.rendering.placement import Sheet, place
from datamodules.signals import Recording

HEIGHT_PX, WIDTH_PX = 886, 1120  # Li et al. 2020, section 2.1
PX_PER_MM = 4
PX_PER_S, PX_PER_MV = 100.0, 40.0
GRID_PITCH_PX = 5 * PX_PER_MM
NOISE_AMOUNTS = (0.02, 0.05, 0.10)
GRID_LINE_PX = {"thin": 1, "thick": 2}
STROKES_PX = (1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Variant:
    """One of the six ways a signal is drawn.

    Attributes:
        grid: Its lines are 1 or 2 px wide, 5 mm apart.
        amount: Share of pixels that are overwritten, half of them with ink.
        stroke_px: Stroke width.
    """

    grid: Literal["thin", "thick"]
    amount: float
    stroke_px: float


def variants(signal_number: int) -> tuple[Variant, ...]:
    """The variants of a signal; strokes cycle over the amounts and start elsewhere for the next signal.

    Args:
        signal_number: Place of the signal among those of the cohort.

    Returns:
        Six variants.
    """
    return tuple(
        Variant(grid, amount, STROKES_PX[(place + signal_number) % len(STROKES_PX)])
        for grid in ("thin", "thick")
        for place, amount in enumerate(NOISE_AMOUNTS)
    )


VARIANTS_PER_SIGNAL = len(variants(0))


def render(recording: Recording, layout: Layout, rng: np.random.Generator, variant: Variant) -> RenderedPage:
    """Draw a recording plainly.

    Args:
        recording: What to draw, at least as long as the layout.
        layout: Which lead is where.
        rng: Source of grid phase and noise.
        variant: Grid, noise and stroke.

    Returns:
        The page, its mask and geometry; nothing is stretched or turned.
    """
    left = (WIDTH_PX - layout.duration_s * PX_PER_S) / 2
    sheet = Sheet(WIDTH_PX, HEIGHT_PX, left, 40.0, HEIGHT_PX - 40.0, PX_PER_S, PX_PER_MV)
    geometry = place(sheet, layout, IDENTITY, np.zeros(layout.n_rows))
    mask = draw_mask(recording, geometry, variant.stroke_px)
    ink = mask.astype(bool)
    for axis, phase in enumerate(rng.integers(0, GRID_PITCH_PX, 2)):
        lines = (np.arange(ink.shape[axis]) - phase) % GRID_PITCH_PX < GRID_LINE_PX[variant.grid]
        ink |= lines[:, None] if axis == 0 else lines[None, :]
    _add_noise(rng, ink, variant.amount)
    return RenderedPage(
        ink.view(np.uint8) * np.uint8(255), mask, geometry, True, variant.stroke_px, variant.grid
    )


def _add_noise(rng: np.random.Generator, ink: npt.NDArray[np.bool_], amount: float) -> None:
    """Overwrite a share of the pixels, half with ink and half with paper, in place."""
    draw = rng.random(ink.shape, dtype=np.float32)
    ink |= draw < amount / 2
    ink &= draw < 1.0 - amount / 2
