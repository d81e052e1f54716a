"""The classical tracer on drawn pages: it finds traces and nothing else (contract: test_conformance)."""

import cv2
import numpy as np
import pytest
import torch

from models.classical import (
    ClassicalTracing,
    dark_pixels,
    trace_page,
    trace_row,
    without_ruled_lines,
    without_speckle,
)
from models.windows import predict_page

H, W = 240, 480


def trace(rows=(70, 170)):
    """Two rows of beats on paper: uint8 ink, bool truth."""
    x = np.arange(20, W - 20)
    truth = np.zeros((H, W), np.uint8)
    for row in rows:
        beat = (x % 60) - 30
        y = (
            row
            - 38 * np.exp(-((beat / 2.5) ** 2))
            - 8 * np.exp(-(((beat - 14) / 5) ** 2))
            + 2 * np.sin(x / 50)
        )
        points = np.stack([x, y], axis=1).round().astype(np.int32)
        cv2.polylines(truth, [points], False, 1, 2)
    return truth * 230, truth > 0


def with_grid(ink, level=90, pitch=8):
    page = ink.copy()
    page[::pitch] = np.maximum(page[::pitch], level)
    page[:, ::pitch] = np.maximum(page[:, ::pitch], level)
    return page


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_traces_on_a_grey_grid_are_found():
    ink, truth = trace()
    assert dice(trace_page(with_grid(ink)), truth) > 0.95


def test_traces_on_a_grid_as_black_as_they_are_found():
    ink, truth = trace()
    found = trace_page(with_grid(ink, level=230))
    assert dice(found, truth) > 0.8


def test_text_and_frame_are_left_out():
    ink, truth = trace()
    cv2.putText(ink, "Page 1 of 1 25 mm/s", (40, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 230, 1)
    cv2.rectangle(ink, (5, 215), (W - 6, 235), 230, 1)
    assert dice(trace_page(ink), truth) > 0.95


def test_a_detached_pulse_is_left_out():
    ink, truth = trace()
    cv2.polylines(ink, [np.array([[2, 70], [2, 40], [12, 40], [12, 70]], np.int32)], False, 230, 2)
    assert not trace_page(ink)[:, :14].any()
    assert dice(trace_page(ink), truth) > 0.95


@pytest.mark.parametrize(
    "page", [np.zeros((H, W)), np.full((H, W), 255), np.zeros((1, 1)), np.full((3, 9), 200)]
)
def test_pages_without_a_trace_give_nothing(page):
    assert not trace_page(page.astype(np.uint8)).any()


def test_noise_gives_no_confident_page():
    noise = (np.random.default_rng(0).random((H, W)) < 0.3).astype(np.uint8) * 255
    assert trace_page(noise).mean() < 0.05


def test_otsu_goes_on_until_the_grid_is_gone():
    ink, truth = trace()
    assert dice(dark_pixels(with_grid(ink, level=120, pitch=4)), truth) > 0.95


def test_binary_pages_keep_their_two_levels():
    ink, truth = trace()
    assert (dark_pixels((ink > 0).astype(np.uint8) * 255) == truth).all()


def test_clean_strokes_survive_where_specks_do_not():
    _, truth = trace()
    assert (without_speckle(truth) == truth).all()
    speckled = truth | (np.random.default_rng(0).random(truth.shape) < 0.02)
    assert dice(without_speckle(speckled), truth) > dice(speckled, truth)


def test_aligned_qrs_strokes_are_no_grid():
    _, truth = trace(rows=(60, 110, 160, 210))
    assert (without_ruled_lines(truth) == truth).all()


def test_the_chain_bridges_a_gap_and_follows_steep_strokes():
    band = np.zeros((40, 60), bool)
    band[20, :25] = band[20, 30:] = True
    band[5:21, 40] = True
    chain = trace_row(band, 20)
    assert [column for column, _ in chain] == [*range(25), *range(30, 60)]
    assert dict(chain)[40] == (5, 20)


def test_a_page_is_seen_whole():
    ink, truth = trace()
    probability = predict_page(ClassicalTracing(), with_grid(ink))
    assert probability.shape == (H, W)
    assert dice((probability >= 0.15).numpy(), truth) > 0.95
    assert not list(ClassicalTracing().parameters())
    assert torch.equal(probability, predict_page(ClassicalTracing(), with_grid(ink), overlap_px=0))
