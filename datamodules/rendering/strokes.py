"""Drawing traces with sub-pixel accuracy: the mask, clean and continuous, and the ink, worn.

A trace is the graph of a function of time, so a round pen's footprint in a pixel column is one run from
its highest to its lowest point. Runs are exact for every stroke width, which OpenCV's thick lines are not
(measured: width 2 draws 3 px, 3 draws 5, 4 draws 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

# Cells per pixel column in which a trace is followed. Cell 4 k lies on the middle of column k.
CELLS_PER_PX = 4


@dataclass(frozen=True)
class Extents:
    """Highest and lowest point of a trace per quarter of a pixel column.

    Attributes:
        first_cell: Cell number of the first entry; cell c is centred at x = c / CELLS_PER_PX.
        high_y: (n,) smallest y in each cell, px.
        low_y: (n,) largest y in each cell, px.
    """

    first_cell: int
    high_y: npt.NDArray[np.float64]
    low_y: npt.NDArray[np.float64]

    @property
    def x_px(self) -> npt.NDArray[np.float64]:
        """Columns of the cells' centres."""
        return (self.first_cell + np.arange(self.high_y.size)) / CELLS_PER_PX

    @property
    def steepness(self) -> npt.NDArray[np.float64]:
        """(n,) px of height per px of time, averaged over one column."""
        rise = (self.low_y - self.high_y) * CELLS_PER_PX
        kernel = np.full(CELLS_PER_PX + 1, 1.0 / (CELLS_PER_PX + 1))
        return np.asarray(np.convolve(_extended(rise, CELLS_PER_PX // 2), kernel, mode="valid"))


def extents(points: Points) -> Extents:
    """Follow a trace cell by cell; no sample is lost, however steep.

    Args:
        points: (n >= 2, 2) x and y in px, from left to right.

    Returns:
        The extents from the first to the last point.
    """
    # A skewed page turns a vertical stroke back by a fraction of a pixel; interpolation needs order.
    x = np.maximum.accumulate(points[:, 0]) * CELLS_PER_PX
    y = points[:, 1]
    first, last = int(np.floor(x[0] + 0.5)), int(np.floor(x[-1] + 0.5))
    edges_y = np.interp(np.arange(first, last + 2) - 0.5, x, y)
    high_y = np.minimum(edges_y[:-1], edges_y[1:])
    low_y = np.maximum(edges_y[:-1], edges_y[1:])
    cell = np.floor(x + 0.5).astype(np.intp) - first
    np.minimum.at(high_y, cell, y)
    np.maximum.at(low_y, cell, y)
    return Extents(first, high_y, low_y)


def pen_runs(
    trace: Extents, radius_px: npt.NDArray[np.float64], cells: slice = slice(None)
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sweep a round pen along a trace.

    Args:
        trace: The extents.
        radius_px: (n,) radius of the pen in each cell.
        cells: Which cells are wanted, from the first to the last in steps.

    Returns:
        Top and bottom y of the painted run in each of those cells, px.
    """
    reach = int(np.ceil(radius_px.max() * CELLS_PER_PX))
    first, stop, step = cells.indices(trace.high_y.size)
    padded_high = _extended(trace.high_y, reach)
    padded_low = _extended(trace.low_y, reach)
    padded_radius = _extended(radius_px, reach)
    top, bottom = trace.high_y[cells].copy(), trace.low_y[cells].copy()
    for shift in range(-reach, reach + 1):
        near = slice(reach + shift + first, reach + shift + stop, step)
        radius = padded_radius[near]
        # Cells are wide: the pen reaches a cell whose near edge it touches.
        inside = radius**2 - (max(abs(shift) - 0.5, 0.0) / CELLS_PER_PX) ** 2
        half = np.sqrt(np.maximum(inside, 0.0))
        touched = inside >= 0.0
        np.minimum(top, padded_high[near] - half, out=top, where=touched)
        np.maximum(bottom, padded_low[near] + half, out=bottom, where=touched)
    return top, bottom


def _extended(values: npt.NDArray[np.float64], reach: int) -> npt.NDArray[np.float64]:
    """Repeat the first and last value; a tenth of the time of `np.pad`."""
    longer = np.empty(values.size + 2 * reach)
    longer[:reach], longer[reach : reach + values.size], longer[reach + values.size :] = (
        values[0],
        values,
        values[-1],
    )
    return longer


def stamp_mask(mask: npt.NDArray[np.uint8], points: Points, width_px: float) -> None:
    """Draw a trace as label: every pixel whose centre the pen covers, never broken.

    Args:
        mask: (H, W) 0/1, changed in place.
        points: (n, 2) x and y in px.
        width_px: Stroke width, at least 1; a level trace is that many pixels high on average.
    """
    runs = column_runs(extents(points), width_px)
    rows, owner = _expand(runs.first_row, runs.stop_row - runs.first_row)
    keep = _inside(mask.shape, rows, runs.column[owner])
    mask[rows[keep], runs.column[owner][keep]] = 1


@dataclass(frozen=True)
class Runs:
    """What a pen covers: one run of pixels per column.

    Attributes:
        column: (n,) pixel columns, one after the other; they may lie beside the page.
        first_row: (n,) first covered row.
        stop_row: (n,) first row below the run.
    """

    column: npt.NDArray[np.intp]
    first_row: npt.NDArray[np.intp]
    stop_row: npt.NDArray[np.intp]


def column_runs(trace: Extents, width_px: float) -> Runs:
    """Give the pixels whose centres a pen covers.

    Args:
        trace: The extents of the trace.
        width_px: Stroke width, at least 1.
    """
    middle = slice(-trace.first_cell % CELLS_PER_PX, None, CELLS_PER_PX)
    top, bottom = pen_runs(trace, np.full(trace.high_y.size, width_px / 2), middle)
    column = -(-trace.first_cell // CELLS_PER_PX) + np.arange(top.size)
    return Runs(column, np.ceil(top).astype(np.intp), np.ceil(bottom).astype(np.intp))


def stamp_ink(
    canvas: npt.NDArray[np.float32],
    points: Points,
    width_px: npt.NDArray[np.float64],
    strength: npt.NDArray[np.float64],
    trace: Extents | None = None,
) -> None:
    """Draw a trace as ink with soft edges; width and strength change along it.

    Args:
        canvas: (H, W) float32 darkness, added to in place; 1 is full ink.
        points: (n, 2) x and y in px.
        width_px: (cells,) stroke width in each cell of `extents(points)`.
        strength: (cells,) darkness in each cell, 0 to 1.
        trace: `extents(points)` where the caller has them.
    """
    cover = soft_cover(trace or extents(points), width_px, canvas.shape)
    dose = (cover.share * strength[cover.cell]).astype(np.float32)
    np.add.at(canvas, (cover.row, cover.column), dose)


@dataclass(frozen=True)
class Cover:
    """How much of each pixel a pen covers; a pixel occurs up to twice, and its shares add up.

    Attributes:
        row: (n,) pixel rows.
        column: (n,) pixel columns.
        share: (n,) 0 to 0.5.
        cell: (n,) cell of the trace the share belongs to.
    """

    row: npt.NDArray[np.intp]
    column: npt.NDArray[np.intp]
    share: npt.NDArray[np.float64]
    cell: npt.NDArray[np.intp]


def soft_cover(trace: Extents, width_px: npt.NDArray[np.float64], shape: tuple[int, ...]) -> Cover:
    """Give what a pen covers of a page, by fractions of a pixel.

    Args:
        trace: The extents of the trace.
        width_px: (cells,) stroke width in each cell.
        shape: (H, W) of the page; what lies beside it is left out.
    """
    # Two of the four cells, a quarter column either side of the middle, sample a column well enough.
    odd = slice((trace.first_cell + 1) % 2, None, 2)
    top, bottom = pen_runs(trace, width_px / 2, odd)
    cells = np.arange(trace.high_y.size)[odd]
    first_row = np.floor(top + 0.5).astype(np.intp)
    row, owner = _expand(first_row, np.floor(bottom + 0.5).astype(np.intp) - first_row + 1)
    cover = np.minimum(bottom[owner], row + 0.5) - np.maximum(top[owner], row - 0.5)
    column = ((trace.first_cell + cells + 1) // CELLS_PER_PX)[owner]
    keep = _inside(shape, row, column)
    share = 0.5 * np.clip(cover[keep], 0.0, 1.0)
    return Cover(row[keep], column[keep], share, cells[owner][keep])


def _expand(
    first: npt.NDArray[np.intp], length: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """List every row of many runs, with the number of the run it belongs to."""
    length = np.maximum(length, 0)
    owner = np.repeat(np.arange(first.size), length)
    before = np.cumsum(length) - length
    return first[owner] + np.arange(owner.size) - before[owner], owner


def _inside(
    shape: tuple[int, ...], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    return (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
