import numpy as np
import pytest

from lightning_app.digitize.timing import LAST_SAMPLE_S, Ends, start_from_ends, voted_start


@pytest.mark.parametrize("start", [50.0, 50.3, 50.71])
def test_many_roundings_pin_the_start_down(start):
    offsets = np.array([0.0, 201.58, 403.17, 604.76, 806.1])
    # The first column at or after each place, known to lie within a pixel after it.
    seen = np.ceil(start + offsets) - 0.5
    assert voted_start(seen - offsets, start + 0.6) == pytest.approx(start, abs=0.2)


def test_a_row_that_begins_elsewhere_has_no_vote():
    assert voted_start(np.array([20.0, 20.1, 19.9, 22.0]), 20.5) == pytest.approx(20, abs=0.1)


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
