"""Rows and the traces they follow."""

import numpy as np

from datamodules.layout import known_layouts
from lightning_app.digitize.followed import has_own_path
from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.results import Digitized
from lightning_app.digitize.trace import follow_rows, keep_apart
from tests.lightning_app.digitize.drawing import as_page, draw, heart


def test_of_two_rows_on_one_trace_the_nearer_one_stays():
    trace, other = np.full(100, 210), np.full(100, 410)
    paths = np.stack([trace, trace + 1, other])
    assert has_own_path(paths, np.array([92.0, 211.0, 412.0])).tolist() == [False, True, True]
    assert has_own_path(paths, np.array([205.0, 300.0, 412.0])).tolist() == [True, False, True]


def test_a_remark_beside_a_trace_is_told_by_the_trace_that_its_row_follows():
    ink = np.zeros((120, 300), np.float32)
    ink[39:42] = 1
    ink[66:74, 20:60:4] = 1  # letters
    ink[39:74, 60:62] = 1  # joined to the trace by a stroke of it
    levels = np.array([40.0, 70.0])
    freely = follow_rows(ink, levels, 30.0)
    assert has_own_path(freely, levels).tolist() == [True, False]
    assert has_own_path(
        keep_apart(ink, freely, levels, 30.0), levels
    ).all()  # kept apart it would look like a row


def test_rows_that_meet_for_a_while_keep_their_own_traces():
    upper, lower = np.full(100, 210), np.full(100, 250)
    lower[:30] = 211
    assert has_own_path(np.stack([upper, lower]), np.array([210.0, 250.0])).all()


def test_lines_of_text_over_the_first_row_are_no_row():
    page = draw(heart(seed=1), pulse=True)
    mask = page.mask.copy()
    letters = np.zeros_like(mask)
    for x in range(80, 1040, 24):  # words of a header that the map takes for trace
        letters[int(page.row_y_px[0]) - 118 : int(page.row_y_px[0]) - 112, x : x + 15] = 1
    by_mask = digitize_page(as_page(page.ink), (mask | letters).astype(np.float32))
    assert isinstance(by_mask, Digitized)
    assert by_mask.layout == known_layouts()["four_line"].name
    assert min(segment.coverage for segment in by_mask.segments) > 0.95
