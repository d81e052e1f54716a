"""Smooth random fields and dither thresholds: how darkness and noise vary over a page."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Grain = Literal["white", "clumped", "screen"]

FIELD_STEP_PX = 8  # what varies over a page does so over tens of pixels


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> npt.NDArray[np.float32]:
    """Draw a smooth random field that fills the range 0 to 1, at an eighth of the page's resolution.

    Args:
        rng: Source of the draws.
        shape: (H, W) of the page.
        cell_px: Distance over which it changes, in page px.

    Returns:
        (ceil(H / 8), ceil(W / 8)) float32 with smallest value 0 and largest 1; see `over_page`.
    """
    height, width = (-(-size // FIELD_STEP_PX) for size in shape)
    knots = (max(3, round(shape[0] / cell_px) + 2), max(3, round(shape[1] / cell_px) + 2))
    coarse = rng.random(knots, dtype=np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = float(field.min()), float(field.max())
    return np.asarray((field - low) / (high - low), dtype=np.float32)


def over_page(field: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Spread a field over a page as levels; beyond 0 to 1 it is clipped.

    Args:
        field: (h, w) float32.
        shape: (H, W) of the page.

    Returns:
        (H, W) uint8, 255 = 1.
    """
    levels = np.rint(np.clip(field, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.asarray(cv2.resize(levels, shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def threshold_map(rng: np.random.Generator, shape: tuple[int, int], grain: Grain) -> npt.NDArray[np.uint8]:
    """Draw the thresholds of a 1-bit scanner, one a pixel, equally often at every level.

    Because the levels are equally frequent, a page of darkness d (0 to 255) compared with them has the
    share d / 255 of black pixels.

    Args:
        rng: Source of the draws.
        shape: (H, W).
        grain: `white` decides every pixel alone, `clumped` makes specks of one to three pixels,
            `screen` makes the regular dots of a halftone print.

    Returns:
        (H, W) uint8; a pixel is ink where the page is darker than this.
    """
    white = rng.integers(0, 256, shape, dtype=np.uint8)
    if grain == "white":
        return white
    if grain == "clumped":
        levels = cv2.GaussianBlur(white, (3, 3), float(rng.uniform(0.45, 0.75)))
    else:
        tile = _screen_tile(shape, float(rng.uniform(3.2, 5.5)), float(rng.uniform(0.0, np.pi / 2)))
        levels = cv2.addWeighted(tile, 0.72, white, 0.28, 0.0)
    return np.asarray(cv2.equalizeHist(levels), dtype=np.uint8)


def _screen_tile(shape: tuple[int, int], pitch_px: float, angle_rad: float) -> npt.NDArray[np.uint8]:
    """Clustered-dot screen: the sum of two waves across each other, lowest in the middle of every dot."""
    # Phases in 1/256 of a turn: the overflow of a byte is the period of the wave.
    wave = np.rint(63.75 + 63.75 * np.cos(np.arange(256) * (2 * np.pi / 256))).astype(np.uint8)
    y, x = (np.arange(size) * (256.0 / pitch_px) for size in shape)
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    first = np.add.outer(_phase(y * sine), _phase(x * cosine))
    second = np.add.outer(_phase(y * cosine), _phase(x * -sine))
    return np.asarray(cv2.add(cv2.LUT(first, wave), cv2.LUT(second, wave)), dtype=np.uint8)


def _phase(position: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(position).astype(np.int64) & 255, dtype=np.uint8)


def scale_by(layer: npt.NDArray[np.uint8], field: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Multiply a layer by a field of factors; beyond 0 to 1 they are clipped.

    Args:
        layer: (H, W) darkness, 0 to 255.
        field: (h, w) float32, spread over the layer.

    Returns:
        (H, W) uint8.
    """
    levels = over_page(field, (layer.shape[0], layer.shape[1]))
    return np.asarray(cv2.multiply(layer, levels, scale=1.0 / 255.0), dtype=np.uint8)


def crisp(layer: npt.NDArray[np.uint8], white_at: float, black_at: float) -> npt.NDArray[np.uint8]:
    """Harden soft edges, as the threshold of a scanner does with a blurred line.

    Args:
        layer: (H, W) darkness, 0 to 255.
        white_at: Coverage up to which a pixel stays paper, 0 to 1.
        black_at: Coverage from which it is full ink.

    Returns:
        (H, W) uint8.
    """
    levels = (np.arange(256) / 255.0 - white_at) / (black_at - white_at)
    return np.asarray(
        cv2.LUT(layer, np.rint(np.clip(levels, 0.0, 1.0) * 255.0).astype(np.uint8)), dtype=np.uint8
    )


def flip(rng: np.random.Generator, ink: npt.NDArray[np.bool_], share: float, to: bool) -> None:
    """Set a share of the pixels, in specks of one to three pixels, in place.

    Args:
        rng: Source of the draws.
        ink: (H, W) bool.
        share: Of all pixels.
        to: What they become.
    """
    width = ink.shape[1]
    n_specks = int(share * ink.size / 1.75)  # mean size of a speck
    place = rng.integers(0, ink.size - width - 1, n_specks)
    flat = ink.reshape(-1)
    flat[place] = to
    flat[place[: n_specks // 2] + 1] = to
    flat[place[: n_specks // 4] + width] = to
