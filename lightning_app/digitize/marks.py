"""Lead-change marks: strokes across a row where one lead ends and the next begins.

Carts print ticks above and below the trace, or a bar through it, at every change of lead. Where a page has
them they stand in all rows at the same few times, which pins the start of the record down to a fraction of
a pixel even where the rows' own ends are lost among letters, pulses and grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

Array = NDArray[np.float32]

REACHES_MM = ((-6.0, -2.0), (2.0, 6.0))  # where ticks and bars are seen beside the trace
SURROUNDINGS_PX = 15
SEARCH_S = 0.15  # rows begin within this of where their ends say
STEP_PX = 0.25
APART_PX = 4.0
MARKED_SHARE = 0.75  # of all changes
# Of a column on either side of the trace, beyond its surroundings; rendered marks show .27 and more.
MIN_INK = 0.2
MAX_RIVAL = 0.4  # of that ink, at any other start
DRAWN_PX = 0.15  # standard deviation of marks: printed ones are exact, software puts them on whole pixels
LETTERS = 0.01  # how likely letters are taken for marks, over what marks at their place are
RIM = 0.25  # of a mark's ink; fainter columns beside it do not count for its middle


def start_from_marks(
    dark: Array,
    changes: list[tuple[float, float]],
    start_px: float,
    px_per_s: float,
    px_per_mm: float,
) -> float | None:
    """Find where the record begins by the marks of a page's changes of lead.

    Args:
        dark: (H, W) darkness of the straight page in [0, 1], its grid taken out.
        changes: Per change of lead the level of its row, v in px, and its time from the row's left end, s.
        start_px: Where the record begins by the ends of the rows, u in px.
        px_per_s: Time scale.
        px_per_mm: Voltage axis.

    Returns:
        U of the record's first sample; None where the changes are not marked, or another start would do.
    """
    if not changes:
        return None
    offsets = np.arange(-SEARCH_S * px_per_s, SEARCH_S * px_per_s + STEP_PX, STEP_PX)
    profiles = {v_px: _mark_profile(dark, v_px, px_per_mm) for v_px, _ in changes}
    columns = np.arange(dark.shape[1])
    seen = np.stack(
        [
            np.interp(start_px + time_s * px_per_s + offsets, columns, profiles[v_px])
            for v_px, time_s in changes
        ]
    )
    # What three of four changes show at least: a QRS or a letter stands at one of them, a mark at all.
    most = np.quantile(seen, 1 - MARKED_SHARE, axis=0)
    best = int(most.argmax())
    rival = most[np.abs(offsets - offsets[best]) > APART_PX].max(initial=0.0)
    if most[best] < MIN_INK or rival > MAX_RIVAL * most[best]:
        return None
    ink = seen.mean(axis=0)
    weight = np.clip(ink - RIM * ink[best], 0.0, None) * (np.abs(offsets - offsets[best]) <= APART_PX / 2)
    return start_px + float((offsets * weight).sum() / weight.sum())


def marks_evidence(offset_px: float, offsets_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """How likely a record with these marks begins elsewhere.

    Args:
        offset_px: Where its marks say that it begins.
        offsets_px: (k,) starts to judge, from the same place.

    Returns:
        (k,) logarithms of likelihoods, but for a constant.
    """
    return np.asarray(np.log(LETTERS + np.exp(-0.5 * ((offsets_px - offset_px) / DRAWN_PX) ** 2)))


def _mark_profile(dark: Array, v_px: float, px_per_mm: float) -> NDArray[np.float64]:
    """(W,) ink both above and below a row's level, beyond that of the columns around.

    Names of leads stand at the changes, too, but on one side of the row.
    """
    sides = []
    for above_mm, below_mm in REACHES_MM:
        top = max(round(v_px + above_mm * px_per_mm), 0)
        bottom = min(round(v_px + below_mm * px_per_mm), dark.shape[0])
        ink = dark[top:bottom].mean(axis=0) if bottom - top >= 2 else np.zeros(dark.shape[1])
        sides.append(ink - median_filter(ink, SURROUNDINGS_PX))
    return np.asarray(np.minimum(*sides), dtype=np.float64)
