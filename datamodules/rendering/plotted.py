"""A second renderer, for validation only: pages plotted with matplotlib, sharing no drawing code.

A reader that learnt the habits of the generator it was trained on (its letters, its line ends, its dither)
shows it here: vector lines by Agg, letters that come with Pillow, grids ruled line by line, four looks after
common devices and programs, 75 to 300 dots per inch, saved in colour, grey or 1 bit.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Affine2D
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from datamodules.geometry import DrawnSegment, Geometry
from datamodules.layout import LEADS, Layout
from datamodules.rendering.pages import RenderedPage
from datamodules.signals import Recording

Pixels = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]
Ruling = Literal["solid", "dashed", "dotted", "points", "none"]
Saving = Literal["colour", "colour_jpeg", "grey", "grey_jpeg", "threshold", "dither", "fax"]

CANVAS_DPI = 100.0  # matplotlib's; widths are handed over in points
# Dots per inch and how often; 300 dpi pages take longest.
RESOLUTIONS = ((75.0, 0.1), (100.0, 0.3), (120.0, 0.2), (150.0, 0.22), (200.0, 0.12), (300.0, 0.06))
SAVINGS: tuple[tuple[Saving, float], ...] = (
    ("colour", 0.2), ("colour_jpeg", 0.18), ("grey", 0.1), ("grey_jpeg", 0.1), ("threshold", 0.22),
    ("dither", 0.08), ("fax", 0.12),
)  # fmt: skip
TURNED_SHARE, TURN_DEG = 0.4, 1.5
LEAST_MASK_PX = 1.25  # thinner lines would break where Agg shares them between two rows


@dataclass(frozen=True)
class Look:
    """What pages of one kind of device have in common.

    Attributes:
        name: Of the look.
        layouts: It prints.
        grids: (thin, thick) colour, red green blue from 0 to 1.
        rulings: How its millimetre lines are drawn; 5 mm lines are whole unless these are points.
        names_mm: Height of lead names over the trace's zero.
        letter_mm: Height of letters.
        pulse: Where calibration pulses stand.
        marks: Whether lead changes are marked.
        header: Whether patient and measurements are printed.
    """

    name: str
    layouts: tuple[str, ...]
    grids: tuple[tuple[Colour, Colour], ...]
    rulings: tuple[Ruling, ...]
    names_mm: float
    letter_mm: float
    pulse: Literal["left", "right", "none"]
    marks: bool
    header: bool


LOOKS = (
    Look(
        name="ge",
        layouts=("3x4+1", "3x4+3", "6x2+1"),
        grids=(((0.98, 0.72, 0.72), (0.95, 0.45, 0.45)), ((1.0, 0.8, 0.8), (0.9, 0.3, 0.3))),
        rulings=("solid", "dotted"),
        names_mm=7.0,
        letter_mm=3.2,
        pulse="right",
        marks=True,
        header=True,
    ),
    Look(
        name="philips",
        layouts=("3x4+1", "3x4+3", "3x4", "12x1"),
        grids=(((1.0, 0.86, 0.76), (0.98, 0.66, 0.5)), ((0.9, 0.85, 0.8), (0.75, 0.62, 0.5))),
        rulings=("solid", "none", "dashed"),
        names_mm=5.0,
        letter_mm=2.6,
        pulse="left",
        marks=False,
        header=True,
    ),
    Look(
        name="mortara",
        layouts=("3x4+3", "6x2", "12x1", "four_line"),
        grids=(((0.85, 0.85, 0.85), (0.6, 0.6, 0.6)), ((0.75, 0.86, 0.97), (0.45, 0.62, 0.9))),
        rulings=("points", "solid"),
        names_mm=4.0,
        letter_mm=3.6,
        pulse="left",
        marks=False,
        header=True,
    ),
    Look(
        name="plain",
        layouts=("6x2", "12x1", "3x4", "3x4+1", "six_line"),
        grids=(
            ((1.0, 0.7, 0.7), (1.0, 0.0, 0.0)),
            ((0.7, 0.9, 0.75), (0.3, 0.65, 0.4)),
            ((0.8, 0.8, 0.8), (0.4, 0.4, 0.4)),
        ),
        rulings=("solid", "solid", "dotted"),
        names_mm=8.0,
        letter_mm=3.4,
        pulse="none",
        marks=False,
        header=False,
    ),
)


@dataclass
class _Sheet:
    """A page while it is plotted: px of the page, 0 in the middle of the first pixel.

    Attributes:
        geometry: Where leads lie.
        px_per_mm: Scale.
        line_px: Width of traces.
        grid: (thin, thick) colour.
        letters: What is to be written: (x, y, text, height in px), ideal.
    """

    geometry: Geometry
    px_per_mm: float
    line_px: float
    grid: tuple[Colour, Colour]
    letters: list[tuple[float, float, str, float]] = field(default_factory=list)


def render(recording: Recording, layout: Layout, rng: np.random.Generator) -> RenderedPage:
    """Plot a recording.

    Args:
        recording: What to draw, at least as long as the layout.
        layout: Which lead is where.
        rng: Source of every draw.

    Returns:
        The page, its mask and geometry; `grid` says look, way of saving and resolution.
    """
    looks = [look for look in LOOKS if layout.name in look.layouts] or list(LOOKS)
    look = looks[int(rng.integers(len(looks)))]
    dpi = RESOLUTIONS[int(rng.choice(len(RESOLUTIONS), p=[share for _, share in RESOLUTIONS]))][0]
    saving = SAVINGS[int(rng.choice(len(SAVINGS), p=[share for _, share in SAVINGS]))][0]
    sheet = _lay_out(rng, look, layout, dpi)
    rgb, mask = _plot(rng, look, sheet, recording)
    _write(rng, look, sheet)
    rgb = _lettered(sheet, rgb)
    image, quality = _saved(rng, saving, rgb, sheet)
    is_binary = saving in ("threshold", "dither", "fax")
    kind = f"{look.name} {saving} {dpi:.0f} dpi"
    return RenderedPage(image, mask, sheet.geometry, is_binary, sheet.line_px, kind, jpeg_quality=quality)


def _lay_out(rng: np.random.Generator, look: Look, layout: Layout, dpi: float) -> _Sheet:
    mm = dpi / 25.4
    mm_per_s = 50.0 if dpi <= 150.0 and rng.random() < 0.12 else 25.0
    mm_per_mv = float(rng.choice((10.0, 5.0, 20.0), p=(0.84, 0.1, 0.06)))
    row_mm = {3: 40.0, 4: 32.0, 5: 27.0, 6: 24.0, 7: 22.0}.get(layout.n_rows, 15.0) * float(
        rng.uniform(0.85, 1.15)
    )
    left_mm, right_mm = float(rng.uniform(9.0, 18.0)), float(rng.uniform(9.0, 16.0))
    top_mm = float(rng.uniform(28.0, 50.0)) if look.header else float(rng.uniform(4.0, 14.0))
    width = round((left_mm + layout.duration_s * mm_per_s + right_mm) * mm)
    height = round((top_mm + layout.n_rows * row_mm + float(rng.uniform(6.0, 16.0))) * mm)
    angle = np.radians(float(rng.uniform(-TURN_DEG, TURN_DEG)) * float(rng.random() < TURNED_SHARE))
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    x, y = (width - 1) / 2, (height - 1) / 2
    affine = (
        (cosine, -sine, x - cosine * x + sine * y),
        (sine, cosine, y - sine * x - cosine * y),
    )
    segments = tuple(
        DrawnSegment(
            one.lead, one.row, one.start_s, one.stop_s,
            (left_mm + one.start_s * mm_per_s) * mm, (top_mm + (one.row + 0.5) * row_mm) * mm,
        )
        for one in layout.segments
    )  # fmt: skip
    geometry = Geometry(width, height, mm * mm_per_s, mm * mm_per_mv, affine, segments)
    colours = look.grids[int(rng.integers(len(look.grids)))]
    return _Sheet(geometry, mm, max(float(rng.uniform(0.2, 0.55)) * mm, 0.8), colours)


def _plot(rng: np.random.Generator, look: Look, sheet: _Sheet, recording: Recording) -> tuple[Pixels, Pixels]:
    """Draw grid, traces, pulses and marks; then the traces alone, as the mask."""
    geometry = sheet.geometry
    figure = Figure(figsize=(geometry.width / CANVAS_DPI, geometry.height / CANVAS_DPI), dpi=CANVAS_DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(-0.5, geometry.width - 0.5)
    axes.set_ylim(geometry.height - 0.5, -0.5)
    (a, b, c), (d, e, f) = geometry.affine
    laid: Any = Affine2D(np.array([[a, b, c], [d, e, f], [0.0, 0.0, 1.0]])) + axes.transData
    for lines in _ruled(rng, look, sheet):
        lines.set_transform(laid)
        axes.add_artist(lines)
    ink = (0.0, 0.0, float(rng.choice((0.0, 0.0, 0.35))))
    joins: tuple[Literal["miter", "round", "bevel"], ...] = ("miter", "round", "bevel")
    join = joins[int(rng.integers(len(joins)))]
    for points in _extras(look, geometry, sheet.px_per_mm):
        axes.add_line(
            Line2D(*points.T, color=ink, linewidth=_points(max(1.2 * sheet.line_px, 1.0)), transform=laid)
        )
    for segment in geometry.segments:
        points = geometry.polyline(segment, recording.mv[LEADS.index(segment.lead)], recording.rate_hz)
        line = Line2D(
            *points.T, color=ink, linewidth=_points(sheet.line_px), solid_joinstyle=join, gid="trace"
        )
        line.set_snap(False)
        axes.add_line(line)
    page = _pixels(canvas)
    for artist in axes.get_children():
        if isinstance(artist, Line2D) and artist.get_gid() == "trace":
            artist.set(color="black", linewidth=_points(max(sheet.line_px, LEAST_MASK_PX)))
        else:
            artist.set_visible(False)
    return page, (_pixels(canvas)[..., 0] < 128).view(np.uint8)


def _ruled(rng: np.random.Generator, look: Look, sheet: _Sheet) -> list[LineCollection | Line2D]:
    """Lines of the grid, thin ones first."""
    ruling = look.rulings[int(rng.integers(len(look.rulings)))]
    geometry, mm = sheet.geometry, sheet.px_per_mm
    thin, thick = sheet.grid
    reach = 0.04 * geometry.width  # the turn brings in what lies beside the page
    width, height = geometry.width, geometry.height
    x0, y0 = (float(start) * 5.0 * mm - reach for start in rng.uniform(-1.0, 0.0, 2))
    thin_px, thick_px = max(0.12 * mm, 0.6), max(float(rng.uniform(0.18, 0.35)) * mm, 0.8)
    drawn: list[LineCollection | Line2D] = []
    x, y = np.arange(x0, width + reach, mm), np.arange(y0, height + reach, mm)
    if ruling == "points":
        grid_x, grid_y = np.meshgrid(x, y)
        dots = Line2D(grid_x.ravel(), grid_y.ravel(), linestyle="", marker="s", color=thick)
        dots.set(markersize=_points(max(0.2 * mm, 1.0)), markeredgewidth=0.0)
        drawn.append(dots)
    elif ruling != "none":
        style: Any = {"solid": "solid", "dashed": (0, (3, 2)), "dotted": (0, (1, 1.5))}[ruling]
        drawn.append(
            LineCollection(
                _grid_lines(x, y, reach, width, height),
                colors=[thin],
                linewidths=_points(thin_px),
                linestyles=[style],
            )
        )
    if ruling != "points" or rng.random() < 0.5:
        lines = _grid_lines(x[::5], y[::5], reach, width, height)
        drawn.append(LineCollection(lines, colors=[thick], linewidths=_points(thick_px)))
    return drawn


def _grid_lines(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], reach: float, width: int, height: int
) -> Sequence[Any]:
    upright = [((at, -reach), (at, height + reach)) for at in x]
    return [*upright, *(((-reach, at), (width + reach, at)) for at in y)]


def _extras(look: Look, geometry: Geometry, mm: float) -> list[npt.NDArray[np.float64]]:
    """Calibration pulses and marks of lead changes, ideal px."""
    lines = []
    rows = {segment.row: segment.y0_px for segment in geometry.segments}
    first = min(segment.x0_px for segment in geometry.segments)
    last = first + max(segment.stop_s for segment in geometry.segments) * geometry.px_per_s
    start = first - 8.0 * mm if look.pulse == "left" else last + 1.5 * mm
    mv = geometry.px_per_mv
    for y in rows.values() if look.pulse != "none" else ():
        corners = [[0.0, 0.0], [mm, 0.0], [mm, -mv], [6.0 * mm, -mv], [6.0 * mm, 0.0], [7.0 * mm, 0.0]]
        lines.append(np.array(corners) + np.array([start, y]))
    for segment in geometry.segments if look.marks else ():
        if segment.start_s > 0:
            for low, high in ((-5.0, -2.0), (2.0, 5.0)):
                lines.append(
                    np.array(
                        [
                            [segment.x0_px, segment.y0_px + low * mm],
                            [segment.x0_px, segment.y0_px + high * mm],
                        ]
                    )
                )
    return lines


def _write(rng: np.random.Generator, look: Look, sheet: _Sheet) -> None:
    """Lead names, and above the traces patient, measurements and interpretation."""
    geometry, mm = sheet.geometry, sheet.px_per_mm
    size = max(look.letter_mm * mm, 8.0)
    for segment in geometry.segments:
        sheet.letters.append(
            (segment.x0_px + mm, segment.y0_px - look.names_mm * mm - size, segment.lead, size)
        )
    scale = f"{geometry.px_per_s / mm:.0f} mm/s   {geometry.px_per_mv / mm:.0f} mm/mV   0.05-40 Hz"
    sheet.letters.append((8 * mm, geometry.height - 6.0 * mm, scale, 0.9 * size))
    if not look.header:
        return
    rate, pr, qrs, qtc, age, number = (
        int(n) for n in rng.integers((45, 110, 70, 370, 30, 10**5), (140, 200, 130, 460, 90, 10**6))
    )
    columns = (
        ("Doe, Jane", f"ID {number}", f"Age {age}", "Room 3"),
        (f"Rate  {rate}", f"PR  {pr}", f"QRSD  {qrs}", f"QTc  {qtc}"),
        ("SINUS RHYTHM", "BORDERLINE LEFT AXIS", "NONSPECIFIC T CHANGES", "UNCONFIRMED REPORT"),
    )
    for column, lines in enumerate(columns):
        for row, text in enumerate(lines):
            place = (
                (10.0 + column * 0.3 * geometry.width / mm) * mm,
                (3.0 + row * 1.5 * look.letter_mm) * mm,
            )
            sheet.letters.append((*place, text, size))


@lru_cache(maxsize=64)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)  # Aileron, which ships inside Pillow


def _lettered(sheet: _Sheet, rgb: Pixels) -> Pixels:
    layer = Image.new("L", (sheet.geometry.width, sheet.geometry.height), 0)
    pen = ImageDraw.Draw(layer)
    for x, y, text, size in sheet.letters:
        pen.text((x, y), text, fill=255, font=_font(round(size)))
    (a, b, c), (d, e, f) = sheet.geometry.affine
    # A turn's inverse is its transpose.
    back = (a, d, -(a * c + d * f), b, e, -(b * c + e * f))
    turned = layer.transform(layer.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
    page = Image.fromarray(rgb)
    page.paste((20, 20, 20), (0, 0), turned)
    return np.array(page)


def _saved(rng: np.random.Generator, saving: Saving, rgb: Pixels, sheet: _Sheet) -> tuple[Pixels, int | None]:
    """The page as a file holds it: brightness, or ink where it is 1 bit; and the JPEG's quality."""
    page = Image.fromarray(rgb)
    if saving.startswith("colour"):
        page = _camera(rng, page) if rng.random() < 0.4 else page
        return np.array(page), int(rng.integers(40, 92)) if saving == "colour_jpeg" else None
    page = page.convert("L")
    if saving.startswith("grey"):
        page = _camera(rng, page) if rng.random() < 0.5 else page
        return np.array(page), int(rng.integers(40, 92)) if saving == "grey_jpeg" else None
    if saving == "dither":
        return np.where(np.array(page.convert("1")), 0, 255).astype(np.uint8), None
    if saving == "fax":
        page = _camera(rng, page.filter(ImageFilter.GaussianBlur(0.12 * sheet.px_per_mm)))
    # The level lies below the thick lines of the grid, and so loses it, or between these and thin ones.
    thin, thick = (255.0 * float(np.array(colour) @ (0.299, 0.587, 0.114)) for colour in sheet.grid)
    level = 0.7 * thick if rng.random() < 0.2 else float(rng.uniform(0.7 * thick + 0.3 * thin, thin))
    ink = np.array(page) < level
    if saving == "fax":
        ink ^= rng.random(ink.shape, dtype=np.float32) < rng.uniform(0.0, 0.01)
    return ink.astype(np.uint8) * np.uint8(255), None


def _camera(rng: np.random.Generator, page: Image.Image) -> Image.Image:
    """Softness, a slope of light, noise of the sensor and a pass through JPEG."""
    page = page.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.8))))
    pixels = np.array(page).astype(np.float32)
    slope = np.linspace(1.0, float(rng.uniform(0.72, 1.0)), pixels.shape[1], dtype=np.float32)
    pixels *= slope if pixels.ndim == 2 else slope[:, None]
    pixels += (
        rng.normal(0.0, float(rng.uniform(0.5, 5.0)), pixels.shape[:2])
        .astype(np.float32)
        .reshape(*pixels.shape[:2], *([1] * (pixels.ndim - 2)))
    )
    stored = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
        stored, "JPEG", quality=int(rng.integers(60, 95))
    )
    return Image.open(stored)


def _pixels(canvas: FigureCanvasAgg) -> Pixels:
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def _points(width_px: float) -> float:
    return width_px * 72.0 / CANVAS_DPI
