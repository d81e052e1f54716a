import numpy as np
import pytest

from datamodules.layout import LEADS, load_layout
from datamodules.rendering import plotted
from datamodules.rendering.brush import footprint
from tests.datamodules.rendering.recordings import beats


@pytest.fixture(scope="module")
def pages():
    layouts = ("3x4+1", "12x1", "6x2", "3x4")
    return [
        plotted.render(beats(seed), load_layout(layout), np.random.default_rng([seed, 9]))
        for seed, layout in enumerate(layouts)
    ]


def test_two_ways_of_drawing_agree_on_the_mask(pages):
    for seed, page in enumerate(pages):
        recording = beats(seed)
        geometry = page.geometry
        paths = [
            geometry.polyline(segment, recording.mv[LEADS.index(segment.lead)], recording.rate_hz)
            for segment in geometry.segments
        ]
        width_px = max(page.stroke_px, plotted.LEAST_MASK_PX)
        other = footprint(page.mask.shape, paths, width_px).mask(width_px)
        assert 2 * (other & page.mask).sum() / (other.sum() + page.mask.sum()) > 0.9


def test_traces_are_ink(pages):
    for page in pages:
        ink = page.image if page.is_binary else 255 - page.image.reshape(*page.mask.shape, -1).mean(axis=2)
        assert ink[page.mask > 0].mean() > 100
        assert ink[page.mask == 0].mean() < 100


def test_looks_and_ways_of_saving_differ(pages):
    looks = {(page.grid.split()[0]) for page in pages}
    assert len(looks) > 1
    assert len({page.grid for page in pages}) == len(pages)


def test_one_key_one_page(pages):
    again = plotted.render(beats(3), load_layout("3x4"), np.random.default_rng([3, 9]))
    assert np.array_equal(again.image, pages[3].image)
    assert again.geometry == pages[3].geometry
