import numpy as np
import pytest

from datamodules.layout import known_layouts
from datamodules.layout_preview import MARGIN_PX, ROW_PX, WIDTH_PX, draw_layout


@pytest.mark.parametrize("layout", known_layouts().values(), ids=lambda layout: layout.name)
def test_every_row_is_drawn_from_end_to_end(layout):
    picture = draw_layout(layout)
    assert picture.shape == (2 * MARGIN_PX + layout.n_rows * ROW_PX, WIDTH_PX, 3)
    for row in range(layout.n_rows):
        part = picture[MARGIN_PX + row * ROW_PX :][: round(0.8 * ROW_PX), MARGIN_PX : WIDTH_PX - MARGIN_PX]
        assert (part.min(axis=2) < 128).any(axis=0).mean() > 0.98


def test_layouts_differ_in_their_pictures():
    pictures = {draw_layout(layout).tobytes() for layout in known_layouts().values()}
    assert len(pictures) == len(known_layouts())


def test_a_picture_is_the_same_every_time():
    layout = known_layouts()["3x4+1"]
    assert np.array_equal(draw_layout(layout), draw_layout(layout))
