"""Which lead a strip is of: what its law and its printed name say, and which of both counts."""

from dataclasses import replace

import numpy as np
import pytest

from datamodules.layout import known_layouts, load_layout
from lightning_app.digitize.layouts import choose_layout
from lightning_app.digitize.results import DigitizeRefusal
from lightning_app.digitize.strips import with_strips_confirmed
from tests.lightning_app.digitize.test_layouts import rows_of

SHIPPED = [layout for layout in known_layouts().values() if layout.rhythm_rows]


def found(strip, name="3x4+1", noise_mv=0.005):
    """What is found on a page like that of a layout whose strip is of another lead."""
    layout = load_layout(name)
    drawn = replace(layout, rows=(*layout.rows[:-1], (strip,)))
    return choose_layout(rows_of(drawn, noise_mv), layout)


@pytest.mark.parametrize("layout", SHIPPED, ids=lambda layout: layout.name)
def test_strips_of_a_layout_that_ships_stay_as_they_are(layout):
    page = choose_layout(rows_of(layout, 0.02), layout)
    printed = {row: layout.rows[row][0] for row in layout.rhythm_rows}
    assert set(page.repeats) == set(printed)
    assert with_strips_confirmed(page, {}) is page
    assert with_strips_confirmed(page, printed) is page


@pytest.mark.parametrize("strip", ["V6", "V2", "aVF", "III"])
@pytest.mark.parametrize("name", ["3x4+1", "four_line", "6x2+1", "seven_line"])
def test_a_strip_takes_the_name_that_its_page_prints_and_its_law_confirms(strip, name):
    page = found(strip, name)
    (row,) = page.layout.rhythm_rows
    named = with_strips_confirmed(page, {row: strip})
    assert named.layout.rows == (*page.layout.rows[:-1], (strip,))
    assert named.layout.name == f"{name}, long {strip}"
    laws = {"einthoven", "goldberger"}
    assert set(named.checks) == laws | {f"rhythm {strip}"}
    assert {law: named.checks[law] for law in laws} == {law: page.checks[law] for law in laws}
    assert named.checks[f"rhythm {strip}"] > 0.95
    assert named.score == pytest.approx(np.mean(list(named.checks.values())))


@pytest.mark.parametrize(("strip", "noise_mv"), [("I", 0.025), ("V6", 0.04), ("V2", 0.04)])
def test_a_strip_like_another_lead_is_refused_where_no_name_is_legible(strip, noise_mv):
    with pytest.raises(DigitizeRefusal, match=f"strip of II .* rather repeats {strip}") as refusal:
        with_strips_confirmed(found(strip, noise_mv=noise_mv), {})
    assert refusal.value.code == "LAYOUT_UNKNOWN"


@pytest.mark.parametrize("strip", ["I", "V6", "V2", "aVF", "III"])
def test_a_strip_that_is_another_lead_needs_no_name(strip):
    assert with_strips_confirmed(found(strip), {}).layout.rows[-1] == (strip,)


def test_a_name_that_the_law_does_not_confirm_is_refused():
    with pytest.raises(DigitizeRefusal, match=r"named V6 repeats V6 .* no more than II"):
        with_strips_confirmed(found("II"), {3: "V6"})
    with pytest.raises(DigitizeRefusal, match=r"strip of V3 .* rather repeats V2"):
        with_strips_confirmed(found("V2"), {3: "V3"})  # better than II, but the trace is neither


def test_two_and_three_are_told_apart_by_their_laws_alone():
    assert with_strips_confirmed(found("II"), {3: "III"}).layout.rows[3] == ("II",)
    assert with_strips_confirmed(found("III"), {3: "II"}).layout.rows[3] == ("III",)


def test_a_strip_that_is_spoilt_is_still_its_layouts_lead():
    page = found("II")
    nobodys = {3: {"II": 0.7, "V6": 0.94}}  # other leads are nearer but none is near
    assert with_strips_confirmed(replace(page, repeats=nobodys), {}).layout == page.layout
    v6s = replace(page, repeats={3: {"II": 0.7, "V6": 0.97}})
    assert with_strips_confirmed(v6s, {3: "II"}).layout == page.layout  # since print and layout agree
    with pytest.raises(DigitizeRefusal, match="rather repeats V6"):
        with_strips_confirmed(v6s, {})


def test_a_name_without_a_law_is_no_name():
    page = replace(found("II"), repeats={3: {"II": -0.5, "V1": -0.6}})
    with pytest.raises(DigitizeRefusal, match="named V6"):
        with_strips_confirmed(page, {3: "V6"})
