import numpy as np
import pytest

from datamodules.annotation.refinement import agreement, ink_above
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
