"""Scale, start and layout of a page that has been followed; each helps to find the others.

The grid and the pulse give a scale, the rows' ends a start, and both a layout. The layout tells where leads
begin and end, and those places correct the start, and the scale too where rows alone have told it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.layout import Layout
from datamodules.page import Page
from lightning_app.digitize.followed import Followed, consensus
from lightning_app.digitize.law_changes import law_evidence
from lightning_app.digitize.layouts import CHECK_RATE_HZ, Hypothesis, candidates, choose_layout
from lightning_app.digitize.lead_ends import STRETCHES, LeadEnd, offsets_to_try, start_from_ends_seen
from lightning_app.digitize.leads import Calibrated, numbered_rows, rows_at
from lightning_app.digitize.marks import marks_evidence, start_from_marks
from lightning_app.digitize.printed import NOTHING_SAID, Said, read_lines, what_is_said
from lightning_app.digitize.pulse import MIN_UNUSUAL_SCORE, Pulse, as_dark_as_traces, find_pulse
from lightning_app.digitize.results import DigitizeRefusal, Scale
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
from lightning_app.digitize.spaces import Spaces, find_spaces, find_spaces_without_grid
from lightning_app.digitize.timing import (
    break_times,
    ends_agreement,
    ends_beside,
    lead_ends,
    record_length_px,
    start_from_ends,
    ten_seconds_px,
)

LAW_STEP_PX = 0.5
START_BY_MARKS_MS = 1.0  # error on rendered pages (docs/reader.md)
MARKS_NEAR_PX = 1.0  # of where leads are seen to end: .6 px and less on 86 of 87 pages, the other had none
PRINT_SIGMA_PX = 0.7  # letters cut out of a grid have edges that no print has
MIN_ROOF = 0.5  # probability along a pulse's roof; a pulse among the traces is one only if it is in the map

Floats = NDArray[np.float64]


def calibrate(
    page: Page, followed: Followed, declared: Declared, wanted: Layout | None, turns: int
) -> Calibrated:
    """Settle scale, start and layout of a page.

    Args:
        page: The page as read.
        followed: Its traces, upright.
        declared: What the user says.
        wanted: Declared layout; None: one of the known ones.
        turns: Quarter turns by which `followed` is turned against `page`.

    Returns:
        All three, and how sure they are.

    Raises:
        DigitizeRefusal: `SCALE_UNKNOWN`, `SCALE_CONFLICT` or `LAYOUT_UNKNOWN`, the last with rows that are
            numbered instead of named.
    """
    pulse, spaces = _pulse_and_spaces(followed, declared, wanted)
    said = NOTHING_SAID if pulse else _said(page, followed, declared, turns, False)
    calibrated = _calibrated_by(followed, pulse, spaces, said, declared, wanted, turns)
    upside_down = calibrated.chosen.upside_down
    # Twelve leads know better which way is up than one rectangle, which the grid may have drawn.
    is_false = pulse is not None and pulse.upside_down != upside_down
    if is_false or (upside_down and calibrated.scale.gain_source == "assumed"):
        said = _said(page, followed, declared, turns, upside_down)
        calibrated = _calibrated_by(followed, None, spaces, said, declared, wanted, turns)
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


def _pulse_and_spaces(
    page: Followed, declared: Declared, wanted: Layout | None
) -> tuple[Pulse | None, Spaces | None]:
    """The calibration pulse and the paper between columns, which help to find each other."""
    layouts = candidates(wanted, len(page.edges))
    lengths_px = expected_row_px(page.grid) if declared.px_per_s is None else [DURATION_S * declared.px_per_s]
    if not page.profiles:
        return _pulse(page, None), None
    if lengths_px:
        spaces = find_spaces(page, lengths_px, layouts)
        return _pulse(page, spaces), spaces
    pulse = _pulse(page, None)
    return pulse, find_spaces_without_grid(page, pulse, layouts)


def _calibrated_by(
    page: Followed,
    pulse: Pulse | None,
    spaces: Spaces | None,
    said: Said,
    declared: Declared,
    wanted: Layout | None,
    turns: int,
) -> Calibrated:
    ends = ends_beside(page, pulse, spaces)
    if spaces is None:
        row_px = record_length_px(ends, expected_row_px(page.grid))
        length_px = ten_seconds_px(row_px, ends.cap_px)
    else:
        length_px = spaces.length_px
    scale = settle_scale(page.grid, pulse, length_px, declared, said)
    start_px = start_from_ends(ends, scale.px_per_s) if spaces is None else spaces.start_px
    try:
        chosen = _choose(page, start_px, scale, wanted, spaces)
    except DigitizeRefusal as refusal:
        refusal.rows = numbered_rows(page, scale, start_px, turns)
        raise
    begin = _begin_by_leads(page, chosen, start_px, scale)
    if begin is None:
        return Calibrated(scale, start_px, chosen, ends_agreement(ends, start_px, scale.px_per_s))
    chosen = _choose(page, begin.start_px, begin.scale, wanted, spaces)
    return Calibrated(begin.scale, begin.start_px, chosen, begin.agreement, begin.start_ms)


def _choose(
    page: Followed, start_px: float, scale: Scale, wanted: Layout | None, spaces: Spaces | None
) -> Hypothesis:
    """The layout whose laws the rows keep best from this start on."""
    space_s = None if spaces is None else (spaces.n_columns, spaces.space_px / scale.px_per_s)
    paper_s = DURATION_S + (0.0 if spaces is None else spaces.total_px / scale.px_per_s)
    return choose_layout(_rows_for_checks(page, start_px, scale, paper_s), wanted, space_s)


@dataclass(frozen=True)
class _Begin:
    """Where a record begins by its leads, its scale, share of the leads that say so, and the likely error."""

    scale: Scale
    start_px: float
    agreement: float
    start_ms: float


def _begin_by_leads(page: Followed, chosen: Hypothesis, start_px: float, scale: Scale) -> _Begin | None:
    """Start by the ends of leads and the marks between them; the scale, too, where rows alone tell it."""
    if not page.profiles:
        marked_px = _start_from_marks(page, chosen, start_px, scale)
        return None if marked_px is None else _Begin(scale, marked_px, 1.0, START_BY_MARKS_MS)
    ends = lead_ends(chosen)
    if not (scale.time_source == "declared" or (scale.time_source == "grid" and page.grid.x is not None)):
        columns = _columns(page, ends, start_px, scale)
        seen = start_from_ends_seen(page.profiles, columns, ends, scale.px_per_s, stretches=STRETCHES)
        scale, start_px = _stretched(scale, seen.stretch), start_px + seen.offset_px
    marked_px = _start_from_marks(page, chosen, start_px, scale)
    of_begins, of_ends = _law_evidence(page, chosen, start_px, scale)
    if marked_px is not None:
        of_begins += marks_evidence(marked_px - start_px, offsets_to_try(scale.px_per_s).of_begins)
    columns = _columns(page, ends, start_px, scale)
    seen = start_from_ends_seen(
        page.profiles, columns, ends, scale.px_per_s, of_begins=of_begins, of_ends=of_ends
    )
    start_px += seen.offset_px
    is_marked = marked_px is not None and abs(marked_px - start_px) <= MARKS_NEAR_PX
    agreement = 1.0 if is_marked else seen.agreement
    return _Begin(scale, start_px, agreement, 1000 * seen.sd_px / scale.px_per_s)


def _columns(page: Followed, ends: Sequence[LeadEnd], start_px: float, scale: Scale) -> list[float]:
    """Where ends of leads would lie."""
    return [page.row_to_x(end.row, start_px + end.time_s * scale.px_per_s) for end in ends]


def _law_evidence(page: Followed, chosen: Hypothesis, start_px: float, scale: Scale) -> tuple[Floats, Floats]:
    """What laws say that begin, and those that end, of each of `offsets_to_try`."""
    u_px = np.arange(0.0, page.width, LAW_STEP_PX)
    rows_px = rows_at(page, u_px, scale.px_per_s)
    offsets = offsets_to_try(scale.px_per_s)
    begins, ends = (
        law_evidence(u_px, rows_px, chosen, start_px, scale.px_per_s, offsets_px, of_begins=of_begins)
        for offsets_px, of_begins in ((offsets.of_begins, True), (offsets.of_ends, False))
    )
    return begins, ends


def _start_from_marks(page: Followed, chosen: Hypothesis, start_px: float, scale: Scale) -> float | None:
    """Start by the marks at changes of lead alone.

    Those of leads with paper between them may stand anywhere on it.
    """
    if chosen.layout.space_s:
        return None
    changes = [
        (float(v_px), time_s)
        for v_px, times_s in zip(page.rows_v_px, break_times(chosen), strict=True)
        for time_s in times_s
    ]
    return start_from_marks(page.dark_without_grid, changes, start_px, scale.px_per_s, px_per_mm(scale))


def _stretched(scale: Scale, stretch: float) -> Scale:
    """The same scale with another length of a second."""
    px_per_mm = scale.px_per_mm and (scale.px_per_mm[0] * stretch, scale.px_per_mm[1])
    return replace(scale, px_per_s=scale.px_per_s * stretch, px_per_mm=px_per_mm)


def _pulse(page: Followed, spaces: Spaces | None) -> Pulse | None:
    firsts, lasts = page.row_ends()
    first, last = (consensus(ends, page.row_end_px) for ends in (firsts, lasts))
    row_px = ends_beside(page, None, spaces).length_px
    width = page.dark.shape[1]
    room = round(0.035 * width)
    spans = [(0, round(first) + room), (round(last) - room, width)]
    mm = likely_mm(page.grid, row_px)
    sizes = [(gain * mm_y, length * mm_x) for mm_x, mm_y in mm for gain in GAINS_MM_MV for length in (5, 10)]
    usual = (GAINS_MM_MV[0] * mm[0][1], PULSE_S * row_px / DURATION_S) if mm else None
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
    if pulse is None or not first < (pulse.left_px + pulse.right_px) / 2 < last:
        return pulse  # beside the traces, where nothing else looks like one; its end may touch them
    # Among the traces and without a grid that foretells its size, any small corner of them looks like one.
    fits = bool(mm) or abs(pulse.width_px * DURATION_S / row_px / PULSE_S - 1) <= PULSE_TOLERANCE
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


def _rows_for_checks(page: Followed, start_px: float, scale: Scale, paper_s: float) -> list[Floats]:
    u_px = start_px + np.arange(round(paper_s * CHECK_RATE_HZ)) / CHECK_RATE_HZ * scale.px_per_s
    return [row_px / scale.px_per_mv for row_px in rows_at(page, u_px, scale.px_per_s)]


def px_per_mm(scale: Scale) -> float:
    """Pixels per millimetre along voltage; without a grid, those of the usual gain."""
    return scale.px_per_mm[1] if scale.px_per_mm else scale.px_per_mv / GAINS_MM_MV[0]
