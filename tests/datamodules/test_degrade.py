"""Degradations of the colour pages: exact amounts, keyed to seed and scan, nothing binarized by itself."""

import os
import subprocess
import sys

import numpy as np
import pytest

from datamodules.degrade import NOISE_AMOUNTS, binarize, grey_ink, pepper_and_salt


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (120, 170, 3), dtype=np.uint8)


@pytest.fixture
def ink():
    """A page without pure black and white, so that every replaced pixel shows."""
    return np.random.default_rng(1).integers(1, 255, (200, 300), dtype=np.uint8)


def test_grey_is_the_luma_upside_down(rgb):
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey_ink(rgb) - (255 - luma)).max() <= 1
    assert grey_ink(rgb).shape == rgb.shape[:2]
    assert grey_ink(rgb).dtype == np.uint8


def test_white_paper_is_no_ink_and_black_is_all_ink():
    assert grey_ink(np.full((4, 5, 3), 255, dtype=np.uint8)).max() == 0
    assert grey_ink(np.zeros((4, 5, 3), dtype=np.uint8)).min() == 255


def test_grey_is_not_binarized(rgb):
    assert len(np.unique(grey_ink(rgb))) > 100


@pytest.mark.parametrize("amount", NOISE_AMOUNTS)
def test_noise_replaces_exactly_its_share_half_of_it_salt(ink, amount):
    noisy = pepper_and_salt(ink, amount, seed=0, scan_id="a")
    changed = noisy != ink
    assert changed.sum() == int(ink.size * amount)
    assert set(np.unique(noisy[changed])) <= {0, 255}
    assert (noisy[changed] == 0).sum() == int(changed.sum() * 0.5)


def test_noise_spreads_evenly_over_the_page(ink):
    changed = pepper_and_salt(ink, 0.10, seed=0, scan_id="a") != ink
    blocks = changed.reshape(4, 50, 4, 75).sum(axis=(1, 3))  # each expects 375, SD 18
    assert np.abs(blocks - 375).max() < 5 * 18


def test_noise_is_keyed_to_seed_and_scan(ink):
    first = pepper_and_salt(ink, 0.05, 0, "a")
    np.testing.assert_array_equal(first, pepper_and_salt(ink, 0.05, 0, "a"))
    for other in (pepper_and_salt(ink, 0.05, 1, "a"), pepper_and_salt(ink, 0.05, 0, "b")):
        assert (other != first).mean() > 0.05


def test_noise_leaves_the_page_and_the_global_generators_alone(ink):
    before = ink.copy()
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the point is that it stays untouched
    pepper_and_salt(ink, 0.1, 0, "a")
    np.testing.assert_array_equal(ink, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_binarizing_splits_where_the_variance_between_classes_is_largest(ink):
    page = ink.copy()
    page[50:60] = 250
    page[page < 200] //= 4
    binary = binarize(page)
    assert set(np.unique(binary)) == {0, 255}

    def between(threshold):
        low, high = page[page <= threshold].astype(float), page[page > threshold].astype(float)
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(range(int(page.min()), int(page.max())), key=between)
    np.testing.assert_array_equal(binary == 255, page > best)


def test_albumentations_neither_warns_nor_asks_the_network_nor_loads_before_it_is_needed():
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import numpy as np, datamodules.degrade as d\n"
        "assert 'albumentations' not in sys.modules\n"
        "d.pepper_and_salt(np.zeros((9, 9), np.uint8), 0.1, 0, 'a')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
