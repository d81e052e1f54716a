from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import pytest

from datamodules.layout import LEADS, load_layout
from datamodules.rendering import varied
from datamodules.rendering.damage import DARKEST, readable_share
from datamodules.rendering.variety import FAXED, VARIED, Finish
from tests.datamodules.rendering.recordings import beats

FINISHES = [finish for finish in get_args(Finish) if finish != "wide"]


def page_of(finish, seed):
    variety = replace(VARIED, finishes=((finish, 1.0),))
    rng = np.random.default_rng([seed, FINISHES.index(finish)])
    layout = varied.draw_layout(rng)
    return varied.render(beats(seed), layout, rng, variety)


@pytest.fixture(scope="module")
def pages():
    return {(finish, seed): page_of(finish, seed) for finish in FINISHES for seed in range(2)}


def test_pages_come_in_one_bit_grey_and_colour(pages):
    for (finish, _), page in pages.items():
        assert page.is_binary == (finish not in ("grey", "colour", "reduced", "enlarged"))
        assert page.image.ndim == (3 if finish == "colour" else 2)
        assert page.image.shape[:2] == page.mask.shape == (page.geometry.height, page.geometry.width)
        assert max(page.mask.shape) <= max(VARIED.max_side_px)
        if page.is_binary:
            assert set(np.unique(page.image)) <= {0, 255}


def test_traces_of_one_bit_pages_can_be_told(pages):
    for (finish, _), page in pages.items():
        if page.is_binary and finish != "chance":
            assert readable_share(page.image, page.mask, VARIED.readable) > 0.75
            assert page.image.mean() < 255 * DARKEST


def test_traces_are_darker_than_what_lies_beside_them(pages):
    for page in pages.values():
        ink = (
            page.image
            if page.is_binary
            else 255 - (page.image if page.image.ndim == 2 else page.image.mean(axis=2))
        )
        near = cv2.dilate(page.mask, np.ones((3, 3), np.uint8))
        ring = cv2.dilate(near, np.ones((7, 7), np.uint8)) - near
        assert ink[page.mask > 0].mean() > ink[ring > 0].mean() + 15


def test_the_geometry_finds_the_mask_within_what_it_says_it_is_off(pages):
    for (_, seed), page in pages.items():
        recording = beats(seed)
        far = cv2.distanceTransform(1 - page.mask, cv2.DIST_L2, 5)
        for segment in page.geometry.segments:
            lead = recording.mv[LEADS.index(segment.lead)]
            x, y = np.rint(page.geometry.polyline(segment, lead, recording.rate_hz)).astype(int).T
            inside = (x >= 0) & (x < far.shape[1]) & (y >= 0) & (y < far.shape[0])
            assert np.percentile(far[y[inside], x[inside]], 95) <= page.off_px + 1.5


def test_pages_differ_in_scale_turn_and_bend():
    plans = [varied._plan(np.random.default_rng(seed), load_layout("3x4"), VARIED) for seed in range(60)]
    scales = [plan.mm_px[0] for plan in plans]
    assert min(scales) < 3.4
    assert max(scales) > 5.6
    assert 3 < sum(bool(plan.warp.waves) for plan in plans) < 30
    assert sum(plan.stroke_px <= 1.2 for plan in plans) > 10


def test_layouts_ship_or_are_random():
    rng = np.random.default_rng(0)
    layouts = [varied.draw_layout(rng) for _ in range(100)]
    random = [layout for layout in layouts if layout.name == "random"]
    assert 15 < len(random) < 45
    assert len({layout.n_rows for layout in random}) > 6


def test_some_layouts_leave_paper_between_leads_or_stop_them_early():
    rng = np.random.default_rng(1)
    layouts = [varied.draw_layout(rng) for _ in range(400)]
    for name, share, (low, high) in (
        ("early_s", VARIED.early_share, VARIED.early_s),
        ("space_s", VARIED.space_share, VARIED.space_s),
    ):
        drawn = np.array([getattr(layout, name) for layout in layouts])
        assert np.mean(drawn > 0) == pytest.approx(share, abs=0.07)
        assert low <= drawn[drawn > 0].min() < drawn.max() <= high


@pytest.mark.parametrize("finish", ["wide", "grey"])
def test_leads_lie_apart_and_end_early_on_the_page_too(finish):
    layout = replace(load_layout("3x4+1"), space_s=0.3, early_s=0.1)
    page = varied.render(
        beats(0), layout, np.random.default_rng(0), replace(VARIED, finishes=((finish, 1.0),))
    )
    *_, second, third, _, strip = page.geometry.segments[:4] + page.geometry.segments[-1:]
    per_s = page.geometry.px_per_s
    ends_px = second.x0_px + (second.stop_s - second.start_s) * per_s
    assert (third.x0_px - ends_px) / per_s == pytest.approx(0.4)
    assert strip.x0_px == pytest.approx(page.geometry.segments[0].x0_px)
    middle = [[(ends_px + third.x0_px) / 2, second.y0_px]]
    (x, y), reach = page.geometry.to_scan(middle)[0].round().astype(int), round(0.1 * per_s)
    assert not page.mask[y - reach : y + reach, x - reach : x + reach].any()


def test_one_key_one_page():
    first, again = page_of("colour", 3), page_of("colour", 3)
    assert np.array_equal(first.image, again.image)
    assert first.geometry == again.geometry


@pytest.mark.parametrize("finish", ["reduced", "enlarged"])
def test_pages_that_had_one_bit_elsewhere_are_grey_at_the_edges_of_ink_only(pages, finish):
    for seed in range(2):
        image = pages[finish, seed].image
        between = np.mean((image > 60) & (image < 195))
        assert 0 < between < 0.35
        assert np.mean(image > 195) > 0.4


def test_faxed_pages_are_mostly_one_bit():
    weights = dict(FAXED.finishes)
    assert sum(weights.values()) == pytest.approx(1)
    assert sum(weights[finish] for finish in ("grey", "colour", "reduced", "enlarged")) < 0.35
    assert replace(FAXED, name=VARIED.name, finishes=VARIED.finishes, shipped_layout_share=0.7) == VARIED
