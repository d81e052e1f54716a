"""Where on the page the record begins, to a fraction of a pixel.

At 100 px/s a pixel is five samples, and a start that is off by one sample costs more correlation than
everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_app.digitize.followed import Followed, consensus
from lightning_app.digitize.layouts import Hypothesis
from lightning_app.digitize.pulse import Pulse
from lightning_app.digitize.results import RATE_HZ
from lightning_app.digitize.scale import DURATION_S

LAST_SAMPLE_S = DURATION_S - 1 / RATE_HZ
MIN_CAP_PX = 0.5
MAX_SOFT_PX = 1.5  # by which a blurred map lengthens a row beyond its cap, at each end
AGREE_S = 0.012  # ends of rows that speak for the same start
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
        near_px: How near to each other rows begin that begin alike.
        cap_px: By how much a pen's round end lengthens a row.
        pulse_side: Where a calibration pulse stands beside the rows, if there is one.
    """

    firsts: NDArray[np.float64]
    lasts: NDArray[np.float64]
    first: float
    last: float
    near_px: float = 2.5
    cap_px: float = 0.0
    pulse_side: Side | None = None

    @property
    def length_px(self) -> float:
        """Usual length of a row."""
        return self.last - self.first


def ends_beside(page: Followed, pulse: Pulse | None) -> Ends:
    """Ends of the rows, without a pulse that was taken for a part of them."""
    firsts, lasts = page.row_ends()
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
    return Ends(firsts, lasts, first, last, page.row_end_px, cap_px, side)


def start_from_ends(ends: Ends, px_per_s: float) -> float:
    """U of the record's first sample, from where rows begin and end."""
    last_px = LAST_SAMPLE_S * px_per_s
    excess_px = ends.length_px - last_px
    if len(ends.firsts) == 0 and len(ends.lasts) == 0:
        return (ends.first + ends.last - last_px) / 2
    if len(ends.lasts) == 0:
        return ends.first + ends.cap_px
    if len(ends.firsts) == 0:
        return ends.last - last_px - ends.cap_px
    if excess_px > 2 * (ends.cap_px + MAX_SOFT_PX):
        # The line a pulse stands on runs into the row. Most pulses stand on the left.
        return ends.first + ends.cap_px if ends.pulse_side == "right" else ends.last - last_px - ends.cap_px
    if abs(excess_px) > MIN_CAP_PX:
        # A pen's round caps, or a blurred map, lengthen rows at both ends; their middle still holds.
        return (ends.first + ends.last - last_px) / 2
    starts = np.r_[ends.firsts, ends.lasts - last_px]
    return voted_start(starts, consensus(starts, ends.near_px))


def ends_agreement(ends: Ends, start_px: float, px_per_s: float) -> float:
    """Share of the rows that begin or end where a record from this start on does, give or take a cap."""
    if len(ends.firsts) == 0 and len(ends.lasts) == 0:
        return 1.0  # pulses hide both ends; they are exact
    begin = np.abs(ends.firsts - start_px) if len(ends.firsts) else np.inf
    end = np.abs(ends.lasts - LAST_SAMPLE_S * px_per_s - start_px) if len(ends.lasts) else np.inf
    return float(np.mean(np.minimum(begin, end) <= ends.cap_px + MIN_CAP_PX + AGREE_S * px_per_s))


def voted_start(starts: NDArray[np.float64], near: float) -> float:
    """Start on which most rows agree.

    Args:
        starts: Starts in px, each known to half a pixel to either side: ink begins in the first column, and
            ends in the last, whose middle the trace reaches.
        near: Where it should be, within 2 px.

    Returns:
        Middle of the places that most of them allow. Rows lie differently within their pixels, so it is
        closer than half of one.
    """
    places = near + np.arange(-2.0, 2.0, 0.02)
    misses = np.maximum(np.abs(places[:, None] - starts[None]) - 0.5, 0.0)
    votes = np.exp(-np.square(misses / 0.15)).sum(axis=1)
    return float(places[votes >= votes.max() - 0.3].mean())


def break_times(chosen: Hypothesis) -> list[list[float]]:
    """Per row of the page as it lies, the seconds from its left end where another lead begins."""
    layout = chosen.layout
    times: list[list[float]] = [[] for _ in layout.rows]
    for segment in layout.segments:
        row = layout.n_rows - 1 - segment.row if chosen.upside_down else segment.row
        from_s = layout.duration_s - segment.stop_s if chosen.upside_down else segment.start_s
        if from_s > 0:
            times[row].append(from_s)
    return times
