"""Draw a page of `foreign_pages` with Matplotlib or Pillow, and do to it what printers and scanners do."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.performance.foreign_pages import Choices, Colour, Drawing, Points

MM_PER_INCH = 25.4
PT_PER_MM = 72 / MM_PER_INCH
FAMILIES = ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono")
PAPER: Colour = (255, 255, 255)
SPECKS_PER_PIXEL = 2e-5


def clean_picture(drawing: Drawing, choices: Choices) -> Image.Image:
    """Draw a page, RGB, before anything happens to it."""
    draw = with_matplotlib if choices.route == "matplotlib" else with_pillow
    return draw(drawing, choices)


def with_matplotlib(drawing: Drawing, choices: Choices) -> Image.Image:
    """Draw smooth lines."""
    width, height = drawing.size_mm
    figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), dpi=choices.dpi)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for strokes in drawing.strokes:
        colour = [part / 255 for part in strokes.colour]
        lines = LineCollection(strokes.paths, colors=[colour], linewidths=strokes.width_mm * PT_PER_MM)
        axes.add_collection(lines, autolim=False)
    family = FAMILIES[choices.number % len(FAMILIES)]
    for text in drawing.texts:
        axes.text(
            text.x_mm, text.y_mm, text.text, family=family, fontsize=text.height_mm * PT_PER_MM,
            ha="left" if text.side == "l" else "right", va="baseline",
            color=[part / 255 for part in drawing.ink],
        )  # fmt: skip
    with mpl.rc_context({"path.simplify": False}):
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def with_pillow(drawing: Drawing, choices: Choices) -> Image.Image:
    """Draw lines of whole pixels through whole pixels."""
    scale = choices.px_per_mm
    image = Image.new("RGB", (round(drawing.size_mm[0] * scale), round(drawing.size_mm[1] * scale)), PAPER)
    draw = ImageDraw.Draw(image)
    draw.fontmode = "1" if choices.number % 2 else "L"
    for strokes in drawing.strokes:
        width_px = max(1, round(strokes.width_mm * scale))
        for path in strokes.paths:
            draw.line([(int(x), int(y)) for x, y in in_px(path, scale)], strokes.colour, width_px)
    for text in drawing.texts:
        at = (text.x_mm * scale, text.y_mm * scale)
        draw.text(at, text.text, drawing.ink, _font(text.height_mm * scale, choices), anchor=f"{text.side}s")
    return image


def in_px(path: Points, px_per_mm: float) -> NDArray[np.int64]:
    """Whole pixels of a path in mm, (n, 2)."""
    return np.floor(path * px_per_mm).astype(np.int64)


def _font(size_px: float, choices: Choices) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if choices.number % 3 == 0:
        return ImageFont.load_default(size_px)
    family = FAMILIES[choices.number % len(FAMILIES)]
    return ImageFont.truetype(font_manager.findfont(family), size_px)


def scanned(image: Image.Image, choices: Choices, rng: np.random.Generator) -> Image.Image:
    """Turn, lean, shade and blur a page as its choices say."""
    if choices.turn_deg:
        image = image.rotate(choices.turn_deg, Image.Resampling.BICUBIC, fillcolor=PAPER)
    if choices.lean:
        image = _leaning(image, choices.lean, rng)
    if choices.shade:
        light = 1 - choices.shade * np.linspace(0, 1, image.width)[None, :, None]
        image = Image.fromarray((np.asarray(image) * light).astype(np.uint8))
    if choices.blur_px:
        image = image.filter(ImageFilter.GaussianBlur(choices.blur_px))
    return image


def _leaning(image: Image.Image, lean: float, rng: np.random.Generator) -> Image.Image:
    """Move every corner by up to a share of the width."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * image.size
    sources = corners + rng.uniform(-lean, lean, (4, 2)) * image.width
    rows = [
        row
        for (x, y), (u, v) in zip(corners, sources, strict=True)
        for row in ([x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y])
    ]
    eight = np.linalg.solve(np.array(rows), sources.ravel())
    return image.transform(
        image.size, Image.Transform.PERSPECTIVE, tuple(eight), Image.Resampling.BICUBIC, fillcolor=PAPER
    )


def as_file(image: Image.Image, choices: Choices, rng: np.random.Generator) -> tuple[bytes, str]:
    """Write a page as its choices say: the bytes, and the suffix."""
    buffer = io.BytesIO()
    if choices.output == "jpeg":
        image.save(buffer, "JPEG", quality=choices.quality)
        return buffer.getvalue(), ".jpg"
    if choices.output != "png":
        image = image.convert("L")
    if choices.output == "1-bit":
        image = _two_levels(np.asarray(image), choices.threshold, rng)
    image.save(buffer, "PNG", dpi=(choices.dpi, choices.dpi))
    return buffer.getvalue(), ".png"


def _two_levels(grey: NDArray[np.uint8], threshold: int, rng: np.random.Generator) -> Image.Image:
    """Black below the threshold, and some specks."""
    white = grey >= threshold
    n_specks = rng.poisson(SPECKS_PER_PIXEL * white.size)
    white[rng.integers(0, white.shape[0], n_specks), rng.integers(0, white.shape[1], n_specks)] = False
    return Image.fromarray(white)


def drawn_page(drawing: Drawing, choices: Choices, seed: int) -> tuple[bytes, str]:
    """Draw a page from its first stroke to its file: the bytes, and the suffix."""
    rng = np.random.default_rng([seed, choices.number, 1])
    return as_file(scanned(clean_picture(drawing, choices), choices, rng), choices, rng)
