"""Ink that several rows have in common: which part of it is whose.

On paper the QRS strokes of neighbouring rows run into each other, three and more rows in one run of ink.
What a row needs of a run is what its own path goes through; the rest is what no path had to enter. Between
two rows it is divided by how steep each is there. Beyond all of them it belongs to the row that goes furthest
nearby: a spike too thin to leave paper between its legs cannot be told from one of the row that it reaches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

RIM_PX = 2.0  # of ink on both sides of a path belong to it: half a pen
NEARBY = 5  # columns: the two legs of a spike

Floats = NDArray[np.float64]


def divide_shared(top: Floats, bottom: Floats, paths: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Divide runs that overlap between their rows, in place.

    Args:
        top: (n, W) upper edge of the run around each row's path, px; NaN where there is none.
        bottom: (n, W) its lower edge.
        paths: (n, W) y of each row's path, rows from top to bottom.

    Returns:
        (n, W) bool, where a row's run was divided.
    """
    shared = np.zeros(top.shape, dtype=np.bool_)
    first, last = _gone_through(paths)
    highest, lowest = minimum_filter1d(first, NEARBY, axis=1), maximum_filter1d(last, NEARBY, axis=1)
    for column in _columns_with_overlap(top, bottom):
        for rows in _overlapping(top[:, column], bottom[:, column]):
            at = (rows, column)
            run = float(top[at].min()), float(bottom[at].max())
            top[at], bottom[at] = _divided(run, first[at], last[at], highest[at], lowest[at])
            shared[at] = True
    return shared


def _gone_through(paths: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """First and last y that each path goes through in each column, half-way from and to the next ones."""
    half_way = (paths[:, 1:] + paths[:, :-1]) / 2
    before = np.hstack([paths[:, :1], half_way])
    after = np.hstack([half_way, paths[:, -1:]])
    return np.minimum(paths, np.minimum(before, after)), np.maximum(paths, np.maximum(before, after))


def _columns_with_overlap(top: Floats, bottom: Floats) -> NDArray[np.intp]:
    order = np.argsort(top, axis=0)  # NaN comes last
    tops = np.take_along_axis(top, order, axis=0)
    reached = np.maximum.accumulate(np.take_along_axis(bottom, order, axis=0), axis=0)
    return np.flatnonzero((tops[1:] <= reached[:-1]).any(axis=0))


def _overlapping(top: Floats, bottom: Floats) -> list[list[int]]:
    """Groups of two and more rows whose runs hang together, in one column."""
    groups: list[list[int]] = []
    reached = -np.inf
    for row in np.argsort(top)[: int(np.isfinite(top).sum())]:
        if top[row] > reached:
            groups.append([])
        groups[-1].append(int(row))
        reached = max(reached, float(bottom[row]))
    return [group for group in groups if len(group) > 1]


def _divided(
    run: tuple[float, float], first: Floats, last: Floats, highest: Floats, lowest: Floats
) -> tuple[Floats, Floats]:
    """Divide one run between its rows.

    Args:
        run: Its upper and lower edge.
        first: (m,) y from which each row's path goes through the column.
        last: (m,) y to which.
        highest: (m,) the same in the columns nearby.
        lowest: (m,)

    Returns:
        The upper and the lower edge of each row's share. Shares overlap where paths cross.
    """
    upper, lower = np.clip(first - RIM_PX, *run), np.clip(last + RIM_PX, *run)
    needed_from, needed_to = upper.copy(), lower.copy()
    steepness = lowest - highest + 0.5
    order = np.argsort(needed_from)
    above = order[0]
    for row in order[1:]:
        left_px = needed_from[row] - needed_to[above]
        if left_px > 0:
            share = steepness[above] / (steepness[above] + steepness[row])
            lower[above] = upper[row] = needed_to[above] + share * left_px
        if needed_to[row] > needed_to[above]:
            above = row
    upper[highest.argmin()], lower[lowest.argmax()] = run
    return upper, lower
