"""Rows of traces on a page: how many there are, where they lie and how they lean.

Every row crosses almost every pixel column once. So the number of runs of waveform that most columns
have is the number of rows, and the k-th run of those columns belongs to the k-th row, whatever the page's
skew; text, missing pieces and peaks that reach into the next row only spoil columns here and there.

The map of a young network spoils most columns: pieces of grid and text all over the page, breaks in the
traces. There rows are the heights at which ink is found over most of the page's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

WAVEFORM = 0.15  # Li et al. 2020, section 2.3; PROTOCOL R26: exactly 0.15 counts
MIN_WIDTH = 0.009  # of the page's width; shorter pieces are specks and letters; they do not help to find rows
MIN_AREA = 9e-6  # of the page's area: nine pixels of a million
MIN_ROW_SHARE = 0.2  # of the page's columns that must agree on the number of rows
MAX_EDGE_LINE = 0.008  # of the page's side
SIDE_MARGIN = 1.3
SURE_SHARE = 0.5  # of the columns that agree on a number: the page is clean, and they are right
SURE_SIDE = 0.35  # of the columns or rows that agree tell which way up a page is
BRIDGE = 0.013  # of the page's width: pieces of trace are that near to each other
MIN_PIECE = 0.06  # of the page's width: bridged pieces that are shorter are letters and bits of grid
BLOCK_PX = 8
STEEPEST = 0.125  # slope of rows, 7 degrees
SLOPES = 101
SHARPNESS = 6.0
LEVEL_SHARE = 0.012  # of the page's height: how far a trace at rest wanders from its level
MIN_OCCUPIED = 0.35  # of the page's width has ink at the level of a row
MIN_PITCH = 0.035  # of the page's height


@dataclass(frozen=True)
class Runs:
    """Vertical runs of waveform pixels, ordered by column, then from the top.

    Attributes:
        column: (n,) int, column of each run.
        top: (n,) int, its first row.
        bottom: (n,) int, its last row.
    """

    column: NDArray[np.intp]
    top: NDArray[np.intp]
    bottom: NDArray[np.intp]

    @property
    def middle(self) -> NDArray[np.float64]:
        """(n,) y between top and bottom."""
        return (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Rows:
    """The rows of a page.

    Attributes:
        y_px: (n,) y of each row's usual level where `slope` crosses the page's middle column.
        slope: Fall of the rows in px per px to the right.
        share: How sure they are: share of the columns that show exactly this many runs, or that have ink
            at the rows' levels.
        first_px: First column in which most rows have waveform.
        last_px: Last such column.
        drawn_px: Columns from the first to the last in which more than half of the rows have waveform: less
            paper between columns of leads, and time that is not drawn.
    """

    y_px: NDArray[np.float64]
    slope: float
    share: float
    first_px: int
    last_px: int
    drawn_px: int

    @property
    def skew_deg(self) -> float:
        """Turn of the page, positive = clockwise."""
        return float(np.degrees(np.arctan(self.slope)))

    @property
    def pitch_px(self) -> float:
        """Usual distance of neighbouring rows; a single row has the page's for want of another."""
        return float(np.median(np.diff(self.y_px))) if len(self.y_px) > 1 else float(2 * self.y_px[0])


def clean_mask(probability: NDArray[np.float32], threshold: float = WAVEFORM) -> NDArray[np.uint8]:
    """Threshold a probability map and drop specks.

    Args:
        probability: (H, W) in [0, 1].
        threshold: Pixels of at least this probability are waveform.

    Returns:
        (H, W) uint8 0/1.
    """
    mask = (probability >= np.float32(threshold)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return mask
    keep = stats[:, cv2.CC_STAT_WIDTH] >= max(6, round(MIN_WIDTH * mask.shape[1]))
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.uint8)


def without_frame(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take out the lines that frame a page.

    Args:
        probability: (H, W) in [0, 1].

    Returns:
        The map with frame lines along its top and bottom blanked. Those at its sides cross the traces' ends:
        their columns become copies of the next one inside.
    """
    clean = probability.copy()
    for edge in (clean, clean[::-1]):
        rows = _frame_width(edge)
        edge[: rows + 1 if rows else 0] = 0
    for edge in (clean.T, clean.T[::-1]):
        columns = _frame_width(edge)
        if columns:
            # Its soft rim reaches into the next column; what stands out there is trace.
            edge[columns] = np.maximum(edge[columns] - np.median(edge[columns]), 0)
            edge[:columns] = edge[columns]
    return clean


def mended(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take specks out of a probability map and close holes of one pixel in its strokes.

    Args:
        probability: (H, W) in [0, 1].

    Returns:
        The map without components of fewer than nine pixels in a million. Holes are closed up and down only:
        side by side, a single pixel of paper parts the two flanks of a QRS complex.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((probability >= WAVEFORM).astype(np.uint8))
    specks = stats[:, cv2.CC_STAT_AREA] < max(4, round(MIN_AREA * probability.size))
    specks[0] = False
    clean = np.where(specks[labels], np.float32(0), probability)
    return np.asarray(cv2.morphologyEx(clean, cv2.MORPH_CLOSE, np.ones((3, 1), np.uint8)), dtype=np.float32)


def _frame_width(probability: NDArray[np.float32]) -> int:
    """Number of first rows that a line along this edge takes up, 0 without one."""
    reach = max(8, round(MAX_EDGE_LINE * len(probability)))
    filled = np.flatnonzero((probability[:reach] >= WAVEFORM).mean(axis=1) > 0.5)
    return int(filled[-1]) + 1 if len(filled) and filled[0] < reach // 2 else 0


def find_runs(mask: NDArray[np.uint8]) -> Runs:
    """List the vertical runs of a mask, (H, W) 0/1."""
    edges = np.diff(np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    column, top = np.nonzero(edges == 1)
    bottom = np.nonzero(edges == -1)[1] - 1
    return Runs(column, top, bottom)


def find_rows(mask: NDArray[np.uint8]) -> Rows | None:
    """Find the rows of traces of a page.

    Args:
        mask: (H, W) 0/1 from `clean_mask`.

    Returns:
        The rows, or None when the page shows none.
    """
    by_count = _rows_by_count(mask)
    if by_count is not None and by_count.share >= SURE_SHARE:
        return by_count
    return _rows_by_level(_long_pieces(mask)) or by_count


def _rows_by_count(mask: NDArray[np.uint8]) -> Rows | None:
    """Rows by the number of runs on which most columns agree."""
    runs = find_runs(mask)
    width = mask.shape[1]
    per_column = np.bincount(runs.column, minlength=width)
    inked = int((per_column > 0).sum())
    if inked < MIN_ROW_SHARE * width:
        return None
    votes = np.bincount(per_column)
    votes[0] = 0
    n_rows = int(votes.argmax())
    columns = np.flatnonzero(per_column == n_rows)
    if len(columns) < MIN_ROW_SHARE * width:
        return None
    first = np.searchsorted(runs.column, columns)
    middle = runs.middle[first[:, None] + np.arange(n_rows)]  # (columns, rows)
    slope = _common_slope(columns, middle)
    level = middle - slope * (columns - (width - 1) / 2)[:, None]
    begin, end = main_stretch(per_column >= max(1, n_rows / 2))
    drawn = int((per_column[begin : end + 1] > n_rows / 2).sum())
    return Rows(np.median(level, axis=0), slope, len(columns) / inked, begin, end, drawn)


def _long_pieces(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep what belongs to a long piece once small gaps are bridged."""
    bridge = np.ones((3, max(3, round(BRIDGE * mask.shape[1]))), np.uint8)
    bridged = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, bridge)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bridged, connectivity=8)
    keep = stats[:, cv2.CC_STAT_WIDTH] >= MIN_PIECE * mask.shape[1]
    keep[0] = False
    return np.asarray(mask * keep[labels], dtype=np.uint8)


def _rows_by_level(mask: NDArray[np.uint8]) -> Rows | None:
    """Rows by the heights at which most of the page's width has ink."""
    height, width = mask.shape
    n = width // BLOCK_PX
    reach = max(1, round(LEVEL_SHARE * height / 2))
    near = cv2.dilate(mask, np.ones((2 * reach + 1, 1), np.uint8))[:, : n * BLOCK_PX]
    blocks = near.reshape(height, n, BLOCK_PX).max(axis=2)
    offset = (np.arange(n) + 0.5) * BLOCK_PX - width / 2
    y, block = np.nonzero(blocks)
    slopes = np.linspace(-STEEPEST, STEEPEST, SLOPES)
    profiles = np.stack([_profile(y, offset[block], slope, height) for slope in slopes])
    # At the right slope few heights hold much; false ink alone fills many heights a little at any slope.
    best = int(np.power(profiles / n, SHARPNESS).sum(axis=1).argmax())
    slope, profile = float(slopes[best]), profiles[best] / n
    smooth = np.convolve(profile, np.ones(2 * reach + 1) / (2 * reach + 1), mode="same")
    peaks, _ = find_peaks(
        np.pad(smooth, 1), height=MIN_OCCUPIED, distance=max(1, round(MIN_PITCH * height)), prominence=0.1
    )
    if len(peaks) == 0:
        return None
    levels = peaks.astype(np.float64) - 1
    columns = np.arange(width)
    at = np.round(levels[:, None] + slope * (columns - (width - 1) / 2)[None]).astype(int)
    on = cv2.dilate(mask, np.ones((8 * reach + 1, 1), np.uint8))[np.clip(at, 0, height - 1), columns[None]]
    share = on.mean(axis=0)
    begin, end = main_stretch(share >= 0.5)
    drawn = int((share[begin : end + 1] > 0.5).sum())
    return Rows(levels, slope, float(smooth[peaks - 1].mean()), begin, end, drawn)


def _profile(
    y: NDArray[np.intp], offset: NDArray[np.float64], slope: float, height: int
) -> NDArray[np.float64]:
    level = np.round(y - slope * offset).astype(np.intp)
    inside = (level >= 0) & (level < height)
    return np.bincount(level[inside], minlength=height).astype(np.float64)


def main_stretch(present: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last place of the stretch in which presence outweighs absence the most.

    Args:
        present: (n,).

    Returns:
        Both inclusive; scattered places before and after it do not belong to it. (0, 0) without any.
    """
    total = np.r_[0, np.cumsum(np.where(present, 1, -1))]
    lowest = np.minimum.accumulate(total)
    stop = int((total - lowest).argmax())
    first = int(total[: stop + 1].argmin())
    return first, max(first, stop - 1)


def lies_on_its_side(mask: NDArray[np.uint8]) -> bool:
    """Whether the traces of a page run up and down, after a quarter turn either way.

    Args:
        mask: (H, W) 0/1 from `clean_mask`.

    Returns:
        True when its pixel rows agree far better on a number of traces than its columns do.
    """
    ways = mask, np.ascontiguousarray(np.rot90(mask))
    upright, turned = (_rows_by_count(way) for way in ways)
    if all(rows is None or rows.share < SURE_SIDE for rows in (upright, turned)):
        upright, turned = (_rows_by_level(_long_pieces(way)) for way in ways)
    return turned is not None and (upright is None or turned.share > SIDE_MARGIN * upright.share)


def _common_slope(columns: NDArray[np.intp], middle: NDArray[np.float64]) -> float:
    """Slope that all rows share: beats cancel out in the middle half of the differences a long way apart."""
    x = columns.astype(np.float64)
    far = len(x) // 2
    if far < 8:
        return 0.0
    differences = (middle[far:] - middle[: len(x) - far]) / (x[far:] - x[: len(x) - far])[:, None]
    return float(np.median(differences))
