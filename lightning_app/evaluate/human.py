"""The five parameters as people marked them: the second reference of Table 1 (PROTOCOL 2.3, 3).

From the leads and seconds that a page shows, by the definitions of `evaluate.parameters`. Only beats that
are marked count: LUDB, for one, leaves out the first and the last of most records, and the P wave before the
first that it marks. So a group of leads over 2.5 s often has one marked beat and no rate, and an irregular
rhythm has fewer intervals than its page shows. Nothing is made up for them; a reason stands in their place.

In leads drawn together the same beat is marked once a lead. An interval is the mean of its leads, as in the
comparison with LUDB in docs/parameters.md; a rate is their median, for a beat that was overlooked in one lead
must not change it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.layout import Layout
from datamodules.wave_marks import LeadMarks, Marks
from lightning_app.evaluate.parameters import (
    PR_RANGE_MS,
    Parameters,
    Reason,
    absent,
    combined,
    longest_stretch,
    median_of,
    rates_of,
    replaced,
    segment_groups,
)
from lightning_app.evaluate.scan_columns import PARAMETERS, REASON, STRIP_LEAD, Source, human_column

Floats = NDArray[np.float64]


def human_row(marks: Marks, layout: Layout) -> dict[str, float | str]:
    """Work out the human parameters of a scan, from the segments and from the long V1 strip.

    Args:
        marks: What was marked, by lead.
        layout: What was drawn when.

    Returns:
        `<parameter>_<source>_human`, NaN where it is absent, and `<parameter>_<source>_human_reason`, empty
        where it is not.
    """
    groups = segment_groups(layout).items()
    strip = longest_stretch(layout, STRIP_LEAD)
    found: dict[Source, Parameters] = {
        "segments": combined([group_parameters(marks, leads, *stretch) for stretch, leads in groups]),
        "strip": group_parameters(marks, [STRIP_LEAD], strip.start_s, strip.stop_s)
        if strip
        else absent("EMPTY"),
    }
    row: dict[str, float | str] = {}
    for source, parameters in found.items():
        for name in PARAMETERS:
            value = getattr(parameters, name)
            row[human_column(name, source)] = math.nan if value is None else value
            row[human_column(name, source) + REASON] = parameters.reasons.get(name, "")
    return row


def group_parameters(marks: Marks, leads: Sequence[str], start_s: float, stop_s: float) -> Parameters:
    """Combine the marks of leads over one stretch.

    Args:
        marks: What was marked, by lead.
        leads: Leads drawn at the same time; those that nobody marked are left out.
        start_s: First second shown.
        stop_s: End of the stretch.

    Returns:
        What at least half of the marked leads have: rates as their median, intervals as their mean.
    """
    found = [lead_parameters(marks[lead], start_s, stop_s) for lead in leads if lead in marks]
    if not found:
        return absent("NOT_ANNOTATED")
    together = median_of(found)
    changed: dict[str, float | Reason] = {}
    for name in PARAMETERS:
        values = [value for one in found if (value := getattr(one, name)) is not None]
        if 2 * len(values) < len(found):
            given = [one.reasons[name] for one in found if name in one.reasons]
            reason: Reason = max(given, key=given.count)
            changed[name] = reason
        elif name in ("pr_ms", "qrs_ms") and values:
            changed[name] = float(np.mean(values))
    return replaced(together, changed)


def lead_parameters(marks: LeadMarks, start_s: float, stop_s: float) -> Parameters:
    """Work out the parameters of one lead from what was marked in it.

    Args:
        marks: Of the lead.
        start_s: First second shown.
        stop_s: End of the stretch.

    Returns:
        Rates from the peaks of the QRS complexes that lie in the stretch, and the medians of the intervals of
        those that lie in it whole.
    """
    beats = marks.waves("qrs")
    shown = beats[(beats[:, 1] >= start_s) & (beats[:, 1] < stop_s)]
    rates = rates_of(shown[:, 1] * 1000)
    whole = shown[(shown[:, 0] >= start_s) & (shown[:, 2] < stop_s)]  # NaN is neither
    if not len(whole):
        why: Reason = "NOT_ANNOTATED" if np.isnan(shown).any() else "FEW_BEATS"
        return replaced(rates, {"pr_ms": why, "qrs_ms": why})
    qrs_ms = float(np.median(whole[:, 2] - whole[:, 0])) * 1000
    return replaced(rates, {"qrs_ms": qrs_ms, "pr_ms": _pr_ms(marks, whole[:, 0], start_s)})


def _pr_ms(marks: LeadMarks, onsets_s: Floats, start_s: float) -> float | Reason:
    """Median interval from P onset to QRS onset; none where more beats are without a P wave than with one."""
    p_onsets_s = marks.waves("p")[:, 0]
    every_beat_s = marks.waves("qrs")[:, 1]
    intervals_s, n_without = [], 0
    for onset_s in onsets_s:
        earlier = every_beat_s[every_beat_s < onset_s]
        earliest_s = max(onset_s - PR_RANGE_MS[1] / 1000, earlier.max(initial=-math.inf))
        before = p_onsets_s[(p_onsets_s >= earliest_s) & (p_onsets_s < onset_s)]
        if before.size and before[-1] >= start_s:
            intervals_s.append(onset_s - before[-1])
        elif not before.size and marks.times_s[0] < onset_s:
            # Whoever marks a lead from this beat on has left its P wave out, not seen that there is none.
            n_without += 1
    if len(intervals_s) < max(n_without, 1):
        return "NO_P_WAVE" if n_without else "FEW_BEATS"
    return float(np.median(intervals_s)) * 1000
