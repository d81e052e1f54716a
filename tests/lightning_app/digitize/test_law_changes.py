"""Evidence for the start of a record from where laws cease to hold, on rows of a known start."""

import numpy as np
import pytest

from datamodules.layout import LEADS, known_layouts
from lightning_app.digitize.law_changes import law_evidence, lawful_stretches
from lightning_app.digitize.layouts import Hypothesis
from lightning_app.digitize.lead_ends import offsets_to_try
from tests.lightning_app.digitize.drawing import heart

PX_PER_S, PX_PER_MV, START_PX = 100.0, 40.0, 61.3
U_PX = np.arange(0.0, 1120.0, 0.5)
RNG = np.random.default_rng(0)


def rows_of(layout, mv, *, upside_down=False, noise_px=0.3):
    """Heights of the rows in px, baselines anywhere, NaN beside the record."""
    time_s = (U_PX - START_PX) / PX_PER_S
    if upside_down:
        time_s = layout.duration_s - time_s
    rows = []
    for leads in layout.rows:
        share_s = layout.duration_s / len(leads)
        column = np.clip((time_s / share_s).astype(int), 0, len(leads) - 1)
        sample = np.clip((time_s * 500).astype(int), 0, mv.shape[1] - 1)
        height = mv[np.array([LEADS.index(lead) for lead in leads])[column], sample] * PX_PER_MV
        height = height + RNG.normal(0, noise_px, len(height)) + RNG.uniform(100, 800)
        rows.append(np.where((time_s >= 0) & (time_s < layout.duration_s), height, np.nan))
    return [-row for row in rows[::-1]] if upside_down else rows


def best(layout, mv, off_px, **how):
    chosen = Hypothesis(layout, how.get("upside_down", False), {}, 1.0)
    offsets = offsets_to_try(PX_PER_S).of_begins
    rows = rows_of(layout, mv, **how)
    evidence = sum(
        law_evidence(U_PX, rows, chosen, START_PX + off_px, PX_PER_S, offsets, of_begins=of_begins)
        for of_begins in (True, False)
    )
    return offsets[evidence.argmax()], evidence


def wandering(mv):
    """Leads that are never at rest, as with a wandering baseline; the laws stay kept."""
    time_s = np.arange(mv.shape[1]) / 500
    wander = {lead: 0.3 * np.sin(2 * np.pi * (0.3 + 0.07 * k) * time_s + k) for k, lead in enumerate(LEADS)}
    wander["III"] = wander["II"] - wander["I"]
    wander["aVR"] = -(wander["I"] + wander["II"]) / 2
    wander["aVL"] = wander["I"] - wander["II"] / 2
    wander["aVF"] = wander["II"] - wander["I"] / 2
    return mv + np.stack([wander[lead] for lead in LEADS])


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("off_px", [-7.0, 0.0, 4.2])
@pytest.mark.parametrize("name", ["3x4", "3x4+1", "four_line", "6x2"])
def test_laws_break_where_leads_change(name, off_px, upside_down):
    found_px, _ = best(known_layouts()[name], wandering(heart()), off_px, upside_down=upside_down)
    assert found_px == pytest.approx(-off_px, abs=1.0)


def test_rows_without_changes_say_nothing():
    _, evidence = best(known_layouts()["12x1"], wandering(heart()), 3.0)
    assert not evidence.any()


def test_leads_that_keep_no_law_say_nothing():
    _, evidence = best(known_layouts()["3x4"], RNG.normal(size=(12, 5000)), 3.0)
    assert not evidence.any()


def test_gaps_say_nothing():
    layout = known_layouts()["3x4"]
    rows = [np.full(len(U_PX), np.nan) for _ in layout.rows]
    chosen = Hypothesis(layout, False, {}, 1.0)
    offsets = offsets_to_try(PX_PER_S).of_begins
    for of_begins in (True, False):
        evidence = law_evidence(U_PX, rows, chosen, START_PX, PX_PER_S, offsets, of_begins=of_begins)
        assert not evidence.any()


@pytest.mark.parametrize("of_begins", [True, False])
def test_begins_and_ends_of_laws_tell_the_same_where_leads_are_drawn_whole(of_begins):
    layout, off_px = known_layouts()["3x4"], 3.0
    offsets = offsets_to_try(PX_PER_S).of_begins
    chosen = Hypothesis(layout, False, {}, 1.0)
    rows = rows_of(layout, wandering(heart()))
    evidence = law_evidence(U_PX, rows, chosen, START_PX + off_px, PX_PER_S, offsets, of_begins=of_begins)
    assert offsets[evidence.argmax()] == pytest.approx(-off_px, abs=1.0)


def test_a_strip_and_its_leads_own_stretch_are_lawful_for_as_long_as_both_are_drawn():
    layout = known_layouts()["four_line"]
    found = lawful_stretches(Hypothesis(layout, False, {}, 1.0))
    assert [(stretch.rows, stretch.from_s, stretch.to_s) for stretch in found] == [
        (((0, 1), (1, -1), (2, 1)), 0.0, 2.5),
        (((0, 1), (1, 1), (2, 1)), 2.5, 5.0),
        (((0, 1), (3, -1)), 5.0, 7.5),
    ]
    turned = lawful_stretches(Hypothesis(layout, True, {}, 1.0))
    assert turned[0].rows == ((3, 1), (2, -1), (1, 1))
    assert (turned[0].from_s, turned[0].to_s) == (7.5, 10.0)
