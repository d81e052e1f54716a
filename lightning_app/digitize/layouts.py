"""Which lead is where: the known layout, and which way up, whose own laws the traces obey best.

Row counts alone leave several candidates, and a page upside down has as many rows as before. But ECG
leads are redundant: where they are simultaneous, I + III = II and aVR + aVL + aVF = 0, and a rhythm strip
repeats its lead's own segment. A wrong layout, a wrong order or a page turned by 180 degrees breaks these
laws; the right one keeps them to the accuracy of the print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from datamodules.layout import Layout, Segment, known_layouts
from lightning_app.digitize.results import DigitizeRefusal

CHECK_RATE_HZ = 250.0
EDGE_S = 0.06  # of each stretch is left out of checks: neighbours meet there
MIN_OVERLAP_S = 1.0
MIN_MARGIN = 0.1  # of the laws' score, over the next way to read the page

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class Hypothesis:
    """One way to read a page.

    Attributes:
        layout: Its layout.
        upside_down: The page is read turned by 180 degrees.
        checks: Laws by name, each 1 when kept to the letter, 0 or less when the leads have nothing in common.
        score: Mean of the checks, -1 when there is none.
        repeats: Row of a rhythm strip to how well it repeats each lead that is drawn in part, as in `checks`;
            measured of the layout that is chosen.
    """

    layout: Layout
    upside_down: bool
    checks: Mapping[str, float]
    score: float
    repeats: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    def as_it_lies(self, segment: Segment) -> tuple[int, float, float]:
        """Row from above and the seconds of paper from the left between which a segment lies on the page."""
        row, left_s, right_s = segment.row, segment.left_s, segment.right_s
        if not self.upside_down:
            return row, left_s, right_s
        paper_s = self.layout.paper_s
        return self.layout.n_rows - 1 - row, paper_s - right_s, paper_s - left_s


def rank_hypotheses(rows_mv: Sequence[Signal], layouts: Sequence[Layout]) -> list[Hypothesis]:
    """Judge every layout of that many rows, both ways up.

    Args:
        rows_mv: Per row, top to bottom, its whole paper in mV (any gain) at `CHECK_RATE_HZ`, NaN in gaps.
        layouts: Candidates.

    Returns:
        Hypotheses, best first.
    """
    hypotheses = [
        _judged(layout, upside_down, _as_read(rows_mv, upside_down))
        for layout in layouts
        if layout.n_rows == len(rows_mv)
        for upside_down in (False, True)
    ]
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)


def candidates(wanted: Layout | None, n_rows: int) -> list[Layout]:
    """Layouts that a page of so many rows may have: the declared one, else those that ship."""
    layouts = [wanted] if wanted is not None else list(known_layouts().values())
    return [layout for layout in layouts if layout.n_rows == n_rows]


def choose_layout(
    rows_mv: Sequence[Signal], wanted: Layout | None, spaces: tuple[int, float] | None = None
) -> Hypothesis:
    """Pick the layout and which way up the page is.

    Args:
        rows_mv: As for `rank_hypotheses`.
        wanted: Declared layout, or None.
        spaces: Number of columns between which there is blank paper, and how much, s; None: there is none.

    Returns:
        The reading of the page that keeps the laws best, with what its strips repeat.

    Raises:
        DigitizeRefusal: `LAYOUT_UNKNOWN`.
    """
    layouts = candidates(wanted, len(rows_mv))
    if spaces is not None:
        layouts = [replace(one, space_s=spaces[1]) for one in layouts if one.n_columns == spaces[0]]
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
    return replace(best, repeats=strip_repeats(best.layout, _as_read(rows_mv, best.upside_down)))


def _as_read(rows_mv: Sequence[Signal], upside_down: bool) -> Sequence[Signal]:
    return [-row[::-1] for row in reversed(rows_mv)] if upside_down else rows_mv


def _judged(layout: Layout, upside_down: bool, rows_mv: Sequence[Signal]) -> Hypothesis:
    checks = page_checks(layout, rows_mv)
    score = float(np.mean(list(checks.values()))) if checks else -1.0
    return Hypothesis(layout, upside_down, checks, score)


def page_checks(layout: Layout, rows_mv: Sequence[Signal]) -> dict[str, float]:
    """Measure how well the rows keep the laws of their leads.

    Args:
        layout: Which lead is where.
        rows_mv: Per row the whole row at `CHECK_RATE_HZ`, mV.

    Returns:
        `einthoven`, `goldberger` and `rhythm <lead>`, as far as the layout has simultaneous leads.
        1 = kept exactly, 0 = the rest is as large as unrelated leads would leave.
    """
    checks = {}
    limb = _simultaneous(layout, ("I", "III", "II"), rows_mv)
    if limb is not None:
        checks["einthoven"] = _kept(limb, (1, 1, -1))
    augmented = _simultaneous(layout, ("aVR", "aVL", "aVF"), rows_mv)
    if augmented is not None:
        checks["goldberger"] = _kept(augmented, (1, 1, 1))
    for first, second in combinations(layout.segments, 2):
        pair = _overlap(layout, (first, second), rows_mv) if first.lead == second.lead else None
        if pair is not None:
            checks[f"rhythm {first.lead}"] = _kept(pair, (1, -1))
    return checks


def strip_repeats(layout: Layout, rows_mv: Sequence[Signal]) -> dict[int, dict[str, float]]:
    """Measure how well each rhythm strip repeats every lead that is drawn in part.

    Args:
        layout: Which lead is where.
        rows_mv: As for `page_checks`.

    Returns:
        Row of the strip to lead to how well, as in `page_checks`.
    """
    parts = [segment for segment in layout.segments if len(layout.rows[segment.row]) > 1]
    strips = [segment for segment in layout.segments if segment.row in layout.rhythm_rows]
    return {
        strip.row: {
            part.lead: _kept(pair, (1, -1))
            for part in parts
            if (pair := _overlap(layout, (part, strip), rows_mv))
        }
        for strip in strips
    }


def _simultaneous(layout: Layout, leads: Sequence[str], rows_mv: Sequence[Signal]) -> list[Signal] | None:
    by_lead = {segment.lead: segment for segment in reversed(layout.segments)}
    if any(lead not in by_lead for lead in leads):
        return None
    return _overlap(layout, [by_lead[lead] for lead in leads], rows_mv)


def _overlap(layout: Layout, segments: Sequence[Segment], rows_mv: Sequence[Signal]) -> list[Signal] | None:
    """The segments' common time, without what any of them misses."""
    start = max(segment.start_s for segment in segments) + EDGE_S
    stop = min(segment.stop_s for segment in segments) - EDGE_S
    if stop - start < MIN_OVERLAP_S:
        return None
    n_samples = round((stop - start) * CHECK_RATE_HZ)
    firsts = [round((start + segment.paper_s) * CHECK_RATE_HZ) for segment in segments]
    signals = np.stack(
        [rows_mv[s.row][first : first + n_samples] for s, first in zip(segments, firsts, strict=True)]
    )
    finite = np.isfinite(signals).all(axis=0)
    if finite.sum() < MIN_OVERLAP_S * CHECK_RATE_HZ * 0.5:
        return None
    return [signal - np.median(signal) for signal in signals[:, finite]]


def _kept(signals: Sequence[Signal], signs: Sequence[int]) -> float:
    """1 - variance of the signed sum over the sum of variances."""
    total = sum(float(np.var(signal)) for signal in signals)
    rest = float(np.var(sum(sign * signal for sign, signal in zip(signs, signals, strict=True))))
    return 1.0 - rest / (total + 1e-12)
