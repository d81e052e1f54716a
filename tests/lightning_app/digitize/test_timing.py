from dataclasses import replace

import numpy as np
import pytest

from lightning_app.digitize.timing import (
    LAST_SAMPLE_S,
    Ends,
    record_length_px,
    start_from_ends,
    ten_seconds_px,
)

PX_PER_S = 100.0
LENGTH_PX = LAST_SAMPLE_S * PX_PER_S


def ends(first, last, **more):
    return Ends(np.full(4, first), np.full(4, last), first, last, cap_px=1.5, **more)


def test_round_caps_at_both_ends_leave_the_middle():
    found = start_from_ends(ends(50.0 - 1.5, 50.0 + LENGTH_PX + 1.5), PX_PER_S)
    assert found == pytest.approx(50.0)


@pytest.mark.parametrize("side", ["left", None])
def test_the_line_of_a_pulse_on_the_left_is_no_part_of_a_row(side):
    found = start_from_ends(ends(38.0, 50.0 + LENGTH_PX + 1.5, pulse_side=side), PX_PER_S)
    assert found == pytest.approx(50.0)


def test_the_line_of_a_pulse_on_the_right_is_no_part_of_a_row():
    found = start_from_ends(ends(50.0 - 1.5, 62.0 + LENGTH_PX, pulse_side="right"), PX_PER_S)
    assert found == pytest.approx(50.0)


def rows(begins, stops, **more):
    """Ends of rows that begin and end this far from where a record from 50 px on does."""
    firsts, lasts = np.array(begins) + 50.0, np.array(stops) + 50.0 + LENGTH_PX
    return Ends(firsts, lasts, float(np.median(firsts)), float(np.median(lasts)), **more)


@pytest.mark.parametrize("start", [50.0, 50.3, 50.71])
def test_many_roundings_pin_the_start_down(start):
    at = start + np.array([0.0, 201.58, 403.17, 604.76, 806.1])
    # The first column at or after each place, known to lie within a pixel after it.
    firsts = 50.0 + np.ceil(at) - 0.5 - at
    found = start_from_ends(Ends(firsts, np.empty(0), 50.0, 50.0 + LENGTH_PX), PX_PER_S)
    assert found == pytest.approx(50.0, abs=0.3)


def test_rows_that_begin_or_end_elsewhere_are_outvoted():
    ends = rows([0.1, -9.0, -0.1, -23.0], [0.0, 34.0, 0.2, -5.0])
    assert start_from_ends(ends, PX_PER_S) == pytest.approx(50.0, abs=0.2)


@pytest.mark.parametrize("shown_px", [0.0, 0.8, 1.5])
def test_however_much_of_a_round_cap_shows_both_ends_cancel_it(shown_px):
    ends = rows([-shown_px] * 4, [shown_px] * 4, cap_px=1.5)
    assert start_from_ends(ends, PX_PER_S) == pytest.approx(50.0, abs=0.15)


@pytest.mark.parametrize("early_px", [5.0, 8.0, 20.0])
@pytest.mark.parametrize("side", ["left", None])
def test_rows_that_all_stop_early_begin_where_they_begin(early_px, side):
    ends = rows([-1.5] * 4, [1.5 - early_px] * 4, cap_px=1.5, pulse_side=side)
    assert start_from_ends(ends, PX_PER_S) == pytest.approx(50.0, abs=0.5)


def test_rows_that_the_edge_of_the_page_cuts_begin_by_their_ends():
    at_the_edge = rows([9.0] * 4, [0.0] * 4)
    cut = replace(at_the_edge, first=0.0)
    assert start_from_ends(cut, PX_PER_S) == pytest.approx(50.0, abs=0.2)


def test_pulses_that_lengthen_most_rows_do_not_lengthen_the_record():
    ends = rows([-40.0, -40.2, -39.9, 0.0], [0.0, 0.1, 0.0, 0.1])
    assert ends.length_px > 1.03 * LENGTH_PX
    assert record_length_px(ends, [500.0, 1000.0]) == pytest.approx(ends.length_px)  # one begin is too few
    ends = rows([-40.0, -40.2, 0.2, 0.0], [0.0, 0.1, 0.0, 0.1])
    assert record_length_px(replace(ends, first=10.0), [500.0, 1000.0]) == pytest.approx(LENGTH_PX, rel=1e-3)


def test_rows_as_long_as_no_grid_allows_keep_their_length():
    ends = rows([-40.0] * 4, [50.0] * 4)
    assert record_length_px(ends, [500.0, 1000.0]) == pytest.approx(LENGTH_PX + 90)


def test_ten_seconds_are_shorter_than_a_row_by_the_pen_and_longer_by_one_sample():
    drawn_px = LAST_SAMPLE_S * 100.0 + 2 * 1.5
    assert ten_seconds_px(drawn_px, cap_px=1.5) == pytest.approx(1000.0)
