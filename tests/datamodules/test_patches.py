"""Where patches and windows lie, against plain loops and the figures of the protocol."""

import numpy as np
import pytest

from datamodules.patches import (
    PATCH_PX,
    REACH_PX,
    batch_bounds,
    draw_patch_corners,
    rng_for,
    scan_order,
    window_corners,
    window_starts,
)


def four_line_mask():
    """The paper's page with four rows of beats at 40 px/mV: QRS of 1.2 mV up and 0.5 down, T of 0.3 mV."""
    x = np.arange(1000)
    beat = x % 90
    height = 48.0 * (beat == 0) - 20.0 * (beat == 3) + 12 * np.exp(-(((beat - 30) / 8) ** 2))
    mask = np.zeros((886, 1120), dtype=bool)
    for row in range(4):
        y = np.round((row + 0.5) * 886 / 4 - height + 6 * np.sin(x / 150 + row)).astype(int)
        for i in range(1, len(x)):  # joined up, strokes of 3 px
            low, high = sorted((y[i - 1], y[i]))
            mask[low : high + 3, 60 + i] = True
    return mask


def test_windows_of_the_papers_page():
    rows, columns = window_starts(886), window_starts(1120)
    assert (len(rows), len(columns)) == (13, 17)
    assert rows[-2:].tolist() == [704, 758]
    assert columns[-2:].tolist() == [960, 992]
    assert len(window_corners(886, 1120)) == 221


@pytest.mark.parametrize("length_px", [1, 64, 127, 128, 129, 191, 192, 193, 256, 886, 1120])
@pytest.mark.parametrize(("size_px", "overlap_px"), [(128, 64), (128, 0), (128, 127), (32, 9)])
def test_windows_cover_every_pixel_and_stay_inside(length_px, size_px, overlap_px):
    starts = window_starts(length_px, size_px, overlap_px)
    covered = np.zeros(max(length_px, size_px), dtype=int)
    for start in starts:
        covered[start : start + size_px] += 1
    assert covered.min() >= 1
    assert starts[0] == 0
    assert starts[-1] == max(length_px - size_px, 0)
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= size_px - overlap_px).all()


def test_windows_of_the_papers_page_overlap_as_the_protocol_counted():
    count = np.zeros((886, 1120), dtype=int)
    for y, x in window_corners(886, 1120):
        count[y : y + PATCH_PX, x : x + PATCH_PX] += 1
    assert (count.min(), count.max()) == (1, 9)
    assert (count == 4).mean() == pytest.approx(0.76, abs=0.01)


def test_windows_refuse_an_overlap_as_large_as_the_window():
    with pytest.raises(ValueError, match="overlap_px 128"):
        window_starts(886, 128, 128)


def test_corners_agree_with_a_plain_loop():
    points = np.array([[0, 0], [885, 1119], [400, 600], [443, 3]])
    shapes = np.array([[886, 1120], [886, 1120], [886, 1120], [500, 700]])
    corners = draw_patch_corners(points, shapes, rng_for(3, 1, 4))

    rng = rng_for(3, 1, 4)
    for i in range(len(points)):
        for axis in (0, 1):
            corner = points[i, axis] + int(rng.integers(-REACH_PX, REACH_PX + 1)) - PATCH_PX // 2
            corner = min(max(corner, 0), shapes[i, axis] - PATCH_PX)
            assert corners[i, axis] == corner


def test_patch_centres_spread_evenly_over_the_reach():
    points = np.full((40_000, 2), 1000)
    corners = draw_patch_corners(points, np.full((40_000, 2), 2000), rng_for(0, 0, 0))
    offsets = corners + PATCH_PX // 2 - points
    assert (offsets.min(), offsets.max()) == (-REACH_PX, REACH_PX)
    assert np.abs(offsets.mean(axis=0)).max() < 2.0
    assert offsets.std(axis=0) == pytest.approx(np.sqrt((257**2 - 1) / 12), rel=0.01)


def test_a_page_smaller_than_the_patch_gives_corner_zero():  # F14
    corners = draw_patch_corners(np.array([[10, 150]]), np.array([[20, 200]]), rng_for(0, 0, 0))
    assert corners[0, 0] == 0
    assert 0 <= corners[0, 1] <= 200 - PATCH_PX


def exact_corner_weights(mask):
    """Probability of every corner, by counting all (point, offset) pairs instead of drawing them."""
    weights = mask.astype(float)
    for _ in (0, 1):  # one axis after the other: offsets of the axes are independent
        spread = np.apply_along_axis(np.convolve, 0, weights, np.ones(2 * REACH_PX + 1))
        # Row i of `spread` is the corner i - REACH_PX - PATCH_PX / 2; what lies outside is moved to the edge.
        corner = np.clip(np.arange(len(spread)) - REACH_PX - PATCH_PX // 2, 0, len(weights) - PATCH_PX)
        inside = np.zeros((len(weights) - PATCH_PX + 1, spread.shape[1]))
        np.add.at(inside, corner, spread)
        weights = inside.T
    return weights / weights.sum()


def test_shares_of_empty_patches_and_of_ink_are_those_of_all_pairs_counted():
    mask = four_line_mask()
    weights = exact_corner_weights(mask)
    ink = np.lib.stride_tricks.sliding_window_view(
        np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0))), (129, 129)
    )
    ink = ink[..., -1, -1] - ink[..., 0, -1] - ink[..., -1, 0] + ink[..., 0, 0]
    points = np.argwhere(mask)
    rng = rng_for(0, 0, 0)
    drawn = points[rng.integers(len(points), size=4000)]
    corners = draw_patch_corners(drawn, np.full((4000, 2), mask.shape), rng)
    patches = [mask[y : y + PATCH_PX, x : x + PATCH_PX] for y, x in corners]

    empty = np.mean([not patch.any() for patch in patches])
    assert empty == pytest.approx(weights[ink == 0].sum(), abs=0.02)
    share = np.mean([patch.mean() for patch in patches])
    assert share == pytest.approx((weights * ink).sum() / PATCH_PX**2, rel=0.03)


def test_draws_depend_on_seed_epoch_and_step_alone():
    def numbers(*key):
        return tuple(rng_for(*key).integers(1 << 62, size=4))

    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0), (0, 1), (1, 0), (2**32, 0, 0), (2**32, 1)]
    assert len({numbers(*key) for key in keys}) == len(keys)
    for key in keys:
        assert numbers(*key) == numbers(*key)


def test_every_scan_gives_its_quota_in_shuffled_order():
    order = scan_order(7, 5, rng_for(0, 2))
    assert np.bincount(order).tolist() == [5] * 7
    assert order.tolist() != sorted(order.tolist())
    assert order.tolist() != scan_order(7, 5, rng_for(0, 3)).tolist()


@pytest.mark.parametrize(
    ("n_patches", "batch_size", "n_batches"), [(4928, 64, 77), (65, 64, 2), (1, 64, 1), (7, 3, 3)]
)
def test_batches_drop_nothing_and_differ_by_one_patch_at_most(n_patches, batch_size, n_batches):
    bounds = batch_bounds(n_patches, batch_size)
    sizes = np.diff(bounds)
    assert (bounds[0], bounds[-1], len(sizes)) == (0, n_patches, n_batches)
    assert sizes.max() <= batch_size
    assert sizes.max() - sizes.min() <= 1
