"""Pages drawn by circles on a page eight times as large, which share no code with what is fitted."""

import dataclasses
from functools import cache

import cv2
import numpy as np
import pytest

from datamodules.annotation.refinement import Fit
from datamodules.annotation.sharpening import paper_chance, sharpen
from datamodules.annotation.templates import Piece, Scale
from tests.datamodules.annotation.drawing import bumpy_recording

FINE = 8
TRUE = Fit(Scale(100.0, 0.4, -40.0), 30.3, np.array([100.6, 230.2]), (0, 1))


def _pieces():
    recording = bumpy_recording(5, 5.0)
    time_s = np.arange(recording.mv.shape[1]) / recording.rate_hz
    mv = recording.mv.astype(np.float64)
    return [Piece("II", row, row, 0.0, time_s, mv[lead]) for row, lead in enumerate((1, 7))]


@cache
def _coverage(level_px, steep_px):
    """(330, 560) share of every pixel under a round pen that is thinner where it moves fast."""
    fine = np.zeros((330 * FINE, 560 * FINE), np.uint8)
    for piece in _pieces():
        points = TRUE.line(piece)
        steep = np.abs(np.gradient(points[:, 1]) / np.gradient(points[:, 0]))
        steep = np.convolve(steep, np.full(6, 1 / 6), "same")  # no pen changes within a pixel
        width_px = np.interp(steep, [0.5, 6.0], [level_px, steep_px])
        along = np.linspace(0, len(points) - 1, 40 * len(points))
        for index, (x, y) in zip(
            along, np.stack([np.interp(along, np.arange(len(points)), p) for p in points.T], 1), strict=True
        ):
            centre = (round((x + 0.5) * FINE - 0.5), round((y + 0.5) * FINE - 0.5))
            cv2.circle(fine, centre, round(width_px[int(index)] * FINE / 2), 255, -1)
    return cv2.resize(fine, (560, 330), interpolation=cv2.INTER_AREA) / 255.0


def _chance(coverage, paper):
    return (paper + (0.93 - paper) * coverage).astype(np.float32)


def _noisy(chance):
    return (np.random.default_rng(3).random(chance.shape) < chance).astype(np.float32)


def _ruled():
    paper = np.full((330, 560), 0.02)
    paper[::5] = 0.35
    paper[:, ::5] = 0.35
    return paper


@pytest.mark.parametrize(("level_px", "steep_px"), [(1.5, 1.0), (3.0, 1.75), (3.0, 3.0)])
@pytest.mark.parametrize("paper", [np.full((330, 560), 0.1), _ruled()], ids=["plain", "ruled"])
@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_amplitude_is_found_whatever_the_pen(level_px, steep_px, paper, factor):
    pieces = _pieces()
    chance = _chance(_coverage(level_px, steep_px), paper)
    scale = dataclasses.replace(TRUE.scale, d=factor * TRUE.scale.d)
    guess = Fit(scale, TRUE.x0_px + 0.4, TRUE.row_y_px - 0.4, TRUE.rows)
    found = sharpen(chance, pieces, guess, 2.0)
    assert found.scale.d == pytest.approx(TRUE.scale.d, rel=0.008)
    assert found.scale.a == pytest.approx(TRUE.scale.a, rel=0.0005)
    assert found.x0_px == pytest.approx(TRUE.x0_px, abs=0.05)
    assert found.row_y_px == pytest.approx(TRUE.row_y_px, abs=0.05)
    # Ten seconds of noisy trace tell less than the forty or more of a page.
    found = sharpen(_noisy(chance), pieces, guess, 2.0)
    assert found.scale.d == pytest.approx(TRUE.scale.d, rel=0.015)
    assert found.row_y_px == pytest.approx(TRUE.row_y_px, abs=0.15)


def test_a_row_without_pieces_stays_where_it_is():
    pieces = _pieces()
    ink = _chance(_coverage(2.0, 2.0), np.full((330, 560), 0.1))
    guess = dataclasses.replace(TRUE, row_y_px=TRUE.row_y_px + 0.4)
    found = sharpen(ink, pieces[:1], guess, 2.0)
    assert found.row_y_px[1] == guess.row_y_px[1]
    assert found.row_y_px[0] == pytest.approx(TRUE.row_y_px[0], abs=0.1)


def test_an_empty_page_moves_nothing_far():
    pieces = _pieces()
    found = sharpen(np.zeros((330, 560), np.float32), pieces, TRUE, 2.0)
    assert np.isfinite(found.row_y_px).all()
    assert found.scale.d == pytest.approx(TRUE.scale.d, rel=0.2)


def test_the_grid_beneath_a_trace_is_told_from_beside_it():
    chance = _ruled()
    ink = (np.random.default_rng(0).random(chance.shape) < chance).astype(np.float32)
    is_trace = np.zeros(ink.shape, bool)
    is_trace[150:155] = True  # hides a ruled row: only the columns tell there
    beside = ~is_trace
    found = paper_chance(ink, is_trace)
    lines = (np.arange(330)[:, None] % 5 == 0) ^ (np.arange(560) % 5 == 0)
    assert found[beside & lines].mean() == pytest.approx(0.35, abs=0.1)
    assert found[beside & (chance < 0.1)].mean() == pytest.approx(0.02, abs=0.04)
    ink[is_trace] = 1.0
    assert np.array_equal(paper_chance(ink, is_trace), found)
