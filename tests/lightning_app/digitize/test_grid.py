import cv2
import numpy as np
import pytest

from lightning_app.digitize.grid import Comb, Grid, Sense, measure_grid
from lightning_app.digitize.results import DigitizeRefusal
from lightning_app.digitize.scale import Declared, sense_of, settle_scale
from tests.lightning_app.digitize.drawing import draw, heart

MV = heart()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"grid": ("thick",)},
        {"keep": 0.3},
        {"keep": 0.5, "noise": 0.05},
        {"binary": False, "grid_ink": 0.1},
        {"degrees": 1.3},
        {"degrees": -4.5},
        {"px_per_mm": 7.3, "px_per_s": 182.5, "px_per_mv": 73.0, "width": 2000, "height": 1200},
        {"px_per_mm": 2.0, "px_per_mv": 20.0, "grid": ("thick",)},
    ],
    ids=str,
)
def test_pitch_is_measured_to_a_thousandth(how):
    page = draw(MV, **how)
    skew_deg = how.get("degrees", 0.0)
    row_px = 10 * how.get("px_per_s", 100.0)
    grid = measure_grid(
        page.ink, page.mask > 0, skew_deg=skew_deg + 0.3, sense=lambda grid: sense_of(grid, row_px)
    )
    pitch_px = how.get("px_per_mm", 4.0)
    for comb in (grid.x, grid.y):
        per_mm = comb.period_px / pitch_px
        assert min(abs(per_mm - 1), abs(per_mm / 5 - 1)) < 1e-3
    assert grid.skew_deg == pytest.approx(skew_deg, abs=0.02)


def test_axes_are_independent():
    page = draw(MV, stretch=(1.03, 0.98), grid=("thick",))
    grid = measure_grid(page.ink, page.mask > 0)
    assert grid.x.period_px == pytest.approx(20 * 1.03, rel=1e-3)
    assert grid.y.period_px == pytest.approx(20 * 0.98, rel=1e-3)


def test_fifth_line_is_seen_where_it_stands_out():
    page = draw(MV, binary=False, grid_ink=0.3)
    grid = measure_grid(page.ink, page.mask > 0)
    assert grid.x.has_fifth is True
    assert grid.x.period_px == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_no_grid_is_no_grid(noise):
    page = draw(MV, grid=(), noise=noise)
    grid = measure_grid(page.ink, page.mask > 0)
    assert grid.x is None
    assert grid.y is None
    assert grid.skew_deg is None


@pytest.mark.parametrize(
    ("off_deg", "row_px", "found"), [(1.6, 1000.0, True), (1.6, 870.0, False), (2.5, 1000.0, False)]
)
def test_rows_that_drift_do_not_cost_a_grid_of_both_families_that_fits_them(off_deg, row_px, found):
    page = draw(MV, grid=("thick",))
    grid = measure_grid(page.ink, page.mask > 0, skew_deg=off_deg, sense=lambda grid: sense_of(grid, row_px))
    assert (grid.x is not None, grid.y is not None) == (found, found)


def test_makes_nothing_of_a_grid_without_sense_if_there_is_a_better_one():
    page = draw(MV)
    seen = []

    def nonsense(grid):
        seen.append(grid)
        return Sense.NONE

    measure_grid(page.ink, page.mask > 0, sense=nonsense)
    assert len(seen) >= 1
    assert all(np.isfinite(grid.strength) for grid in seen)


def test_rows_that_pulses_lengthen_do_not_cost_half_of_the_grid():
    """By its lying lines alone, on paper pulled along them, rows as long would last ten seconds."""
    page = draw(MV, grid=("thick",), stretch=(1.0, 1.05))
    assert sense_of(Grid(None, Comb(21.0, (0.0, 1.0), None, 1.0)), 1050.0) == Sense.FULL
    grid = measure_grid(page.ink, page.mask > 0, sense=lambda grid: sense_of(grid, 1050.0))
    assert grid.x.period_px == pytest.approx(20.0, rel=1e-3)
    assert grid.y.period_px == pytest.approx(21.0, rel=1e-3)


def test_every_other_line_darker_is_no_grid_twice_as_coarse():
    page = draw(MV, grid=("thick",), binary=False, grid_ink=0.3)
    ink = page.ink.astype(np.int32)
    for x in range(8, page.ink.shape[1] - 1, 40):
        ink[:, x - 1 : x + 1] += 40
    ink = np.minimum(ink, 255).astype(np.uint8)
    grid = measure_grid(ink, page.mask > 0, sense=lambda grid: sense_of(grid, 1000.0))
    assert grid.x.period_px == pytest.approx(20.0, rel=1e-3)
    assert grid.y.period_px == pytest.approx(20.0, rel=1e-3)


def test_rows_make_sense_as_they_are_more_than_with_pulses():
    grid = Grid(Comb(20.0, (1.0, 0.0), None, 1.0), Comb(20.0, (0.0, 1.0), None, 1.0))
    lengths = {1000.0: Sense.FULL, 1025.0: Sense.FULL, 2010.0: Sense.FULL, 1080.0: Sense.WITH_PULSES}
    lengths |= {1200.0: Sense.NONE, 950.0: Sense.NONE}
    assert {length: sense_of(grid, length) for length in lengths} == lengths


def ruled(mm_px, darkness_of):
    """Ten seconds at 25 mm/s on lines of one pixel, as software draws them, and where the traces are."""
    page = draw(
        MV, grid=(), binary=False, px_per_s=25.0 * mm_px, px_per_mv=10.0 * mm_px, width=278 * mm_px,
        height=150 * mm_px,
    )  # fmt: skip
    ink = page.ink.copy()
    for k in range(278):
        for lines in (ink[:, k * mm_px : k * mm_px + 1], ink[k * mm_px : k * mm_px + 1]):
            np.maximum(lines, darkness_of(k), out=lines)
    return ink, page.mask


def halved(image):
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


EVEN = [lambda k: 60, lambda k: 60 if k % 5 else 100]


@pytest.mark.parametrize("mm_px", [5, 6])
@pytest.mark.parametrize("darkness_of", EVEN, ids=["fine", "with_fifths"])
def test_rows_of_five_seconds_are_not_ten_on_a_grid_half_as_wide(mm_px, darkness_of):
    ink, mask = ruled(mm_px, darkness_of)
    row_px = 125.0 * mm_px
    grid = measure_grid(ink, mask > 0, sense=lambda grid: sense_of(grid, row_px))
    for comb in (grid.x, grid.y):
        assert comb.period_px == pytest.approx(
            mm_px * (1 if darkness_of(1) == darkness_of(0) else 5), rel=1e-3
        )
    with pytest.raises(DigitizeRefusal, match="SCALE_CONFLICT"):
        settle_scale(grid, None, row_px, Declared())


def test_a_strong_overtone_is_not_taken_for_the_lines():
    ink, mask = (halved(image) for image in ruled(12, EVEN[0]))
    grid = measure_grid(ink, mask > 0, sense=lambda grid: sense_of(grid, 1500.0))
    assert (grid.x.period_px, grid.y.period_px) == pytest.approx((6.0, 6.0), rel=1e-3)


def test_every_seventh_line_a_shade_darker_is_no_coarser_grid():
    ink, mask = ruled(6, lambda k: 60 if k % 7 else 70)
    grid = measure_grid(ink, mask > 0, sense=lambda grid: sense_of(grid, 1500.0))
    assert (grid.x.period_px, grid.y.period_px) == pytest.approx((6.0, 6.0), rel=1e-3)
