import numpy as np
import pytest

from lightning_app.digitize.grid import measure_grid
from lightning_app.digitize.scale import makes_sense
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
        page.ink, page.mask > 0, skew_deg=skew_deg + 0.3, plausible=lambda grid: makes_sense(grid, row_px)
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


def test_makes_nothing_of_an_implausible_grid_if_there_is_a_better_one():
    page = draw(MV)
    seen = []
    measure_grid(page.ink, page.mask > 0, plausible=lambda grid: bool(seen.append(grid)))
    assert len(seen) >= 1
    assert all(np.isfinite(grid.strength) for grid in seen)
