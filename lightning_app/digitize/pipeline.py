"""One page from probability to millivolts: the steps of this package in their order.

    probability -> rows -> grid -> straight page -> paths -> pulse and scale -> layout -> traces -> record

Every step is a function of its own with its own test; this file only hands results on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from datamodules.layout import Layout, Segment, known_layouts, load_layout
from datamodules.page import Page
from lightning_app.digitize import confidence
from lightning_app.digitize.followed import Followed, consensus, follow_again, follow_page
from lightning_app.digitize.heights import lines_of, probability_of
from lightning_app.digitize.law_changes import law_evidence
from lightning_app.digitize.layouts import CHECK_RATE_HZ, Hypothesis, rank_hypotheses
from lightning_app.digitize.lead_ends import Start, offsets_to_try, start_from_ends_seen
from lightning_app.digitize.lead_names import Place, contradiction, find_words
from lightning_app.digitize.marks import start_from_marks
from lightning_app.digitize.mirror import refuse_if_mirrored
from lightning_app.digitize.printed import NOTHING_SAID, Said, read_lines, what_is_said
from lightning_app.digitize.pulse import MIN_UNUSUAL_SCORE, Pulse, as_dark_as_traces, find_pulse
from lightning_app.digitize.record import assemble
from lightning_app.digitize.results import (
    RATE_HZ,
    Digitized,
    DigitizeRefusal,
    NumberedRows,
    Refusal,
    Scale,
    SegmentReading,
)
from lightning_app.digitize.rows import clean_mask, lies_on_its_side, mended, without_frame
from lightning_app.digitize.scale import (
    DURATION_S,
    GAINS_MM_MV,
    PULSE_S,
    PULSE_TOLERANCE,
    Declared,
    expected_row_px,
    likely_mm,
    settle_scale,
)
from lightning_app.digitize.timing import (
    break_times,
    ends_agreement,
    ends_beside,
    lead_ends,
    record_length_px,
    start_from_ends,
    ten_seconds_px,
)
from lightning_app.digitize.working_scale import WorkingPage, every_ink, resampled

MIN_SIDE_PX = 128
MAX_PX = 2_500_000  # larger pages are read shrunk: 6 px/mm on A4, and within 3 s of processor time
MAX_GAP_S = 0.020  # R28: shorter gaps are interpolated
MIN_MARGIN = 0.1  # of the laws' score, over the next way to read the page
ISOELECTRIC_SHARE = 0.3
LAW_STEP_PX = 0.5
START_BY_MARKS_MS, START_BY_ROWS_MS = 1.0, 10.0  # errors on rendered pages (docs/reader.md)
MARKS_NEAR_PX = 1.0  # of where leads are seen to end: .6 px and less on 86 of 87 pages, the other had none
PRINT_SIGMA_PX = 0.7  # letters cut out of a grid have edges that no print has
MIN_ROOF = 0.5  # probability along a pulse's roof; a pulse among the traces is one only if it is in the map

Array = NDArray[np.float32]


@dataclass(frozen=True)
class _Calibrated:
    """Scale of a page, where it begins and how surely, how its leads lie, share of rows that begin there."""

    scale: Scale
    start_px: float
    chosen: Hypothesis
    ends: float
    start_ms: float = START_BY_ROWS_MS


def digitize_page(
    page: Page,
    maps: Array,
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
        maps: (H, W) float32 in [0, 1], waveform probability of each pixel of `page`; or (5, H, W), followed
            by what `models.line_unet` says of lines.
        layout: Name or layout; None: recognised among the known ones.
        px_per_s: Declared pixels per second; checked against the grid where there is one.
        px_per_mv: Declared pixels per millivolt.
        mm_per_s: Declared paper speed.
        mm_per_mv: Declared gain.
        predict: What made the maps out of ink. Asked again for a page that lies on its side, since
            networks learn from upright ones.

    Returns:
        The reading, or a refusal.

    Raises:
        ValueError: If page and maps differ in shape.
        ConfigError: If the layout named does not exist.
    """
    if maps.shape[-2:] != page.ink.shape:
        raise ValueError(f"got maps of shape {maps.shape}, wanted the page's {page.ink.shape}")
    wanted = load_layout(layout) if isinstance(layout, str) else layout
    try:
        declared = Declared(px_per_s, px_per_mv, mm_per_s, mm_per_mv)
        if page.ink.size > MAX_PX:
            return _digitize_shrunk(page, probability_of(maps), wanted, declared, predict)
        return _digitize(page, maps, wanted, declared, predict)
    except DigitizeRefusal as refusal:
        return Refusal(refusal.code, refusal.reason, refusal.remedy, refusal.details, refusal.rows)


def _digitize_shrunk(
    page: Page,
    probability: Array,
    wanted: Layout | None,
    declared: Declared,
    predict: Callable[[NDArray[np.uint8]], Array] | None,
) -> Digitized | Refusal:
    """Read a page of more than `MAX_PX` pixels at a smaller size and give everything in its own pixels.

    Columns that are merged have no halves: such a page is read from its mask alone.
    """
    factor = (MAX_PX / probability.size) ** 0.5
    working = WorkingPage(resampled(page, factor), factor, (probability.shape[0], probability.shape[1]))

    def to_size_of(ink: NDArray[np.uint8], large: Array) -> Array:
        return np.asarray(cv2.resize(large, ink.shape[::-1], interpolation=cv2.INTER_AREA), np.float32)

    def predict_shrunk(ink: NDArray[np.uint8]) -> Array:
        assert predict is not None
        return to_size_of(ink, probability_of(predict(np.ascontiguousarray(np.rot90(page.ink)))))

    return working.back(
        _digitize(
            working.page,
            to_size_of(working.page.ink, probability),
            wanted,
            Declared(**working.declared(declared)),
            predict_shrunk if predict else None,
        )
    )


def _digitize(
    page: Page,
    maps: Array,
    wanted: Layout | None,
    declared: Declared,
    predict: Callable[[NDArray[np.uint8]], Array] | None,
) -> Digitized:
    if min(page.ink.shape) < MIN_SIDE_PX:
        raise DigitizeRefusal(
            "TOO_SMALL",
            f"{page.ink.shape[1]} x {page.ink.shape[0]} px",
            f"scan with at least {MIN_SIDE_PX} px",
        )
    turns = 1 if lies_on_its_side(clean_mask(mended(without_frame(probability_of(maps))))) else 0
    grid_ink, dark = grid_and_dark(page)
    grid_ink, dark = np.rot90(grid_ink, turns), np.rot90(dark, turns)
    if turns:
        maps = _turned(maps) if predict is None else predict(np.ascontiguousarray(np.rot90(page.ink)))
    followed = follow_page(grid_ink, dark, mended(without_frame(probability_of(maps))), lines_of(maps))
    calibrated = _calibrated(page, followed, declared, wanted, turns)
    scale, start_px, chosen = calibrated.scale, calibrated.start_px, calibrated.chosen
    followed = follow_again(followed, _break_columns(followed, chosen, start_px, scale.px_per_s))
    checks = dict(chosen.checks)
    laws = confidence.laws_kept(checks)
    stop_px, rim_px = start_px + DURATION_S * scale.px_per_s, followed.radius_px + 1
    segments = [_read(followed, calibrated, segment, laws, turns) for segment in chosen.layout.segments]
    confidence.refuse_if_doubtful(segments, checks, calibrated.ends)
    if scale.gain_source == "assumed":
        confidence.refuse_if_gain_is_unlikely(segments)
    if not confidence.beyond_doubt(checks):
        refuse_if_mirrored(segments)
    if wanted is None:
        _refuse_if_names_contradict(followed, calibrated, turns)
    return Digitized(
        mv=assemble(segments, chosen.layout.duration_s),
        rate_hz=RATE_HZ,
        layout=chosen.layout.name,
        layout_source="recognised" if wanted is None else "declared",
        quarter_turns=(turns + 2 * chosen.upside_down) % 4,
        skew_deg=followed.skew_deg,
        scale=scale,
        segments=tuple(segments),
        checks=checks,
        confidence=float(np.mean([segment.confidence for segment in segments])),
        mask=np.rot90(followed.waveform(start_px - rim_px, stop_px + rim_px), -turns),
        start_ms=calibrated.start_ms,
    )


def _turned(maps: Array) -> Array:
    """Turn a mask upright; on a page that lies on its side weights are those of no column."""
    return np.ascontiguousarray(np.rot90(probability_of(maps)))


def _calibrated(
    page: Page, followed: Followed, declared: Declared, wanted: Layout | None, turns: int
) -> _Calibrated:
    pulse = _pulse(followed)
    said = NOTHING_SAID if pulse else _said(page, followed, declared, turns, False)
    calibrated = _calibrated_by(followed, pulse, said, declared, wanted, turns)
    upside_down = calibrated.chosen.upside_down
    # Twelve leads know better which way is up than one rectangle, which the grid may have drawn.
    is_false = pulse is not None and pulse.upside_down != upside_down
    if is_false or (upside_down and calibrated.scale.gain_source == "assumed"):
        said = _said(page, followed, declared, turns, upside_down)
        calibrated = _calibrated_by(followed, None, said, declared, wanted, turns)
    return calibrated


def _said(page: Page, followed: Followed, declared: Declared, turns: int, upside_down: bool) -> Said:
    """What is printed on the page, unless the gain is declared; read without its grid if that hides it."""
    if declared.px_per_mv is not None or declared.mm_per_mv is not None:
        return NOTHING_SAID
    paper = 255 - page.ink if page.rgb is None else page.rgb
    said = what_is_said(read_lines(np.rot90(paper, turns + 2 * upside_down)))
    if said.mm_per_mv:
        return said
    bare = np.asarray(255 * (1 - followed.dark_without_grid), np.uint8)
    soft = cv2.GaussianBlur(bare, (0, 0), PRINT_SIGMA_PX)
    return what_is_said(read_lines(np.rot90(soft, 2 * upside_down)))


def _calibrated_by(
    page: Followed, pulse: Pulse | None, said: Said, declared: Declared, wanted: Layout | None, turns: int
) -> _Calibrated:
    ends = ends_beside(page, pulse)
    row_px = record_length_px(ends, expected_row_px(page.grid))
    scale = settle_scale(page.grid, pulse, ten_seconds_px(row_px, ends.cap_px), declared, said)
    start_px = start_from_ends(ends, scale.px_per_s)
    try:
        chosen = choose_layout(_rows_for_checks(page, start_px, scale), wanted)
    except DigitizeRefusal as refusal:
        refusal.rows = _numbered_rows(page, scale, start_px, turns)
        raise
    seen = _start_from_lead_ends(page, chosen, start_px, scale)
    is_seen = seen is not None and seen.agreement == 1.0
    if seen and is_seen:
        scale = _stretched(scale, seen.stretch)
    marked_px = _start_from_marks(page, chosen, start_px, scale)
    seen_px = start_px + seen.offset_px if seen else start_px
    # Marks are exact, unless letters were taken for them: where the network sees leads end tells which.
    if marked_px is not None and not (is_seen and abs(marked_px - seen_px) > MARKS_NEAR_PX):
        start_px, agreement, start_ms = marked_px, 1.0, START_BY_MARKS_MS
    elif seen is not None:
        start_px, agreement, start_ms = seen_px, seen.agreement, 1000 * seen.sd_px / scale.px_per_s
    else:
        return _Calibrated(scale, start_px, chosen, ends_agreement(ends, start_px, scale.px_per_s))
    chosen = choose_layout(_rows_for_checks(page, start_px, scale), wanted)
    return _Calibrated(scale, start_px, chosen, agreement, start_ms)


def _stretched(scale: Scale, stretch: float) -> Scale:
    """The same scale with another length of a second."""
    px_per_mm = scale.px_per_mm and (scale.px_per_mm[0] * stretch, scale.px_per_mm[1])
    return replace(scale, px_per_s=scale.px_per_s * stretch, px_per_mm=px_per_mm)


def _numbered_rows(page: Followed, scale: Scale, start_px: float, turns: int) -> NumberedRows:
    """Read every row as one lead that has a number for a name."""
    layout = Layout("unknown", DURATION_S, tuple((f"row {n + 1}",) for n in range(len(page.edges))))
    calibrated = _Calibrated(scale, start_px, Hypothesis(layout, False, {}, 0.0), 0.0)
    rows = tuple(
        _read(page, calibrated, segment, confidence.laws_kept({}), turns) for segment in layout.segments
    )
    return NumberedRows(rows, scale)


def _refuse_if_names_contradict(page: Followed, calibrated: _Calibrated, turns: int) -> None:
    """Refuse a page whose printed lead names stand where its layout has other leads.

    Raises:
        DigitizeRefusal: `LAYOUT_UNKNOWN`.
    """
    scale, start_px, chosen = calibrated.scale, calibrated.start_px, calibrated.chosen
    paper, rows_px = _without_traces(page), page.rows_v_px
    if chosen.upside_down:
        paper, rows_px = np.rot90(paper, 2), len(paper) - 1 - rows_px[::-1]
        start_px = paper.shape[1] - 1 - start_px - DURATION_S * scale.px_per_s
    words = find_words(paper, _px_per_mm(scale), rows_px)
    reason = contradiction(words, Place(chosen.layout, rows_px, start_px, scale.px_per_s))
    if reason is None:
        return
    refusal = DigitizeRefusal(
        "LAYOUT_UNKNOWN",
        f"its traces would be {chosen.layout.name}, but {reason}",
        "give the page's layout with --layout",
    )
    refusal.rows = _numbered_rows(page, scale, calibrated.start_px, turns)
    raise refusal


def _without_traces(page: Followed) -> NDArray[np.uint8]:
    """(H, W) uint8, 255 = paper: what is left of the straight page without its traces and grid."""
    traces = cv2.dilate(page.waveform(-np.inf, np.inf).astype(np.uint8), np.ones((3, 3), np.uint8))
    share = np.asarray(page.straightening.image(traces.astype(np.float32)), np.float32)
    return np.asarray(255 * (1 - np.where(share > 0.5, 0, page.dark_without_grid)), np.uint8)


def _px_per_mm(scale: Scale) -> float:
    return scale.px_per_mm[1] if scale.px_per_mm else scale.px_per_mv / GAINS_MM_MV[0]


def _start_from_lead_ends(page: Followed, chosen: Hypothesis, start_px: float, scale: Scale) -> Start | None:
    """Start by where the network sees leads begin and end; the scale, too, where rows alone tell it."""
    if not page.profiles:
        return None
    ends = lead_ends(chosen)
    columns = [page.row_to_x(end.row, start_px + end.time_s * scale.px_per_s) for end in ends]
    is_sure = scale.time_source == "declared" or (scale.time_source == "grid" and page.grid.x is not None)
    if not is_sure:
        return start_from_ends_seen(page.profiles, columns, ends, scale.px_per_s, is_scale_sure=False)
    u_px = np.arange(0.0, page.width, LAW_STEP_PX)
    offsets_px = offsets_to_try(scale.px_per_s)
    rows_px = _rows_at(page, u_px, scale.px_per_s)
    evidence = law_evidence(u_px, rows_px, chosen, start_px, scale.px_per_s, offsets_px)
    return start_from_ends_seen(page.profiles, columns, ends, scale.px_per_s, evidence=evidence)


def _start_from_marks(page: Followed, chosen: Hypothesis, start_px: float, scale: Scale) -> float | None:
    """Start by the marks at changes of lead, which tell it better than the ends of the rows."""
    changes = [
        (float(v_px), time_s)
        for v_px, times_s in zip(page.rows_v_px, break_times(chosen), strict=True)
        for time_s in times_s
    ]
    return start_from_marks(page.dark_without_grid, changes, start_px, scale.px_per_s, _px_per_mm(scale))


def grid_and_dark(page: Page) -> tuple[NDArray[np.uint8], Array]:
    """Split a page into what shows its grid best and what shows black ink best.

    Args:
        page: The page.

    Returns:
        (H, W) uint8, every ink dark, coloured grids included; (H, W) float32 in [0, 1], black ink only. On a
        page without colour both are its ink.
    """
    if page.rgb is None:
        return page.ink, np.asarray(page.ink / np.float32(255), dtype=np.float32)
    dark: Array = (255 - page.rgb.max(axis=2)).astype(np.float32)
    dark /= 255
    return every_ink(page), dark


def _pulse(page: Followed) -> Pulse | None:
    firsts, lasts = page.row_ends()
    first, last = (consensus(ends, page.row_end_px) for ends in (firsts, lasts))
    width = page.dark.shape[1]
    room = round(0.035 * width)
    spans = [(0, round(first) + room), (round(last) - room, width)]
    mm = likely_mm(page.grid, last - first)
    sizes = [(gain * mm_y, length * mm_x) for mm_x, mm_y in mm for gain in GAINS_MM_MV for length in (5, 10)]
    usual = (GAINS_MM_MV[0] * mm[0][1], PULSE_S * (last - first) / DURATION_S) if mm else None
    dark = as_dark_as_traces(page.dark_without_grid, page.rows_v_px, page.pitch_px, (first, last))
    highest_px = 1.2 * page.pitch_px
    pulse = find_pulse(dark, page.rows_v_px, spans, sizes or None, highest_px, usual)
    if pulse is None or pulse.score < MIN_UNUSUAL_SCORE:  # the page may stand on its head
        turned = [(width - stop, width - start) for start, stop in reversed(spans)]
        rows_v_px = dark.shape[0] - 1 - page.rows_v_px[::-1]
        other = find_pulse(dark[::-1, ::-1], rows_v_px, turned, sizes or None, highest_px, usual)
        if other is not None and other.score > (pulse.score if pulse else 0.0):
            left_px = width - 1 - other.right_px
            pulse = replace(other, left_px=left_px, foot_px=-other.foot_px, upside_down=True)
    if pulse is None or pulse.right_px <= first + 2 or pulse.left_px >= last - 2:
        return pulse
    # Among the traces and without a grid that foretells its size, any small corner of them looks like one.
    fits = bool(mm) or abs(pulse.width_px * DURATION_S / (last - first) / PULSE_S - 1) <= PULSE_TOLERANCE
    return pulse if fits and _is_in_map(page, pulse) else None


def _is_in_map(page: Followed, pulse: Pulse) -> bool:
    """Whether the network, or whoever drew the mask, took the pulse for waveform."""
    roofs = []
    rise_px = -pulse.height_px if pulse.upside_down else pulse.height_px
    for row, y in enumerate(page.rows_y_px + pulse.foot_px - rise_px):
        left, right = (round(page.row_to_x(row, u)) for u in (pulse.left_px, pulse.right_px))
        strip = page.levelled[max(0, round(y) - 3) : max(1, round(y) + 4), left + 2 : right - 1]
        roofs.append(strip.max(axis=0).mean() if strip.size else 0.0)
    return float(np.mean(roofs)) >= MIN_ROOF


def _rows_for_checks(page: Followed, start_px: float, scale: Scale) -> list[NDArray[np.float64]]:
    u_px = start_px + np.arange(round(DURATION_S * CHECK_RATE_HZ)) / CHECK_RATE_HZ * scale.px_per_s
    return [row_px / scale.px_per_mv for row_px in _rows_at(page, u_px, scale.px_per_s)]


def _rows_at(page: Followed, u_px: NDArray[np.float64], px_per_s: float) -> list[NDArray[np.float64]]:
    """Per row its height above v = 0 at straight columns, px; NaN in gaps."""
    rows = []
    for row in range(len(page.edges)):
        points, gaps = page.line(row, 0, page.width, MAX_GAP_S * px_per_s)
        rows.append(-_sampled(page.to_straight(points), gaps, u_px))
    return rows


def _break_columns(page: Followed, chosen: Hypothesis, start_px: float, px_per_s: float) -> list[list[int]]:
    """Per row the first columns of those leads that are not its first."""
    return [
        [
            column
            for time_s in times_s
            if 0 < (column := int(np.ceil(page.row_to_x(row, start_px + time_s * px_per_s)))) < page.width
        ]
        for row, times_s in enumerate(break_times(chosen))
    ]


def choose_layout(rows_mv: list[NDArray[np.float64]], wanted: Layout | None) -> Hypothesis:
    """Pick the layout and which way up the page is.

    Args:
        rows_mv: Per row the whole row in mV.
        wanted: Declared layout, or None.

    Returns:
        The reading of the page that keeps the laws best.

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
            f"{best.layout.name} ({best.score:.2f}) and {rivals[0].layout.name}"
            f"{' upside down' * rivals[0].upside_down} ({rivals[0].score:.2f}) fit alike",
            "give the page's layout with --layout",
            scores={f"{h.layout.name}{' upside down' * h.upside_down}": round(h.score, 3) for h in ranked},
        )
    return best


def _sampled(
    points: NDArray[np.float64], gaps: list[tuple[float, float]], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """PCHIP through straight points (u, v); NaN in the gaps and more than a pixel beyond the ends."""
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 2:
        return np.full(len(at), np.nan)
    # On a turned page a steep stroke leans back by a fraction of a pixel; time does not.
    u, first = np.unique(np.maximum.accumulate(points[:, 0]), return_index=True)
    inside = np.clip(at, u[0], u[-1])
    values = np.asarray(PchipInterpolator(u, points[first, 1])(inside))
    values[np.abs(at - inside) > 1.0] = np.nan
    for begin, end in gaps:
        values[(at > begin) & (at < end)] = np.nan
    return values


def _read(
    page: Followed, calibrated: _Calibrated, segment: Segment, laws: float, turns: int
) -> SegmentReading:
    """Read one stretch of one lead."""
    scale, start_px, chosen = calibrated.scale, calibrated.start_px, calibrated.chosen
    layout = chosen.layout
    row, from_s, to_s = segment.row, segment.start_s, segment.stop_s
    if chosen.upside_down:
        row, from_s, to_s = layout.n_rows - 1 - row, layout.duration_s - to_s, layout.duration_s - from_s
    first = int(np.clip(np.ceil(page.row_to_x(row, start_px + from_s * scale.px_per_s)), 0, page.width - 1))
    stop = int(np.ceil(page.row_to_x(row, start_px + to_s * scale.px_per_s)))
    stop = int(np.clip(stop, first + 1, page.width))
    points, gaps_px = page.line(row, first, stop, MAX_GAP_S * scale.px_per_s)
    sample = np.arange(round((to_s - from_s) * RATE_HZ))
    # On a page that stands on its head the leftmost sample is the last one, and that is where the row begins.
    u = start_px + (from_s + sample / RATE_HZ) * scale.px_per_s
    up_px = -_sampled(page.to_straight(points), gaps_px, u)
    gaps_s = [((a - start_px) / scale.px_per_s, (b - start_px) / scale.px_per_s) for a, b in gaps_px]
    if chosen.upside_down:
        up_px = -up_px[::-1]
        gaps_s = [(layout.duration_s - b, layout.duration_s - a) for a, b in reversed(gaps_s)]
    mv = (up_px - isoelectric(up_px)) / scale.px_per_mv
    evidence = confidence.gather(
        page.edges[row],
        slice(first, stop),
        page.radius_px,
        up_px,
        laws,
        calibrated.ends,
        calibrated.start_ms,
    )
    return SegmentReading(
        lead=segment.lead,
        row=segment.row,
        start_s=segment.start_s,
        stop_s=segment.stop_s,
        mv=mv.astype(np.float32),
        coverage=float(np.isfinite(mv).mean()),
        confidence=confidence.probability(evidence),
        gaps_s=tuple(gaps_s),
        path_px=_as_read(page.to_page(points), page.levelled.shape[0], turns),
        evidence=evidence,
    )


def isoelectric(height: NDArray[np.float64]) -> float:
    """Level at which a lead rests: the middle of the shortest interval with three tenths of its samples."""
    finite = np.sort(height[np.isfinite(height)])
    if len(finite) == 0:
        return 0.0
    n = max(1, round(ISOELECTRIC_SHARE * len(finite)))
    spans = finite[n - 1 :] - finite[: len(finite) - n + 1]
    at = int(spans.argmin())
    return float(np.mean(finite[at : at + n]))


def _as_read(points: NDArray[np.float64], height: int, turns: int) -> NDArray[np.float64]:
    """Undo the quarter turn: points of the upright page of this height, on the page as it was read."""
    if turns == 0:
        return points
    # np.rot90 by one puts the page's (x, y) at (y, W - 1 - x), and W is the upright page's height.
    return np.column_stack([height - 1 - points[:, 1], points[:, 0]])
