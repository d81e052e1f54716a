"""Heights of the rows' lines as a network gives them, where it gives more than a mask (`models.heights`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from lightning_app.digitize.trace import Edges
from models.heights import HALVES, expected_heights
from models.lead_ends import KINDS

BEYOND_PX = 2.5  # of the ink; networks learn with more (`models.heights.REACH_PX`), 2.5 to 6 px read alike

Array = NDArray[np.float32]
Heights = NDArray[np.float64]


def probability_of(maps: Array) -> Array:
    """The probability of waveform, (H, W), among the maps of a network.

    Args:
        maps: (H, W), or (C, H, W) with the probability first.
    """
    return maps if maps.ndim == 2 else maps[0]


def lines_of(maps: Array) -> Array | None:
    """What the maps say of lines, (4, H, W): weights of the halves of columns, begins and ends; or None."""
    return maps[1:] if maps.ndim == 3 and len(maps) == 1 + HALVES + KINDS else None


def read_heights(lines: Array, bands: Sequence[Edges]) -> tuple[Heights, ...]:
    """Height of each row in the halves of the columns.

    Args:
        lines: (4, H, W) from `lines_of`.
        bands: The ink of each row, in the same pixels.

    Returns:
        Per row (2 W,) y in px, NaN where it has no ink.
    """
    return tuple(_heights_of(lines[:HALVES], band) for band in bands)


def _heights_of(weights: Array, band: Edges) -> Heights:
    # A line that is steep in a column may lie in the ink of the next one.
    top = minimum_filter1d(np.nan_to_num(band.top, nan=np.inf), 3) - BEYOND_PX
    bottom = maximum_filter1d(np.nan_to_num(band.bottom, nan=-np.inf), 3) + BEYOND_PX
    has_ink = np.isfinite(band.top)
    heights = np.full(HALVES * len(top), np.nan)
    if not has_ink.any():
        return heights
    first = max(0, int(np.floor(top[has_ink].min())))
    piece = torch.from_numpy(np.ascontiguousarray(weights[:, first : int(bottom[has_ink].max()) + 2]))
    looked_at = (
        torch.from_numpy(np.repeat(np.where(has_ink, edge - first, np.nan), HALVES)).float()[None, None]
        for edge in (top, bottom)
    )
    heights[:] = expected_heights(piece[None], *looked_at)[0, 0].numpy() + first
    return heights


def half_columns(first: int, stop: int) -> NDArray[np.float64]:
    """Middles of the halves of the columns `first` to `stop - 1`, in px."""
    return first - 0.5 + (np.arange(HALVES * (stop - first)) + 0.5) / HALVES
