"""How pages of a variety end: photographed in grey or colour, or brought to one bit in seven ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.rendering import binary, damage
from datamodules.rendering.difficulty import WIDE, Difficulty, GridKind
from datamodules.rendering.fields import crisp, flip
from datamodules.rendering.variety import Finish, Variety

Layer = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

GRID_COLOURS: tuple[Colour, ...] = (
    (224, 84, 84), (240, 120, 120), (246, 160, 180), (236, 130, 170), (240, 158, 92), (226, 120, 60),
    (170, 120, 80), (190, 150, 120), (110, 150, 226), (90, 180, 220), (112, 190, 128), (120, 160, 90),
    (150, 150, 150), (110, 110, 110), (180, 170, 190),
)  # fmt: skip
INK_COLOURS: tuple[Colour, ...] = (
    (0, 0, 0), (0, 0, 0), (10, 10, 20), (0, 0, 110), (20, 40, 150), (110, 0, 0), (70, 0, 90), (0, 70, 30),
)  # fmt: skip
PAPERS: tuple[Colour, ...] = (
    (255, 255, 255), (255, 255, 255), (252, 250, 244), (250, 242, 226), (255, 242, 242), (240, 246, 240),
    (236, 236, 240), (246, 236, 210),
)  # fmt: skip
LUMA = np.array([0.299, 0.587, 0.114])
_SCANNER: Difficulty = replace(WIDE, name="varied")


@dataclass(frozen=True)
class Printed:
    """What is printed, as it lies on the scan: (H, W) uint8 each, 255 = full ink.

    Attributes:
        thin: Millimetre lines; in a page of chances the whole grid.
        thick: 5 mm lines.
        text: What the cart prints besides.
        pen: What people add.
        paper: 255 inside of the sheet.
        trace: The traces.
        kind: Kind of grid.
        px_per_mm: Scale along time.
        stroke_px: Nominal stroke.
    """

    thin: Layer
    thick: Layer
    text: Layer
    pen: Layer
    paper: Layer
    trace: Layer
    kind: GridKind
    px_per_mm: float
    stroke_px: float


def finished(
    rng: np.random.Generator, printed: Printed, mask: Layer, finish: Finish, variety: Variety
) -> tuple[Layer, int | None]:
    """Bring a page to its end.

    Args:
        rng: Source of the draws.
        printed: The page.
        mask: (H, W) 0/1, its traces.
        finish: How it ends.
        variety: Shares and ranges.

    Returns:
        Ink of a 1-bit page, else brightness in grey or RGB; and the quality of the JPEG that holds it.
    """
    if finish == "chance":
        return _chance(rng, printed, variety), None
    if finish in ("grey", "colour"):
        return _photographed(rng, printed, finish, variety)
    if finish in ("reduced", "enlarged"):
        return 255 - _resampled(rng, printed, mask, finish, variety), None
    if finish in ("reduced", "enlarged"):
        return 255 - _resampled(rng, printed, mask, finish, variety), None
    return _one_bit(rng, printed, mask, finish, variety), None


def _chance(rng: np.random.Generator, printed: Printed, variety: Variety) -> Layer:
    """The page as a 1-bit scanner with noise at its level sees it."""
    solid = float(rng.uniform(0.9, 1.0))
    trace = cv2.convertScaleAbs(crisp(printed.trace, 0.12, 0.62), alpha=solid)
    lettered = crisp(
        np.asarray(cv2.max(printed.text, printed.pen), dtype=np.uint8), 0.1, float(rng.uniform(0.5, 0.9))
    )
    chance = cv2.max(cv2.max(printed.thin, trace), lettered)
    if rng.random() < 0.3:
        chance = cv2.max(chance, cv2.bitwise_not(printed.paper))
    noise = replace(_SCANNER, speckle=variety.speckle, salt=variety.salt)
    return binary.scan(rng, np.asarray(chance, dtype=np.uint8), printed.kind, noise)


def _photographed(
    rng: np.random.Generator, printed: Printed, finish: Finish, variety: Variety
) -> tuple[Layer, int | None]:
    """The page in grey or colour, and the quality of the JPEG it is stored as."""
    ink, paper = _ink_and_paper(rng, finish, variety)
    grid = _grid_colour(rng, ink, paper, finish, variety)
    text = ink if rng.random() < 0.6 else _ink_and_paper(rng, finish, variety)[0]
    hand = _ink_and_paper(rng, finish, variety)[0]
    image = _inked(rng, printed, (grid, text, hand, ink), paper)
    if rng.random() < 1 / 3:
        kept = float(rng.uniform(*variety.contrast))
        image = np.asarray(cv2.convertScaleAbs(image, alpha=kept, beta=255.0 * (1 - kept)), dtype=np.uint8)
    image = _lit(rng, image, variety)
    image = damage.brightened(_resolved(rng, image, printed, variety))
    image = damage.add_noise(rng, image, float(rng.uniform(*variety.noise)) * float(rng.random() < 0.7))
    _scarred(rng, image, variety, ink=0)
    if rng.random() < variety.jpeg_share:
        return image, int(rng.integers(variety.jpeg_quality[0], variety.jpeg_quality[1] + 1))
    return image, None


def _ink_and_paper(
    rng: np.random.Generator, finish: Finish, variety: Variety
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    level = float(rng.uniform(*variety.trace_level)) if rng.random() < 0.5 else float(rng.uniform(0.0, 30.0))
    if finish != "colour":
        return (round(level),), (int(rng.integers(225, 256)),)
    colour = np.array(INK_COLOURS[int(rng.integers(len(INK_COLOURS)))], dtype=np.float64)
    raised = np.clip(colour + max(level - float(colour @ LUMA), 0.0), 0, 255)
    paper = PAPERS[int(rng.integers(len(PAPERS)))]
    return tuple(np.rint(raised).astype(int).tolist()), paper


def _grid_colour(
    rng: np.random.Generator, ink: tuple[int, ...], paper: tuple[int, ...], finish: Finish, variety: Variety
) -> tuple[int, ...]:
    """A grid of at least a step brighter than the trace."""
    weights = LUMA if finish == "colour" else np.ones(1)
    floor = float(np.array(ink) @ weights) + variety.grid_contrast
    if finish != "colour":
        return (round(float(rng.uniform(min(floor, 220.0), 238.0))),)
    colour = np.array(GRID_COLOURS[int(rng.integers(len(GRID_COLOURS)))], dtype=np.float64)
    colour += float(rng.uniform(-70.0, 40.0))  # darker and paler prints of the same colour
    short = max(floor - float(np.clip(colour, 0, 255) @ weights), 0.0)
    return tuple(np.rint(np.clip(colour + 1.3 * short, 0, 250)).astype(int).tolist())


def _inked(
    rng: np.random.Generator,
    printed: Printed,
    inks: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    paper: tuple[int, ...],
) -> Layer:
    """Print the printed on paper; inks are those of grid, text, pen and trace."""
    grid, text, hand, trace = inks
    background = int(rng.choice((255, 20, 90)))
    shape = printed.trace.shape
    image = np.full(shape if len(paper) == 1 else (*shape, 3), paper, dtype=np.uint8)
    faint = cv2.convertScaleAbs(printed.thin, alpha=float(rng.uniform(0.35, 1.0)))
    lines = np.asarray(cv2.max(faint, printed.thick), dtype=np.uint8)
    image = damage.lay_ink(image, lines, grid)
    if int(printed.pen.max()):
        image = damage.lay_ink(image, printed.pen, hand)
    if text == trace:
        return _on_desk(
            damage.lay_ink(image, np.asarray(cv2.max(printed.text, printed.trace)), trace),
            printed,
            background,
        )
    image = damage.lay_ink(image, printed.text, text)
    return _on_desk(damage.lay_ink(image, printed.trace, trace), printed, background)


def _on_desk(image: Layer, printed: Printed, background: int) -> Layer:
    """Show the scanner's lid or the desk beside the paper."""
    image[printed.paper < 128] = background
    return image


def _lit(rng: np.random.Generator, image: Layer, variety: Variety) -> Layer:
    """Uneven light, shadows, stains and folds."""
    shape = (image.shape[0], image.shape[1])
    light = None
    if rng.random() < 0.5:
        light = damage.uneven_light(rng, shape, float(rng.uniform(*variety.light)))
    for mark in (damage.cast_shadow, damage.stain):
        if rng.random() < variety.damage_share:
            light = np.full(shape, 255, dtype=np.uint8) if light is None else light
            mark(rng, light)
    if light is not None:
        image = damage.dim(image, light)
    return damage.crease(rng, image) if rng.random() < variety.damage_share else image


def _resolved(rng: np.random.Generator, image: Layer, printed: Printed, variety: Variety) -> Layer:
    """Bled ink, soft focus and coarse scans."""
    if rng.random() < variety.damage_share:
        thick = cv2.erode(image, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
        image = np.asarray(cv2.addWeighted(image, 0.4, thick, 0.6, 0.0), dtype=np.uint8)
    if rng.random() < variety.coarse_share and printed.stroke_px >= 1.5:
        factor = float(rng.uniform(*variety.coarse_px_per_mm)) / printed.px_per_mm
        image = damage.coarsened(image, min(factor, 1.0))
    elif rng.random() < variety.blur_share:
        blur_px = float(rng.uniform(*variety.blur_px)) * min(1.0, 0.5 + 0.25 * printed.stroke_px)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur_px), dtype=np.uint8)
    return image


def _scarred(rng: np.random.Generator, image: Layer, variety: Variety, ink: int) -> None:
    """Fax lines and punch holes, in place; `ink` is the level of black."""
    if rng.random() < variety.damage_share:
        damage.fax_lines(rng, image, ink)
    if rng.random() < variety.damage_share:
        damage.punch_holes(rng, image)


def _one_bit(
    rng: np.random.Generator, printed: Printed, mask: Layer, finish: Finish, variety: Variety
) -> Layer:
    """Print in grey, damage and binarize; more gently where the trace would drown."""
    image, (dark, trace_level, paper) = _before_one_bit(rng, printed, mask, variety)
    page = _binarized(rng, image, finish, (trace_level, paper), variety)
    for gentle in _gentler(rng, image, printed, (dark, trace_level, paper)):
        if damage.readable_share(page, mask, variety.readable) >= variety.readable_share:
            break
        page = gentle
    _scarred(rng, page, variety, ink=255)
    return page


def _before_one_bit(
    rng: np.random.Generator, printed: Printed, mask: Layer, variety: Variety
) -> tuple[Layer, tuple[float, float, float]]:
    """The page in grey, damaged; and the brightness of its ink, of its traces and of its paper."""
    dark, paper = float(rng.uniform(0.0, 60.0)), float(rng.integers(225, 256))
    over = float(rng.uniform(*variety.grid_over_trace))
    clean = _in_grey(rng, printed, dark, paper, over)
    image = _resolved(rng, _lit(rng, clean, variety), printed, variety)
    image = damage.add_noise(rng, image, float(rng.uniform(*variety.noise)) * 2.0)
    if rng.random() < variety.jpeg_share / 2:
        low, high = variety.jpeg_quality
        image = damage.through_jpeg(image, int(rng.integers(low, high + 1)))
    trace_level = float(np.percentile(image[mask > 0], 60)) if mask.any() else dark
    return image, (dark, trace_level, paper)


def _resampled(
    rng: np.random.Generator, printed: Printed, mask: Layer, finish: Finish, variety: Variety
) -> Layer:
    """Ink of a page that had one bit a pixel at another resolution, brought to this one as a reader does.

    A stroke that would be lost at a coarse resolution is never brought there; such pages are reduced.
    """
    height, width = mask.shape
    image, (dark, trace_level, paper) = _before_one_bit(rng, printed, mask, variety)
    factor = float(rng.uniform(*variety.fine_factor))
    if finish == "enlarged" and printed.stroke_px >= 1.5:
        factor = float(rng.uniform(*variety.coarse_px_per_mm)) / printed.px_per_mm
    size = (round(width * factor), round(height * factor))
    there, back = (cv2.INTER_AREA, cv2.INTER_CUBIC) if factor < 1 else (cv2.INTER_CUBIC, cv2.INTER_AREA)

    def at_level(source: Layer, level: float) -> Layer:
        other = np.asarray(cv2.resize(source, size, interpolation=there), dtype=np.uint8)
        ink = damage.darker(other, level)
        return np.asarray(cv2.resize(ink, (width, height), interpolation=back), dtype=np.uint8)

    page = at_level(image, trace_level + float(rng.uniform(0.3, 0.9)) * (paper - trace_level))
    if damage.readable_share(_solid(page), mask, variety.readable) < variety.readable_share:
        # More gently: a clean print, since the trace drowned.
        clean = _in_grey(rng, printed, dark, paper, over=0.4)
        page = at_level(clean, dark + 0.6 * (paper - dark))
    return page


def _solid(ink: Layer) -> Layer:
    """Grey ink as one bit a pixel."""
    return np.asarray(cv2.threshold(ink, 127, 255, cv2.THRESH_BINARY)[1], dtype=np.uint8)


def _in_grey(rng: np.random.Generator, printed: Printed, dark: float, paper: float, over: float) -> Layer:
    ink, grid = (round(dark),), (round(paper - over * (paper - dark)),)
    return _inked(rng, printed, (grid, ink, ink, ink), (round(paper),))


def _gentler(
    rng: np.random.Generator, image: Layer, printed: Printed, levels: tuple[float, float, float]
) -> Iterator[Layer]:
    """The page by a threshold right above the trace, by a local one, and a clean print of it."""
    dark, trace, paper = levels
    yield damage.darker(image, trace + 0.4 * (paper - trace))
    yield damage.binarize(rng, image, "adaptive", trace, paper)
    clean = _in_grey(rng, printed, dark, paper, over=0.4)
    yield damage.darker(clean, dark + 0.6 * (paper - dark))


def _binarized(
    rng: np.random.Generator, image: Layer, finish: Finish, levels: tuple[float, float], variety: Variety
) -> Layer:
    """One bit a pixel, at times through twice the resolution, with speckle and salt."""
    how: damage.Binarization = finish  # type: ignore[assignment]
    is_fine = finish in ("global", "otsu") and rng.random() < variety.fine_share
    if is_fine:
        height, width = image.shape
        large = np.asarray(
            cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8
        )
        page = damage.binarize(rng, damage.add_noise(rng, large, 12.0), how, *levels)
        small = cv2.resize(page, (width, height), interpolation=cv2.INTER_AREA)
        page = np.asarray(~damage.darker(np.asarray(small, dtype=np.uint8), float(rng.integers(90, 170))))
    else:
        page = damage.binarize(rng, image, how, *levels)
    if rng.random() < 0.5:
        ink = page > 0
        flip(rng, ink, float(rng.uniform(*variety.salt)), to=False)
        flip(rng, ink, float(rng.uniform(*variety.speckle)), to=True)
        page = ink.view(np.uint8) * np.uint8(255)
    return page
