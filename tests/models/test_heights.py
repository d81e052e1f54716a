"""Heights from weights, against plain loops over columns."""

import numpy as np
import pytest
import torch

from models.heights import HALVES, expected_heights, half_columns, height_loss, stretches

NAN = float("nan")


def plain_heights(weights, top, bottom):
    """One image: weights (2, H, W), top and bottom (R, 2 W)."""
    _, height, width = weights.shape
    heights = np.full(top.shape, np.nan)
    for row in range(len(top)):
        for half in range(HALVES * width):
            inside = [y for y in range(height) if top[row, half] <= y <= bottom[row, half]]
            if inside:
                share = np.exp([weights[half % HALVES, y, half // HALVES] for y in inside])
                heights[row, half] = (share * inside).sum() / share.sum()
    return heights


def test_heights_are_the_mean_under_a_softmax_of_the_stretch():
    rng = np.random.default_rng(0)
    weights = rng.normal(0.0, 3.0, (2, 12, 5)).astype(np.float32)
    top = rng.uniform(-3.0, 8.0, (3, 10)).astype(np.float32)
    bottom = top + rng.uniform(0.0, 6.0, top.shape).astype(np.float32)
    top[1, 3] = bottom[1, 3] = np.nan
    read = expected_heights(*(torch.from_numpy(array)[None] for array in (weights, top, bottom)))[0]
    np.testing.assert_allclose(read, plain_heights(weights, top, bottom), rtol=1e-5)
    assert read[1, 3].isnan()


def test_halves_of_a_column_stand_side_by_side():
    weights = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    columns = half_columns(weights)
    assert columns.shape == (1, 3, 8)
    assert columns[0, 1].tolist() == [4.0, 16.0, 5.0, 17.0, 6.0, 18.0, 7.0, 19.0]


def test_a_stretch_reaches_beyond_the_line_and_its_neighbours():
    heights = torch.full((1, 1, 40), NAN)
    heights[0, 0, 10:30] = 50.0
    heights[0, 0, 20] = 90.0
    top, bottom = stretches(heights)
    assert torch.equal(top.isfinite(), heights.isfinite())
    assert top[0, 0, 12] < 50 < bottom[0, 0, 12] < 90
    assert bottom[0, 0, 18] > 90, "the peak two half columns on belongs to it"


def peaked(heights, height, width):
    """Weights that stand for known heights, nearly all on one pixel of each half column."""
    weights = torch.zeros(1, 2, height, width)
    for half, y in enumerate(heights):
        weights[0, half % 2, int(y), half // 2] = 50.0
    return weights


def test_the_loss_is_the_distance_beyond_a_pixel():
    true = torch.full((1, 1, 16), 20.0)
    assert height_loss(peaked([20] * 16, 64, 8), true) == pytest.approx(0.0, abs=1e-6)
    assert height_loss(peaked([23] * 16, 64, 8), true) == pytest.approx(2.5, abs=1e-4)
    assert height_loss(peaked([20] * 16, 64, 8), true + 0.5) == pytest.approx(0.125, abs=1e-4)


def test_what_is_not_known_costs_nothing():
    weights = torch.randn(2, 2, 32, 8, requires_grad=True)
    loss = height_loss(weights, torch.full((2, 3, 16), NAN))
    loss.backward()
    assert loss == 0
    assert torch.equal(weights.grad, torch.zeros_like(weights))


def test_only_the_stretch_of_a_line_is_trained():
    weights = torch.randn(1, 2, 64, 8, requires_grad=True)
    height_loss(weights, torch.full((1, 1, 16), 20.0)).backward()
    touched = (weights.grad != 0).any(dim=(0, 1, 3)).nonzero().flatten()
    assert touched.min() >= 11
    assert touched.max() <= 29
