"""From probability to trace: one path per row, its edges, and the line the pen followed.

1. `follow_rows`: dynamic programming finds for every row the way from left to right through the map that
   costs least. Moving through ink is nearly free, vertically as well, so QRS strokes are kept; paper costs.
   `keep_apart`: so does running along the trace of another row, onto which a stroke may lead.
2. `trace_edges`: in every column the run of ink around the path gives an upper and a lower edge, to a
   fraction of a pixel. Where rows share a run it is divided between them (`shared_ink`).
3. `pen_line`: a pen of radius r turns the line y(t) into a band whose edges are y's erosion and dilation by
   the pen. Opening and closing undo that: they equal y wherever it is smoother than the pen, the opening also
   on peaks that point up, the closing on those that point down. So peaks keep their height and their width,
   where the middle of the band would cut them to half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from lightning_app.digitize.shared_ink import divide_shared

FULL_INK = 0.5  # probabilities above count as surely ink for the path
EDGE = 0.5  # share of a trace's own probability at which its edge lies
LEVELS = (0.5, 0.35, 0.25, 0.15)  # edges are taken at the highest that the trace reaches twice
MIN_INK = 0.15  # Li et al. 2020, section 2.3
REACH_PITCHES = 1.7  # how far from its level a trace is followed, in distances of rows
INK_TRAVEL = 0.004  # cost of one px up or down inside ink; crossing a column of paper costs 1
PAPER_TRAVEL = 0.25
PULL = 0.12  # cost per column of being one row distance away from the row's level
CLAIMED = 1.0  # cost per column of running along a trace that is another row's
CLAIM_PX = 3  # to either side of that row's path
LEVEL_RADII = 8.0  # a peak is judged against the median over this width: more than a pen, less than a wave
FINE = 4  # steps per column on which the pen is undone

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Edges:
    """Band of ink of one row.

    Attributes:
        top: (W,) y of the upper edge, px; NaN where there is no ink.
        bottom: (W,) y of the lower edge.
        ink: (W,) highest probability of the run.
        shared: (W,) True where the run was divided between rows.
    """

    top: NDArray[np.float64]
    bottom: NDArray[np.float64]
    ink: NDArray[np.float64]
    shared: NDArray[np.bool_]


def follow_rows(
    probability: Array, y_px: NDArray[np.float64], pitch_px: float, breaks: Sequence[Sequence[int]] = ()
) -> NDArray[np.intp]:
    """Follow every row for itself from the left to the right side of a straight page.

    Args:
        probability: (H, W) float32 in [0, 1].
        y_px: (n,) usual level of each row.
        pitch_px: Distance of the rows.
        breaks: Per row the columns where another lead begins: the path may jump there for nothing.

    Returns:
        (n, W) y of each row's path in each column.
    """
    paper, pull = _costs(probability, y_px, pitch_px)
    offsets = _cheapest(paper, paper + pull, _is_break(breaks, paper))
    return offsets + _window_tops(y_px, pitch_px)


def keep_apart(
    probability: Array,
    paths: NDArray[np.intp],
    y_px: NDArray[np.float64],
    pitch_px: float,
    breaks: Sequence[Sequence[int]] = (),
) -> NDArray[np.intp]:
    """Follow those rows once more that ran along the trace of another one.

    Args:
        probability: As for `follow_rows`.
        paths: (n, W) from it.
        y_px: As for it.
        pitch_px: As for it.
        breaks: As for it.

    Returns:
        (n, W) y of each row's path in each column.
    """
    tops = _window_tops(y_px, pitch_px)
    claimed = _claimed(paths, np.round(y_px).astype(np.intp), _reach_px(pitch_px))
    at = np.arange(paths.shape[1]), np.arange(len(paths))[:, None], paths - tops
    astray = np.flatnonzero(claimed[at].any(axis=1))
    if len(astray) == 0:
        return paths
    paper, pull = _costs(probability, y_px[astray], pitch_px)
    standing = (paper + pull + CLAIMED * claimed[:, astray]).astype(np.float32)
    apart = paths.copy()
    is_break = _is_break([breaks[row] for row in astray.tolist()] if breaks else (), paper)
    apart[astray] = _cheapest(paper, standing, is_break) + tops[astray]
    return apart


def _reach_px(pitch_px: float) -> int:
    return int(np.ceil(REACH_PITCHES * pitch_px))


def _window_tops(y_px: NDArray[np.float64], pitch_px: float) -> NDArray[np.intp]:
    """(n, 1) y of the first pixel of each row's window."""
    return (np.round(y_px).astype(np.intp) - _reach_px(pitch_px))[:, None]


def _costs(probability: Array, y_px: NDArray[np.float64], pitch_px: float) -> tuple[Array, Array]:
    """Of each row's window (W, n, window) 1 = paper, 0 = ink; (window,) the cost of being off its level."""
    reach = _reach_px(pitch_px)
    offset = np.arange(-reach, reach + 1)
    padded = np.pad(probability, ((reach + 1, reach + 1), (0, 0)))
    centre = np.round(y_px).astype(np.intp)
    window = padded.T[:, centre[:, None] + offset[None] + reach + 1]
    pull = (np.float32(PULL / pitch_px) * np.abs(offset)).astype(np.float32)
    return 1 - np.clip(window / np.float32(FULL_INK), 0, 1), pull


def _is_break(breaks: Sequence[Sequence[int]], paper: Array) -> NDArray[np.bool_]:
    is_break = np.zeros(paper.shape[:2], dtype=np.bool_)
    for row, columns in enumerate(breaks):
        is_break[list(columns), row] = True
    return is_break


def _claimed(paths: NDArray[np.intp], levels: NDArray[np.intp], reach: int) -> NDArray[np.bool_]:
    """Where in each row's window other rows' paths run, nearer to their own level than to this row's.

    Args:
        paths: (n, W) y of each row's path.
        levels: (n,) usual y of each row.
        reach: Of a row's window to either side of its level.

    Returns:
        (W, n, 2 reach + 1) bool.
    """
    claimed = np.zeros((paths.shape[1], len(paths), 2 * reach + 1), dtype=np.bool_)
    away = np.abs(paths - levels[:, None])
    for row, level in enumerate(levels):
        seen_at = paths - level
        # A row's own path is no nearer to its level than to its level.
        theirs = (away < np.abs(seen_at)) & (np.abs(seen_at) <= reach - CLAIM_PX)
        other, column = np.nonzero(theirs)
        for shift in range(-CLAIM_PX, CLAIM_PX + 1):
            claimed[column, row, seen_at[other, column] + reach + shift] = True
    return claimed


def _cheapest(paper: Array, standing: Array, is_break: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Path of least cost of each row, (n, W), as offsets into the window.

    Args:
        paper: (W, n, window) float32, 1 = paper, 0 = ink: what moving up and down goes through.
        standing: (W, n, window) float32, cost of being at a pixel.
        is_break: (W, n), where a path may jump for nothing.
    """
    return _backward(_forward(paper, standing, is_break), paper, is_break)


def _travel(paper: Array) -> Array:
    """Running cost from the top of a column down to each pixel, for one column (n, window)."""
    return np.cumsum(np.float32(INK_TRAVEL) + np.float32(PAPER_TRAVEL) * paper, axis=1, dtype=np.float32)


def _forward(paper: Array, standing: Array, is_break: NDArray[np.bool_]) -> Array:
    """Least cost to reach each pixel, (W, n, window)."""
    best = np.empty_like(paper)
    best[0] = standing[0]
    for x in range(1, len(paper)):
        travel = _travel(paper[x])
        down = np.minimum.accumulate(best[x - 1] - travel, axis=1) + travel
        up = np.minimum.accumulate((best[x - 1] + travel)[:, ::-1], axis=1)[:, ::-1] - travel
        reached = np.minimum(down, up)
        if is_break[x].any():
            reached[is_break[x]] = 0.0
        step = reached + standing[x]
        best[x] = step - step.min(axis=1, keepdims=True)  # float32 must not run out of digits
    return best


def _backward(best: Array, paper: Array, is_break: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Path of least cost, (n, W), as offsets into the window."""
    width, n, _ = best.shape
    rows = np.arange(n)
    path = np.empty((n, width), dtype=np.intp)
    path[:, -1] = best[-1].argmin(axis=1)
    for x in range(width - 1, 0, -1):
        travel = _travel(paper[x])
        here = travel[rows, path[:, x]][:, None]
        way = np.where(is_break[x][:, None], 0.0, np.abs(travel - here))
        path[:, x - 1] = (best[x - 1] + way).argmin(axis=1)
    return path


def trace_edges(probability: Array, paths: NDArray[np.intp]) -> list[Edges]:
    """Upper and lower edge of the ink around each path.

    Args:
        probability: (H, W) float32.
        paths: (n, W) from `follow_rows`.

    Returns:
        One band per row.
    """
    ink = _ink_near(probability, paths)
    first, last = np.full(paths.shape, -1), np.full(paths.shape, -1)
    # The rim of a stroke is where the map falls to half: on steep strokes that is a matter of columns, so
    # the runs themselves are taken at that level, which faint traces lower.
    level = np.select([ink * EDGE >= 0.9 * at for at in LEVELS[:-1]], LEVELS[:-1], LEVELS[-1])
    for at in LEVELS:
        here = (level == at) & (ink >= MIN_INK)
        if here.any():
            a, b = run_around(probability >= np.float32(at), paths)
            first, last = np.where(here, a, first), np.where(here, b, last)
    top = _edge(probability, first, -1, level)
    bottom = _edge(probability, last, 1, level)
    missing = first < 0
    top[missing], bottom[missing] = np.nan, np.nan
    ink = np.where(missing, 0.0, ink)
    shared = divide_shared(top, bottom, paths)
    return [Edges(top[k], bottom[k], ink[k], shared[k]) for k in range(len(paths))]


def _ink_near(probability: Array, paths: NDArray[np.intp]) -> NDArray[np.float64]:
    """Highest probability within 2 px of each path, (n, W)."""
    height, width = probability.shape
    columns = np.broadcast_to(np.arange(width), paths.shape)
    near = [probability[np.clip(paths + shift, 0, height - 1), columns] for shift in range(-2, 3)]
    return np.asarray(np.max(near, axis=0), dtype=np.float64)


def run_around(
    inked: NDArray[np.bool_], paths: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last y of the run under (or within 2 px of) each path; -1 where there is none."""
    height, width = inked.shape
    y = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(inked, -1, y), axis=0)  # nearest paper at or above
    below = np.minimum.accumulate(np.where(inked, height, y)[::-1], axis=0)[::-1]
    columns = np.broadcast_to(np.arange(width), paths.shape)
    on = np.full(paths.shape, -1)
    for shift in (2, -2, 1, -1, 0):  # the last that hits wins: the nearest
        near = np.clip(paths + shift, 0, height - 1)
        on = np.where(inked[near, columns], near, on)
    found = on >= 0
    safe = np.where(found, on, 0)
    return np.where(found, above[safe, columns] + 1, -1), np.where(found, below[safe, columns] - 1, -1)


def _edge(
    probability: Array, at: NDArray[np.intp], outward: int, level: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where the map falls through the level between a run's last pixel and the next, interpolated."""
    height, width = probability.shape
    columns = np.broadcast_to(np.arange(width), at.shape)
    inside = np.clip(at, 0, height - 1)
    beyond = np.clip(inside + outward, 0, height - 1)
    p_in = probability[inside, columns].astype(np.float64)
    p_out = np.where(beyond == inside, 0.0, probability[beyond, columns])
    share = np.clip((p_in - level) / np.maximum(p_in - p_out, 1e-6), 0.0, 1.0)
    return np.asarray(inside + outward * share)


def pen_radius_px(edges: Edges) -> float:
    """Half the thickness of the trace where it runs level: the lower third of its heights."""
    heights = (edges.bottom - edges.top)[np.isfinite(edges.top) & ~edges.shared]
    if len(heights) == 0:
        return 0.5
    low = float(np.quantile(heights, 0.4))
    return max(0.5, float(np.mean(heights[heights <= low + 0.01])) / 2)


def pen_line(
    top: NDArray[np.float64], bottom: NDArray[np.float64], radius_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Undo the pen: the line whose band has these edges.

    Args:
        top: (n,) upper edge per column, px, finite.
        bottom: (n,) lower edge.
        radius_px: Radius of the round pen.

    Returns:
        x: (m,) columns, `FINE` per px, from 0 to n - 1. y: (m,) height of the line.
    """
    columns = np.arange(len(top), dtype=np.float64)
    x = np.arange((len(top) - 1) * FINE + 1) / FINE
    upper, lower = np.interp(x, columns, top), np.interp(x, columns, bottom)
    opening = _swept(upper, radius_px)
    closing = -_swept(-lower, radius_px)
    middle = (opening + closing) / 2
    # scipy takes minutes for a window wider than twice the line, which a page full of false ink asks for.
    window = min(round(LEVEL_RADII * radius_px * FINE) | 1, 2 * len(middle) - 1)
    level = median_filter(middle, size=window, mode="nearest")
    # Where both agree they are the line. Where they do not, one of them still touches the tip of a peak
    # that is narrower than the pen, the other cuts it: the tip lies further from the level.
    tip = np.where(np.abs(opening - level) > np.abs(closing - level), opening, closing)
    doubt = np.clip((np.abs(closing - opening) - 2.0) / 4.0, 0.0, 1.0)
    return x, (1 - doubt) * middle + doubt * tip


def _swept(upper: NDArray[np.float64], radius_px: float) -> NDArray[np.float64]:
    """Lower envelope of discs hung under an upper edge: max over d of upper(x + d) + sqrt(r^2 - d^2)."""
    reach = int(np.floor(radius_px * FINE))
    padded = np.pad(upper, reach, mode="edge")
    swept = np.full(len(upper), -np.inf)
    for shift in range(-reach, reach + 1):
        depth = np.sqrt(max(radius_px**2 - (shift / FINE) ** 2, 0.0))
        np.maximum(swept, padded[reach + shift : reach + shift + len(upper)] + depth, out=swept)
    return swept
