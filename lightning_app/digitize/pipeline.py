"""One page from probability to millivolts: the steps of this package in their order.

    probability -> rows -> grid -> straight page -> paths -> pulse and scale -> layout -> traces -> record

Every step is a function of its own with its own test; this file only hands results on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from datamodules.layout import Layout, known_layouts, load_layout
from datamodules.page import Page
from lightning_app.digitize import confidence
from lightning_app.digitize.grid import Grid, measure_grid
from lightning_app.digitize.layouts import CHECK_RATE_HZ, Hypothesis, rank_hypotheses
from lightning_app.digitize.mirror import refuse_if_mirrored
from lightning_app.digitize.pulse import Pulse, find_pulse, without_grid
from lightning_app.digitize.record import assemble
from lightning_app.digitize.results import RATE_HZ, Digitized, DigitizeRefusal, Refusal, Scale, SegmentReading
from lightning_app.digitize.rows import WAVEFORM, Rows, clean_mask, find_rows, without_frame
from lightning_app.digitize.scale import DURATION_S, Declared, likely_mm, makes_sense, settle_scale
from lightning_app.digitize.trace import Edges, follow_rows, pen_line, pen_radius_px, trace_edges
from lightning_app.digitize.turn import Straightening, lies_on_its_side, straighten

MIN_SIDE_PX = 128
MAX_GAP_S = 0.020  # R28: shorter gaps are interpolated
MIN_MARGIN = 0.1  # of the laws' score, over the next way to read the page
ISOELECTRIC_SHARE = 0.3
STEADY_PX = 20
ROW_END_PX = 2.5
JUMP_REACH_PX = 3
MIN_ROOF = 0.5  # probability along a pulse's roof; a pulse among the traces is one only if it is in the map
LAST_SAMPLE_S = DURATION_S - 1 / RATE_HZ

Array = NDArray[np.float32]


@dataclass(frozen=True)
class _Traced:
    """A straight page with its rows followed."""

    straightening: Straightening
    grid: Grid
    dark: Array
    probability: Array
    rows: Rows
    edges: list[Edges]
    radius_px: float
    firsts_px: NDArray[np.float64]
    lasts_px: NDArray[np.float64]

    @property
    def first_px(self) -> float:
        """Where the rows begin."""
        return _consensus(self.firsts_px)

    @property
    def last_px(self) -> float:
        """Where they end."""
        return _consensus(self.lasts_px)


def digitize_page(
    page: Page,
    probability: Array,
    *,
    layout: str | Layout | None = None,
    px_per_s: float | None = None,
    px_per_mv: float | None = None,
    mm_per_s: float | None = None,
    mm_per_mv: float | None = None,
    predict: Callable[[NDArray[np.uint8]], Array] | None = None,
) -> Digitized | Refusal:
    """Read a page, or say why not.

    Args:
        page: The page as read.
        probability: (H, W) float32 in [0, 1], waveform probability of each pixel of `page`.
        layout: Name or layout; None: recognised among the known ones.
        px_per_s: Declared pixels per second; checked against the grid where there is one.
        px_per_mv: Declared pixels per millivolt.
        mm_per_s: Declared paper speed.
        mm_per_mv: Declared gain.
        predict: What made the probability out of ink. Asked again for a page that lies on its side, since networks learn
            from upright ones.

    Returns:
        The reading, or a refusal.

    Raises:
        ValueError: If page and probability differ in shape.
        ConfigError: If the layout named does not exist.
    """
    if probability.shape != page.ink.shape:
        raise ValueError(
            f"got a probability of shape {probability.shape}, wanted the page's {page.ink.shape}"
        )
    wanted = load_layout(layout) if isinstance(layout, str) else layout
    try:
        declared = Declared(px_per_s, px_per_mv, mm_per_s, mm_per_mv)
        return _digitize(page, probability, wanted, declared, predict)
    except DigitizeRefusal as refusal:
        return Refusal(refusal.code, refusal.reason, refusal.remedy, refusal.details)


def _digitize(
    page: Page,
    probability: Array,
    wanted: Layout | None,
    declared: Declared,
    predict: Callable[[NDArray[np.uint8]], Array] | None,
) -> Digitized:
    if min(probability.shape) < MIN_SIDE_PX:
        raise DigitizeRefusal(
            "TOO_SMALL",
            f"{probability.shape[1]} x {probability.shape[0]} px",
            f"scan with at least {MIN_SIDE_PX} px",
        )
    turns = 1 if lies_on_its_side(clean_mask(without_frame(probability))) else 0
    grid_ink, dark, upright = (
        np.ascontiguousarray(np.rot90(a, turns)) for a in (*grid_and_dark(page), probability)
    )
    if turns and predict is not None:
        upright = predict(np.ascontiguousarray(np.rot90(page.ink, turns)))
    traced = _trace(grid_ink, dark, without_frame(upright))
    pulse = _pulse(traced)
    ends = _ends(traced, pulse)
    scale = settle_scale(traced.grid, pulse, ends[1] - ends[0], declared)
    start_px = _start(traced, ends, scale.px_per_s)
    rows_mv = [_row_for_checks(traced, edges, start_px, scale) for edges in traced.edges]
    chosen, source = choose_layout(rows_mv, wanted)
    start_px = _start_by_breaks(traced, chosen, ends, start_px, scale.px_per_s)
    traced = _followed_again(traced, chosen, start_px, scale.px_per_s)
    segments = _read_segments(traced, chosen, start_px, scale, upright.shape, turns)
    checks = dict(chosen.checks)
    confidence.refuse_if_doubtful(segments, checks)
    refuse_if_mirrored(segments)
    return Digitized(
        mv=assemble(segments, chosen.layout.duration_s),
        rate_hz=RATE_HZ,
        layout=chosen.layout.name,
        layout_source=source,
        quarter_turns=(turns + 2 * chosen.upside_down) % 4,
        skew_deg=_skew(traced),
        scale=scale,
        segments=tuple(segments),
        checks=checks,
        confidence=confidence.page_confidence(segments, checks),
        mask=np.rot90(upright, -turns) >= np.float32(WAVEFORM),
    )


def grid_and_dark(page: Page) -> tuple[NDArray[np.uint8], Array]:
    """Split a page into what shows its grid best and what shows black ink best.

    Args:
        page: The page.

    Returns:
        (H, W) uint8, every ink dark, coloured grids included; (H, W) float32 in [0, 1], black ink only. On a page
        without colour both are its ink.
    """
    if page.rgb is None:
        return page.ink, page.ink.astype(np.float32) / 255
    return 255 - page.rgb.min(axis=2), (255 - page.rgb.max(axis=2)).astype(np.float32) / 255


def _trace(grid_ink: NDArray[np.uint8], dark: Array, probability: Array) -> _Traced:
    mask = clean_mask(probability)
    slanted = find_rows(mask)
    if slanted is None:
        raise DigitizeRefusal(
            "NO_WAVEFORM",
            f"{mask.mean():.2%} of the page looks like a trace, and it forms no rows",
            "check that the file is an ECG page; see the mask",
        )
    row_px = float(slanted.last_px - slanted.first_px + 1)
    grid = measure_grid(
        grid_ink,
        probability >= WAVEFORM,
        skew_deg=slanted.skew_deg,
        plausible=lambda grid: makes_sense(grid, row_px),
    )
    plan = straighten(probability.shape, grid, slanted.skew_deg)
    straight = np.asarray(plan.image(probability), dtype=np.float32)
    rows = find_rows(clean_mask(straight)) or slanted
    edges = trace_edges(straight, follow_rows(straight, rows.y_px, rows.pitch_px))
    radius_px = float(np.median([pen_radius_px(band) for band in edges]))
    firsts_px, lasts_px = _row_ends(edges)
    straight_dark = np.asarray(plan.image(dark), dtype=np.float32)
    return _Traced(plan, grid, straight_dark, straight, rows, edges, radius_px, firsts_px, lasts_px)


def _followed_again(traced: _Traced, chosen: Hypothesis, start_px: float, px_per_s: float) -> _Traced:
    """Follow the rows once more, now that it is known where one lead ends and the next begins."""
    width = traced.probability.shape[1]
    breaks = [
        [column for time_s in times_s if 0 < (column := int(np.ceil(start_px + time_s * px_per_s))) < width]
        for times_s in _break_times(chosen)
    ]
    paths = follow_rows(traced.probability, traced.rows.y_px, traced.rows.pitch_px, breaks)
    return replace(traced, edges=trace_edges(traced.probability, paths))


def _skew(traced: _Traced) -> float:
    matrix = traced.straightening.matrix
    return float(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))


def _row_ends(edges: list[Edges]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the ink of each row begins and ends, px, to a fraction of a column."""
    firsts = [_begin_of(band.ink) for band in edges]
    lasts = [len(band.ink) - 1 - _begin_of(band.ink[::-1]) for band in edges]
    return np.array(firsts), np.array(lasts)


def _begin_of(ink: NDArray[np.float64]) -> float:
    """Edge of the first ink from which on most of the next twenty columns have some."""
    present = ink >= 0.5 * np.quantile(ink, 0.9)
    counts = np.convolve(present, np.ones(STEADY_PX), mode="full")[STEADY_PX - 1 :]
    steady = np.flatnonzero(present & (counts[: len(present)] >= 0.7 * STEADY_PX))
    at = int(steady[0]) if len(steady) else 0
    before = ink[at - 1] if at > 0 else 0.0
    return at - float(np.clip((ink[at] - 0.5) / max(ink[at] - before, 1e-6), 0.0, 1.0))


def _consensus(values: NDArray[np.float64]) -> float:
    """Mean without those rows that begin or end elsewhere."""
    middle = np.median(values)
    return float(np.mean(values[np.abs(values - middle) <= ROW_END_PX])) if len(values) else float(middle)


def _pulse(traced: _Traced) -> Pulse | None:
    width = traced.dark.shape[1]
    room = round(0.035 * width)
    spans = [(0, round(traced.first_px) + room), (round(traced.last_px) - room, width)]
    sizes = [
        (gain * mm_y, length * mm_x)
        for mm_x, mm_y in likely_mm(traced.grid, traced.last_px - traced.first_px)
        for gain in (5, 10, 20)
        for length in (5, 10)
    ]
    dark = without_grid(traced.dark, traced.grid)
    pulse = find_pulse(dark, traced.rows.y_px, spans, sizes or None, 1.2 * traced.rows.pitch_px)
    if pulse is None or pulse.right_px <= traced.first_px + 2 or pulse.left_px >= traced.last_px - 2:
        return pulse
    return pulse if _is_in_map(traced, pulse) else None


def _is_in_map(traced: _Traced, pulse: Pulse) -> bool:
    """Whether the network, or whoever drew the mask, took the pulse for waveform."""
    columns = slice(round(pulse.left_px) + 2, round(pulse.right_px) - 1)
    roofs = np.round(traced.rows.y_px + pulse.foot_px - pulse.height_px).astype(int)
    near = [traced.probability[max(0, y - 3) : max(1, y + 4), columns].max(axis=0).mean() for y in roofs]
    return float(np.mean(near)) >= MIN_ROOF


def _ends(traced: _Traced, pulse: Pulse | None) -> tuple[float, float, tuple[bool, bool]]:
    """Where the rows begin and end without the pulse, px, and whether each end itself is seen."""
    first, last, seen = traced.first_px, traced.last_px, [True, True]
    if pulse is not None:
        foot = 0.2 * pulse.width_px
        if pulse.left_px < (first + last) / 2 and pulse.right_px > first + 1:
            first, seen[0] = pulse.right_px + foot, False
        if pulse.left_px > (first + last) / 2 and pulse.left_px < last - 1:
            last, seen[1] = pulse.left_px - foot, False
    return first, last, (seen[0], seen[1])


def _start(traced: _Traced, ends: tuple[float, float, tuple[bool, bool]], px_per_s: float) -> float:
    """Column of the record's first sample, from the rows' ends."""
    first, last, seen = ends
    length_px = LAST_SAMPLE_S * px_per_s
    if seen[0] and seen[1]:
        starts = np.r_[traced.firsts_px, traced.lasts_px - length_px]
        return voted_start(starts, (first + last - length_px) / 2)
    return first if seen[0] else last - length_px


def voted_start(starts: NDArray[np.float64], near: float) -> float:
    """Start on which most rows agree.

    Args:
        starts: Columns of the first sample, each known to half a column: pixels are that wide, and ink begins
            in the first and ends in the last whose middle the trace reaches.
        near: Where it should be, within a few px.

    Returns:
        Middle of the places that the most of them allow: closer than half a column, since they lie differently
        within their pixels.
    """
    places = near + np.arange(-2.0, 2.0, 0.02)
    misses = np.maximum(np.abs(places[:, None] - starts[None]) - 0.5, 0.0)
    votes = np.exp(-np.square(misses / 0.15)).sum(axis=1)
    return float(places[votes >= votes.max() - 0.3].mean())


def _start_by_breaks(
    traced: _Traced, chosen: Hypothesis, ends: tuple[float, float, tuple[bool, bool]], start_px: float, px_per_s: float
) -> float:
    """The start once more, now also from the columns where one lead gives way to the next."""
    first, last, seen = ends
    starts = [traced.firsts_px] if seen[0] else []
    starts += [traced.lasts_px - LAST_SAMPLE_S * px_per_s] if seen[1] else []
    for row, times_s in enumerate(_break_times(chosen)):
        for time_s in times_s:
            at = _jump_near(traced.edges[row], start_px + time_s * px_per_s)
            starts += [np.array([at - time_s * px_per_s])] if at is not None else []
    return voted_start(np.concatenate(starts), start_px) if starts else start_px


def _jump_near(edges: Edges, x: float) -> float | None:
    """Edge between the two columns near x whose runs of ink do not touch, if there is exactly one such place."""
    columns = np.arange(max(0, int(x) - JUMP_REACH_PX), min(len(edges.top) - 1, int(x) + JUMP_REACH_PX + 1))
    apart = np.maximum(edges.top[columns + 1] - edges.bottom[columns], edges.top[columns] - edges.bottom[columns + 1])
    jumps = columns[apart > 1.0]
    return float(jumps[0]) + 0.5 if len(jumps) == 1 else None


def _break_times(chosen: Hypothesis) -> list[list[float]]:
    """Per row of the page as it lies, the seconds from its left end where another lead begins."""
    layout = chosen.layout
    times: list[list[float]] = [[] for _ in layout.rows]
    for segment in layout.segments:
        row = layout.n_rows - 1 - segment.row if chosen.upside_down else segment.row
        from_s = layout.duration_s - segment.stop_s if chosen.upside_down else segment.start_s
        if from_s > 0:
            times[row].append(from_s)
    return times


def _row_for_checks(traced: _Traced, edges: Edges, start_px: float, scale: Scale) -> NDArray[np.float64]:
    time_s = np.arange(round(DURATION_S * CHECK_RATE_HZ)) / CHECK_RATE_HZ
    x, y, _ = line_of(edges, 0, len(edges.top), traced.radius_px, MAX_GAP_S * scale.px_per_s)
    return -_sampled(x, y, start_px + time_s * scale.px_per_s) / scale.px_per_mv


def choose_layout(rows_mv: list[NDArray[np.float64]], wanted: Layout | None) -> tuple[Hypothesis, str]:
    """Pick the layout and which way up the page is.

    Args:
        rows_mv: Per row the whole row in mV.
        wanted: Declared layout, or None.

    Returns:
        The reading of the page that keeps the laws best, and `declared` or `recognised`.

    Raises:
        DigitizeRefusal: `LAYOUT_UNKNOWN`.
    """
    layouts = [wanted] if wanted is not None else list(known_layouts().values())
    ranked = rank_hypotheses(rows_mv, layouts)
    if not ranked:
        have = f"{wanted.name} with {wanted.n_rows} rows" if wanted else "3, 4, 6, 7 or 12 rows"
        raise DigitizeRefusal(
            "LAYOUT_UNKNOWN",
            f"{len(rows_mv)} rows were found, wanted {have}",
            "give the page's layout with --layout",
        )
    best = ranked[0]
    rivals = [h for h in ranked[1:] if h.upside_down != best.upside_down or h.layout.rows != best.layout.rows]
    if best.checks and rivals and best.score - rivals[0].score < MIN_MARGIN:
        raise DigitizeRefusal(
            "LAYOUT_UNKNOWN",
            f"{best.layout.name} and {rivals[0].layout.name}{' upside down' * rivals[0].upside_down} fit alike "
            f"({best.score:.2f} and {rivals[0].score:.2f})",
            "give the page's layout with --layout",
            scores={f"{h.layout.name}{' upside down' * h.upside_down}": round(h.score, 3) for h in ranked},
        )
    return best, "declared" if wanted is not None else "recognised"


def line_of(
    edges: Edges, first: int, stop: int, radius_px: float, max_gap_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[int, int]]]:
    """Line of a stretch of a row.

    Args:
        edges: Band of the row.
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
    change = np.flatnonzero(np.diff(np.r_[True, present, True].astype(np.int8)))
    gaps = [(int(a), int(b)) for a, b in zip(change[::2], change[1::2], strict=True) if b - a > max_gap_px]
    for edge in (top, bottom):
        edge[~present] = np.interp(columns[~present], columns[present], edge[present])
    x, y = pen_line(top, bottom, radius_px)
    for a, b in gaps:
        y[(x > a - 1) & (x < b)] = np.nan
    return x + first, y, [(a + first, b + first) for a, b in gaps]


def _sampled(x: NDArray[np.float64], y: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """PCHIP through a line with gaps; NaN in gaps and more than a column beyond the ends."""
    finite = np.isfinite(y)
    if finite.sum() < 2:
        return np.full(len(at), np.nan)
    known = x[finite]
    inside = np.clip(at, known[0], known[-1])
    values = PchipInterpolator(known, y[finite])(inside)
    nearest = np.clip(np.searchsorted(x, inside), 0, len(x) - 1)
    values[~finite[nearest] | (np.abs(at - inside) > 1.0)] = np.nan
    return np.asarray(values)


def _read_segments(
    traced: _Traced, chosen: Hypothesis, start_px: float, scale: Scale, shape: tuple[int, int], turns: int
) -> list[SegmentReading]:
    segments = []
    layout = chosen.layout
    for segment in layout.segments:
        row = layout.n_rows - 1 - segment.row if chosen.upside_down else segment.row
        from_s, to_s = segment.start_s, segment.stop_s
        if chosen.upside_down:
            from_s, to_s = layout.duration_s - to_s, layout.duration_s - from_s
        edges = traced.edges[row]
        width = len(edges.top)
        first = int(np.clip(np.ceil(start_px + from_s * scale.px_per_s - 0.25), 0, width - 1))
        stop = int(np.clip(np.floor(start_px + to_s * scale.px_per_s - 0.25) + 1, first + 1, width))
        x, y, gaps = line_of(edges, first, stop, traced.radius_px, MAX_GAP_S * scale.px_per_s)
        n = round((segment.stop_s - segment.start_s) * RATE_HZ)
        at = start_px + (from_s + np.arange(n) / RATE_HZ) * scale.px_per_s
        if chosen.upside_down:
            at = at + scale.px_per_s / RATE_HZ
        height_px = -_sampled(x, y, at)
        if chosen.upside_down:
            height_px = -height_px[::-1]
        mv = (height_px - isoelectric(height_px)) / scale.px_per_mv
        seconds = [tuple((np.array(gap) - start_px) / scale.px_per_s) for gap in gaps]
        if chosen.upside_down:
            seconds = [(layout.duration_s - b, layout.duration_s - a) for a, b in reversed(seconds)]
        segments.append(
            SegmentReading(
                lead=segment.lead,
                row=segment.row,
                start_s=segment.start_s,
                stop_s=segment.stop_s,
                mv=mv.astype(np.float32),
                coverage=float(np.isfinite(mv).mean()),
                confidence=confidence.lead_confidence(edges, slice(first, stop), traced.radius_px),
                gaps_s=tuple((float(a), float(b)) for a, b in seconds),
                path_px=_on_page(traced.straightening.points(np.column_stack([x, y])), shape, turns),
            )
        )
    return segments


def isoelectric(height: NDArray[np.float64]) -> float:
    """Level at which a lead rests: the middle of the shortest interval with three tenths of its samples."""
    finite = np.sort(height[np.isfinite(height)])
    if len(finite) == 0:
        return 0.0
    n = max(1, round(ISOELECTRIC_SHARE * len(finite)))
    spans = finite[n - 1 :] - finite[: len(finite) - n + 1]
    at = int(spans.argmin())
    return float(np.mean(finite[at : at + n]))


def _on_page(points: NDArray[np.float64], shape: tuple[int, int], turns: int) -> NDArray[np.float64]:
    """Undo the quarter turn: (n, 2) points of the turned page (H, W) = shape, on the page as read."""
    if turns == 0:
        return points
    x, y = points[:, 0], points[:, 1]
    return np.column_stack([shape[0] - 1 - y, x])  # np.rot90 by one: page (x, y) lies at (y, W - 1 - x)
