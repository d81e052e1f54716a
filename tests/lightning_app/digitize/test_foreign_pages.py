"""Foreign pages: ink lies where the truth says, the truth is what was drawn, and a number is a page."""

from dataclasses import replace

import numpy as np
import pytest

from datamodules.layout import LEADS
from datamodules.page import read_page
from datamodules.signals import RATE_HZ
from tests.lightning_app.digitize.drawing import heart
from tests.performance.foreign_pages import PAPERS, apart, choose, compose
from tests.performance.foreign_paint import clean_picture, drawn_page, in_px

MV = heart(seed=1)
NUMBERS = range(4)


def drawing_of(number, **changed):
    choices = replace(choose(number, seed=0), **({"dpi": 100} | changed))
    return choices, compose(choices, MV[:, : round(choices.shown.duration_s * RATE_HZ)])


@pytest.mark.parametrize("number", NUMBERS)
def test_ink_lies_where_the_traces_are(number):
    choices, drawing = drawing_of(number, grid_lines="none")
    dark = np.pad(np.asarray(clean_picture(drawing, choices).convert("L")) < 200, 1)
    near = np.any([np.roll(dark, shift, axis) for axis in (0, 1) for shift in (-1, 0, 1)], axis=0)
    for segment, path in drawing.traces:
        x, y = in_px(path, choices.px_per_mm).T
        assert near[y + 1, x + 1].mean() > 0.99, segment


@pytest.mark.parametrize("number", NUMBERS)
def test_traces_show_the_true_millivolts_and_nothing_else(number):
    choices, drawing = drawing_of(number)
    shown = np.zeros(drawing.true_mv.shape, bool)
    for segment, path in drawing.traces:
        lead, first = LEADS.index(segment.lead), round(segment.start_s * RATE_HZ)
        true = drawing.true_mv[lead, first : first + len(path)]
        shown[lead, first : first + len(path)] = True
        height_mv = -path[:, 1] / choices.mm_per_mv
        assert np.allclose(height_mv - height_mv[0], true - true[0], atol=1e-4)
        assert np.allclose(np.diff(path[:, 0]), choices.mm_per_s / RATE_HZ)
    assert np.array_equal(np.isfinite(drawing.true_mv), shown)


def test_columns_lie_apart_where_they_are_asked_to():
    pages = {number: choose(number, seed=0) for number in range(8)}
    spaced = {number: apart(page, seed=0) for number, page in pages.items()}
    assert {number for number, page in spaced.items() if page is None} == {
        number for number, page in pages.items() if page.layout == "12x1"
    }
    for page in filter(None, spaced.values()):
        traces = compose(page, MV).traces
        ends_mm = [path[-1, 0] + page.gap_s * 25 for _, path in traces]
        assert min(traces[1][1][0, 0] - ends_mm[0], page.column_gap_mm) >= 1.4


def test_a_number_is_a_page():
    pages = [
        drawn_page(drawing, choices, seed=0)
        for choices, drawing in (drawing_of(3, dpi=50), drawing_of(3, dpi=50))
    ]
    assert pages[0] == pages[1]
    assert choose(2, seed=0) != replace(choose(3, seed=0), number=2)


@pytest.mark.parametrize("output", ["png", "jpeg", "grey", "1-bit"])
def test_a_page_is_of_the_kind_that_was_chosen(output):
    choices, drawing = drawing_of(3, output=output, turn_deg=1.0, lean=0.01, dpi=50)
    page = read_page(drawn_page(drawing, choices, seed=0)[0])
    assert page.is_binary == (output == "1-bit")
    assert (page.rgb is not None) == (output in ("png", "jpeg"))


def test_every_trace_lies_on_the_paper_from_left_to_right():
    for choices in (choose(number, seed=0) for number in range(20)):
        drawing = compose(choices, MV[:, : round(choices.shown.duration_s * RATE_HZ)])
        x = np.concatenate([path[:, 0] for _, path in drawing.traces])
        width, height = PAPERS[choices.paper]
        assert 0 < x.min() < x.max() < width, choices
        assert all(0 < path[0, 1] < height for _, path in drawing.traces), choices
