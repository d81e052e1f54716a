"""Annotate one page: find where the known signal was printed, and draw it there as the mask.

Li et al. 2020, section 2.2, minimise the squared difference between a scaled template H(S) of each lead and
the scan over H and place. Here the leads of a page are placed together, because one lead alone may fit in
many places; afterwards each lead is judged alone, by the paper's own landscape around the place it was given.
A lead that would fit as well elsewhere is left out and named, never guessed (PROTOCOL R10 to R13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from datamodules.annotation.placement import CoarsePage, Placement, place_layouts
from datamodules.annotation.refinement import (
    AMPLITUDE_RANGE,
    TIME_RANGE,
    Fit,
    agreement,
    break_even,
    contrast,
    fit_pen,
    height_profile,
    ink_above,
    look,
    place_rows,
    refine,
    settle,
    start_fit,
)
from datamodules.annotation.sharpening import sharpen
from datamodules.annotation.templates import (
    Piece,
    Scale,
    cut_pieces,
    draw_points,
    mean_under,
    without_rules,
)
from datamodules.geometry import DrawnSegment, Geometry
from datamodules.layout import LEADS, Layout, Segment
from datamodules.rendering.strokes import column_runs, extents, stamp_mask
from datamodules.signals import Recording

Reason = Literal[
    "",
    "LAYOUT_TOO_WIDE",
    "NO_SIGNAL",
    "OFF_PAGE",
    "NOT_UNIQUE",
    "POOR_FIT",
    "OTHER_LEAD",
    "PAGE_NOT_UNIQUE",
    "PAGE_REFUSED",
    "SCALE_OUT_OF_RANGE",
]
Ink = npt.NDArray[np.float32]

# Contrast by which a lead has to beat every other place within reach, and the whole page every other start.
# See docs/cohorts.md for how they were calibrated.
MIN_LEAD_GAP = 0.04
MIN_PAGE_GAP = 0.05
# A lead with so much more paper under its line than the page's median is another lead of the same beats.
MAX_EXCESS_RESIDUAL = 0.09
# A page with fewer of its seconds resolved shows another recording, or is too bad to be trusted at all.
MIN_RESOLVED_SHARE = 0.5
REACH_PX = 48  # PROTOCOL R11
AT_PLACE_PX = 2
# Other leads of the record may move so far, across and down, to fit better at a lead's place.
OTHER_LEAD_REACH_PX = (1, 3)
SAME_PLACE_PX = 8  # nearer than that, tall QRS still lie on themselves: a shoulder, no other match
MAX_SHOULDER = 0.02  # contrast by which a shoulder may exceed the place itself; flat leads slide to the side
PAGE_REACH_S = 1.5  # beyond one beat: a regular rhythm fits nearly as well one beat on
CONTRAST_BLUR_PX = 0.8
# Share of the faintest found row's contrast that every row of a layout that shows more must have.
MIN_ROW_CONTRAST = 0.5
FITS_BEYOND = 0.8  # share of a found row's contrast at which a left-out one counts as lying beyond it
# A time scale this near the end of its range would have gone on.
END_OF_RANGE = 0.001
N_GUESSES = 3
# Guesses with less support than this share of the best are not worth refining.
WORTH_REFINING = 0.8


@dataclass(frozen=True)
class LeadMatch:
    """One stretch of a lead on a page.

    Attributes:
        segment: What should be there.
        x_px: Scan column of the first sample at 0 mV; NaN where it was not placed.
        y_px: Scan row of the same.
        residual: Share of paper under the drawn line, 0 to 1: the paper's R per drawn pixel, without
            the part that belongs to the rest of the page.
        gap: Contrast under the line, minus the best one within 48 px elsewhere.
        reason: Why it is unresolved; empty for a resolved lead.
    """

    segment: Segment
    x_px: float
    y_px: float
    residual: float
    gap: float
    reason: Reason

    @property
    def is_resolved(self) -> bool:
        """Whether the lead is in the mask."""
        return not self.reason


@dataclass(frozen=True)
class Annotation:
    """What was found on a page.

    Attributes:
        layout: The declared layout, or the one that fits best.
        geometry: Where the resolved leads lie; None when there is none.
        stroke_px: Stroke width, as drawn in the mask.
        time_scale: px per s found, as a factor of the declared one.
        amplitude_scale: px per mV found, likewise.
        page_gap: Contrast of all lines, minus the best one with another start of the record.
        leads: Every stretch of the layout.
        mask: (H, W) uint8, 1 = waveform of the resolved leads.
    """

    layout: Layout
    geometry: Geometry | None
    stroke_px: float
    time_scale: float
    amplitude_scale: float
    page_gap: float
    leads: tuple[LeadMatch, ...]
    mask: npt.NDArray[np.uint8]

    @property
    def unresolved(self) -> tuple[LeadMatch, ...]:
        """The leads that are not in the mask."""
        return tuple(lead for lead in self.leads if not lead.is_resolved)

    @property
    def resolved_s(self) -> float:
        """Seconds of trace in the mask."""
        return _resolved_s(self.leads)


@dataclass(frozen=True)
class _Guess:
    layout: Layout
    pieces: list[Piece]
    placement: Placement


@dataclass(frozen=True)
class _Judged:
    layout: Layout
    pieces: list[Piece]
    fit: Fit
    page_gap: float
    leads: tuple[LeadMatch, ...]
    stroke_px: float = float("nan")

    @property
    def is_whole(self) -> bool:
        """Whether every lead is resolved."""
        return all(lead.is_resolved for lead in self.leads)

    @property
    def rank(self) -> tuple[float, bool, float]:
        """Most resolved seconds, then none unresolved, then what stands out most.

        Seconds first: where one lead is too faint to be resolved, a layout that lacks rows of the page may
        be found whole.
        """
        return _resolved_s(self.leads), self.is_whole, self.page_gap


def annotate_page(
    ink: npt.NDArray[np.uint8],
    recording: Recording,
    layouts: Sequence[Layout],
    px_per_s: float,
    px_per_mv: float,
) -> Annotation:
    """Find the recording on a page and draw its mask.

    Args:
        ink: (H, W) uint8 page, 0 = paper, 255 = ink; binary, or grey with a grid lighter than the trace.
        recording: The digital truth, as printed; NaN where the page shows nothing.
        layouts: The declared one, or all that are known.
        px_per_s: Declared scale; 3.5 % off at most.
        px_per_mv: Declared scale; 6 % off at most.

    Returns:
        The annotation. Pages of another recording have no resolved lead and an empty mask.

    Raises:
        ValueError: Without layouts, or for a scale that is not above 0.
    """
    if not layouts or min(px_per_s, px_per_mv) <= 0:
        raise ValueError(
            f"got {len(layouts)} layouts, {px_per_s} px/s, {px_per_mv} px/mV; wanted more than 0"
        )
    page = stretched(ink)
    nominal = Scale(px_per_s, 0.0, -px_per_mv)
    judged: list[_Judged] = []
    whole: _Judged | None = None
    extended: set[str] = set()
    for guess in _guesses(page, recording, layouts, px_per_s, px_per_mv):
        if whole is None:
            found = _follow(page, guess, recording, nominal)
        # Once all of a layout is found, only a layout that shows more can be the better one.
        elif _shown_s(guess.layout) > _shown_s(whole.layout) and guess.layout.name not in extended:
            extended.add(guess.layout.name)
            extension = _extend(page, guess, recording, whole, nominal)
            if extension is None:
                continue
            found = extension
        else:
            continue
        judged.append(found)
        if found.is_whole:
            whole = found
    best = max(judged, key=lambda each: each.rank, default=None)
    if best is None:
        return _nothing(ink.shape, layouts[0])
    return _drawn(page, best, nominal)


def stretched(ink: npt.NDArray[np.uint8]) -> Ink:
    """Bring paper to 0 and full ink to 1; 1-bit pages only change their type.

    Args:
        ink: (H, W) uint8.

    Returns:
        (H, W) float32 in [0, 1].
    """
    # Ink covers a few percent of a page: the darkest thousandth is the inside of strokes.
    paper, darkest = np.percentile(ink[::2, ::2], [50.0, 99.9])
    if darkest - paper < 1.0:
        return np.zeros(ink.shape, np.float32)
    scaled = (ink.astype(np.float32) - np.float32(paper)) / np.float32(darkest - paper)
    return np.asarray(np.clip(scaled, 0.0, 1.0), dtype=np.float32)


def _guesses(
    page: Ink, recording: Recording, layouts: Sequence[Layout], px_per_s: float, px_per_mv: float
) -> list[_Guess]:
    """Coarse placements worth refining, the best supported first."""
    cut = [
        (layout, cut_pieces(layout.segments, LEADS, recording.mv, recording.rate_hz)) for layout in layouts
    ]
    cut = [(layout, pieces) for layout, pieces in cut if pieces]
    found = place_layouts(CoarsePage(page, px_per_s, px_per_mv), [pieces for _, pieces in cut], N_GUESSES)
    guesses = [
        _Guess(layout, pieces, placement)
        for (layout, pieces), placements in zip(cut, found, strict=True)
        for placement in placements
    ]
    guesses.sort(key=lambda guess: guess.placement.score, reverse=True)
    return [g for g in guesses if g.placement.score >= WORTH_REFINING * guesses[0].placement.score]


def _shown_s(layout: Layout) -> float:
    return sum(segment.stop_s - segment.start_s for segment in layout.segments)


def _resolved_s(leads: Sequence[LeadMatch]) -> float:
    return sum(lead.segment.stop_s - lead.segment.start_s for lead in leads if lead.is_resolved)


def _follow(page: Ink, guess: _Guess, recording: Recording, nominal: Scale) -> _Judged:
    """Refine a guess and judge its leads; if some do not hold, place the page by the others."""
    fit = refine(page, guess.pieces, start_fit(guess.placement), nominal)
    judged = _judge(page, guess.layout, guess.pieces, fit, nominal)
    pieces = _resolved_pieces(judged)
    if pieces and len(pieces) < len(judged.pieces):
        fit = settle(page, pieces, fit, nominal)
        judged = _judge(page, guess.layout, guess.pieces, fit, nominal)
    return _with_pen(page, recording, judged, nominal)


def _extend(page: Ink, guess: _Guess, recording: Recording, found: _Judged, nominal: Scale) -> _Judged | None:
    """Judge a layout that shows more than one found whole, by that one's start and scale.

    The guess's own place is not needed: what both layouts show lies where it was found. A layout with a row
    that lies on hardly any ink is not looked at any closer.
    """
    rows = tuple(sorted({piece.row for piece in guess.pieces}))
    fit = replace(found.fit, rows=rows, row_y_px=np.zeros(len(rows)))
    fit = place_rows(page, guess.pieces, fit, nominal)
    standing_out = contrast(page, CONTRAST_BLUR_PX)
    faintest = _faintest_row(standing_out, found.pieces, found.fit)
    if _faintest_row(standing_out, guess.pieces, fit) < MIN_ROW_CONTRAST * faintest:
        return None
    fit = settle(page, guess.pieces, fit, nominal)
    judged = _judge(page, guess.layout, guess.pieces, fit, nominal)
    return _with_pen(page, recording, judged, nominal) if judged.rank > found.rank else judged


def _faintest_row(standing_out: Ink, pieces: Sequence[Piece], fit: Fit) -> float:
    """Mean contrast under the lines of the row that stands out least."""
    rows = [np.concatenate([fit.line(p) for p in pieces if p.row == row]) for row in fit.rows]
    return min(float(look(standing_out, line[:, 0], line[:, 1]).mean()) for line in rows)


def _resolved_pieces(judged: _Judged) -> list[Piece]:
    return [piece for piece in judged.pieces if judged.leads[piece.segment].is_resolved]


def _with_pen(page: Ink, recording: Recording, judged: _Judged, nominal: Scale) -> _Judged:
    """Find the pen of the page, and with it the last tenths of a pixel and leads under another one's name."""
    pieces = _resolved_pieces(judged)
    if not pieces:
        return judged
    fit, stroke_px = fit_pen(page, pieces, judged.fit)
    fit = sharpen(page, pieces, fit, stroke_px)
    judged = _judge(page, judged.layout, judged.pieces, fit, nominal)
    above = ink_above(page, break_even(page, pieces, fit))
    leads = tuple(
        _refused(lead, "OTHER_LEAD")
        if lead.is_resolved and _is_other_lead(above, recording, lead.segment, fit, stroke_px)
        else lead
        for lead in judged.leads
    )
    leads = _refused_if_few(judged.layout, _in_order(page, judged.pieces, leads, fit))
    return replace(judged, fit=fit, leads=leads, stroke_px=stroke_px)


def _in_order(
    page: Ink, pieces: Sequence[Piece], leads: Sequence[LeadMatch], fit: Fit
) -> tuple[LeadMatch, ...]:
    """Refuse leads that lie in another row, as one that is left out tells by where it would fit.

    Of two neighbouring rows under each other's name one is found, in the other's place, since rows come in
    order. The other one is left out and would fit just beyond. A lead under the name of one that a strip
    shows as well draws its row onto that strip; what shares the row is left out and would fit where the row
    belongs. Nothing at the found places can show either.
    """
    standing_out = contrast(without_rules(page, fit.scale.a), CONTRAST_BLUR_PX)
    lines = [[piece for piece in pieces if piece.segment == index] for index in range(len(leads))]
    refused = {
        index
        for lost, own in zip(leads, lines, strict=True)
        if own and not lost.is_resolved
        for index, lead in enumerate(leads)
        if lead.is_resolved
        and _may_lie_instead(lost.segment, lead.segment)
        and _fits_beyond(standing_out, own, lines[index], fit)
    }
    return tuple(_refused(lead, "OTHER_LEAD") if i in refused else lead for i, lead in enumerate(leads))


def _may_lie_instead(lost: Segment, found: Segment) -> bool:
    """Whether the place of a lead can be wrong because of one left out: of its row, or at its time."""
    return lost.row == found.row or (lost.start_s, lost.stop_s) == (found.start_s, found.stop_s)


def _fits_beyond(standing_out: Ink, lost: Sequence[Piece], found: Sequence[Piece], fit: Fit) -> bool:
    """Whether a left-out lead fits about as well beside the row where another one was found.

    That is between a neighbouring row and the one after that, or for a lead of the same row on either side
    of it, up to the next rows.
    """
    row, neighbour = lost[0].row, found[0].row
    if abs(row - neighbour) > 1:
        return False
    heights = dict(zip(fit.rows, fit.row_y_px.tolist(), strict=True))
    at = heights[neighbour]
    above, below = heights.get(neighbour - 1, 0.0), heights.get(neighbour + 1, float(standing_out.shape[0]))
    beyond = ([(above, at)] if row >= neighbour else []) + ([(at, below)] if row <= neighbour else [])
    profile = height_profile(standing_out, lost, fit)
    seen = [profile[max(0, int(y) + SAME_PLACE_PX) : max(0, int(z) - SAME_PLACE_PX)] for y, z in beyond]
    line = np.concatenate([fit.line(piece) for piece in found])
    fits = float(look(standing_out, line[:, 0], line[:, 1]).mean())
    return float(np.concatenate([*seen, [-np.inf]]).max()) > FITS_BEYOND * fits


def _is_other_lead(above: Ink, recording: Recording, segment: Segment, fit: Fit, stroke_px: float) -> bool:
    """Whether another lead of the record, shown over the same seconds, agrees better with what is drawn."""
    found = {}
    for lead in LEADS:
        pieces = cut_pieces((replace(segment, lead=lead),), LEADS, recording.mv, recording.rate_hz)
        runs = [column_runs(extents(fit.line(piece)), stroke_px) for piece in pieces]
        if runs:
            found[lead] = agreement(above, runs, OTHER_LEAD_REACH_PX)
    return max(found.values()) > found[segment.lead]


def _judge(page: Ink, layout: Layout, pieces: list[Piece], fit: Fit, nominal: Scale) -> _Judged:
    standing_out = contrast(page, CONTRAST_BLUR_PX)
    leads = [
        _judge_lead(page, standing_out, segment, [p for p in pieces if p.segment == index], fit)
        for index, segment in enumerate(layout.segments)
    ]
    residuals = [lead.residual for lead in leads if lead.is_resolved]
    limit = float(np.median(residuals)) + MAX_EXCESS_RESIDUAL if residuals else 0.0
    leads = [_refused(lead, "POOR_FIT") if lead.residual > limit else lead for lead in leads]
    if abs(fit.scale.a / nominal.a - 1.0) > TIME_RANGE - END_OF_RANGE:
        leads = [_refused(lead, "SCALE_OUT_OF_RANGE") for lead in leads]
    page_gap = _page_gap(standing_out, pieces, fit)
    if page_gap < MIN_PAGE_GAP:
        leads = [_refused(lead, "PAGE_NOT_UNIQUE") for lead in leads]
    return _Judged(layout, pieces, fit, page_gap, _refused_if_few(layout, leads))


def _refused_if_few(layout: Layout, leads: Sequence[LeadMatch]) -> tuple[LeadMatch, ...]:
    """Trust no lead of a page that shows hardly any of the others."""
    if _resolved_s(leads) < MIN_RESOLVED_SHARE * _shown_s(layout):
        return tuple(_refused(lead, "PAGE_REFUSED") for lead in leads)
    return tuple(leads)


def _judge_lead(
    page: Ink, standing_out: Ink, segment: Segment, pieces: Sequence[Piece], fit: Fit
) -> LeadMatch:
    """Look at the landscape of the match around the place a lead was given."""
    if not pieces:
        return LeadMatch(segment, np.nan, np.nan, np.nan, np.nan, "NO_SIGNAL")
    line = np.concatenate([fit.line(piece) for piece in pieces])
    first = replace(pieces[0], start_s=segment.start_s)
    x_px, y_px = (float(value) for value in fit.origin(first))
    residual = 1.0 - float(look(page, line[:, 0], line[:, 1]).mean())
    template = draw_points(line, width_px=1.0)
    left, top = -template.anchor_xy[0] - REACH_PX, -template.anchor_xy[1] - REACH_PX
    height, width = (side + 2 * REACH_PX for side in template.image.shape)
    inside = (
        (line[:, 0] >= 0) & (line[:, 0] < page.shape[1]) & (line[:, 1] >= 0) & (line[:, 1] < page.shape[0])
    )
    if inside.mean() < 0.9:
        return LeadMatch(segment, x_px, y_px, residual, np.nan, "OFF_PAGE")
    around = _cut(standing_out, left, top, width, height)
    landscape = mean_under(around, template)
    at_place = float(_middle(landscape, AT_PLACE_PX).max())
    shoulder = float(_middle(landscape, SAME_PLACE_PX).max()) - at_place
    _middle(landscape, SAME_PLACE_PX)[:] = -np.inf
    gap = at_place - float(landscape.max())
    is_unique = gap >= MIN_LEAD_GAP and shoulder <= MAX_SHOULDER
    return LeadMatch(segment, x_px, y_px, residual, gap, "" if is_unique else "NOT_UNIQUE")


def _middle(landscape: Ink, reach_px: int) -> Ink:
    """The places up to some pixels from the one a lead was given; a view."""
    middle = slice(REACH_PX - reach_px, REACH_PX + reach_px + 1)
    return landscape[middle, middle]


def _cut(image: Ink, left: int, top: int, width: int, height: int) -> Ink:
    """Cut a part of an image that may lie over its edges; 0 beyond them."""
    part = np.zeros((height, width), np.float32)
    y, x = max(0, top), max(0, left)
    seen = image[y : max(y, top + height), x : max(x, left + width)]
    part[y - top : y - top + seen.shape[0], x - left : x - left + seen.shape[1]] = seen
    return part


def _page_gap(standing_out: Ink, pieces: Sequence[Piece], fit: Fit) -> float:
    """Contrast under all lines, minus the best one when the record starts elsewhere."""
    line = np.concatenate([fit.line(piece)[::3] for piece in pieces])
    reach = int(PAGE_REACH_S * fit.scale.a)
    shifts = np.arange(-reach, reach + 1)
    found = look(
        standing_out, line[None, :, 0] + shifts[:, None], np.repeat(line[None, :, 1], shifts.size, axis=0)
    ).mean(axis=1)
    elsewhere = np.abs(shifts) > SAME_PLACE_PX
    return float(found[reach - 1 : reach + 2].max() - found[elsewhere].max())


def _refused(lead: LeadMatch, reason: Reason) -> LeadMatch:
    return replace(lead, reason=lead.reason or reason)


def _drawn(page: Ink, judged: _Judged, nominal: Scale) -> Annotation:
    """Draw the resolved leads with the pen of the page."""
    mask = np.zeros(page.shape, np.uint8)
    fit, geometry, leads = judged.fit, None, judged.leads
    pieces = _resolved_pieces(judged)
    if abs(fit.scale.d / nominal.d - 1.0) > AMPLITUDE_RANGE:
        leads = tuple(_refused(lead, "SCALE_OUT_OF_RANGE") for lead in leads)
    elif pieces:
        for piece in pieces:
            stamp_mask(mask, fit.line(piece), judged.stroke_px)
        geometry = _geometry(page.shape, fit, [lead for lead in leads if lead.is_resolved])
    return Annotation(
        layout=judged.layout,
        geometry=geometry,
        stroke_px=judged.stroke_px,
        time_scale=fit.scale.a / nominal.a,
        amplitude_scale=fit.scale.d / nominal.d,
        page_gap=judged.page_gap,
        leads=leads,
        mask=mask,
    )


def _geometry(shape: tuple[int, ...], fit: Fit, leads: Sequence[LeadMatch]) -> Geometry:
    """Write a fit as an ideal page turned around its upper left corner."""
    scale = fit.scale
    length = float(np.hypot(scale.a, scale.c))
    cos, sin = scale.a / length, scale.c / length
    segments = tuple(
        DrawnSegment(
            lead.segment.lead,
            lead.segment.row,
            lead.segment.start_s,
            lead.segment.stop_s,
            x0_px=cos * lead.x_px + sin * lead.y_px,
            y0_px=-sin * lead.x_px + cos * lead.y_px,
        )
        for lead in leads
    )
    affine = ((cos, -sin, 0.0), (sin, cos, 0.0))
    return Geometry(shape[1], shape[0], length, -scale.d / cos, affine, segments)


def _nothing(shape: tuple[int, ...], layout: Layout) -> Annotation:
    leads = tuple(
        LeadMatch(segment, np.nan, np.nan, np.nan, np.nan, "LAYOUT_TOO_WIDE") for segment in layout.segments
    )
    mask = np.zeros(shape, np.uint8)
    return Annotation(layout, None, np.nan, np.nan, np.nan, np.nan, leads, mask)
