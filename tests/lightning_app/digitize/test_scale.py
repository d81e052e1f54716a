import pytest

from lightning_app.digitize.grid import Comb, Grid
from lightning_app.digitize.printed import Said
from lightning_app.digitize.pulse import Pulse
from lightning_app.digitize.results import DigitizeRefusal
from lightning_app.digitize.scale import Declared, settle_scale


def comb(period_px, *, fifth=None):
    return Comb(period_px, (1.0, 0.0), fifth, 20.0)


def pulse(height_px, width_px):
    return Pulse(height_px, width_px, 10.0, 0.0, 0.9)


FINE = Grid(comb(4.0, fifth=False), comb(4.0, fifth=False))
COARSE = Grid(comb(20.0), comb(20.0))
NONE = Grid(None, None)


def test_row_length_tells_speed_and_which_lines_are_millimetres():
    assert settle_scale(FINE, None, 1001.0, Declared()).px_per_s == 100
    assert settle_scale(COARSE, None, 999.0, Declared()).px_per_s == 100
    fifty = settle_scale(Grid(comb(10.0), comb(10.0)), None, 1000.0, Declared())
    assert (fifty.px_per_s, fifty.px_per_mv, fifty.mm_per_s) == (100, 20, 50)
    stretched = settle_scale(Grid(comb(4.1, fifth=False), comb(19.5)), None, 1025.0, Declared())
    assert stretched.px_per_s == pytest.approx(102.5)
    assert stretched.px_per_mv == pytest.approx(39)


@pytest.mark.parametrize(("height_px", "gain"), [(20.0, 5), (40.0, 10), (80.0, 20)])
def test_pulse_tells_the_gain(height_px, gain):
    scale = settle_scale(FINE, pulse(height_px, 20.0), 1000.0, Declared())
    assert (scale.mm_per_mv, scale.px_per_mv, scale.assumptions) == (gain, 4.0 * gain, ())


TWICE_TOO_FINE = Grid(comb(10.0, fifth=True), comb(10.0, fifth=True))  # of 4 px/mm


@pytest.mark.parametrize(
    ("found", "said"),
    [(None, Said((10.0,), (25.0,))), (pulse(40.0, 20.0), Said((), (25.0,)))],
)
def test_the_printed_speed_tells_that_a_grid_was_found_twice_too_fine(found, said):
    scale = settle_scale(TWICE_TOO_FINE, found, 1000.0, Declared(), said)
    assert (scale.px_per_s, scale.px_per_mv, scale.mm_per_s) == (100, 40, 25)
    assert (scale.mm_per_mv, scale.px_per_mm) == (10, (4.0, 4.0))


@pytest.mark.parametrize("said", [Said((), (25.0,)), Said((10.0,), (12.5,))])
def test_without_a_gain_or_with_another_speed_it_does_not(said):
    with pytest.raises(DigitizeRefusal, match="SCALE_CONFLICT"):
        settle_scale(TWICE_TOO_FINE, None, 1000.0, Declared(), said)


def test_where_both_speeds_are_printed_the_grid_tells():
    scale = settle_scale(TWICE_TOO_FINE, None, 1000.0, Declared(), Said((10.0,), (25.0, 50.0)))
    assert (scale.mm_per_s, scale.px_per_mv) == (50, 20)


@pytest.mark.parametrize("width_mm", [5, 10])
def test_at_50_mm_per_s_a_pulse_lasts_as_long_or_is_as_wide_as_at_25(width_mm):
    assert settle_scale(FINE, pulse(40.0, width_mm * 4.0), 2000.0, Declared()).px_per_s == 200


def test_gain_without_pulse_is_an_assumption_and_says_so():
    (assumption,) = settle_scale(FINE, None, 1000.0, Declared()).assumptions
    assert "10 mm/mV" in assumption


@pytest.mark.parametrize(
    ("grid", "found", "row_px", "declared"),
    [
        (FINE, None, 800.0, Declared()),  # neither 25 nor 50 mm/s
        (FINE, pulse(40.0, 40.0), 1000.0, Declared()),  # the pulse says 50 mm/s, the rows 25
        (FINE, pulse(28.0, 20.0), 1000.0, Declared()),  # 7 mm
        (FINE, None, 1000.0, Declared(px_per_s=110.0)),
        (FINE, None, 1000.0, Declared(px_per_mv=50.0)),
    ],
)
def test_sources_that_disagree_are_refused(grid, found, row_px, declared):
    with pytest.raises(DigitizeRefusal) as caught:
        settle_scale(grid, found, row_px, declared)
    assert caught.value.code == "SCALE_CONFLICT"


def test_without_grid():
    with pytest.raises(DigitizeRefusal) as caught:
        settle_scale(NONE, None, 1000.0, Declared())
    assert caught.value.code == "SCALE_UNKNOWN"
    by_pulse = settle_scale(NONE, pulse(41.0, 19.0), 1000.0, Declared())
    assert (by_pulse.px_per_s, by_pulse.px_per_mv, by_pulse.time_source) == (100, 41, "pulse")
    declared = settle_scale(NONE, None, 1000.0, Declared(px_per_s=100.0, px_per_mv=40.0))
    assert (declared.time_source, declared.voltage_source) == ("declared", "declared")


def test_standing_lines_alone_say_what_they_assume():
    assert any(
        "square" in note
        for note in settle_scale(Grid(comb(20.0), None), None, 1000.0, Declared()).assumptions
    )
    lying = settle_scale(Grid(None, comb(20.0)), None, 1030.0, Declared())
    assert lying.px_per_s == 103


def test_a_grid_is_taken_for_square_where_moire_makes_every_fourth_row_stand_out():
    scale = settle_scale(Grid(comb(4.0, fifth=False), comb(16.01)), None, 1000.0, Declared())
    assert scale.px_per_mv == pytest.approx(40, rel=1e-3)
    stretched = settle_scale(Grid(comb(4.0, fifth=False), comb(16.5)), None, 1000.0, Declared())
    assert stretched.px_per_mv == pytest.approx(33)
