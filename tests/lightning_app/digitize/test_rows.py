import numpy as np
import pytest

from datamodules.layout import known_layouts
from lightning_app.digitize.rows import clean_mask, find_rows, lies_on_its_side, without_frame
from tests.lightning_app.digitize.drawing import draw, heart

MV = heart()


@pytest.mark.parametrize("name", sorted(known_layouts()))
def test_rows_of_every_layout(name):
    layout, degrees = known_layouts()[name], -4.5
    page = draw(MV, layout.rows, degrees=degrees)
    rows = find_rows(clean_mask(page.mask.astype(np.float32)))
    assert len(rows.y_px) == layout.n_rows
    assert rows.skew_deg == pytest.approx(degrees, abs=0.1)
    assert np.abs(rows.y_px - page.row_y_px).max() < 3
    assert not lies_on_its_side(clean_mask(page.mask.astype(np.float32)))
    assert lies_on_its_side(clean_mask(np.rot90(page.mask).astype(np.float32)))


def test_blank_and_noise_have_no_rows():
    noise = np.random.default_rng(0).random((400, 500)) < 0.05
    assert find_rows(clean_mask(np.zeros((400, 500), np.float32))) is None
    assert find_rows(clean_mask(noise.astype(np.float32))) is None


def test_exactly_the_threshold_counts():
    probability = np.full((200, 200), 0.1, np.float32)
    probability[100:103] = np.float32(0.15)
    assert clean_mask(probability).sum() == 3 * 200


def test_frame_is_taken_out_and_traces_still_reach_the_edge():
    page = draw(MV, x0_px=0.0, width=1000)
    framed = page.mask.astype(np.float32)
    framed[[0, -1]] = 1
    framed[:, [0, -1]] = 1
    clean = without_frame(framed)
    assert clean[0].sum() == 0
    assert len(find_rows(clean_mask(clean)).y_px) == 4
    assert clean[:, 0].sum() < 40
    assert clean[:, 0].sum() > 0
