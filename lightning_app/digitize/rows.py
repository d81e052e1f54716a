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
MIN_ROW_SHARE = 0.2  # of the page's columns that must agree on the number of rows
MAX_EDGE_LINE_PX = 8


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
        width_px: Width of the page they were found on.
    """

    y_px: NDArray[np.float64]
    slope: float
    share: float
    width_px: int

    @property
    def skew_deg(self) -> float:
        """Turn of the page, positive = clockwise."""
        return float(np.degrees(np.arctan(self.slope)))

    @property
    def pitch_px(self) -> float:
        """Usual distance of neighbouring rows; a single row has the page's for want of another."""
        return float(np.median(np.diff(self.y_px))) if len(self.y_px) > 1 else float(2 * self.y_px[0])


def clean_mask(probability: NDArray[np.float32], threshold: float = WAVEFORM) -> NDArray[np.uint8]:
    """Threshold a probability map and drop specks and the page's own frame.

    Args:
        probability: (H, W) in [0, 1].
        threshold: Pixels of at least this probability are waveform.

    Returns:
        (H, W) uint8 0/1.
    """
    mask = (probability >= np.float32(threshold)).astype(np.uint8)
    for edge in (mask, mask[::-1]):
        _blank_frame_line(edge)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return mask
    keep = stats[:, cv2.CC_STAT_WIDTH] >= MIN_WIDTH_PX
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.uint8)


def _blank_frame_line(mask: NDArray[np.uint8]) -> None:
    """Blank, in place, a line that runs along the first rows of a mask: the page's frame, not a trace."""
    filled = np.flatnonzero(mask[:MAX_EDGE_LINE_PX].mean(axis=1) > 0.5)
    if len(filled) and filled[0] < MAX_EDGE_LINE_PX // 2:
        mask[: filled[-1] + 2] = 0


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
    return Rows(np.median(level, axis=0), slope, len(columns) / inked, width)


def _common_slope(columns: NDArray[np.intp], middle: NDArray[np.float64]) -> float:
    """Slope that all rows share: beats cancel out in the middle half of the differences a long way apart."""
    x = columns.astype(np.float64)
    far = len(x) // 2
    if far < 8:
        return 0.0
    differences = (middle[far:] - middle[: len(x) - far]) / (x[far:] - x[: len(x) - far])[:, None]
    return float(np.median(differences))
