import numpy as np
import pytest

from lightning_app.digitize.grid import measure_grid
from lightning_app.digitize.pulse import as_dark_as_traces, find_pulse, without_grid
from tests.lightning_app.digitize.drawing import draw, heart

MV = heart()


def search(page, sizes):
    grid = measure_grid(page.ink, page.mask > 0)
    dark = without_grid(page.ink.astype(np.float32) / 255, grid)
    usual = (40.0, 20.0) if sizes else None
    return find_pulse(dark, np.array(page.row_y_px), [(0, 62)], sizes, usual=usual)


SIZES = [(gain * 4.0, length * 4.0) for gain in (10, 5, 20) for length in (5, 10)]


@pytest.mark.parametrize(
    "how", [{}, {"noise": 0.03}, {"binary": False}, {"stroke_px": 2.0, "keep": 0.5}], ids=str
)
@pytest.mark.parametrize("px_per_mv", [20.0, 40.0])
def test_height_tells_the_gain(how, px_per_mv):
    pulse = search(draw(MV, pulse=True, px_per_mv=px_per_mv, **how), SIZES)
    assert pulse.height_px == px_per_mv
    assert pulse.width_px == 20


def test_a_high_pulse_is_not_taken_for_the_usual_one_whose_sides_it_covers():
    strip = np.zeros((300, 200), dtype=np.float32)
    for level in (110, 280):
        strip[level - 80 : level + 1, [40, 60]] = strip[level - 80, 40:61] = 0.9
        strip[level - 40, 40:61] = 0.8  # a line of the grid where the usual roof would be
    found = find_pulse(strip, np.array([110.0, 280.0]), [(0, 100)], SIZES, usual=(40.0, 20.0))
    assert (found.height_px, found.width_px) == (80, 20)


@pytest.mark.parametrize("px_per_mv", [20.0, 40.0, 80.0])
def test_rows_may_rest_at_other_levels_than_their_pulses(px_per_mv):
    page = draw(MV, pulse=True, px_per_mv=px_per_mv)
    page.row_y_px = [y + off for y, off in zip(page.row_y_px, (5, -4, 2, -6), strict=True)]
    pulse = search(page, SIZES)
    assert (pulse.height_px, pulse.width_px) == (px_per_mv, 20)
    assert pulse.left_px == pytest.approx(page.x0_px - 1.6 * 20, abs=2)


def test_a_shape_that_one_row_of_two_shows_is_no_pulse():
    strip = np.zeros((700, 200), dtype=np.float32)
    levels = np.array([110.0, 280.0, 450.0, 620.0])
    for level in (110, 450):
        strip[level - 80 : level + 1, [40, 60]] = strip[level - 80, 40:61] = 0.8
    assert find_pulse(strip, levels, [(0, 100)], SIZES, usual=(40.0, 20.0)) is None


@pytest.mark.parametrize("goes_on", [False, True])
def test_lines_that_go_on_above_a_roof_are_no_pulse_of_a_single_row(goes_on):
    strip = np.zeros((700, 200), dtype=np.float32)
    levels = np.array([110.0, 280.0, 450.0, 620.0])
    strip[(0 if goes_on else 70) : 111, [40, 60]] = strip[70, 40:61] = 1.0
    found = find_pulse(strip, levels, [(0, 100)], SIZES, usual=(40.0, 20.0))
    assert (found is None) == goes_on


def test_pale_print_is_as_good_as_black():
    page = draw(MV, pulse=True, grid=())
    pale = page.ink.astype(np.float32) / 255 * 0.45
    rows = np.array(page.row_y_px)
    pitch = float(np.diff(rows).mean())
    assert find_pulse(pale, rows, [(0, 62)], SIZES, usual=(40.0, 20.0)) is None
    dark = as_dark_as_traces(pale, rows, pitch, (62.0, 1050.0))
    assert find_pulse(dark, rows, [(0, 62)], SIZES, usual=(40.0, 20.0)).height_px == 40


def test_size_is_measured_where_nothing_is_known():
    pulse = search(draw(MV, pulse=True, grid=(), px_per_mv=43.0, px_per_s=96.0), None)
    assert pulse.height_px == pytest.approx(43, abs=0.7)
    assert pulse.width_px == pytest.approx(19.2, abs=0.7)


@pytest.mark.parametrize("how", [{}, {"grid": ()}, {"noise": 0.05}, {"grid": ("thick",)}], ids=str)
def test_nothing_is_found_where_nothing_is(how):
    assert search(draw(MV, **how), SIZES) is None


def test_grid_goes_and_the_trace_stays():
    page = draw(MV)
    dark = page.ink.astype(np.float32) / 255
    left = without_grid(dark, measure_grid(page.ink, page.mask > 0))
    assert left[page.mask == 0].mean() < 0.3 * dark[page.mask == 0].mean()
    assert left[page.mask > 0].mean() > 3 * left[page.mask == 0].mean()
