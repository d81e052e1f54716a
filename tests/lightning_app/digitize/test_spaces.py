"""Paper between the columns of leads: told from time that is not drawn, and taken out."""

import numpy as np
import pytest

from datamodules.layout import known_layouts
from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.results import Digitized, Refusal
from tests.lightning_app.digitize.drawing import LEADS, as_page, draw, heart, maps_of

MV = heart(seed=1)
ROWS = {name: known_layouts()[name].rows for name in ("3x4", "3x4+1", "6x2")}


def read(name, *, turned=False, width=1180, seen=1.0, **drawn):
    page = draw(MV, ROWS[name], width=width, **drawn)
    ink, maps = page.ink, maps_of(page)
    maps[3:] *= seen  # how well a network sees ends
    if turned:
        # Of a page on its head ends are begins, and left halves of columns right ones.
        ink, maps = np.rot90(ink, 2), np.rot90(maps, 2, (1, 2))[[0, 2, 1, 4, 3]]
    return digitize_page(as_page(ink), maps, predict=None)


def correlations(result):
    found = {}
    for segment in result.segments:
        first = round(segment.start_s * 500)
        true = MV[LEADS.index(segment.lead), first : first + len(segment.mv)]
        there = np.isfinite(segment.mv)
        found[segment.lead, segment.row] = np.corrcoef(segment.mv[there], true[there])[0, 1]
    return found


def assert_right(result, space_s):
    assert isinstance(result, Digitized), result.reason
    assert result.space_s == pytest.approx(space_s, abs=0.006)
    assert result.scale.px_per_s == pytest.approx(100.0, rel=0.001)
    assert min(correlations(result).values()) > 0.98


@pytest.mark.parametrize("early_s", [0.0, 0.1])
@pytest.mark.parametrize("name", list(ROWS))
def test_the_grid_tells_paper_from_time_that_is_not_drawn(name, early_s):
    result = read(name, pulse=True, space_s=0.15, early_s=early_s)
    assert_right(result, 0.15)
    missing = [1 - segment.coverage for segment in result.segments]
    seconds = [segment.stop_s - segment.start_s for segment in result.segments]
    assert np.multiply(missing, seconds) == pytest.approx(early_s, abs=0.03)


def test_gaps_are_told_in_seconds_of_the_record():
    result = read("3x4", pulse=True, space_s=0.2, early_s=0.1)
    assert isinstance(result, Digitized)
    for segment in result.segments:
        ((begin_s, end_s),) = segment.gaps_s
        assert (begin_s, end_s) == pytest.approx((segment.stop_s - 0.1, segment.stop_s), abs=0.03)


def test_a_page_on_its_head_has_its_spaces_too():
    result = read("3x4+1", turned=True, pulse=True, space_s=0.15)
    assert_right(result, 0.15)
    assert result.quarter_turns == 2


@pytest.mark.parametrize("early_s", [0.0, 0.06])
def test_columns_that_join_or_stop_early_have_no_paper_between_them(early_s):
    for grid in (("thin", "thick"), ()):
        result = read("3x4+1", pulse=True, early_s=early_s, grid=grid)
        assert isinstance(result, Digitized)
        assert result.space_s == 0.0
        assert min(correlations(result).values()) > 0.97


@pytest.mark.parametrize("early_s", [0.0, 0.08])
def test_without_a_grid_a_long_lead_tells_them_apart(early_s):
    assert_right(read("3x4+1", pulse=True, grid=(), space_s=0.25, early_s=early_s), 0.25)


def test_without_a_grid_and_a_long_lead_the_pulse_tells_which_it_is():
    spaced = read("3x4", pulse=True, grid=(), space_s=0.4, width=1250)
    early = read("3x4", pulse=True, grid=(), early_s=0.21)
    assert isinstance(spaced, Digitized)
    assert isinstance(early, Digitized)
    assert spaced.space_s == pytest.approx(0.4, abs=0.01)
    assert early.space_s == 0.0


def test_where_nothing_tells_the_page_is_refused():
    refusal = read("3x4", pulse=True, grid=(), space_s=0.06)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "SCALE_UNKNOWN"
    assert "paper" in refusal.reason
    assert "--px-per-s" in refusal.remedy


def test_a_page_whose_ends_are_hardly_seen_is_refused():
    refusal = read("6x2", pulse=True, space_s=0.15, seen=0.2)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "LOW_CONFIDENCE"
    assert "ends are seen too badly" in refusal.reason
