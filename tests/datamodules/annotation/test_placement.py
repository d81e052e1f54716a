import itertools

import numpy as np
import pytest

from datamodules.annotation.placement import CoarsePage, increasing_heights, place_layouts
from datamodules.annotation.templates import cut_pieces
from datamodules.layout import LEADS
from tests.datamodules.annotation.drawing import RATE_HZ, binary_page


def test_rows_are_chosen_as_by_trying_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        profiles = rng.random((3, 9))
        heights, total = increasing_heights(profiles, 2)
        tried = [
            (sum(profiles[row, y] for row, y in enumerate(ys)), ys)
            for ys in itertools.product(range(9), repeat=3)
            if ys[1] - ys[0] >= 2 and ys[2] - ys[1] >= 2
        ]
        best, best_heights = max(tried)
        assert total == pytest.approx(best)
        assert tuple(heights) == best_heights


def test_a_layout_that_is_wider_than_the_page_has_no_place():
    recording, page, layout = binary_page(0)
    pieces = cut_pieces(layout.segments, LEADS, recording.mv, RATE_HZ)
    coarse = CoarsePage((page.image > 0).astype(np.float32), 150.0, 60.0)
    assert place_layouts(coarse, [pieces]) == [[]]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_arrangement_is_found_within_the_reach_of_the_refinement(seed):
    recording, page, layout = binary_page(seed, ("3x4", "6x2+1")[seed - 1])
    geometry = page.geometry
    pieces = cut_pieces(layout.segments, LEADS, recording.mv, RATE_HZ)
    coarse = CoarsePage((page.image > 0).astype(np.float32), geometry.px_per_s, geometry.px_per_mv)
    ((first, *others),) = place_layouts(coarse, [pieces], 3)
    assert all(first.score >= other.score for other in others)
    for row, y_px in first.row_y_px.items():
        segment = next(s for s in geometry.segments if s.row == row)
        x_true, y_true = geometry.to_scan([[segment.x0_px, segment.y0_px]])[0]
        assert abs(y_px - y_true) < 9
        assert abs(first.x0_px - first.scale.c / first.scale.a * y_px - x_true) < 9
