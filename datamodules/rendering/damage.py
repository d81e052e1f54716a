"""What light, paper, lenses, compression and the step to one bit do to a page in grey or colour.

Brightness planes are uint8, 255 = white. Nothing here moves a line by more than a fraction of a pixel, so
that masks stay true.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.rendering.difficulty import Range
from datamodules.rendering.fields import over_page, smooth_field

Plane = npt.NDArray[np.uint8]
Binarization = Literal["global", "otsu", "adaptive", "ordered", "diffused"]

SQUARE_PX = 48
DARKEST = 0.42  # share of ink of a page; above a half `read_page` turns it round
DARKEST_MEAN = 150.0  # brightness of a grey or colour page

_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], dtype=np.float64)


def lay_ink(image: Plane, cover: Plane, colour: tuple[int, ...]) -> Plane:
    """Print a layer of ink over a page, as an ink darkens what lies below it.

    Args:
        image: (H, W) or (H, W, 3).
        cover: (H, W) 255 = full ink.
        colour: Of full ink on white paper, one level a channel.

    Returns:
        The page.
    """
    levels = [np.rint(np.linspace(255, level, 256)).astype(np.uint8) for level in colour]
    if image.ndim == 2:
        factor = cv2.LUT(cover, levels[0])
    else:
        factor = cv2.LUT(cv2.merge([cover] * 3), np.stack(levels, axis=-1)[None])
    return np.asarray(cv2.multiply(image, factor, scale=1 / 255), dtype=np.uint8)


def dim(image: Plane, light: Plane) -> Plane:
    """Multiply a page by light, (H, W) uint8, 255 = full."""
    factor = light if image.ndim == 2 else cv2.merge([light] * 3)
    return np.asarray(cv2.multiply(image, factor, scale=1 / 255), dtype=np.uint8)


def brightened(image: Plane) -> Plane:
    """Expose a dark page as a camera does, so that it is not taken for a negative."""
    mean = float(image.mean())
    if mean >= DARKEST_MEAN:
        return image
    return np.asarray(cv2.convertScaleAbs(image, alpha=DARKEST_MEAN / mean), dtype=np.uint8)


def uneven_light(rng: np.random.Generator, shape: tuple[int, int], loss: float) -> Plane:
    """Light that falls off by up to a share over the page."""
    field = smooth_field(rng, shape, float(rng.uniform(300.0, 1200.0)))
    return over_page(np.float32(1.0) - np.float32(loss) * field, shape)


def cast_shadow(rng: np.random.Generator, light: Plane) -> None:
    """A hand's or lid's shadow: one side of a soft straight edge is darker. In place."""
    height, width = light.shape
    angle = float(rng.uniform(0.0, 2 * np.pi))
    y, x = np.mgrid[0 : -(-height // 8), 0 : -(-width // 8)].astype(np.float32) * np.float32(8.0)
    at = float(rng.uniform(-0.35, 0.35)) * width
    side = (x - width / 2) * np.float32(np.cos(angle)) + (y - height / 2) * np.float32(np.sin(angle)) - at
    soft = 1.0 / (1.0 + np.exp(np.minimum(-side / np.float32(rng.uniform(4.0, 60.0)), 50.0)))
    cv2.multiply(
        light, over_page(1.0 - np.float32(rng.uniform(0.15, 0.5)) * soft, light.shape), light, 1 / 255
    )


def stain(rng: np.random.Generator, light: Plane) -> None:
    """Spilt coffee: one to three blots or rings, darker at the rim. In place."""
    height, width = light.shape
    y, x = np.mgrid[0 : -(-height // 8), 0 : -(-width // 8)].astype(np.float32) * np.float32(8.0)
    for _ in range(int(rng.integers(1, 4))):
        radius = float(rng.uniform(30.0, 200.0))
        gap = np.hypot(x - rng.uniform(0, width), (y - rng.uniform(0, height)) * rng.uniform(0.8, 1.25))
        inside = 1.0 / (1.0 + np.exp(np.minimum((gap - radius) / 5.0, 50.0)))
        rim = np.exp(-(((gap - radius) / 7.0) ** 2))
        loss = (rng.uniform(0.0, 0.25) * inside + rng.uniform(0.0, 0.3) * rim).astype(np.float32)
        cv2.multiply(light, over_page(1.0 - loss, light.shape), light, 1 / 255)


def crease(rng: np.random.Generator, image: Plane) -> Plane:
    """One to three folds: a thin line where ink broke off, with a shade along it."""
    shape = (image.shape[0], image.shape[1])
    lost, shade = np.zeros(shape, dtype=np.uint8), np.full(shape, 255, dtype=np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        upright = rng.random() < 0.5
        a, b = rng.uniform(0.1, 0.9) + rng.normal(0.0, 0.01, 2)
        ends = ((a, 0.0), (b, 1.0)) if upright else ((0.0, a), (1.0, b))
        (x0, y0), (x1, y1) = (
            tuple(np.rint(np.array(end) * shape[::-1]).astype(int).tolist()) for end in ends
        )
        cv2.line(shade, (x0, y0), (x1, y1), int(rng.integers(120, 240)), int(rng.integers(2, 9)), cv2.LINE_AA)
        cv2.line(lost, (x0, y0), (x1, y1), int(rng.integers(60, 220)), int(rng.integers(1, 3)), cv2.LINE_AA)
    shade = np.asarray(cv2.blur(shade, (5, 5)), dtype=np.uint8)
    flecks = np.asarray(lost * (rng.random(shape, dtype=np.float32) < 0.7), dtype=np.uint8)
    darkened = dim(image, shade)
    return np.asarray(
        cv2.max(darkened, flecks if image.ndim == 2 else cv2.merge([flecks] * 3)), dtype=np.uint8
    )


def punch_holes(rng: np.random.Generator, image: Plane) -> None:
    """Two or four holes along a side, dark or white. In place."""
    height, width = image.shape[:2]
    level = int(rng.choice((0, 60, 255)))
    n_holes, radius = int(rng.choice((2, 4))), int(rng.integers(7, 15))
    inset = int(rng.integers(radius + 1, radius + 18))
    for number in range(n_holes):
        along = (number + 1) / (n_holes + 1)
        centre = (inset, round(along * height)) if rng.random() < 0.9 else (round(along * width), inset)
        cv2.circle(image, centre, radius, (level,) * 3, -1)


def add_noise(rng: np.random.Generator, image: Plane, deviation: float) -> Plane:
    """Sensor noise or paper's texture: white, or in clumps of a few pixels; equal in all channels."""
    if deviation < 0.5:
        return image
    shape = (image.shape[0], image.shape[1])
    white = rng.integers(0, 256, shape, dtype=np.uint8)
    spread = 255.0 / np.sqrt(12.0)
    if rng.random() < 0.5:
        white = np.asarray(cv2.GaussianBlur(white, (5, 5), 1.0), dtype=np.uint8)
        spread *= 0.29  # measured
    scale = deviation / spread
    step = cv2.convertScaleAbs(white, alpha=scale)
    # Brightness below 0 and above 255 is lost, as in a camera.
    lighter = cv2.convertScaleAbs(image, alpha=1.0, beta=127.5 * scale)
    return np.asarray(
        cv2.subtract(lighter, step if image.ndim == 2 else cv2.merge([step] * 3)), dtype=np.uint8
    )


def coarsened(image: Plane, factor: float) -> Plane:
    """Scan at a smaller scale and enlarge again."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def through_jpeg(image: Plane, quality: int) -> Plane:
    """Compress and read again."""
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def binarize(rng: np.random.Generator, plane: Plane, how: Binarization, dark: float, light: float) -> Plane:
    """Bring a grey page to one bit a pixel.

    Args:
        rng: Source of the draws.
        plane: (H, W) brightness.
        how: Global threshold, Otsu's, local threshold, ordered or error-diffusion dither.
        dark: Brightness of traces.
        light: Brightness of paper.

    Returns:
        (H, W) uint8 0 or 255, 255 = ink.
    """
    if how == "global":
        level = dark + float(rng.uniform(0.3, 0.9)) * (light - dark)
        return darker(plane, level)
    if how == "otsu":
        _, ink = cv2.threshold(plane, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
        return np.asarray(ink, dtype=np.uint8)
    if how == "adaptive":
        method = cv2.ADAPTIVE_THRESH_MEAN_C if rng.random() < 0.6 else cv2.ADAPTIVE_THRESH_GAUSSIAN_C
        side = 2 * int(rng.integers(5, 26)) + 1
        below = float(rng.uniform(0.06, 0.4)) * (light - dark)
        ink = cv2.adaptiveThreshold(plane, 255, method, cv2.THRESH_BINARY_INV, side, below)
        return np.asarray(ink, dtype=np.uint8)
    # A dither would fill the paper with dots unless its white is set first, as scanners do.
    stretched = _stretched(plane, dark, dark + float(rng.uniform(0.8, 1.02)) * (light - dark))
    if how == "ordered":
        height, width = plane.shape
        tile = np.rint((_BAYER + 0.5) * 16.0).astype(np.uint8)
        if rng.random() < 0.4:
            tile = np.repeat(np.repeat(tile, 2, axis=0), 2, axis=1)
        tiled = np.tile(tile, (-(-height // tile.shape[0]), -(-width // tile.shape[1])))[:height, :width]
        return np.asarray(cv2.compare(stretched, np.ascontiguousarray(tiled), cv2.CMP_LT), dtype=np.uint8)
    return np.asarray(~np.asarray(Image.fromarray(stretched).convert("1")), dtype=np.uint8) * np.uint8(255)


def darker(plane: Plane, level: float) -> Plane:
    """Pixels below a brightness as ink: (H, W) uint8, 0 or 255."""
    return np.asarray((plane < level).view(np.uint8) * np.uint8(255), dtype=np.uint8)


def _stretched(plane: Plane, dark: float, light: float) -> Plane:
    levels = np.rint(np.clip((np.arange(256) - dark) / max(light - dark, 1.0), 0.0, 1.0) * 255.0)
    return np.asarray(cv2.LUT(plane, levels.astype(np.uint8)), dtype=np.uint8)


def fax_lines(rng: np.random.Generator, image: Plane, ink: int) -> None:
    """Lost and repeated scan lines of a bad transmission. In place; `ink` is the level of black."""
    height, width = image.shape[:2]
    for row in rng.integers(1, height, int(rng.integers(2, 14))):
        begin, end = np.sort(rng.integers(0, width, 2))
        kind = rng.random()
        if kind < 0.35:
            image[row, begin:end] = 255 - ink
        elif kind < 0.7:
            image[row, begin:end] = image[row - 1, begin:end]
        else:
            image[row, begin:end] = np.where(rng.random(end - begin) < 0.8, ink, image[row, begin:end].T).T


def readable_share(ink: Plane, mask: Plane, readable: Range) -> float:
    """How much of the trace a person could tell, judged in squares of 48 px.

    Args:
        ink: (H, W) 0 or 255.
        mask: (H, W) 0/1.
        readable: Least share of ink on the mask in a square, and least excess over the share right beside.

    Returns:
        Share of the mask that lies in squares where both hold; 0 on a page that is mostly black, which
        would be taken for a negative.
    """
    if float(ink.mean()) > DARKEST * 255:
        return 0.0
    near = cv2.dilate(mask, np.ones((3, 3), dtype=np.uint8))
    wide = np.asarray(cv2.dilate(near, np.ones((5, 5), dtype=np.uint8)), dtype=np.uint8)
    ring = np.asarray(cv2.subtract(wide, near), dtype=np.uint8)
    squares = (-(-mask.shape[1] // SQUARE_PX), -(-mask.shape[0] // SQUARE_PX))
    black = np.asarray(ink & np.uint8(1), dtype=np.uint8)
    n_mask, n_on, n_ring, n_beside = (
        cv2.resize(layer.astype(np.float32), squares, interpolation=cv2.INTER_AREA) + np.float32(1e-9)
        for layer in (mask, mask & black, ring, ring & black)
    )
    on, beside = n_on / n_mask, n_beside / n_ring
    is_clear = (on >= readable[0]) & (on - beside >= readable[1])
    return float(n_mask[is_clear].sum() / n_mask.sum())
