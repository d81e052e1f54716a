"""Pages photographed at an angle: how their grid narrows to one side, and the page made flat again.

A flat page seen by a camera is a projective image of itself. Turn and stretch aside, which `turn.straighten`
takes out, a point p counted from the middle of the photograph lies at S p / (1 + g p) on the page, with two
numbers g and a shear S. The pitch and direction of the grid tell them: the gradient of a line family's phase
follows from both anywhere on the page, and is measured tile by tile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from datamodules.page import Page
from lightning_app.digitize.grid import Comb, local_contrast, measure_grid, no_finer_than_needed, refined

TILE_SHARE = 0.2  # of the shorter side
TILE_PX = (140, 400)
# Where the grid is looked for first: share of each side, large enough to find the pitch and small enough for
# there to be one, and the part's middle. Traces hide it in some places.
PARTS = [(share, (0.5, 0.5)) for share in (0.4, 0.25, 0.15)] + [
    (0.4, (y, x)) for y in (0.25, 0.5, 0.75) for x in (0.25, 0.5, 0.75) if (y, x) != (0.5, 0.5)
]
MIN_COHERENCE = 25.0  # power of the lines over that of noise as strong
MIN_TILES = 10  # of either family
MAX_STEP = 0.03  # of pitch and direction, between neighbouring tiles
TRACES_SHARE = 0.05
PASSES = 3  # what is left after the first is a twentieth
MIN_SHIFT_PX = 2.0  # at the corners; 225 rendered flat pages stay below 1.3
MIN_SIGNIFICANCE = 6.0  # times its own uncertainty
MAX_CROSSING_DEG = 8.0  # off a right angle
MAX_SHEAR_DEG = 0.7  # of a page that was scanned, which `turn.straighten` takes out
MAX_LEAN = 0.35  # of pitch between the middle and a corner: no page is photographed like that
OUTLIER = 0.003  # of the pitch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Perspective:
    """From a page as photographed to the flat page.

    Attributes:
        to_flat: (3, 3) homography of pixels; no corner is cut off.
        flat_shape: (H, W) of the flat page.
    """

    to_flat: Array
    flat_shape: tuple[int, int]

    def points_back(self, points: Array) -> Array:
        """(n, 2) points of the flat page, on the page as photographed."""
        return moved(points, np.asarray(np.linalg.inv(self.to_flat), dtype=np.float64))

    def mask_back(self, mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Mask of the flat page, on the page as photographed, which has `shape` (H, W)."""
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        leaning = cv2.warpPerspective(mask.astype(np.float32), self.to_flat, shape[::-1], flags=how)
        return np.asarray(leaning >= np.float32(0.5))


def moved(points: Array, homography: Array) -> Array:
    """Apply a (3, 3) homography to (n, 2) points."""
    x, y, w = homography @ np.column_stack([points, np.ones(len(points))]).T
    return np.column_stack([x / w, y / w])


def measure_perspective(ink: NDArray[np.uint8]) -> Perspective | None:
    """Find how a page leans from the grid all over it.

    Args:
        ink: (H, W) uint8, every ink dark, grid included.

    Returns:
        Its perspective; None where it has no grid in both directions, or lies flat.
    """
    ink, factor = no_finer_than_needed(ink)
    # As dark as its grid, traces and letters do not outshine it: they are a few hundredths of a page.
    ink = np.minimum(ink, np.uint8(np.quantile(ink, 1 - TRACES_SHARE)))
    found = None
    for _ in range(PASSES):
        flattening = _flattening(ink if found is None else _warped(ink, found))
        if flattening is None:
            break
        found = _further(found or Perspective(np.eye(3), (ink.shape[0], ink.shape[1])), flattening)
    return None if found is None else _enlarged(found, factor)


def _enlarged(perspective: Perspective, factor: float) -> Perspective:
    """Perspective of the page of which this one's is shrunk by `factor`."""
    if factor == 1.0:
        return perspective
    middle = (factor - 1) / 2  # of the first pixel
    shrink = np.array([[factor, 0, middle], [0, factor, middle], [0, 0, 1]])
    height, width = (int(np.ceil(n / factor)) for n in perspective.flat_shape)
    return Perspective(np.linalg.inv(shrink) @ perspective.to_flat @ shrink, (height, width))


def _further(known: Perspective, flattening: Array) -> Perspective:
    """Compose what is known with a (3, 3) homography, about its middle, of the page it makes."""
    height, width = known.flat_shape
    flat = flattening @ np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
    corners = moved(np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]]) - 0.5, flat) + 0.5
    low, high = corners.min(axis=0), corners.max(axis=0)
    to_flat = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]]) @ flat @ known.to_flat
    right, bottom = np.ceil(high - low - 1e-6).astype(int)
    return Perspective(to_flat, (int(bottom), int(right)))


def _flattening(ink: NDArray[np.uint8]) -> Array | None:
    """(3, 3) homography about the middle that makes a page flat; None if it lies flat or does not tell."""
    contrast = local_contrast(ink)
    families = next((found for part in PARTS if (found := _families(ink, contrast, *part))), None)
    if families is None:
        return None
    unit_px = float(np.hypot(*ink.shape)) / 2
    lean, middles, significance = _fitted(*families, unit_px)
    shear = _square(*middles)
    size = float(np.linalg.norm(lean))
    leans = significance >= MIN_SIGNIFICANCE and size * unit_px >= MIN_SHIFT_PX and size <= MAX_LEAN
    if not leans and abs(np.degrees(shear[0, 1])) < MAX_SHEAR_DEG:
        return None
    flattening = np.eye(3)
    flattening[:2, :2] = shear
    flattening[2, :2] = lean / unit_px if leans else 0.0
    return flattening


def _square(standing: Array, lying: Array) -> Array:
    """(2, 2) shear along lying lines after which standing ones cross them at right angles.

    Both are frequencies, (2,), at right angles to the lines.
    """
    down = lying / np.linalg.norm(lying)
    turn = np.array([[down[1], -down[0]], [down[0], down[1]]])  # lying lines along the first axis
    along, leaning = turn @ standing
    return np.asarray(turn.T @ np.array([[1, leaning / along], [0, 1]]) @ turn)


def _families(
    ink: NDArray[np.uint8], contrast: NDArray[np.float32], share: float, middle: tuple[float, float]
) -> tuple[Array, Array] | None:
    """Both families as `_family` gives them, followed outwards from a part of the page; None if lost."""
    rows, columns = (_span(n, share, at) for n, at in zip(ink.shape, middle, strict=True))
    part = np.ascontiguousarray(ink[rows, columns])
    grid = measure_grid(part, np.zeros(part.shape, dtype=np.bool_), max_shear_deg=MAX_CROSSING_DEG)
    if grid.x is None or grid.y is None:
        return None
    standing, lying = _family(contrast, grid.x, middle, True), _family(contrast, grid.y, middle, False)
    return (standing, lying) if min(len(standing), len(lying)) >= MIN_TILES else None


def _span(length: int, share: float, middle: float) -> slice:
    span = max(round(share * length), min(length, TILE_PX[0]))
    first = int(np.clip(round(middle * length - span / 2), 0, length - span))
    return slice(first, first + span)


def _family(
    contrast: NDArray[np.float32], comb: Comb, known_at: tuple[float, float], standing: bool
) -> Array:
    """(n, 4): where tiles lie, x and y from the middle, and the family's frequency there, cycles per px."""
    height, width = contrast.shape
    side = int(np.clip(TILE_SHARE * min(contrast.shape), *TILE_PX))
    tops, lefts = (_starts(n, side) for n in (height, width))
    known: dict[tuple[int, int], Comb] = {}
    for i, j in _outwards(len(tops), len(lefts), known_at):
        near = [known[at] for at in known if max(abs(at[0] - i), abs(at[1] - j)) == 1]
        guess = _mean(near) if near else comb
        tile = contrast[tops[i] : tops[i] + side, lefts[j] : lefts[j] + side]
        found, coherence = refined(tile, guess, standing=standing)
        if coherence >= MIN_COHERENCE and _differ(found, guess) <= MAX_STEP:
            known[i, j] = found
    rows = [
        (lefts[j] + (side - width) / 2, tops[i] + (side - height) / 2, *_frequency(found))
        for (i, j), found in known.items()
    ]
    return np.array(rows).reshape(-1, 4)


def _outwards(rows: int, columns: int, start: tuple[float, float]) -> list[tuple[int, ...]]:
    """Tiles by their distance from a place, which is given as shares of the page's height and width."""
    middle = (start[0] * rows - 0.5, start[1] * columns - 0.5)
    return sorted(np.ndindex(rows, columns), key=lambda at: np.hypot(at[0] - middle[0], at[1] - middle[1]))


def _frequency(comb: Comb) -> Array:
    return np.array(comb.normal) / comb.period_px


def _starts(length: int, side: int) -> NDArray[np.intp]:
    return np.linspace(0, length - side, -(-length // side)).round().astype(np.intp)


def _mean(combs: list[Comb]) -> Comb:
    x, y = np.mean([_frequency(comb) for comb in combs], axis=0)
    length = float(np.hypot(x, y))
    return replace(combs[0], period_px=1 / length, normal=(x / length, y / length))


def _differ(one: Comb, other: Comb) -> float:
    return float(np.linalg.norm(_frequency(one) - _frequency(other)) / np.linalg.norm(_frequency(other)))


def _fitted(standing: Array, lying: Array, unit_px: float) -> tuple[Array, tuple[Array, Array], float]:
    """Fit g, and the frequencies in the middle of the page, to the tiles of both families.

    Lengths count in half diagonals of the page, `unit_px`, and frequencies in that of the family.

    Returns:
        g; the frequencies (2,) of standing and lying lines; g over its uncertainty.
    """
    families = []
    for tiles in (standing, lying):
        usual = float(np.median(np.hypot(tiles[:, 2], tiles[:, 3])))
        families.append((tiles[:, :2] / unit_px, tiles[:, 2:] / usual))

    def off(values: Array) -> Array:
        lean = values[:2]
        parts = []
        for (at, frequency), middle in zip(families, (values[2:4], values[4:6]), strict=True):
            w = 1 + at @ lean
            parts.append((middle / w[:, None] - np.outer((at @ middle) / w**2, lean) - frequency).ravel())
        return np.concatenate(parts)

    start = np.concatenate([np.zeros(2), *(np.median(frequency, axis=0) for _, frequency in families)])
    fit = least_squares(off, start, loss="soft_l1", f_scale=OUTLIER)
    spread = 2 * fit.cost / (len(fit.fun) - len(start))
    jacobian = np.asarray(fit.jac, dtype=np.float64)
    covariance = spread * np.linalg.pinv(jacobian.T @ jacobian)[:2, :2]
    lean, standing_middle, lying_middle = np.asarray(fit.x, dtype=np.float64).reshape(3, 2)
    significance = float(lean @ lean) / np.sqrt(max(float(lean @ covariance @ lean), 1e-18))
    return lean, (standing_middle, lying_middle), significance


def flattened(page: Page, perspective: Perspective) -> Page:
    """Make a page flat.

    Args:
        page: The page as photographed.
        perspective: Its own.

    Returns:
        The page as a scanner would have seen it; beyond its rims it goes on as it ends there.
    """
    rgb = None if page.rgb is None else _warped(page.rgb, perspective)
    return replace(page, ink=_warped(page.ink, perspective), rgb=rgb, is_binary=False)


def _warped(image: NDArray[np.uint8], perspective: Perspective) -> NDArray[np.uint8]:
    size = perspective.flat_shape[::-1]
    flat = cv2.warpPerspective(
        image, perspective.to_flat, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(flat, dtype=np.uint8)
