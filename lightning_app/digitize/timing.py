"""Where on the page the record begins, to a fraction of a pixel.

At 100 px/s a pixel is five samples; a start that is off by one sample costs more correlation than everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_app.digitize.followed import Followed, consensus
from lightning_app.digitize.layouts import Hypothesis
from lightning_app.digitize.pulse import Pulse
from lightning_app.digitize.results import RATE_HZ
from lightning_app.digitize.scale import DURATION_S

LAST_SAMPLE_S = DURATION_S - 1 / RATE_HZ
JUMP_REACH_PX = 3
MIN_JUMP_PX = 3.0
PULSE_FOOT = 0.2  # of a pulse's width


@dataclass(frozen=True)
class Ends:
    """Ends of the rows on the straight page, px of u.

    Attributes:
        firsts: (n,) where each row begins; empty when a pulse hides it.
        lasts: (n,) where each ends.
        first: Usual begin, as far as it can be told.
        last: Usual end.
    """

    firsts: NDArray[np.float64]
    lasts: NDArray[np.float64]
    first: float
    last: float

    @property
    def length_px(self) -> float:
        """Usual length of a row."""
        return self.last - self.first


def ends_beside(page: Followed, pulse: Pulse | None) -> Ends:
    """Ends of the rows, without a pulse that was taken for a part of them."""
    firsts, lasts = page.row_ends()
    first, last = consensus(firsts), consensus(lasts)
    if pulse is not None:
        foot = PULSE_FOOT * pulse.width_px
        at_left = pulse.left_px < (first + last) / 2
        if at_left and pulse.right_px > first + 1:
            first, firsts = pulse.right_px + foot, firsts[:0]
        if not at_left and pulse.left_px < last - 1:
            last, lasts = pulse.left_px - foot, lasts[:0]
    return Ends(firsts, lasts, first, last)


def start_from_ends(ends: Ends, px_per_s: float) -> float:
    """U of the record's first sample, from where rows begin and end."""
    starts = np.r_[ends.firsts, ends.lasts - LAST_SAMPLE_S * px_per_s]
    if len(starts) == 0:
        return (ends.first + ends.last - LAST_SAMPLE_S * px_per_s) / 2
    return voted_start(starts, float(np.median(starts)))


def voted_start(starts: NDArray[np.float64], near: float) -> float:
    """Start on which most rows agree.

    Args:
        starts: Starts in px, each known to half a pixel to either side: ink begins in the first column, and ends in the
            last, whose middle the trace reaches.
        near: Where it should be, within 2 px.

    Returns:
        Middle of the places that most of them allow. Rows lie differently within their pixels, so it is closer
        than half of one.
    """
    places = near + np.arange(-2.0, 2.0, 0.02)
    misses = np.maximum(np.abs(places[:, None] - starts[None]) - 0.5, 0.0)
    votes = np.exp(-np.square(misses / 0.15)).sum(axis=1)
    return float(places[votes >= votes.max() - 0.3].mean())


def start_from_breaks(page: Followed, chosen: Hypothesis, ends: Ends, start_px: float, px_per_s: float) -> float:
    """The start once more, now also from the columns where one lead gives way to the next."""
    starts = [ends.firsts, ends.lasts - LAST_SAMPLE_S * px_per_s]
    for row, times_s in enumerate(break_times(chosen)):
        for time_s in times_s:
            jump = _jump_near(page, row, start_px + time_s * px_per_s)
            starts += [np.array([jump - time_s * px_per_s])] if jump is not None else []
    everything = np.concatenate(starts)
    return voted_start(everything, start_px) if len(everything) else start_px


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


def _jump_near(page: Followed, row: int, u: float) -> float | None:
    """U between the two columns whose runs of ink do not touch, if there is exactly one such place nearby."""
    band, x = page.edges[row], round(page.row_to_x(row, u))
    columns = np.arange(max(0, x - JUMP_REACH_PX), min(page.width - 1, x + JUMP_REACH_PX + 1))
    apart = np.maximum(
        band.top[columns + 1] - band.bottom[columns], band.top[columns] - band.bottom[columns + 1]
    )
    jumps = columns[apart > MIN_JUMP_PX]
    return float(page.row_to_u(row, jumps[0] + 0.5)[0]) if len(jumps) == 1 else None
