"""Find a layout on a page, coarsely: every piece votes for where the page begins and its row lies.

One short piece of a flat lead fits in many places. What is unique is the arrangement: pieces of a row
share a height, and all pieces share the column where the record starts. So each piece names its best
places over the whole page at half resolution, and the arrangement with the most support wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.annotation.templates import Piece, Scale, draw, mean_under

SHRINK = 2
TIME_SCALES = (0.97, 0.985, 1.0, 1.015, 1.03)  # Li et al. 2020 leave the range open; PROTOCOL R11
# Half-resolution px. Columns agree within a coarse scale step over half a page; rows within the drift
# of one degree of skew.
COLUMN_TOLERANCE = 4
ROW_TOLERANCE = 5
BORDER = 16
MIN_ROW_GAP_PX = 12


@dataclass(frozen=True)
class Support:
    """How well one piece fits at every place, at one scale.

    Attributes:
        map: (h, w) float32, ink standing out under the line.
        anchor_xy: Added to a place of the map, the half-resolution pixel of (start of the piece, 0 mV).
    """

    map: npt.NDArray[np.float32]
    anchor_xy: tuple[int, int]


@dataclass(frozen=True)
class Placement:
    """A layout placed on the page, in scan pixels.

    Attributes:
        scale: Time and voltage on the scan; without skew so far.
        x0_px: Column of the first second of the record.
        row_y_px: Row number to the y of 0 mV.
        score: Mean over the pieces of the ink standing out under their lines.
    """

    scale: Scale
    x0_px: float
    row_y_px: dict[int, float]
    score: float


def place_layout(
    ink: npt.NDArray[np.float32], pieces: Sequence[Piece], px_per_s: float, px_per_mv: float
) -> Placement | None:
    """Find the arrangement of all pieces that the page supports best.

    Args:
        ink: (H, W) float32 page, 0 = paper, 1 = ink.
        pieces: The layout's pieces, of all rows.
        px_per_s: Nominal scale; the page may be stretched by 3 %.
        px_per_mv: Nominal scale.

    Returns:
        The best placement, or None where the layout does not fit on the page at this scale.
    """
    small = cv2.resize(ink, None, fx=1 / SHRINK, fy=1 / SHRINK, interpolation=cv2.INTER_AREA)
    # A trace may begin at the very edge; templates have a margin.
    small = cv2.copyMakeBorder(_standing_out(small), *4 * (BORDER,), cv2.BORDER_CONSTANT, value=0.0)
    best: Placement | None = None
    for time_scale in TIME_SCALES:
        scale = Scale(px_per_s * time_scale / SHRINK, 0.0, -px_per_mv / SHRINK)
        found = _place_at(small, pieces, scale)
        if found is not None and (best is None or found.score > best.score):
            best = found
    return best


def increasing_heights(
    profiles: npt.NDArray[np.floating], min_gap: int
) -> tuple[npt.NDArray[np.intp], float]:
    """Choose one height per row, from top to bottom, with the largest sum.

    Args:
        profiles: (n_rows, H) support of each row at each height.
        min_gap: Smallest distance of two rows, in entries.

    Returns:
        (n_rows,) heights, strictly increasing, and the sum.
    """
    running = np.asarray(profiles, dtype=np.float64).copy()
    came_from = np.zeros(running.shape, dtype=np.intp)
    for row in range(1, len(running)):
        best_above = np.maximum.accumulate(running[row - 1])
        is_new_best = running[row - 1] >= best_above
        at = np.maximum.accumulate(np.where(is_new_best, np.arange(best_above.size), 0))
        running[row, min_gap:] += best_above[:-min_gap]
        running[row, :min_gap] = -np.inf
        came_from[row, min_gap:] = at[:-min_gap]
    heights = [int(np.argmax(running[-1]))]
    for row in range(len(running) - 1, 0, -1):
        heights.append(int(came_from[row, heights[-1]]))
    return np.array(heights[::-1]), float(running[-1].max())


def _standing_out(small: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # Ink in excess of its surroundings: neither a dense corner of the grid nor a block of text, where
    # any line finds ink, may outvote the trace.
    return np.asarray(small - 0.9 * cv2.GaussianBlur(small, (0, 0), 3.0), dtype=np.float32)


def _place_at(small: npt.NDArray[np.float32], pieces: Sequence[Piece], scale: Scale) -> Placement | None:
    """Try every start column at one scale; for each, the best heights of the rows."""
    supports = [_support(small, piece, scale) for piece in pieces]
    end_s = max(piece.start_s + float(piece.time_s[-1]) for piece in pieces)
    last_start = small.shape[1] - 2 * BORDER - end_s * scale.a
    rows = sorted({piece.row for piece in pieces})
    height = small.shape[0] - 2 * BORDER
    best: Placement | None = None
    for x0 in np.arange(-COLUMN_TOLERANCE, last_start + 2 * COLUMN_TOLERANCE, COLUMN_TOLERANCE):
        profiles = np.zeros((len(rows), height), dtype=np.float32)
        for piece, support in zip(pieces, supports, strict=True):
            column = round(float(x0 + piece.start_s * scale.a))
            profiles[rows.index(piece.row)] += _profile(support, column, height)
        heights, total = increasing_heights(profiles, MIN_ROW_GAP_PX // SHRINK)
        score = total / len(pieces)
        if best is None or score > best.score:
            row_y = {row: float(y) * SHRINK for row, y in zip(rows, heights, strict=True)}
            full = Scale(scale.a * SHRINK, 0.0, scale.d * SHRINK)
            best = Placement(full, float(x0) * SHRINK, row_y, score)
    return best


def _support(small: npt.NDArray[np.float32], piece: Piece, scale: Scale) -> Support:
    template = draw(piece, scale, width_px=2.0)
    x, y = template.anchor_xy
    if template.image.shape[0] > small.shape[0] or template.image.shape[1] > small.shape[1]:
        return Support(np.zeros((1, 1), np.float32), (x - BORDER, y - BORDER))
    found = mean_under(small, template)
    # Over one degree of skew a row drifts by a few pixels: its pieces need only nearly agree.
    kernel = np.ones((2 * ROW_TOLERANCE + 1, 2 * COLUMN_TOLERANCE + 1), np.uint8)
    return Support(np.asarray(cv2.dilate(found, kernel)), (x - BORDER, y - BORDER))


def _profile(support: Support, column: int, height: int) -> npt.NDArray[np.float32]:
    """(height,) support with the piece starting at a column; 0 where it would leave the page."""
    profile = np.zeros(height, dtype=np.float32)
    place = column - support.anchor_xy[0]
    if 0 <= place < support.map.shape[1]:
        first = max(0, support.anchor_xy[1])
        skip = first - support.anchor_xy[1]
        values = support.map[skip : skip + height - first, place]
        profile[first : first + values.size] = values
    return profile
