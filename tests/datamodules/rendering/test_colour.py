import numpy as np
import pytest

from datamodules.colour_label import ink_threshold, threshold_label
from datamodules.layout import load_layout
from datamodules.rendering import colour
from datamodules.rendering.make import COLOUR_LAYOUTS
from tests.datamodules.rendering.recordings import beats


@pytest.fixture(scope="module")
def pages():
    return [
        colour.render(beats(seed), load_layout(layout), np.random.default_rng([seed, 5]))
        for seed, layout in enumerate(COLOUR_LAYOUTS)
    ]


def dice(label, mask):
    return 2 * (label & mask).sum() / (label.sum() + mask.sum())


def test_pages_are_coloured_and_of_moderate_size(pages):
    for page in pages:
        height, width, channels = page.image.shape
        assert channels == 3
        assert 800 < width < 1550
        assert 300 < height < 1500
        assert page.mask.shape == (height, width)
        assert not page.is_binary
        paper = np.median(page.image.reshape(-1, 3), axis=0)
        assert (paper > 190).all()


def test_traces_are_dark_and_the_grid_is_coloured(pages):
    for page in pages:
        brightest = page.image.max(axis=2)
        assert np.median(brightest[page.mask > 0]) < 140
        assert np.percentile(np.ptp(page.image.astype(int), axis=2)[page.mask == 0], 98) > 25


def test_thresholding_labels_the_traces_with_a_known_error(pages):
    scores = [dice(threshold_label(page.image), page.mask) for page in pages]
    assert np.mean(scores) > 0.88
    assert min(scores) > 0.7


def test_one_key_one_page():
    first, again = (
        colour.render(beats(1), load_layout("3x4"), np.random.default_rng([8, 5])) for _ in range(2)
    )
    assert np.array_equal(first.image, again.image)


def test_a_page_without_ink_has_no_label():
    blank = np.full((60, 90, 3), 250, np.uint8)
    blank[::5] = (240, 160, 160)
    assert ink_threshold(blank.max(axis=2)) == -1
    assert not threshold_label(blank).any()


def test_letters_are_left_out_of_the_label():
    page = np.full((100, 200, 3), 250, np.uint8)
    page[50, 10:190] = 10
    page[20:30, 40:46] = 10
    label = threshold_label(page)
    assert label[50, 100] == 1
    assert not label[20:30].any()
