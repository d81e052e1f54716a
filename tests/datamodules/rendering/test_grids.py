import numpy as np
import pytest

from datamodules.rendering.difficulty import NOMINAL
from datamodules.rendering.grids import Ruling, grid_layers, print_grid

SHAPE = (400, 500)
KINDS = [kind for kind, _ in NOMINAL.grids]


def ruling(angle_deg=0.0, pitch=(4.1, 3.9)):
    angle = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Ruling(pitch, (7.3, 11.2), turn, 1.0, 2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_two_layers(kind):
    thin, thick = grid_layers(np.random.default_rng(0), kind, SHAPE, ruling(0.5), 1.0)
    assert thin.shape == thick.shape == SHAPE
    assert thin.dtype == thick.dtype == np.uint8
    assert (thin.any() or thick.any()) == (kind != "none")


@pytest.mark.parametrize(("axis", "pitch_px"), [(0, 4.1), (1, 3.9)])
def test_thick_lines_lie_five_millimetres_apart_at_their_phase(axis, pitch_px):
    _, thick = grid_layers(np.random.default_rng(0), "solid", SHAPE, ruling(), 0.0)
    profile = thick.mean(axis=axis)
    phase = (7.3, 11.2)[axis]
    centre = phase + np.arange(3, 15) * 5 * pitch_px
    for line in centre:
        near = slice(int(line) - 4, int(line) + 6)
        weight = profile[near] - profile[near].min()
        found = (np.arange(near.start, near.stop) * weight).sum() / weight.sum()
        assert found == pytest.approx(line, abs=0.35)


def test_a_turned_grid_is_turned():
    _, straight = grid_layers(np.random.default_rng(0), "solid", SHAPE, ruling(), 0.0)
    _, turned = grid_layers(np.random.default_rng(0), "solid", SHAPE, ruling(1.0), 0.0)
    # A level line drops by 500 px * tan(1 degree) = 8.7 px from left to right.
    left, right = turned[:, 40].astype(float), turned[:, 460].astype(float)
    shifts = range(-2, 12)
    best = max(shifts, key=lambda shift: np.dot(np.roll(left, shift)[20:-20], right[20:-20]))
    assert best == pytest.approx(420 * np.tan(np.deg2rad(1.0)), abs=1.0)
    assert not np.array_equal(straight, turned)


def test_breaks_take_ink_from_thick_lines():
    whole = grid_layers(np.random.default_rng(5), "solid", SHAPE, ruling(), 0.0)[1]
    broken = grid_layers(np.random.default_rng(5), "solid", SHAPE, ruling(), 3.0)[1]
    assert 0.7 * whole.sum() < broken.sum() < 0.99 * whole.sum()


@pytest.mark.parametrize("kind", ["dissolved", "solid", "thin_only"])
@pytest.mark.parametrize("seed", range(4))
def test_line_grids_drift_within_the_density_range(kind, seed):
    rng = np.random.default_rng(seed)
    thin, thick = grid_layers(rng, kind, (800, 800), ruling(0.3), 1.0)
    chance = print_grid(rng, kind, thin, thick, NOMINAL.grid_density).astype(float) / 255
    windows = chance[:800, :800].reshape(8, 100, 8, 100).mean(axis=(1, 3))
    low, high = NOMINAL.grid_density
    assert windows.min() >= 0.8 * low
    assert windows.max() <= 1.1 * high
    assert windows.max() >= 1.25 * windows.min()
