import cv2
import numpy as np
import pytest

from datamodules.layout import known_layouts, load_layout
from datamodules.rendering import binary, furniture
from datamodules.rendering.difficulty import LITERAL_50, NOMINAL, WIDE
from datamodules.rendering.pages import traces
from tests.datamodules.rendering.recordings import beats

SEEDS = range(6)


def page(seed=0, layout="four_line", difficulty=NOMINAL):
    return binary.render(beats(seed), load_layout(layout), np.random.default_rng([seed, 9]), difficulty)


@pytest.fixture(scope="module")
def pages():
    return [page(seed) for seed in SEEDS]


def test_size_and_one_bit(pages):
    for drawn in pages:
        assert drawn.image.shape == drawn.mask.shape == (886, 1120)
        assert set(np.unique(drawn.image)) == {0, 255}
        assert set(np.unique(drawn.mask)) == {0, 1}
        assert drawn.is_binary


def test_the_same_key_draws_the_same_page_and_another_does_not():
    first, again, other = page(3), page(3), page(4)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert first.geometry == again.geometry
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("layout", sorted(known_layouts()))
def test_the_mask_lies_where_the_geometry_says(layout):
    """Each layout fits the page, and mid-columns of the mask follow the polyline of the truth."""
    drawn = page(7, layout)
    recording = beats(7)
    height, width = drawn.mask.shape
    for points in traces(recording, drawn.geometry):
        assert points[0, 0] >= 0
        assert points[-1, 0] <= width - 1
        for column in range(int(points[0, 0]) + 3, int(points[-1, 0]) - 3, 11):
            near = points[np.abs(points[:, 0] - column) <= 0.5, 1]
            middle = (near.min() + near.max()) / 2
            if not (near.min() > 2 and near.max() < height - 3):
                continue
            reach = (near.max() - near.min()) / 2 + drawn.stroke_px / 2 + 1
            rows = np.arange(int(middle - reach), int(middle + reach) + 1)
            inked = rows[drawn.mask[np.clip(rows, 0, height - 1), column] > 0]
            assert inked.size
            assert drawn.mask[round(middle), column] == 1


def test_level_parts_of_the_mask_agree_with_the_truth_within_a_pixel(pages):
    for seed, drawn in zip(SEEDS, pages, strict=True):
        for points in traces(beats(seed), drawn.geometry)[-1:]:  # the long row: nothing crosses it twice
            for column in range(int(points[0, 0]) + 5, int(points[-1, 0]) - 5, 7):
                near = points[np.abs(points[:, 0] - column) <= 4, 1]
                if np.ptp(near) > 1:
                    continue
                rows = np.flatnonzero(drawn.mask[int(near.min()) - 5 : int(near.max()) + 7, column])
                assert abs(rows.mean() + int(near.min()) - 5 - near.mean()) <= 1.0


def test_only_traces_are_in_the_mask(pages):
    """Text, pulses, names and marks are not: all of the mask lies on the drawn polylines."""
    for seed, drawn in zip(SEEDS, pages, strict=True):
        canvas = np.zeros_like(drawn.mask)
        for points in traces(beats(seed), drawn.geometry):
            fixed = np.rint(points * 16).astype(np.int32)
            cv2.polylines(canvas, [fixed], False, 1, int(drawn.stroke_px) + 2, cv2.LINE_8, 4)
        assert not (drawn.mask & ~canvas & 1).any()


def test_furniture_draws_ink_outside_the_mask():
    drawn = page(1)
    layer = np.zeros((886, 1120), np.uint8)
    furniture.draw_pulses(layer, drawn.geometry, "left", 1)
    pulses = layer > 128
    assert pulses.any()
    assert (drawn.mask[pulses] == 0).mean() > 0.99


def test_ink_covers_most_of_the_trace_but_not_all(pages):
    recalls = [float((drawn.image[drawn.mask > 0] > 0).mean()) for drawn in pages]
    assert min(recalls) > 0.7
    assert np.mean(recalls) < 0.96


def test_ink_alone_is_no_label(pages):
    """What thresholding finds is mostly grid: precision of the ink as a mask stays low."""
    precisions = [float(drawn.mask[drawn.image > 0].mean()) for drawn in pages if drawn.grid != "none"]
    assert max(precisions) < 0.45


def test_pages_differ_in_stroke_grid_and_scale():
    drawn = [page(seed) for seed in range(14)]
    assert len({one.stroke_px for one in drawn}) >= 4
    assert len({one.grid for one in drawn}) >= 5
    scales = [one.geometry.scan_px_per_s for one in drawn]
    assert min(scales) < 94
    assert max(scales) > 101
    assert all(0.97 * 80 <= scale <= 1.03 * 107 for scale in scales)
    assert all(28 <= one.geometry.scan_px_per_mv <= 52 for one in drawn)


def test_the_mask_is_as_wide_as_the_stroke(pages):
    for drawn in pages:
        heights = drawn.mask[:, 100:1000].sum(axis=0)
        # Four traces cross most columns; steep ones and crossings add to it, never take from it.
        assert np.percentile(heights, 10) >= 4 * drawn.stroke_px - 4


def test_literal_50_has_both_scales_of_the_paper():
    geometry = page(2, difficulty=LITERAL_50).geometry
    assert geometry.px_per_s == pytest.approx(100.0)
    assert geometry.px_per_mv == pytest.approx(20.0)


def test_wide_pages_reach_130_px_per_s_and_then_show_eight_seconds():
    drawn = [page(seed, difficulty=WIDE) for seed in range(8)]
    shown = {one.geometry.scan_px_per_s: one.geometry.segments[-1].stop_s for one in drawn}
    assert max(shown) > 115
    assert shown[max(shown)] == 8.0
    for one in drawn:
        assert one.mask[:, -1].sum() == 0 or one.geometry.scan_px_per_s < 110
