"""Pages read from what a network says of lines, drawn here from known signals."""

import numpy as np
import pytest

from datamodules.layout import known_layouts
from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.results import Digitized
from tests.lightning_app.digitize.drawing import FOUR_LINE, LEADS, as_page, draw, heart, maps_of

MV = heart(seed=1)
LAYOUT = known_layouts()["four_line"]


def correlations(result):
    found = []
    for segment in result.segments:
        first = round(segment.start_s * 500)
        true = MV[LEADS.index(segment.lead), first : first + len(segment.mv)]
        there = np.isfinite(segment.mv)
        found.append(np.corrcoef(segment.mv[there], true[there])[0, 1])
    return np.array(found)


# Columns of a turned page cross steep strokes at an angle, and some lean back over their own foot.
@pytest.mark.parametrize(("degrees", "worst"), [(0.0, 0.995), (1.0, 0.99)])
def test_lines_give_back_the_signal_nearly_whole(degrees, worst):
    page = draw(MV, pulse=True, degrees=degrees, binary=True)
    result = digitize_page(as_page(page.ink), maps_of(page), layout=LAYOUT)
    by_mask = digitize_page(as_page(page.ink), page.mask.astype(np.float32), layout=LAYOUT)
    assert isinstance(result, Digitized)
    assert isinstance(by_mask, Digitized)
    assert correlations(result).min() > worst
    assert np.median(correlations(result)) > 0.997
    assert (1 - np.median(correlations(result))) < 0.5 * (1 - np.median(correlations(by_mask)))
    assert min(segment.coverage for segment in result.segments) > 0.99


def test_a_worn_mask_costs_neither_height_nor_start():
    page = draw(MV, pulse=False, degrees=0.4)
    thick = np.roll(page.mask, 1, axis=1) | page.mask  # a map that smears strokes to the right by a pixel
    thick[:, :70] = 0  # and has lost the rows' first 90 ms
    result = digitize_page(as_page(page.ink), maps_of(page, thick), layout=LAYOUT, px_per_mv=40.0)
    by_mask = digitize_page(as_page(page.ink), thick.astype(np.float32), layout=LAYOUT, px_per_mv=40.0)
    assert isinstance(result, Digitized)
    assert np.median(correlations(result)) > 0.995
    assert not isinstance(by_mask, Digitized) or np.median(correlations(by_mask)) < 0.97


def test_gaps_of_the_mask_stay_gaps():
    page = draw(MV, pulse=True)
    broken = page.mask.copy()
    broken[:, 500:530] = 0
    result = digitize_page(as_page(page.ink), maps_of(page, broken), layout=LAYOUT)
    assert isinstance(result, Digitized)
    gaps = [gap for segment in result.segments for gap in segment.gaps_s]
    assert len(gaps) == len(FOUR_LINE)
    assert all(stop - start == pytest.approx(0.3, abs=0.03) for start, stop in gaps)


def test_a_page_on_its_side_without_a_network_is_read_from_its_mask():
    page = draw(MV, pulse=True)
    maps = np.stack([np.rot90(one) for one in maps_of(page)])
    result = digitize_page(as_page(np.rot90(page.ink)), maps, layout=LAYOUT)
    assert isinstance(result, Digitized)
    assert result.quarter_turns % 2 == 1
    assert np.median(correlations(result)) > 0.97
