"""Grids of ECG paper, as two layers of darkness before the scanner sees them.

Lines are drawn as profiles along each axis and multiplied out, which makes every kind of grid an outer
product; the skew of the page comes last, by one bilinear warp.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.rendering.difficulty import GridKind, Range
from datamodules.rendering.fields import crisp, over_page, scale_by, smooth_field

Layer = npt.NDArray[np.uint8]
LINES_PER_THICK = 5  # one thick line every 5 mm


@dataclass(frozen=True)
class Ruling:
    """Where the lines of a page lie.

    Attributes:
        pitch_px: Millimetre in px on the scan, (along x, along y).
        phase_px: Position of one thick line, (x, y).
        turn: 2x2 rotation and shear of the page, without stretch.
        thin_px: Width of millimetre lines.
        thick_px: Width of 5 mm lines.
    """

    pitch_px: tuple[float, float]
    phase_px: tuple[float, float]
    turn: npt.NDArray[np.float64]
    thin_px: float
    thick_px: float


def grid_layers(
    rng: np.random.Generator, kind: GridKind, shape: tuple[int, int], ruling: Ruling, breaks_per_line: float
) -> tuple[Layer, Layer]:
    """Draw the lines of a grid.

    Args:
        rng: Source of the draws.
        kind: What the paper looks like.
        shape: (H, W) of the page.
        ruling: Where the lines lie.
        breaks_per_line: Interruptions of each thick line, on average.

    Returns:
        Thin and thick lines, each (H, W) uint8, 0 = paper, 255 = full line.
    """
    (thin_y, thick_y), (thin_x, thick_x) = (
        _profiles(rng, shape[axis], ruling.pitch_px[1 - axis], ruling.phase_px[1 - axis], ruling)
        for axis in (0, 1)
    )
    thin, thick = _combine(kind, (thin_y, thick_y), (thin_x, thick_x))
    if kind in ("dissolved", "solid", "thick_only", "halftone", "dashed"):
        _break_lines(rng, thick, ruling, breaks_per_line)
    # Where a turned line lies between two rows of pixels it fades, so its dots come and go along it.
    return crisp(_turned(thin, ruling.turn), 0.25, 0.8), crisp(_turned(thick, ruling.turn), 0.2, 0.75)


def print_grid(
    rng: np.random.Generator, kind: GridKind, thin: Layer, thick: Layer, density_range: Range
) -> Layer:
    """Let the density of a grid drift over the page.

    Where little of the grid survives the scan, thin lines are lost first and thick ones break.

    Args:
        rng: Source of the draws.
        kind: Kind of the grid.
        thin: (H, W) millimetre lines.
        thick: (H, W) 5 mm lines.
        density_range: Bounds of the share of black pixels; kinds whose full lines cover less than that
            stay below.

    Returns:
        (H, W) uint8: the chance of ink, 255 = 1.
    """
    low, high = density_range
    bottom = rng.uniform(low, 0.55 * high)
    top = rng.uniform(bottom + 0.15 * high, high)
    density = bottom + (top - bottom) * smooth_field(rng, thin.shape, float(rng.uniform(150.0, 420.0)))
    if kind == "halftone":
        tint = over_page(density * np.float32(rng.uniform(0.45, 0.7)), (thin.shape[0], thin.shape[1]))
        return np.asarray(cv2.max(tint, scale_by(thick, density * np.float32(2.2))), dtype=np.uint8)
    cover_thin, cover_thick = (max(float(layer.mean()) / 255.0, 1e-3) for layer in (thin, thick))
    # The share of the darkness that the thick lines take before thin ones show.
    taken = {"dissolved": rng.uniform(0.6, 0.95), "solid": rng.uniform(0.4, 0.7)}.get(kind, 0.8)
    chance_thick = np.clip(density * np.float32(taken / cover_thick), 0.3, 0.985)
    chance_thin = np.maximum(density - chance_thick * np.float32(cover_thick), 0.012) / np.float32(cover_thin)
    return np.asarray(cv2.max(scale_by(thin, chance_thin), scale_by(thick, chance_thick)), dtype=np.uint8)


def _profiles(
    rng: np.random.Generator, size: int, pitch_px: float, phase_px: float, ruling: Ruling
) -> tuple[Layer, Layer]:
    """Thin and thick lines crossing one axis, (size,) uint8 each; lines differ in strength a little."""
    # Lines start before the page, since the turn brings what lies outside into view.
    first = int(np.ceil((-phase_px) / pitch_px)) - LINES_PER_THICK
    number = np.arange(first, int((size - phase_px) / pitch_px) + 1 + LINES_PER_THICK)
    is_thick = number % LINES_PER_THICK == 0
    centre = phase_px + number * pitch_px
    axis_strength = rng.uniform(0.75, 1.0)
    strength = axis_strength * rng.uniform(0.8, 1.0, number.size)
    return (
        _lines(size, centre[~is_thick], ruling.thin_px, strength[~is_thick]),
        _lines(size, centre[is_thick], ruling.thick_px, strength[is_thick]),
    )


def _lines(
    size: int, centre: npt.NDArray[np.float64], width_px: float, strength: npt.NDArray[np.float64]
) -> Layer:
    """Coverage of each pixel of an axis by lines of a width, at sub-pixel places."""
    reach = int(np.ceil(width_px / 2 + 0.5))
    pixel = np.floor(centre)[:, None] + np.arange(-reach, reach + 2)
    overlap = np.clip(width_px / 2 + 0.5 - np.abs(pixel - centre[:, None]), 0.0, min(1.0, width_px))
    keep = (pixel >= 0) & (pixel < size)
    profile = np.zeros(size)
    np.maximum.at(profile, pixel[keep].astype(np.intp), (overlap * strength[:, None])[keep])
    return np.asarray(np.rint(profile * 255.0), dtype=np.uint8)


def _combine(
    kind: GridKind, along_y: tuple[Layer, Layer], along_x: tuple[Layer, Layer]
) -> tuple[Layer, Layer]:
    """Multiply the profiles out to the two layers of a kind."""
    (thin_y, thick_y), (thin_x, thick_x) = along_y, along_x
    blank = np.zeros((thin_y.size, thin_x.size), dtype=np.uint8)
    if kind == "none":
        return blank, blank.copy()
    lines_thick = np.maximum.outer(thick_y, thick_x)
    if kind in ("thick_only", "halftone"):
        return blank, lines_thick
    if kind == "dashed":
        wave_y, wave_x = (np.roll(thick, 3) // 2 + thick // 2 for thick in (thick_y, thick_x))
        gaps = np.maximum.outer(wave_y, wave_x) // 2
        dash_y = (np.arange(thin_y.size) % 7 < 4).astype(np.uint8)
        dash_x = (np.arange(thin_x.size) % 7 < 4).astype(np.uint8)
        return gaps, np.maximum(np.outer(thick_y, dash_x), np.outer(dash_y, thick_x))
    any_y, any_x = np.maximum(thin_y, thick_y), np.maximum(thin_x, thick_x)
    if kind == "dotted_lines":
        return blank, np.maximum(_crossings(thick_y, any_x), _crossings(any_y, thick_x))
    if kind == "dots":
        return _crossings(any_y, any_x), _crossings(thick_y, thick_x)
    if kind == "thin_only":
        return np.maximum.outer(any_y, any_x), blank
    return np.maximum.outer(thin_y, thin_x), lines_thick


def _crossings(along_y: Layer, along_x: Layer) -> Layer:
    """Dots where lines cross, as dark as the weaker line, swollen as print dots are."""
    dots = np.minimum.outer(along_y, along_x)
    return np.asarray(cv2.dilate(dots, np.ones((2, 2), dtype=np.uint8)), dtype=np.uint8)


def _break_lines(rng: np.random.Generator, thick: Layer, ruling: Ruling, breaks_per_line: float) -> None:
    """Erase pieces of 3 to 40 px from thick lines, in place."""
    height, width = thick.shape
    reach = int(np.ceil(ruling.thick_px / 2)) + 1
    for axis, (size, length) in enumerate(((height, width), (width, height))):
        pitch_px = ruling.pitch_px[1 - axis] * LINES_PER_THICK
        n_breaks = rng.poisson(breaks_per_line * size / pitch_px)
        line = rng.integers(0, max(1, int(size / pitch_px)) + 1, n_breaks)
        start = rng.integers(0, length, n_breaks)
        stop = start + np.rint(3.0 + rng.exponential(9.0, n_breaks)).astype(np.intp)
        phase_px = ruling.phase_px[1 - axis] % pitch_px
        centre = np.rint(phase_px + line * pitch_px).astype(np.intp)
        for middle, begin, end in zip(centre, start, stop, strict=True):
            across = slice(max(middle - reach, 0), middle + reach + 1)
            piece = (across, slice(begin, end)) if axis == 0 else (slice(begin, end), across)
            thick[piece] = 0


def _turned(layer: Layer, turn: npt.NDArray[np.float64]) -> Layer:
    """Turn a layer around the middle of the page."""
    if np.array_equal(turn, np.eye(2)):
        return layer
    height, width = layer.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([turn, centre - turn @ centre])
    turned = cv2.warpAffine(layer, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, dtype=np.uint8)
