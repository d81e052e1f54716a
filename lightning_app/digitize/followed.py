"""A page whose rows have been followed, and the ways between its three coordinates.

page      (x, y) of the scan, once it stands upright.
levelled  (x, y') with every column moved up or down so that rows lie level. Columns stay the page's own:
          a steep stroke is one or two of them wide, and resampling would move it by up to half a column.
straight  (u, v) with grid lines along the axes: u is time, v is voltage. Only points are moved there,
          never pixels of the trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lightning_app.digitize.grid import Grid, measure_grid
from lightning_app.digitize.heights import half_columns, read_heights
from lightning_app.digitize.lead_ends import Profiles, profiles_of
from lightning_app.digitize.pulse import without_grid
from lightning_app.digitize.results import DigitizeRefusal
from lightning_app.digitize.rows import WAVEFORM, clean_mask, find_rows, main_stretch
from lightning_app.digitize.scale import sense_of
from lightning_app.digitize.trace import (
    Edges,
    follow_rows,
    keep_apart,
    pen_line,
    pen_radius_px,
    run_around,
    trace_edges,
)
from lightning_app.digitize.turn import Straightening, straighten
from models.heights import HALVES

TIP_PX = 8  # of a row's ink tell how dark it is at its end
MIN_INKED = 0.5  # of the length of the rows; pages that can be read show .8 and more
SAME_PATH_PX, SAME_PATH_SHARE = 2, 0.5  # rows that are so near in so many columns follow one trace
ROW_END = 0.0022  # of the page's width: rows that begin alike do so within it

Array = NDArray[np.float32]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Followed:
    """A page with its rows followed.

    Attributes:
        straightening: Page to straight.
        grid: Its line families.
        dark: (H, W) black ink of the straight page.
        levelled: (H, W) probability, levelled.
        slope: Fall of the rows, px per px, taken out by levelling.
        rows_y_px: (n,) level of the rows, levelled y.
        pitch_px: Distance of the rows.
        paths: (n, W) y of each row's path in each column.
        edges: Band of ink of each row, levelled y without the steps of whole pixels.
        lines: (4, H, W) from `heights.lines_of`, levelled; None where the network gives a mask alone.
        heights: Per row (2 W,) height of its line, levelled y as the edges; none without `lines`.
        profiles: Per row what the network says of ends along it; none without `lines`.
        radius_px: Radius of the pen.
    """

    straightening: Straightening
    grid: Grid
    dark: Array
    levelled: Array
    slope: float
    rows_y_px: NDArray[np.float64]
    pitch_px: float
    paths: NDArray[np.intp]
    edges: tuple[Edges, ...]
    radius_px: float
    lines: Array | None = None
    heights: tuple[NDArray[np.float64], ...] = ()
    profiles: tuple[Profiles, ...] = ()

    @property
    def width(self) -> int:
        """Columns of the page."""
        return int(self.levelled.shape[1])

    @property
    def skew_deg(self) -> float:
        """Turn of the page, positive = clockwise."""
        matrix = self.straightening.matrix
        return float(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))

    @cached_property
    def dark_without_grid(self) -> Array:
        """(H, W) black ink of the straight page, its grid taken out."""
        return without_grid(self.dark, self.grid)

    def drop_px(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far rows have fallen at these columns, against the page's middle."""
        return np.asarray(self.slope * (x - (self.width - 1) / 2))

    def to_page(self, points: Points) -> Points:
        """Levelled (x, y') to page (x, y), (n, 2)."""
        return np.column_stack([points[:, 0], points[:, 1] + self.drop_px(points[:, 0])])

    def to_straight(self, points: Points) -> Points:
        """Levelled (x, y') to straight (u, v), (n, 2)."""
        return self.straightening.forward(self.to_page(points))

    def row_to_u(self, row: int, x: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Straight u of columns of a row, at its level."""
        columns = np.atleast_1d(np.asarray(x, dtype=np.float64))
        return self.to_straight(np.column_stack([columns, np.full(len(columns), self.rows_y_px[row])]))[:, 0]

    def row_to_x(self, row: int, u: float) -> float:
        """Column of a row at straight u; both grow alike but for the cosine of a few degrees."""
        zero, one = self.row_to_u(row, np.array([0.0, 1.0]))
        return float((u - zero) / (one - zero))

    @property
    def rows_v_px(self) -> NDArray[np.float64]:
        """(n,) straight v of the rows in the middle of the page."""
        middle = np.full(len(self.rows_y_px), (self.width - 1) / 2)
        return self.to_straight(np.column_stack([middle, self.rows_y_px]))[:, 1]

    @property
    def row_end_px(self) -> float:
        """How near to each other rows begin that begin alike."""
        return max(2.5, ROW_END * self.width)

    def row_ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Straight u where the ink of each row begins and ends, to a fraction of a column."""
        firsts = [_begin_of(band.ink) for band in self.edges]
        lasts = [self.width - 1 - _begin_of(band.ink[::-1]) for band in self.edges]
        return (
            np.array([self.row_to_u(row, x)[0] for row, x in enumerate(firsts)]),
            np.array([self.row_to_u(row, x)[0] for row, x in enumerate(lasts)]),
        )

    def waveform(self, begin_px: float, end_px: float) -> NDArray[np.bool_]:
        """Pixels of the rows' traces, (H, W) of the page, between two straight u.

        Letters, pulses and specks that the map shows beside the rows are left out.
        """
        inked = self.levelled >= np.float32(WAVEFORM)
        first, last = run_around(inked, self.paths)
        # A steep stroke is broken at times; what lies along its path belongs to it all the same.
        before, after = np.roll(self.paths, 1, axis=1), np.roll(self.paths, -1, axis=1)
        before[:, 0], after[:, -1] = self.paths[:, 0], self.paths[:, -1]
        top = np.minimum(np.minimum(before, after), np.where(first >= 0, first, self.paths)) - 1
        bottom = np.maximum(np.maximum(before, after), np.where(last >= 0, last, self.paths)) + 1
        y = np.arange(len(inked))[:, None]
        traced = np.zeros(inked.shape, dtype=np.bool_)
        for row in range(len(self.paths)):
            columns = slice(
                *(round(np.clip(self.row_to_x(row, u), 0, self.width)) for u in (begin_px, end_px))
            )
            traced[:, columns] |= (y >= top[row, columns]) & (y <= bottom[row, columns])
        return _levelled((traced & inked).astype(np.float32), -self.slope) > 0

    def line(
        self, row: int, first: int, stop: int, max_gap_px: float
    ) -> tuple[Points, list[tuple[float, float]]]:
        """The line along a stretch of a row: as the network gives it, else the pen's.

        Args:
            row: Which row.
            first: First column.
            stop: Column after the last.
            max_gap_px: Longest run of columns without ink that is interpolated.

        Returns:
            (m, 2) levelled points, several per column, y' NaN in longer gaps; those gaps as straight u.
        """
        if self.heights:
            x, y, gaps = given_line(self.edges[row], self.heights[row], first, stop, max_gap_px)
        else:
            x, y, gaps = line_of(self.edges[row], first, stop, self.radius_px, max_gap_px)
        spans = [tuple(self.row_to_u(row, np.array(gap, dtype=np.float64) - 0.5)) for gap in gaps]
        return np.column_stack([x, y]), [(float(a), float(b)) for a, b in spans]


def follow_page(
    grid_ink: NDArray[np.uint8], dark: Array, probability: Array, lines: Array | None = None
) -> Followed:
    """Find a page's rows and grid, and follow the rows.

    Args:
        grid_ink: (H, W) uint8, everything printed.
        dark: (H, W) float32, black ink in [0, 1].
        probability: (H, W) float32 of an upright page.
        lines: (4, H, W) float32 from `heights.lines_of`, where the network gives them.

    Returns:
        The page followed.

    Raises:
        DigitizeRefusal: `NO_WAVEFORM`.
    """
    mask = clean_mask(probability)
    slanted = find_rows(mask)
    if slanted is None:
        raise DigitizeRefusal(
            "NO_WAVEFORM",
            f"{mask.mean():.2%} of the page looks like a trace, and it forms no rows",
            "check that the file is an ECG page; see the mask",
        )
    lengths_px = float(slanted.last_px - slanted.first_px + 1), float(slanted.drawn_px)
    grid = measure_grid(
        grid_ink,
        probability >= WAVEFORM,
        skew_deg=slanted.skew_deg,
        sense=lambda grid: max(sense_of(grid, px) for px in lengths_px),
    )
    plan = straighten((probability.shape[0], probability.shape[1]), grid, slanted.skew_deg)
    slope = -plan.matrix[1, 0] / plan.matrix[1, 1]  # along it v stays the same
    levelled = _levelled(probability, slope)
    rows = find_rows(clean_mask(levelled)) or slanted
    paths = follow_rows(levelled, rows.y_px, rows.pitch_px)
    _refuse_if_mostly_bare(levelled, paths)
    # Rows without a trace tell themselves by following another one's, so they are told before that costs.
    own = has_own_path(paths, rows.y_px)
    rows = replace(rows, y_px=rows.y_px[own])
    paths = keep_apart(levelled, paths[own], rows.y_px, rows.pitch_px)
    followed = Followed(
        straightening=plan,
        grid=grid,
        dark=np.asarray(plan.image(dark), dtype=np.float32),
        levelled=levelled,
        slope=float(slope),
        rows_y_px=rows.y_px,
        pitch_px=rows.pitch_px,
        paths=np.empty((0, 0), dtype=np.intp),
        edges=(),
        radius_px=1.0,
        lines=None if lines is None else np.stack([_levelled(one, slope) for one in lines]),
    )
    return _with_paths(followed, paths)


def _refuse_if_mostly_bare(levelled: Array, paths: NDArray[np.intp]) -> None:
    """Refuse a photo or a drawing in which some marks happen to lie in a row.

    Raises:
        DigitizeRefusal: `NO_WAVEFORM`.
    """
    inked = levelled[paths, np.arange(levelled.shape[1])] >= np.float32(WAVEFORM)
    if inked.mean() < MIN_INKED:
        raise DigitizeRefusal(
            "NO_WAVEFORM",
            f"what looks like rows of traces is there in {inked.mean():.0%} of their length",
            "check that the file is an ECG page; see the mask",
        )


def has_own_path(paths: NDArray[np.intp], y_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows have a trace of their own.

    Text beside a row may pass for another one, whose path then follows the row's trace.

    Args:
        paths: (n, W) y of each row's path.
        y_px: (n,) level of each row, growing.

    Returns:
        (n,) bool. Of two rows that follow the same trace it is that of the nearer one.
    """
    own = np.ones(len(paths), dtype=np.bool_)
    off_px = np.abs(np.median(paths, axis=1) - y_px)
    for row in range(len(paths) - 1):
        together = np.abs(paths[row] - paths[row + 1]) <= SAME_PATH_PX
        if together.mean() > SAME_PATH_SHARE:
            own[row if off_px[row] > off_px[row + 1] else row + 1] = False
    return own


def follow_again(followed: Followed, breaks: Sequence[Sequence[int]]) -> Followed:
    """Follow the rows, knowing the columns in which each goes on with another lead."""
    if not any(len(columns) for columns in breaks):
        return _with_paths(followed, followed.paths)
    rows = followed.rows_y_px, followed.pitch_px
    paths = follow_rows(followed.levelled, *rows, breaks)
    paths = keep_apart(followed.levelled, paths, *rows, breaks)
    return _with_paths(followed, paths)


def _with_paths(followed: Followed, paths: NDArray[np.intp]) -> Followed:
    columns = np.arange(followed.width, dtype=np.float64)
    # Levelling moved columns by whole pixels; the rest of the drop belongs to the edges.
    rest = _shifts(followed.width, followed.slope) - followed.drop_px(columns)
    bands = trace_edges(followed.levelled, paths)
    edges = tuple(replace(band, top=band.top + rest, bottom=band.bottom + rest) for band in bands)
    radius_px = float(np.median([pen_radius_px(band) for band in edges]))
    followed = replace(followed, paths=paths, edges=edges, radius_px=radius_px)
    if followed.lines is None:
        return followed
    return replace(
        followed,
        heights=tuple(row + np.repeat(rest, HALVES) for row in read_heights(followed.lines, bands)),
        profiles=profiles_of(followed.lines, paths, bands),
    )


def _shifts(width: int, slope: float) -> NDArray[np.intp]:
    return np.round(slope * (np.arange(width) - (width - 1) / 2)).astype(np.intp)


def _levelled(probability: Array, slope: float) -> Array:
    """Move every column by whole pixels so that rows of this slope lie level."""
    height, width = probability.shape
    shifts = _shifts(width, slope)
    margin = int(np.abs(shifts).max())
    if margin == 0:
        return probability
    padded = np.pad(probability, ((margin, margin), (0, 0)))
    y = np.arange(height)[:, None] + margin + shifts[None]
    return np.ascontiguousarray(padded[y, np.arange(width)[None]])


def _begin_of(ink: NDArray[np.float64]) -> float:
    """Edge of the first ink of the row proper, to a fraction of a column; false ink before it is left out."""
    at, _ = main_stretch(ink >= max(WAVEFORM, 0.5 * float(np.quantile(ink, 0.8))))
    level = 0.5 * float(np.median(ink[at : at + TIP_PX]))
    before = ink[at - 1] if at > 0 else 0.0
    return at - float(np.clip((ink[at] - level) / max(ink[at] - before, 1e-6), 0.0, 1.0))


def consensus(values: NDArray[np.float64], within_px: float) -> float:
    """Mean of those values that the most others are near to; of equals, those nearest the median."""
    near = np.abs(values[:, None] - values[None]) <= within_px
    worth = near.sum(axis=1) - 1e-6 * np.abs(values - np.median(values))
    return float(values[near[int(worth.argmax())]].mean())


def given_line(
    edges: Edges, heights: NDArray[np.float64], first: int, stop: int, max_gap_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[int, int]]]:
    """Line of a stretch whose heights are given.

    Args:
        edges: The row's band, which tells where there is ink.
        heights: (2 W,) of the row, NaN where there is none.
        first: First column.
        stop: Column after the last.
        max_gap_px: Longest run of columns without ink that is interpolated.

    Returns:
        As for `line_of`, with two points per column.
    """
    x, y = half_columns(first, stop), heights[HALVES * first : HALVES * stop].copy()
    known = np.isfinite(y)
    if known.sum() < 2:
        return x, np.full(len(x), np.nan), [(first, stop)]
    y[~known] = np.interp(x[~known], x[known], y[known])
    gaps = long_gaps(np.isfinite(edges.top[first:stop]), max_gap_px)
    for a, b in gaps:
        y[HALVES * a : HALVES * b] = np.nan
    return x, y, [(a + first, b + first) for a, b in gaps]


def long_gaps(present: NDArray[np.bool_], max_gap_px: float) -> list[tuple[int, int]]:
    """Runs of columns without ink that are longer than allowed, as (first, stop)."""
    change = np.flatnonzero(np.diff(np.r_[True, present, True].astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(change[::2], change[1::2], strict=True) if b - a > max_gap_px]


def line_of(
    edges: Edges, first: int, stop: int, radius_px: float, max_gap_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[int, int]]]:
    """Line of a stretch of a band.

    Args:
        edges: The band.
        first: First column.
        stop: Column after the last.
        radius_px: Radius of the pen.
        max_gap_px: Longest run of columns without ink that is interpolated.

    Returns:
        x: (m,) columns, several per px. y: (m,) px, NaN in longer gaps. Those gaps, as (first, stop) columns.
    """
    top, bottom = edges.top[first:stop].copy(), edges.bottom[first:stop].copy()
    present = np.isfinite(top)
    if present.sum() < 2:
        return np.arange(first, stop, dtype=np.float64), np.full(stop - first, np.nan), [(first, stop)]
    columns = np.arange(stop - first)
    gaps = long_gaps(present, max_gap_px)
    for edge in (top, bottom):
        edge[~present] = np.interp(columns[~present], columns[present], edge[present])
    x, y = pen_line(top, bottom, radius_px)
    for a, b in gaps:
        y[(x > a - 1) & (x < b)] = np.nan
    return x + first, y, [(a + first, b + first) for a, b in gaps]
