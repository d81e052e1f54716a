import cv2
import numpy as np
import pytest

from datamodules.rendering.warps import Warp, Wave, turned

SHAPE = (300, 500)
CORNERS = np.array([[4.0, -3.0], [-5.0, 2.0], [3.0, 3.0], [0.0, -6.0]])
WAVES = (Wave((1.5, 6.0), (0.011, 0.002), 0.4), Wave((0.0, 3.0), (0.02, -0.004), 2.0))
BENT = Warp(turned(SHAPE, 3.0, CORNERS), WAVES)


def test_there_and_back():
    points = np.random.default_rng(0).uniform([0, 0], SHAPE[::-1], (200, 2))
    assert np.abs(BENT.to_ideal(BENT.to_scan(points)) - points).max() < 1e-3
    assert np.hypot(*(BENT.to_scan(points) - points).T).max() > 5


def test_corners_go_where_they_are_sent():
    flat = Warp(turned(SHAPE, 0.0, CORNERS), ())
    corners = np.array([[0, 0], [500, 0], [500, 300], [0, 300]], dtype=float)
    assert flat.to_scan(corners) == pytest.approx(corners + CORNERS, abs=1e-3)


def test_pixels_move_as_points_do():
    dots = np.array([[100, 80], [400, 60], [250, 200]])
    page = np.zeros(SHAPE, np.uint8)
    for dot in dots:
        cv2.circle(page, dot.tolist(), 4, 255, -1)
    moved = BENT.lay(page, cv2.BORDER_CONSTANT)
    _, labels, _, centres = cv2.connectedComponentsWithStats((moved > 127).view(np.uint8))
    found = np.array([centres[labels[round(y), round(x)]] for x, y in BENT.to_scan(dots)])
    assert found == pytest.approx(BENT.to_scan(dots), abs=0.3)


def test_the_affine_map_of_a_turn_is_exact_and_that_of_a_bend_says_how_far_off_it_is():
    points = np.array([[50, 50], [450, 60], [250, 150], [60, 250], [440, 240]], dtype=float)
    affine, off_px = Warp(turned(SHAPE, 2.0, np.zeros((4, 2))), ()).best_affine(points)
    assert off_px < 1e-3
    assert np.degrees(np.arctan2(affine[1][0], affine[0][0])) == pytest.approx(2.0, abs=1e-3)
    assert BENT.best_affine(points)[1] > 1.0
