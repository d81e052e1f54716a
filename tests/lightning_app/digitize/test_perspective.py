"""A page painted flat, photographed by a known homography, comes back flat."""

import cv2
import numpy as np
import pytest

from lightning_app.digitize.perspective import measure_perspective, moved
from lightning_app.digitize.reader import Reader
from lightning_app.digitize.results import Digitized
from tests.lightning_app.digitize.drawing import LEADS, as_page, draw, heart

MV = heart(seed=6)
CORNERS = np.array([[0.0, 0.0], [1119, 0], [0, 885], [1119, 885]])
SHIFTS = {
    "from the left": [[0, 0], [-18, 25], [0, 0], [-18, -25]],
    "from below": [[30, 10], [-30, 10], [0, 0], [0, 0]],
    "askew": [[8, 20], [-25, 0], [-15, -5], [30, -18]],
}


def photographed(image, shifts_px, finer=3):
    """The image with its corners moved, sampled as a camera does, and the homography that moves them."""
    matrix = cv2.getPerspectiveTransform(*(np.float32(c) for c in (CORNERS, CORNERS + np.array(shifts_px))))
    up = np.array([[finer, 0, (finer - 1) / 2], [0, finer, (finer - 1) / 2], [0, 0, 1]])
    size = (image.shape[1] * finer, image.shape[0] * finer)
    leaning = cv2.warpPerspective(
        image, up @ matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return cv2.resize(leaning, image.shape[::-1], interpolation=cv2.INTER_AREA), matrix


def away_from_affine_px(source, target):
    """Largest distance of points from where the affine map that fits best takes them."""
    design = np.column_stack([source, np.ones(len(source))])
    fit, *_ = np.linalg.lstsq(design, target, rcond=None)
    return np.abs(design @ fit - target).max()


@pytest.mark.parametrize(
    ("shifts_px", "grid"),
    [(shifts, ("thick",)) for shifts in SHIFTS.values()] + [(SHIFTS["from the left"], ("thin", "thick"))],
)
def test_what_a_camera_did_is_undone_but_for_turn_and_stretch(shifts_px, grid):
    flat = draw(MV, binary=False, grid=grid)
    leaning, matrix = photographed(flat.ink, shifts_px)
    places = np.stack(np.meshgrid(np.linspace(60, 1060, 6), np.linspace(60, 826, 5)), -1).reshape(-1, 2)
    seen = moved(places, matrix)
    found = measure_perspective(leaning)
    assert found is not None
    assert away_from_affine_px(places, seen) > 5
    assert away_from_affine_px(places, moved(seen, found.to_flat)) < 0.8
    assert found.points_back(moved(seen, found.to_flat)) == pytest.approx(seen)
    inside = moved(np.array([[-0.4, -0.4], [1119.4, 885.4]]), found.to_flat)
    assert (inside > -0.51).all()
    assert (inside < np.array(found.flat_shape[::-1])).all()


def test_a_large_photograph_leans_as_its_small_copy_does():
    leaning, matrix = photographed(draw(MV, binary=False, grid=("thick",)).ink, SHIFTS["from the left"])
    large = cv2.resize(leaning, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    found = measure_perspective(large)
    assert found is not None
    places = np.stack(np.meshgrid(np.linspace(60, 1060, 6), np.linspace(60, 826, 5)), -1).reshape(-1, 2)
    seen = 3 * moved(places, matrix) + 1
    assert away_from_affine_px(places, moved(seen, found.to_flat)) < 3 * 0.8
    inside = moved(np.array([[-0.4, -0.4], [3359.4, 2657.4]]), found.to_flat)
    assert (inside > -0.6).all()
    assert (inside < np.array(found.flat_shape[::-1])).all()


@pytest.mark.parametrize("degrees", [0.0, 1.5])
@pytest.mark.parametrize("stretch", [(1.0, 1.0), (1.02, 0.97)])
def test_a_page_that_was_scanned_is_left_alone(degrees, stretch):
    assert measure_perspective(draw(MV, degrees=degrees, stretch=stretch, noise=0.01).ink) is None


@pytest.mark.parametrize(
    "ink", [np.zeros((700, 900), np.uint8), np.zeros((20, 30), np.uint8), "noise", "no grid"]
)
def test_what_has_no_grid_is_left_alone(ink):
    if isinstance(ink, str):
        noise = np.random.default_rng(0).integers(0, 256, (700, 900)).astype(np.uint8)
        ink = noise if ink == "noise" else draw(MV, grid=()).ink
    assert measure_perspective(ink) is None


def test_a_photographed_page_is_read_as_the_flat_one_is():
    flat = draw(MV, binary=False, pulse=True, grid=("thick",))
    ink, matrix = photographed(flat.ink, SHIFTS["askew"])
    network = Reader(lambda ink: (ink > 150).astype(np.float32))  # the grid is lighter than the trace
    result, mask = network.read(as_page(ink))
    assert isinstance(result, Digitized)
    assert result.was_flattened
    true = MV[LEADS.index("II"), :1250]
    assert np.corrcoef(result.mv[LEADS.index("II"), 5:1245], true[5:1245])[0, 1] > 0.98
    # What was found lies on the photograph, not on the flat page.
    drawn = cv2.warpPerspective(flat.mask, matrix, ink.shape[::-1]) > 0
    near = cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert mask.shape == ink.shape
    assert near[mask].mean() > 0.98
    path = np.concatenate([segment.path_px for segment in result.segments])
    x, y = np.round(path[np.isfinite(path).all(axis=1)]).astype(int).T
    assert near[y, x].mean() > 0.98
