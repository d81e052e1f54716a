import cv2
import numpy as np
import pytest

from lightning_app.digitize.marks import start_from_marks

PX_PER_S, PX_PER_MM, START_PX = 100.0, 4.0, 40.3
LEVELS = (120.0, 260.0, 400.0)
CHANGES = [(level, time_s) for level in LEVELS for time_s in (2.5, 5.0, 7.5)]


def page(strokes, seed=0, speckle=0.08):
    """Three rows with a spike every 0.8 s, and strokes (level, time, from mm, to mm)."""
    rng = np.random.default_rng(seed)
    ink = np.zeros((500, 1100), np.uint8)
    for level in LEVELS:
        cv2.line(ink, (40, int(level)), (1040, int(level)), 255, 2)
        for x in range(60, 1040, 80):
            cv2.line(ink, (x, int(level)), (x, int(level) - 35), 255, 2)
    for level, time_s, from_mm, to_mm in strokes:
        x = (START_PX + time_s * PX_PER_S) * 16
        ends = [(round(x), round((level + mm * PX_PER_MM) * 16)) for mm in (from_mm, to_mm)]
        cv2.line(ink, ends[0], ends[1], 255, 2, cv2.LINE_AA, 4)
    return np.maximum(ink / 255, rng.random(ink.shape) < speckle).astype(np.float32)


TICKS = [(level, time_s, *reach) for level, time_s in CHANGES for reach in ((-6, -2), (2, 6))]
BARS = [(level, time_s, -5, 5) for level, time_s in CHANGES]


def found(dark, off_px=7.0):
    return start_from_marks(dark, CHANGES, START_PX + off_px, PX_PER_S, PX_PER_MM)


@pytest.mark.parametrize("strokes", [TICKS, BARS], ids=["ticks", "bars"])
@pytest.mark.parametrize("off_px", [-9.0, 0.0, 7.0])
def test_marks_tell_the_start_to_a_third_of_a_pixel(strokes, off_px):
    assert found(page(strokes), off_px) == pytest.approx(START_PX, abs=0.34)


def test_a_page_without_marks_tells_nothing():
    assert found(page([])) is None


def test_strokes_at_a_few_changes_are_no_marks():
    assert found(page(BARS[:4])) is None


def test_strokes_that_repeat_everywhere_are_a_grid_and_no_marks():
    lines = [(level, time_s + 0.1 * k, -6, 6) for level, time_s in CHANGES for k in range(-3, 4)]
    assert found(page(lines)) is None


def test_a_layout_without_changes_has_no_marks():
    assert start_from_marks(page([]), [], START_PX, PX_PER_S, PX_PER_MM) is None
