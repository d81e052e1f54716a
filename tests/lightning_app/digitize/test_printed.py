"""Text painted with other typefaces than the generator's is read, and means what a person takes it for."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.printed import Said, read_lines, what_is_said
from lightning_app.digitize.results import Digitized, Refusal
from tests.lightning_app.digitize.drawing import as_page, draw, heart

MV = heart(seed=4)


def with_text(ink, text, xy_px, size_px=17):
    """The same page with a line of Pillow's own typeface on it."""
    image = Image.fromarray(255 - ink)
    ImageDraw.Draw(image).text(xy_px, text, font=ImageFont.load_default(size_px), fill=0)
    return np.maximum(ink, 255 - np.asarray(image))


def read(page, text, turns=0, **options):
    ink = with_text(page.ink, text, (40, page.ink.shape[0] - 30))
    return digitize_page(
        as_page(np.rot90(ink, turns)), np.rot90(page.mask, turns).astype(np.float32), **options
    )


@pytest.mark.parametrize(
    ("line", "gains", "speeds"),
    [
        ("25 mm/s  10 mm/mV  0.05-40 Hz", (10.0,), (25.0,)),
        ("25mm/s20mm/mV 0.0-40Hz", (20.0,), (25.0,)),
        ("50mm/s 5mmmV 0.05-401z", (5.0,), (50.0,)),  # the slash lost
        ("25 mm/$ 10m//mv", (10.0,), (25.0,)),
        ("25 mm/sec 1.0 mV, 10 mm / mV", (10.0,), (25.0,)),
        ("25mm/5 10.0 mm/mV", (10.0,), (25.0,)),
        ("Speed: 12,5 mm/s  Limb: 10 mm/mV  Chest: 5 mm/mV", (5.0, 10.0), (12.5,)),
        ("26 mm/s 16mm/mV", (), ()),  # no cart prints these
        ("1510mm/mV 325mm/s", (), ()),  # part of another number
        ("Vent. rate 50 BPM, axis 25, 10 mm deep", (), ()),
        ("QT 20 ms, 5 mV", (), ()),
    ],
)
def test_gain_and_speed_are_taken_from_text(line, gains, speeds):
    assert what_is_said([line]) == Said(gains, speeds)


def test_print_is_read():
    paper = np.full((120, 700), 255, np.uint8)
    cv2.putText(paper, "25 mm/s  20 mm/mV", (40, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 0, 2)
    assert what_is_said(read_lines(paper)) == Said((20.0,), (25.0,))
    assert read_lines(np.full((120, 700), 255, np.uint8)) == ()


@pytest.mark.parametrize("upside_down", [False, True])
def test_the_printed_gain_counts_where_no_pulse_is_seen(upside_down):
    page = draw(MV, px_per_mv=20.0, binary=False)
    result = read(page, "25 mm/s 5 mm/mV", 2 * upside_down)
    assert isinstance(result, Digitized)
    assert (result.scale.mm_per_mv, result.scale.gain_source, result.scale.assumptions) == (5.0, "print", ())
    assert result.scale.px_per_mv == pytest.approx(20, rel=1e-3)
    assert result.quarter_turns == 2 * upside_down


def test_what_the_user_says_counts_more_than_print():
    result = read(draw(MV, px_per_mv=40.0, binary=False), "25 mm/s 5 mm/mV", mm_per_mv=10.0)
    assert isinstance(result, Digitized)
    assert result.scale.gain_source == "declared"
    assert result.scale.px_per_mv == pytest.approx(40, rel=1e-3)


def test_a_page_without_grid_and_pulse_is_read_by_both_its_scales():
    page = draw(MV, grid=(), px_per_s=100.0, px_per_mv=40.0)
    result = read(page, "25 mm/s 10 mm/mV")
    assert isinstance(result, Digitized)
    assert result.scale.px_per_s == pytest.approx(100, rel=5e-3)
    assert result.scale.px_per_mv == pytest.approx(40, rel=5e-3)
    assert (result.scale.voltage_source, len(result.scale.assumptions)) == ("print", 1)
    only_speed = read(page, "25 mm/s")
    assert isinstance(only_speed, Refusal)
    assert only_speed.code == "SCALE_UNKNOWN"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("25 mm/s  10 mm/mV  V1-V6: 5 mm/mV", "prints 5 and 10"), ("50 mm/s  10 mm/mV", "prints 50 mm/s")],
)
def test_print_that_contradicts_itself_or_the_grid_is_refused(text, reason):
    result = read(draw(MV, binary=False), text)
    assert isinstance(result, Refusal)
    assert (result.code, reason in result.reason) == ("SCALE_CONFLICT", True)
