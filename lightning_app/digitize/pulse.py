"""The calibration pulse: a rectangle of 1 mV by 0.2 s beside the rows, and what it says about the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from lightning_app.digitize.grid import Grid

MIN_HEIGHT_PX, MAX_HEIGHT_PX = 8.0, 260.0
MIN_SCORE = 0.45  # with four rows or more laid over each other; noisy pages without a pulse stay below .42
MIN_FEW_ROWS_SCORE = 0.65  # with two or three, which average little out; false ones stay below .46
MIN_LONE_SCORE = 0.93  # in a single row; two cells of a solid grid reach .9
GOES_ON = 0.6  # of its sides, above a roof: a pulse has none, but for a line of the grid that it stands on
MIN_OWN_SCORE = 0.6  # in most rows, each by itself, at one place
MIN_OWN_MARGIN = 0.3  # over other sizes; pulses had .5 and more, cells of a solid grid hardly any
MOST_ROWS, FEWEST_ROWS = 2 / 3, 3
SAME_LEFT_PX = 2
MIN_UNUSUAL_SCORE = 0.65  # of a size that grid and rows do not foretell; cells of the grid are 5 mm high
MIN_TALL_SCORE = 0.55  # higher than foretold, which no cell is; pages without a pulse stay below .48
MIN_DARKNESS = 0.2  # of traces, below which print is lost in the paper
MIN_MARGIN = 0.15
BELOW_PX = 6  # how far a foot may lie from the row's usual level
RIM_PX = 6  # width of the surroundings that must be light
STEP = 1.05  # ratio of neighbouring sizes tried when nothing is known
TILE_PERIODS = 8
ROUNDING = 1e-6  # of differences of running sums over a page
MIN_TILE_PX = 120

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Pulse:
    """A calibration pulse.

    Attributes:
        height_px: From foot to plateau, between stroke centres.
        width_px: Between the two vertical strokes' centres.
        left_px: x of the left stroke.
        foot_px: y of its foot below the rows' level.
        score: Darkness of its strokes less that of its surroundings, 0 to 1.
        upside_down: It points down, as on a page that stands on its head.
    """

    height_px: float
    width_px: float
    left_px: float
    foot_px: float
    score: float
    upside_down: bool = False

    @property
    def right_px(self) -> float:
        """X of the right stroke."""
        return self.left_px + self.width_px


def without_grid(dark: Array, grid: Grid) -> Array:
    """Take the regular part out of a straight page.

    Args:
        dark: (H, W) darkness in [0, 1].
        grid: Its line families.

    Returns:
        (H, W) darkness less the mean grid cell around: print and scan are not even over a page.
    """
    if grid.x is None or grid.y is None:
        return dark
    height, width = dark.shape
    y_cell, x_cell = _cells(height, grid.y.period_px), _cells(width, grid.x.period_px)
    n_x = int(x_cell.max()) + 1
    cell = (y_cell[:, None] * n_x + x_cell[None]).ravel()
    mean = np.bincount(cell, dark.ravel()) / np.maximum(np.bincount(cell), 1)
    regular = mean[cell].reshape(height, width)
    return np.asarray(np.clip((dark - regular) / np.maximum(1 - regular, 0.3), 0, 1), dtype=np.float32)


def _cells(n: int, period_px: float) -> NDArray[np.intp]:
    """Number of the tile and of the place within the period, in one index, for each of n pixels."""
    at = np.arange(n)
    span_px = max(TILE_PERIODS * period_px, MIN_TILE_PX)
    tile = np.minimum(at // span_px, max(0, n // span_px - 1)).astype(np.intp)
    place = np.floor(at % period_px).astype(np.intp)
    return np.asarray(tile * (int(period_px) + 1) + place)


def as_dark_as_traces(
    dark: Array, rows_y: NDArray[np.float64], pitch_px: float, between: tuple[float, float]
) -> Array:
    """Scale darkness so that traces are black: thin, blurred and grey print counts as much as 1-bit ink.

    Args:
        dark: (H, W) darkness in [0, 1], grid taken out.
        rows_y: (n,) level of each row, px.
        pitch_px: From row to row.
        between: First and last column of the rows.

    Returns:
        (H, W) darkness in [0, 1].
    """
    columns = slice(max(0, round(between[0])), round(between[1]) + 1)
    reach = max(1, round(pitch_px / 3))
    darkest = [
        dark[max(0, round(y) - reach) : round(y) + reach, columns].max(axis=0, initial=0.0).mean()
        for y in rows_y
    ]
    level = np.float32(max(float(np.median(darkest)), MIN_DARKNESS))
    return np.asarray(np.minimum(dark / level, np.float32(1)), dtype=np.float32)


def find_pulse(
    dark: Array, rows_y: NDArray[np.float64], spans: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[float, float]] | None, max_height_px: float = MAX_HEIGHT_PX,
    usual: tuple[float, float] | None = None,
) -> Pulse | None:  # fmt: skip
    """Find the calibration pulse beside the traces of a straight page.

    Rows carry the same pulse at the same place, so they are laid over each other first: what repeats stays
    dark, specks and letters fade. Traces may rest at other levels than their pulses, which are then sought in
    each row by itself; and, more strictly, one that only a single row has.

    Args:
        dark: (H, W) darkness in [0, 1], grid taken out.
        rows_y: (n,) level of each row, px.
        spans: Column ranges to look in, the page's margins left and right of the traces.
        sizes: (height, width) in px to try; None: everything a page may hold, and then measured.
        max_height_px: Highest pulse tried where `sizes` is None.
        usual: Which of `sizes` grid and rows foretell; any other must be beyond doubt.

    Returns:
        The pulse that fits best, or None.
    """
    tries = sizes or _all_sizes(max_height_px)
    strips = _row_strips(dark, rows_y, int(max(h for h, _ in tries)) + RIM_PX + 2)
    wanted = MIN_SCORE if len(rows_y) > 3 else MIN_FEW_ROWS_SCORE
    found = _best_pulse(strips.mean(axis=0), tries, spans, wanted)
    if found is not None and usual is not None:
        found = _unless_usual_fits(strips.mean(axis=0), found, usual, spans)
    if found is None and sizes is not None:
        found = _repeated(strips, sizes, spans)
    if found is None:
        # A lone rectangle of another size is a cell of the grid more often than a pulse.
        alone = [_lone_pulse(strip, [usual] if usual else tries, spans) for strip in strips]
        found = max((pulse for pulse in alone if pulse is not None), key=lambda p: p.score, default=None)
    if found is None or sizes is not None:
        return found
    return _measured(dark, found, rows_y)


def _lone_pulse(
    strip: Array, tries: Sequence[tuple[float, float]], spans: Sequence[tuple[int, int]]
) -> Pulse | None:
    """The pulse of a single row; its sides do not go on above its roof, as those of a cell of the grid do."""
    pulse = _best_pulse(strip, tries, spans, MIN_LONE_SCORE)
    if pulse is None:
        return None
    roof = round(strip.shape[0] - RIM_PX - BELOW_PX + pulse.foot_px - pulse.height_px)
    above = strip[max(0, roof - RIM_PX) : max(0, roof - 2)]
    on = [
        float(above[:, round(x) - 1 : round(x) + 2].max(axis=1).mean()) if len(above) else 0.0
        for x in (pulse.left_px, pulse.right_px)
    ]
    return None if min(on) > GOES_ON * pulse.score else pulse


def _unless_usual_fits(
    strip: Array, found: Pulse, usual: tuple[float, float], spans: Sequence[tuple[int, int]]
) -> Pulse | None:
    """Trust a pulse of unusual size only if it is beyond doubt and the usual one fits far worse.

    A higher one need not fit far better: the sides of one as high as usual end half-way up.
    """
    if max(abs(found.height_px / usual[0] - 1), abs(found.width_px / usual[1] - 1)) < 0.15:
        return found
    if found.height_px > 1.5 * usual[0] and found.score >= MIN_TALL_SCORE:
        return found
    rival = _best_pulse(strip, [usual], spans, 0.0)
    margin = found.score - (rival.score if rival else 0.0)
    if found.score >= MIN_UNUSUAL_SCORE and margin >= MIN_MARGIN:
        return found
    return rival if rival is not None and rival.score >= MIN_SCORE and margin < MIN_MARGIN else None


def _repeated(
    strips: Array, sizes: Sequence[tuple[float, float]], spans: Sequence[tuple[int, int]]
) -> Pulse | None:
    """The pulse that most rows show at one place, each at a level of its own.

    Where a solid grid is left, its cells make rectangles of all sizes; a pulse has one.
    """
    if len(strips) < FEWEST_ROWS:
        return None
    rows = [_sums_of(strip) for strip in strips]
    shown = [[_best_within(row, [size], spans, 0.0) for row in rows] for size in sizes]
    scores = np.array([[pulse.score if pulse else 0.0 for pulse in own] for own in shown])
    usual = np.median(scores, axis=1)
    at = int(usual.argmax())
    rivals = np.delete(scores, at, axis=0).max(axis=0, initial=0.0)
    if usual[at] < MIN_OWN_SCORE or usual[at] - np.median(rivals) < MIN_OWN_MARGIN:
        return None
    return _shared([pulse if pulse and pulse.score >= MIN_OWN_SCORE else None for pulse in shown[at]])


def _shared(own: Sequence[Pulse | None]) -> Pulse | None:
    """What most of these agree on, None if they do not."""
    seen = [pulse for pulse in own if pulse is not None]
    left_px = np.median([pulse.left_px for pulse in seen]) if seen else 0.0
    same = [pulse for pulse in seen if abs(pulse.left_px - left_px) <= SAME_LEFT_PX]
    if len(same) < MOST_ROWS * len(own):
        return None
    left_px, foot_px, score = np.median([(p.left_px, p.foot_px, p.score) for p in same], axis=0)
    return replace(same[0], left_px=float(left_px), foot_px=float(foot_px), score=float(score))


def _all_sizes(max_height_px: float) -> list[tuple[float, float]]:
    top = min(MAX_HEIGHT_PX, max(max_height_px, MIN_HEIGHT_PX))
    steps = int(np.log(top / MIN_HEIGHT_PX) / np.log(STEP)) + 1
    # 0.2 s at 25 or 50 mm/s by 1 mV at 5, 10 or 20 mm: never flatter than 2, never slimmer than 1 in 4.
    ratios = [ratio * off for ratio in (0.25, 0.5, 1.0, 2.0) for off in (0.9, 1.0, 1.1)]
    heights = MIN_HEIGHT_PX * STEP ** np.arange(steps)
    return [(float(h), float(h * ratio)) for h in heights for ratio in ratios]


def _row_strips(dark: Array, rows_y: NDArray[np.float64], above_px: int) -> Array:
    """(rows, above + below, W): every row's surroundings, its level at index `above_px + BELOW_PX`."""
    margin = above_px + BELOW_PX
    padded = np.pad(dark, ((margin, margin), (0, 0)))
    level = np.round(rows_y).astype(np.intp) + margin
    return np.asarray(padded[level[:, None] + np.arange(-margin, BELOW_PX + RIM_PX)[None]])


def _best_pulse(
    strip: Array, tries: Sequence[tuple[float, float]], spans: Sequence[tuple[int, int]], min_score: float
) -> Pulse | None:
    return _best_within(_sums_of(strip), tries, spans, min_score)


class _Sums(NamedTuple):
    """Running sums of a row's surroundings, so that many sizes are tried at little cost."""

    down: NDArray[np.floating]
    along: NDArray[np.floating]
    area: NDArray[np.floating]


def _sums_of(strip: Array) -> _Sums:
    thick = maximum_filter(strip, size=(5, 3))  # rows differ by a pixel or two in their level
    return _Sums(_sums(thick, 0), _sums(thick, 1), _sums(_sums(strip, 0), 1))


def _best_within(
    sums: _Sums, tries: Sequence[tuple[float, float]], spans: Sequence[tuple[int, int]], min_score: float
) -> Pulse | None:
    best: Pulse | None = None
    for height, width in tries:
        for span in spans:
            wanted = max(min_score, best.score if best else 0.0)
            pulse = _best_of_size(sums, span, height, width, wanted)
            if pulse is not None and pulse.score >= wanted:
                best = pulse
    return best


def _sums(image: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
    """Running sums with a leading zero, so that differences are sums of ranges."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (1, 0)
    return np.cumsum(np.pad(image, pad), axis=axis, dtype=np.float64)


def _best_of_size(
    sums: _Sums, span: tuple[int, int], height: float, width: float, wanted: float
) -> Pulse | None:
    """Where a rectangle without floor is darkest along its three strokes and lightest beside them.

    None if no place can reach the score `wanted`; what lies beside the strokes is only looked at where they
    are dark enough for it, which is hardly anywhere.
    """
    down, along, area = sums
    h, w = round(height), round(width)
    level = down.shape[0] - 1 - RIM_PX - BELOW_PX
    feet = range(level - BELOW_PX, level + BELOW_PX + 1)
    lefts = range(max(RIM_PX + 1, span[0]), min(span[1], along.shape[1] - 1) - w - RIM_PX)
    if len(lefts) == 0 or w < 6 or feet.start - h < RIM_PX + 1:
        return None

    def corner(sums: NDArray[np.floating], up: int, right: int) -> NDArray[np.floating]:
        return sums[feet.start - up : feet.stop - up, lefts.start + right : lefts.stop + right]

    sides = np.minimum(corner(down, 0, 0) - corner(down, h, 0), corner(down, 0, w) - corner(down, h, w))
    roof = (corner(along, h, w) - corner(along, h, 0)) / w
    strokes = np.minimum(sides / h, roof)
    rows, columns = np.nonzero(strokes >= wanted - ROUNDING)
    if rows.size == 0:
        return None
    foot, left = rows + feet.start, columns + lefts.start
    light = np.max(
        [
            _mean_of(area, foot - h + 3, foot - 2, left + 3, left + w - 2),
            _mean_of(area, foot - h, foot - 4, left - RIM_PX, left - 2),
            _mean_of(area, foot - h, foot - 4, left + w + 3, left + w + RIM_PX + 1),
            _mean_of(area, foot - h - RIM_PX, foot - h - 2, left, left + w),
        ],
        axis=0,
    )
    score = strokes[rows, columns] - light
    at = int(score.argmax())
    return Pulse(float(h), float(w), float(left[at]), float(foot[at] - level), float(score[at]))


def _mean_of(
    area: NDArray[np.floating],
    y0: NDArray[np.intp],
    y1: NDArray[np.intp],
    x0: NDArray[np.intp],
    x1: NDArray[np.intp],
) -> NDArray[np.floating]:
    total = area[y1, x1] - area[y0, x1] - area[y1, x0] + area[y0, x0]
    return np.asarray(total / ((y1 - y0) * (x1 - x0)))


def _measured(dark: Array, pulse: Pulse, rows_y: NDArray[np.float64]) -> Pulse:
    """The same pulse with its size to a fraction of a pixel: the median over the rows that show it."""
    sizes = [_measured_in_row(dark, pulse, float(y) + pulse.foot_px) for y in rows_y]
    good = np.array(
        [size for size in sizes if size is not None and abs(size[0] / pulse.height_px - 1) < 0.15]
    )
    if len(good) == 0:
        return pulse
    height, width, left = np.median(good, axis=0)
    return replace(pulse, height_px=float(height), width_px=float(width), left_px=float(left))


def _measured_in_row(dark: Array, pulse: Pulse, foot_y: float) -> tuple[float, float, float] | None:
    h, w, x = round(pulse.height_px), round(pulse.width_px), round(pulse.left_px)
    middle = slice(round(foot_y - 0.75 * h), round(foot_y - 0.3 * h))
    top = round(foot_y) - h - 5
    if top < 0 or x < 5 or x + w + 5 > dark.shape[1]:
        return None
    sides = dark[middle].mean(axis=0)
    left = _centre(sides[x - 4 : x + 5]) + x - 4
    right = _centre(sides[x + w - 4 : x + w + 5]) + x + w - 4
    inner = slice(x + w // 4, x + w - w // 4 + 1)
    roof = _centre(dark[top : top + 11, inner].mean(axis=1)) + top
    thickness = float(sides[x - 4 : x + 5].sum())
    return _stroke_end(dark, left, roof, h) - thickness / 2 - roof, right - left, left


def _centre(profile: NDArray[np.floating]) -> float:
    heavy = np.where(profile > 0.4 * profile.max(initial=0), profile, 0)
    total = float(heavy.sum())
    return float((heavy * np.arange(len(heavy))).sum() / total) if total > 0 else (len(heavy) - 1) / 2


def _stroke_end(dark: Array, x: float, roof: float, h: int) -> float:
    """Lower end of a stroke: where its darkness falls to half around the expected foot."""
    column = dark[:, max(0, round(x) - 1) : round(x) + 2].max(axis=1)
    y = round(roof) + h - max(3, h // 8)
    end = min(len(column) - 1, y + 2 * max(3, h // 8) + 4)
    while y < end and column[y] >= 0.5:
        y += 1
    before = column[y - 1]
    share = (before - 0.5) / max(before - column[y], 1e-6) if column[y] < 0.5 else 0.5
    return float(y - 1 + np.clip(share, 0, 1))
