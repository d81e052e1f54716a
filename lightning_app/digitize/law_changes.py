"""Where the laws of leads begin and cease to hold on a page: evidence for where its record begins.

Leads drawn together keep I + III = II and aVR + aVL + aVF = 0, and a rhythm strip repeats its lead's own
stretch. Where the leads of a row change, the law ends, and the sum that was nothing becomes a signal. The
place is no sharper than the ends that a network sees, but it is seen by other means: ink that hides an end
of one row leaves the sum of three as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from datamodules.layout import Layout, Segment
from lightning_app.digitize.layouts import Hypothesis

LAWS = ({"I": 1, "II": -1, "III": 1}, {"aVR": 1, "aVL": 1, "aVF": 1})
NEAR_S = 0.15  # of a change it is not known on which side a column lies
BESIDE_S = 1.5  # beyond that tells what the sum is like where the law does not hold
MIN_BROKEN = 1.5  # times as much is left there as where it holds, or the change cannot be seen
NOISE_PX = 0.3  # of the sum, at least
TAILS = 4.0  # degrees of freedom of Student's t: a path may be astray for a while
# Columns are not independent of each other, nor of what a network sees of ends.
WEIGHT = 0.1
MIN_COLUMNS = 30

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LawfulStretch:
    """A sum of rows that is constant for some seconds, and not before or after.

    Attributes:
        rows: Row of the page as it lies and its sign.
        from_s: From the page's left end.
        to_s: Likewise.
    """

    rows: tuple[tuple[int, int], ...]
    from_s: float
    to_s: float


def lawful_stretches(chosen: Hypothesis) -> list[LawfulStretch]:
    """Find the stretches of a page in which its leads keep a law, seen from its left as it lies."""
    layout, found = chosen.layout, []
    for signed in _sums(layout):
        first_s = max(segment.left_s for segment, _ in signed)
        last_s = min(segment.right_s for segment, _ in signed)
        rows = tuple((segment.row, sign) for segment, sign in signed)
        if chosen.upside_down:
            rows = tuple((layout.n_rows - 1 - row, sign) for row, sign in rows)
            first_s, last_s = layout.paper_s - last_s, layout.paper_s - first_s
        found.append(LawfulStretch(rows, first_s, last_s))
    return found


def _sums(layout: Layout) -> Iterator[list[tuple[Segment, int]]]:
    """Segments that add up to nothing where they are drawn one above the other, with their signs."""
    by_lead: dict[str, list[Segment]] = {}
    for segment in layout.segments:
        by_lead.setdefault(segment.lead, []).append(segment)
    for law in LAWS:
        for segments in product(*(by_lead.get(lead, []) for lead in law)):
            if len({(segment.start_s, segment.stop_s, segment.paper_s) for segment in segments}) == 1:
                yield list(zip(segments, law.values(), strict=True))
    for repeated in by_lead.values():
        for first, second in combinations(repeated, 2):
            is_common = min(first.stop_s, second.stop_s) > max(first.start_s, second.start_s)
            if is_common and first.paper_s == second.paper_s:
                yield [(first, 1), (second, -1)]


def law_evidence(
    u_px: Floats,
    rows_px: Sequence[Floats],
    chosen: Hypothesis,
    start_px: float,
    px_per_s: float,
    offsets_px: Floats,
    *,
    of_begins: bool,
) -> Floats:
    """How likely the record begins so far from where it was thought to begin.

    Where a law ends leads end, and those may be drawn to less than their time; where one begins leads begin.

    Args:
        u_px: (m,) straight columns, evenly spaced.
        rows_px: Per row (m,) its height there, NaN in gaps.
        chosen: The layout and how it lies.
        start_px: Where the record was thought to begin.
        px_per_s: Its scale.
        offsets_px: (k,) starts to judge, from there.
        of_begins: Whether to look where laws begin, or where they end.

    Returns:
        (k,) logarithms of likelihoods, but for a constant; 0 where no law ends within the record.
    """
    evidence = np.zeros(len(offsets_px))
    for stretch in lawful_stretches(chosen):
        left = sum(sign * rows_px[row] for row, sign in stretch.rows)
        time_s = (u_px - start_px) / px_per_s
        change_s = stretch.from_s if of_begins else stretch.to_s
        if not 0 < change_s < chosen.layout.paper_s:
            continue
        speaks = _speaks(np.asarray(left), time_s, stretch, change_s, not of_begins)
        if speaks is not None:
            until = np.searchsorted(time_s, change_s + offsets_px / px_per_s)
            evidence += np.r_[0.0, np.cumsum(speaks)][until]
    return WEIGHT * evidence


def _speaks(
    left: Floats, time_s: Floats, stretch: LawfulStretch, change_s: float, holds_before: bool
) -> Floats | None:
    """How much each column speaks for lying before the change; None if the law is not seen to break."""
    known = np.isfinite(left)
    within = known & (time_s > stretch.from_s + NEAR_S) & (time_s < stretch.to_s - NEAR_S)
    after_s = (time_s - change_s) if holds_before else (change_s - time_s)
    beside = known & (after_s > NEAR_S) & (after_s < BESIDE_S)
    if min(within.sum(), beside.sum()) < MIN_COLUMNS:
        return None
    off = left - np.median(left[within])
    kept_px, usual_px = (1.4826 * float(np.median(np.abs(off[at]))) + NOISE_PX for at in (within, beside))
    if usual_px < MIN_BROKEN * kept_px:
        return None
    broken_px = float(np.sqrt(np.mean(off[beside] ** 2))) + NOISE_PX
    speaks = _log_likely(off, kept_px) - _log_likely(off, broken_px)
    speaks[~known | (np.abs(time_s - change_s) > 2 * NEAR_S)] = 0.0
    return speaks if holds_before else -speaks


def _log_likely(off_px: Floats, scale_px: float) -> Floats:
    """Logarithm of Student's t, but for a constant."""
    return np.asarray(-np.log(scale_px) - (TAILS + 1) / 2 * np.log1p((off_px / scale_px) ** 2 / TAILS))
