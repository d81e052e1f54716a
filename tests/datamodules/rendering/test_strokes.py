from itertools import pairwise

import cv2
import numpy as np
import pytest

from datamodules.rendering.strokes import extents, stamp_ink, stamp_mask


def zigzag(n=400, seed=0):
    rng = np.random.default_rng(seed)
    x = 8.3 + np.arange(n) * 0.21
    y = 50 + np.cumsum(rng.normal(0, 0.7, n))
    y[120:126] += [-10, -25, -38, -38, -25, -8]
    return np.stack([x, y], axis=1)


def distance_to_polyline(shape, points):
    """Brute force: every pixel centre against every segment."""
    pixels = np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), axis=-1).astype(float)
    nearest = np.full(shape, np.inf)
    for a, b in pairwise(points):
        along = np.clip(((pixels - a) @ (b - a)) / max((b - a) @ (b - a), 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(pixels - a - along[..., None] * (b - a), axis=-1))
    return nearest


@pytest.mark.parametrize("width_px", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_a_level_trace_is_as_high_as_its_width_says(width_px):
    heights = []
    for phase in np.linspace(0, 1, 16, endpoint=False):
        mask = np.zeros((20, 60), np.uint8)
        stamp_mask(mask, np.array([[5.0, 10 + phase], [50.0, 10 + phase]]), width_px)
        rows, columns = np.nonzero(mask[:, 10:45])
        heights.append(rows.size / np.unique(columns).size)
        assert abs(rows.mean() - (10 + phase)) <= 0.5
    assert np.mean(heights) == pytest.approx(width_px, abs=0.01)


@pytest.mark.parametrize("width_px", [1.0, 2.0, 3.0])
def test_mask_is_what_lies_within_half_a_width_of_the_line(width_px):
    points = zigzag()
    mask = np.zeros((100, 105), np.uint8)
    stamp_mask(mask, points, width_px)
    distance = distance_to_polyline(mask.shape, points)
    # The pen has no round caps: nothing is drawn before the first or after the last sample.
    drawn = slice(int(points[0, 0]) + 1, int(points[-1, 0]))
    mask, distance = mask[:, drawn], distance[:, drawn]
    assert (distance[mask > 0] <= width_px / 2 + 0.3).all()
    assert mask[distance < width_px / 2 - 0.01].all()


@pytest.mark.parametrize("width_px", [1.0, 1.5, 4.0])
def test_mask_is_one_piece_however_steep_the_line(width_px):
    mask = np.zeros((100, 105), np.uint8)
    stamp_mask(mask, zigzag(seed=3), width_px)
    assert cv2.connectedComponents(mask, connectivity=8)[0] == 2  # paper and one trace
    assert mask[:, 10:90].any(axis=0).all()


def test_no_peak_between_columns_is_lost():
    points = np.array([[5.0, 50.0], [20.4, 50.0], [20.5, 11.0], [20.6, 50.0], [40.0, 50.0]])
    mask = np.zeros((60, 45), np.uint8)
    stamp_mask(mask, points, 1.0)
    assert abs(np.nonzero(mask)[0].min() - 11) <= 1


def test_ink_adds_up_to_length_times_width_times_strength():
    points = np.array([[5.0, 10.3], [45.0, 10.3]])
    n_cells = extents(points).high_y.size
    canvas = np.zeros((20, 60), np.float32)
    stamp_ink(canvas, points, np.full(n_cells, 2.4), np.full(n_cells, 0.5))
    assert canvas[:, 10:40].sum() == pytest.approx(30 * 2.4 * 0.5, rel=1e-4)
    assert canvas.max() <= 0.5 + 1e-6


def test_what_leaves_the_page_is_cut_off():
    mask = np.zeros((20, 30), np.uint8)
    stamp_mask(mask, np.array([[-10.0, -5.0], [50.0, 40.0]]), 3.0)
    assert mask.any()
    stamp_mask(mask, np.array([[-10.0, -50.0], [50.0, -40.0]]), 3.0)


def test_a_turned_back_flank_is_drawn():
    mask = np.zeros((60, 30), np.uint8)
    stamp_mask(mask, np.array([[5.0, 50.0], [15.0, 50.0], [14.6, 10.0], [15.2, 50.0], [25.0, 50.0]]), 1.0)
    assert np.nonzero(mask)[0].min() <= 11
