import numpy as np
import pytest

from datamodules.annotation.templates import Scale, cut_pieces, draw, draw_points, mean_under, without_rules
from datamodules.layout import LEADS, load_layout
from tests.datamodules.annotation.drawing import RATE_HZ, bumpy_recording


def test_a_page_is_cut_into_pieces_of_at_most_two_and_a_half_seconds():
    recording = bumpy_recording(0)
    layout = load_layout("four_line")
    pieces = cut_pieces(layout.segments, LEADS, recording.mv, RATE_HZ)
    assert len(pieces) == 12 + 4
    assert sum(piece.mv.size for piece in pieces) == round(4 * 10 * RATE_HZ)
    for piece in pieces:
        segment = layout.segments[piece.segment]
        assert (piece.lead, piece.row) == (segment.lead, segment.row)
        first = round(piece.start_s * RATE_HZ)
        assert np.array_equal(
            piece.mv, recording.mv[LEADS.index(piece.lead), first : first + piece.mv.size].astype(float)
        )


def test_missing_samples_are_left_out_at_the_ends_and_bridged_inside():
    mv = bumpy_recording(0).mv.copy()
    mv[0, :200] = np.nan
    mv[0, 500:510] = np.nan
    mv[1, :] = np.nan
    pieces = cut_pieces(load_layout("12x1").segments, LEADS, mv, RATE_HZ)
    assert {piece.lead for piece in pieces} == set(LEADS) - {"II"}
    first = pieces[0]
    assert first.start_s == 0.0
    assert first.time_s[0] == pytest.approx(0.4)
    assert np.isfinite(first.mv).all()


def test_points_turn_with_the_page():
    piece = cut_pieces(load_layout("12x1").segments, LEADS, bumpy_recording(1).mv, RATE_HZ)[0]
    angle = np.radians(2.0)
    straight = Scale(100.0, 0.0, -40.0).points(piece)
    turned = Scale(100.0 * np.cos(angle), 100.0 * np.sin(angle), -40.0 * np.cos(angle)).points(piece)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(turned, straight @ rotation.T, atol=1e-9)


def test_the_anchor_is_where_zero_lies():
    piece = cut_pieces(load_layout("12x1").segments, LEADS, bumpy_recording(1).mv, RATE_HZ)[0]
    template = draw(piece, Scale(100.0, 0.0, -40.0), 2.0)
    x, y = template.anchor_xy
    first_y = y - 40.0 * piece.mv[0]
    assert abs(np.flatnonzero(template.image[:, x]).mean() - first_y) < 1.5


def test_the_best_place_is_the_one_of_the_papers_squared_differences():
    rng = np.random.default_rng(3)
    template = draw_points(np.stack([np.arange(30.0), 8 * np.sin(np.arange(30.0) / 4)], axis=1), 2.0)
    page = (rng.random((60, 80)) < 0.2).astype(np.float32)
    y, x = 20, 25
    height, width = template.image.shape
    page[y : y + height, x : x + width][template.image > 0] = 1
    found = mean_under(page, template)
    # Li et al. 2020, section 2.2, by loop: R over the whole page for a template that is 0 elsewhere.
    squared = np.zeros(found.shape)
    for top in range(found.shape[0]):
        for left in range(found.shape[1]):
            drawn = np.zeros_like(page)
            drawn[top : top + height, left : left + width] = template.image
            squared[top, left] = ((drawn - page) ** 2).sum()
    assert np.unravel_index(found.argmax(), found.shape) == np.unravel_index(squared.argmin(), found.shape)
    np.testing.assert_allclose(squared, template.n_pixels * (1 - 2 * found) + (page**2).sum(), rtol=1e-4)


def test_level_lines_are_taken_out_and_traces_stay():
    x = np.arange(400)
    page = np.zeros((120, 400), np.float32)
    trace = np.zeros_like(page)
    y = np.rint(80 + 2 * np.sin(x / 12) - 25 * np.exp(-0.5 * ((x % 90 - 40) / 2.0) ** 2)).astype(int)
    for thick in range(3):
        trace[y + thick, x] = 1
        page[np.rint(20 + thick + x / 200).astype(int), x] = 1  # a frame, a little askew
    left = without_rules(np.maximum(page, trace), 100.0)
    assert left[page > 0].sum() == 0
    assert left[trace > 0].mean() > 0.99
