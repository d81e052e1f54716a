"""Rows of traces on a page: how many there are, where they lie and how they lean.

Every row crosses almost every pixel column once. So the number of runs of waveform that most columns
have is the number of rows, and the k-th run of those columns belongs to the k-th row, whatever the page's
skew; text, missing pieces and peaks that reach into the next row only spoil columns here and there.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

WAVEFORM = 0.15  # Li et al. 2020, section 2.3; PROTOCOL R26: exactly 0.15 counts
MIN_WIDTH_PX = 10  # shorter pieces are specks and letters; they do not help to find rows
MIN_AREA_PX = 9
MIN_ROW_SHARE = 0.2  # of the page's columns that must agree on the number of rows
MAX_EDGE_LINE_PX = 8
SIDE_MARGIN = 1.3


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
        share: Share of columns with waveform that show exactly this many runs.
        first_px: First column in which most rows have waveform.
        last_px: Last such column.
    """

    y_px: NDArray[np.float64]
    slope: float
    share: float
    first_px: int
    last_px: int

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
    keep = stats[:, cv2.CC_STAT_WIDTH] >= MIN_WIDTH_PX
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
        clean_rows = _frame_width(edge)
        edge[:clean_rows] = 0
    for edge in (clean.T, clean.T[::-1]):
        columns = _frame_width(edge)
        edge[:columns] = edge[columns]
    return clean


def mended(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take specks out of a probability map and close holes of one pixel in its strokes.

    Args:
        probability: (H, W) in [0, 1].

    Returns:
        The map without components of fewer than nine pixels. Holes are closed up and down only: side by
        side, a single pixel of paper parts the two flanks of a QRS complex.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((probability >= WAVEFORM).astype(np.uint8))
    specks = stats[:, cv2.CC_STAT_AREA] < MIN_AREA_PX
    specks[0] = False
    clean = np.where(specks[labels], np.float32(0), probability)
    return np.asarray(cv2.morphologyEx(clean, cv2.MORPH_CLOSE, np.ones((3, 1), np.uint8)), dtype=np.float32)


def _frame_width(probability: NDArray[np.float32]) -> int:
    """Number of first rows that a line along this edge takes up, 0 without one."""
    filled = np.flatnonzero((probability[:MAX_EDGE_LINE_PX] >= WAVEFORM).mean(axis=1) > 0.5)
    return int(filled[-1]) + 2 if len(filled) and filled[0] < MAX_EDGE_LINE_PX // 2 else 0


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
        The rows, or None when the page's columns do not agree on a number of them.
    """
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
    full = np.flatnonzero(per_column >= max(1, n_rows / 2))
    return Rows(np.median(level, axis=0), slope, len(columns) / inked, int(full[0]), int(full[-1]))


def lies_on_its_side(mask: NDArray[np.uint8]) -> bool:
    """Whether the traces of a page run up and down, after a quarter turn either way.

    Args:
        mask: (H, W) 0/1 from `clean_mask`.

    Returns:
        True when its pixel rows agree far better on a number of traces than its columns do.
    """
    upright, turned = find_rows(mask), find_rows(np.ascontiguousarray(np.rot90(mask)))
    return turned is not None and (upright is None or turned.share > SIDE_MARGIN * upright.share)


def _common_slope(columns: NDArray[np.intp], middle: NDArray[np.float64]) -> float:
    """Slope that all rows share: beats cancel out in the middle half of the differences a long way apart."""
    x = columns.astype(np.float64)
    far = len(x) // 2
    if far < 8:
        return 0.0
    differences = (middle[far:] - middle[: len(x) - far]) / (x[far:] - x[: len(x) - far])[:, None]
    return float(np.median(differences))
