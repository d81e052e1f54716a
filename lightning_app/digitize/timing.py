"""Where on the page the record begins, to a fraction of a pixel.

At 100 px/s a pixel is five samples, and a start that is off by one sample costs more correlation than
everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_app.digitize.followed import Followed, consensus
from lightning_app.digitize.layouts import Hypothesis
from lightning_app.digitize.lead_ends import MAX_EARLY_S, LeadEnd, highest_before
from lightning_app.digitize.pulse import Pulse
from lightning_app.digitize.results import RATE_HZ
from lightning_app.digitize.scale import DURATION_S, LENGTH_TOLERANCE
from lightning_app.digitize.spaces import Spaces

LAST_SAMPLE_S = DURATION_S - 1 / RATE_HZ
SOFT_PX = 0.5  # by which a blurred map lengthens a row beyond its cap, at each end
CAP_STEP_PX = 0.25
NEAR_LENGTH = 0.006  # of a length: the caps of both ends
MIN_PAIRS = 1 / 3  # of all pairs of a begin and an end
UNLIKE_PEN = 0.1  # of a vote, per px that the map shows a cap longer or shorter than the pen's
PLACE_PX = 0.05
ROUNDING_PX, SPREAD_PX = 0.2, 0.5  # ends of rows are known to a part of a pixel
FAR_VOTE, FAR_PX = 0.08, 3.0
NEARLY = 0.15  # of a vote: places that have all but as many as the best
END_WEIGHT, PULSE_WEIGHT = 1.2, 2.0
EARLY_VOTE = 0.6  # of ends that lie early, all by the same
AGREE_PX = 0.75  # ends of rows that speak for the same start
PULSE_FOOT = 0.2  # of a pulse's width

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Ends:
    """Ends of the rows on the straight page, px of u.

    Attributes:
        firsts: (n,) where each row begins; empty when a pulse hides it.
        lasts: (n,) where each ends.
        first: Usual begin, as far as it can be told.
        last: Usual end.
        cap_px: By how much a pen's round end lengthens a row.
        pulse_side: Where a calibration pulse stands beside the rows, if there is one.
    """

    firsts: NDArray[np.float64]
    lasts: NDArray[np.float64]
    first: float
    last: float
    cap_px: float = 0.0
    pulse_side: Side | None = None

    @property
    def length_px(self) -> float:
        """Usual length of a row."""
        return self.last - self.first


def ends_beside(page: Followed, pulse: Pulse | None, spaces: Spaces | None = None) -> Ends:
    """Ends of the rows, without a pulse that was taken for a part of them.

    Rows of several leads with paper between them end as if there were none.
    """
    firsts, lasts = page.row_ends()
    if spaces is not None:
        lasts = lasts - spaces.total_px * spaces.is_spaced
        if pulse is not None and pulse.left_px > (firsts.mean() + lasts.mean()) / 2:
            pulse = replace(pulse, left_px=pulse.left_px - spaces.total_px)
    first, last = (consensus(ends, page.row_end_px) for ends in (firsts, lasts))
    side: Side | None = None
    if pulse is not None:
        foot = PULSE_FOOT * pulse.width_px
        side = "left" if pulse.left_px < (first + last) / 2 else "right"
        if side == "left" and pulse.right_px > first + 1:
            first, firsts = pulse.right_px + foot, firsts[:0]
        if side == "right" and pulse.left_px < last - 1:
            last, lasts = pulse.left_px - foot, lasts[:0]
    # A row that begins or ends at the page's edge has lost its cap.
    cap_px = page.radius_px if first > 1 and last < page.width - 2 else 0.0
    return Ends(firsts, lasts, first, last, cap_px, side)


def record_length_px(ends: Ends, expected_px: Sequence[float]) -> float:
    """Length of the record on the page.

    Args:
        ends: Ends of the rows.
        expected_px: Lengths that the grid allows.

    Returns:
        The usual length of the rows where that is an expected one; else the expected length by which a
        third of the begins and ends lie apart, as on a page where pulses or letters lengthen most rows;
        else the usual length, which then contradicts the grid.
    """
    usual_px = ends.length_px
    n_pairs = len(ends.firsts) * len(ends.lasts)
    if n_pairs == 0 or any(abs(usual_px / px - 1) <= LENGTH_TOLERANCE for px in expected_px):
        return usual_px
    lengths_px = ends.lasts[None] - ends.firsts[:, None]
    off = [np.abs(lengths_px / px - 1) <= NEAR_LENGTH for px in expected_px]
    best = max(off, key=lambda near: int(near.sum()), default=np.zeros(0, dtype=np.bool_))
    return float(lengths_px[best].mean()) if best.sum() >= MIN_PAIRS * n_pairs else usual_px


def ten_seconds_px(row_px: float, cap_px: float) -> float:
    """Length of ten seconds, of rows this long: a pen's round end lengthens them at both ends."""
    return (row_px - 2 * cap_px) * DURATION_S / LAST_SAMPLE_S


def start_from_ends(ends: Ends, px_per_s: float) -> float:
    """U of the record's first sample, from where rows begin and end.

    Every row votes twice: its end less the length of a record speaks for a start as much as its begin does.
    A pen's round cap lengthens rows at both ends by the same, at most `cap_px` and a little for a soft map;
    how much of it the map shows is what makes begins and ends agree on most. All ends may lie early by the
    same, since leads stop before their time on some pages but begin at it, unless the page is cut there.
    """
    begins, stops = ends.firsts, ends.lasts - LAST_SAMPLE_S * px_per_s
    if len(begins) == 0 and len(stops) == 0:
        return (ends.first + ends.last - LAST_SAMPLE_S * px_per_s) / 2
    # The line a pulse stands on runs into its row, and most pulses stand on the left.
    weight = END_WEIGHT if ends.pulse_side is None else PULSE_WEIGHT
    of_begin, of_stop = (weight, 1.0) if ends.pulse_side == "right" else (1.0, weight)
    voters = np.r_[begins, stops]
    places = np.arange(voters.min() - 2.0, voters.max() + 2.0, PLACE_PX)
    best = (-np.inf, 0.0)
    for cap_px in _caps(ends):
        by_stops = _votes(stops - cap_px, places)
        if len(begins) and ends.first > 1:
            by_stops = np.maximum(
                by_stops, EARLY_VOTE * highest_before(by_stops, round(MAX_EARLY_S * px_per_s / PLACE_PX))
            )
        votes = of_begin * _votes(begins + cap_px, places) + of_stop * by_stops
        votes -= UNLIKE_PEN * abs(cap_px - ends.cap_px)  # with one end alone, nothing else tells
        if votes.max() > best[0] + 1e-9:
            best = (float(votes.max()), float(places[votes >= votes.max() - NEARLY].mean()))
    return best[1]


def _caps(ends: Ends) -> NDArray[np.float64]:
    """By how much rows may be longer than the record, at each end."""
    return np.arange(0.0, ends.cap_px + SOFT_PX + 0.01, CAP_STEP_PX)


def _votes(starts: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much these starts speak for each place: fully within rounding, hardly if far away."""
    off = np.abs(starts[:, None] - places[None])
    near = np.exp(-0.5 * np.square(np.maximum(off - ROUNDING_PX, 0.0) / SPREAD_PX))
    return np.asarray((near + FAR_VOTE * np.exp(-0.5 * np.square(off / FAR_PX))).sum(axis=0))


def ends_agreement(ends: Ends, start_px: float, px_per_s: float) -> float:
    """Share of the rows that begin, or of those that end, where a record from this start on does.

    Of both sides the better one, give or take a pen's cap: pulses and margins spoil one side of all rows, but
    not both. The side of a pulse, whose line runs into the rows, is not asked.
    """
    longest_px = ends.cap_px + SOFT_PX + AGREE_PX
    begins, stops = ends.firsts - start_px, ends.lasts - LAST_SAMPLE_S * px_per_s - start_px
    sides = {
        "left": (begins >= -longest_px) & (begins <= AGREE_PX),
        "right": (stops >= -AGREE_PX) & (stops <= longest_px),
    }
    # A pulse that hides the ends on its side is exact.
    asked = [agree for side, agree in sides.items() if side != ends.pulse_side and len(agree)]
    return max((float(agree.mean()) for agree in asked), default=1.0)


def lead_ends(chosen: Hypothesis) -> list[LeadEnd]:
    """Ends of all leads of a page as it lies, seen from its left."""
    ends = []
    for segment in chosen.layout.segments:
        row, from_s, to_s = chosen.as_it_lies(segment)
        ends.append(LeadEnd(row, from_s, is_begin=True))
        ends.append(LeadEnd(row, to_s - 1 / RATE_HZ, is_begin=False))
    return ends


def break_times(chosen: Hypothesis) -> list[list[float]]:
    """Per row of the page as it lies, the seconds from its left end where another lead begins."""
    times: list[list[float]] = [[] for _ in chosen.layout.rows]
    for end in lead_ends(chosen):
        if end.is_begin and end.time_s > 0:
            times[end.row].append(end.time_s)
    return times
