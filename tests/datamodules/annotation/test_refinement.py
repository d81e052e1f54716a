import numpy as np
import pytest

from datamodules.annotation.refinement import Fit, agreement, fit_pen, ink_above
from datamodules.annotation.templates import Piece, Scale
from datamodules.rendering.strokes import column_runs, extents, stamp_mask


def _wave(rng: np.random.Generator) -> np.ndarray:
    x = np.linspace(-10.0, 210.0, 700)  # beyond both edges of the page
    return np.stack([x, 50 + 30 * np.sin(x / rng.uniform(3, 15)) + rng.normal(0, 2, x.size)], axis=1)


@pytest.mark.parametrize("width_px", [1.0, 2.3, 4.0])
def test_agreement_is_what_a_drawn_mask_covers(width_px):
    rng = np.random.default_rng(0)
    ink = rng.random((100, 200)).astype(np.float32)
    wave = _wave(rng)
    mask = np.zeros(ink.shape, np.uint8)
    stamp_mask(mask, wave, width_px)
    runs = column_runs(extents(wave), width_px)
    found = agreement(ink_above(ink, 0.3), [runs])
    assert found == pytest.approx(float((ink - 0.3)[mask > 0].sum()), rel=1e-3)


def test_strokes_may_move_to_where_they_agree_best():
    rng = np.random.default_rng(1)
    wave = _wave(rng)
    ink = np.zeros((100, 200), np.uint8)
    stamp_mask(ink, wave + np.array([1, -3]), 2.0)
    above = ink_above(ink.astype(np.float32), 0.5)
    runs = [column_runs(extents(wave), 2.0)]
    whole = agreement(above, [column_runs(extents(wave + np.array([1, -3])), 2.0)])
    assert agreement(above, runs, (1, 3)) == pytest.approx(whole)
    assert agreement(above, runs, (1, 2)) < whole
    assert agreement(above, runs) < agreement(above, runs, (1, 2))


@pytest.mark.parametrize("grid_share", [0.0, 0.3, 0.6])
def test_the_pen_is_found_on_any_share_of_grid(grid_share):
    rng = np.random.default_rng(2)
    time_s = np.arange(1250) / 500
    mv = np.convolve(rng.normal(0, 1, time_s.size), np.hanning(15), "same") * 0.3
    fit = Fit(Scale(100.0, 0.0, -40.0), 20.3, np.array([100.6]), (0,))
    piece = Piece("II", 0, 0, 0.0, time_s, mv)
    ink = np.zeros((200, 300), np.uint8)
    stamp_mask(ink, fit.line(piece), 3.0)
    ink |= (rng.random(ink.shape) < grid_share).astype(np.uint8)
    guess = Fit(Scale(100.0, 0.0, -39.0), fit.x0_px, fit.row_y_px, fit.rows)
    found, stroke_px = fit_pen(ink.astype(np.float32), [piece], guess)
    assert stroke_px == pytest.approx(3.0, abs=0.35)
    assert found.scale.d == pytest.approx(-40.0, rel=0.01)
