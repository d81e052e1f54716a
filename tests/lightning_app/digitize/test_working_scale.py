"""Pages of any resolution: how large their millimetre is, and the way to the working page and back."""

import cv2
import numpy as np
import pytest

from datamodules.page import Page
from lightning_app.digitize.reader import Reader
from lightning_app.digitize.results import Refusal
from lightning_app.digitize.scale import Declared
from lightning_app.digitize.working_scale import measured_px_per_mm, resampled, to_working_scale
from tests.lightning_app.digitize.drawing import as_page, draw, heart

NOTHING = Declared()
RANGE = (3.2, 6.0)


@pytest.fixture(scope="module")
def drawn():
    return draw(heart(seed=2), pulse=True, binary=False)


def page_of(ink, dpi=None):
    return Page(ink=ink, rgb=None, sha256="", is_binary=False, dpi=dpi, was_inverted=False)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_grid_tells_the_millimetre_at_any_resolution(drawn, factor):
    page = resampled(as_page(drawn.ink), factor)
    assert measured_px_per_mm(page, NOTHING) == pytest.approx(4.0 * factor, rel=0.01)


def test_without_a_grid_the_user_is_asked_then_the_file_then_the_page():
    blank = np.zeros((900, 2900), dtype=np.uint8)
    assert measured_px_per_mm(page_of(blank, 254.0), Declared(px_per_s=200.0)) == 8.0
    assert measured_px_per_mm(page_of(blank, 254.0), Declared(px_per_s=200.0, mm_per_s=50.0)) == 4.0
    assert measured_px_per_mm(page_of(blank, 254.0), NOTHING) == pytest.approx(10.0)
    assert measured_px_per_mm(page_of(blank, 72.0), NOTHING) == pytest.approx(10.0)  # 2900 px over 290 mm
    assert measured_px_per_mm(page_of(blank[:, :1450]), NOTHING) == pytest.approx(5.0)


def test_a_grid_by_which_a_page_could_not_hold_ten_seconds_is_not_believed():
    ink = np.zeros((870, 1160), dtype=np.uint8)
    ink[::80] = ink[:, ::80] = 255  # lines of 20 mm: as lines of 5 mm, the page would be 72 mm wide
    assert measured_px_per_mm(page_of(ink), NOTHING) == pytest.approx(4.0)


def test_pages_a_network_knows_are_left_alone(drawn):
    page = as_page(drawn.ink)
    assert to_working_scale(page, RANGE, NOTHING).page is page
    assert to_working_scale(resampled(page, 3.0), None, NOTHING).factor == 1.0


@pytest.mark.parametrize(("factor", "wanted"), [(3.0, 6.0), (0.5, 3.2)])
def test_other_pages_come_to_the_nearest_end_of_its_range(drawn, factor, wanted):
    working = to_working_scale(resampled(as_page(drawn.ink), factor), RANGE, NOTHING)
    assert measured_px_per_mm(working.page, NOTHING) == pytest.approx(wanted, rel=0.02)


def test_colour_is_resampled_with_the_ink(drawn):
    grey = 255 - drawn.ink
    page = Page(drawn.ink, np.dstack([grey] * 3), "", False, None, False)
    larger = resampled(page, 1.5)
    assert larger.rgb.shape == (*larger.ink.shape, 3)
    assert np.abs(255 - larger.rgb[..., 0].astype(int) - larger.ink.astype(int)).max() <= 1


def test_a_page_of_another_resolution_is_read_in_its_own_pixels(drawn):
    """A drawn mask in place of a network: the same page at four times the pixels gives the same reading."""
    factor = 2.0
    large = resampled(as_page(drawn.ink), factor)
    small_mask = drawn.mask.astype(np.float32)

    def predict(ink):
        return np.clip(cv2.resize(small_mask, ink.shape[::-1], interpolation=cv2.INTER_CUBIC), 0.0, 1.0)

    plain, _ = Reader(predict, is_network=False).read(as_page(drawn.ink))
    read, mask = Reader(predict, RANGE, is_network=False).read(large)
    assert read.layout == "four_line"
    assert mask.shape == read.mask.shape == large.ink.shape
    assert read.scale.px_per_s == pytest.approx(factor * drawn.px_per_s, rel=0.01)
    assert read.scale.px_per_mv == pytest.approx(factor * drawn.px_per_mv, rel=0.02)
    for theirs, ours in zip(plain.segments, read.segments, strict=True):
        middle = np.nanmedian(theirs.path_px, axis=0) * factor
        assert np.nanmedian(ours.path_px, axis=0) == pytest.approx(middle, abs=factor)
        both = np.isfinite(theirs.mv) & np.isfinite(ours.mv)
        assert np.corrcoef(theirs.mv[both], ours.mv[both])[0, 1] > 0.98


def test_what_is_declared_means_the_pixels_of_the_original(drawn):
    seen = []

    def predict(ink):
        seen.append(ink.shape)
        return np.zeros(ink.shape, dtype=np.float32)

    blank = np.zeros((886 * 2, 1120 * 2), dtype=np.uint8)
    result, mask = Reader(predict, RANGE).read(page_of(blank), Declared(px_per_s=300.0))  # 12 px/mm
    assert seen[0] == (886, 1120)
    assert isinstance(result, Refusal)
    assert mask.shape == blank.shape
