"""Another type of page, for the test of generality: coloured grid, dark trace, RGB (PROTOCOL R7).

Nothing here is shared with the binary pages but the pen and the ruler: other letters, other layouts and
scales, other rulings, no threshold and next to no damage.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.geometry import Geometry
from datamodules.layout import Layout
from datamodules.rendering import furniture, lettering
from datamodules.rendering.difficulty import GridKind
from datamodules.rendering.fields import over_page, smooth_field
from datamodules.rendering.grids import Ruling, grid_layers
from datamodules.rendering.lettering import Font
from datamodules.rendering.pages import RenderedPage, draw_mask, traces
from datamodules.rendering.placement import Sheet, place, stretch_and_turn
from datamodules.rendering.strokes import extents, stamp_ink
from datamodules.signals import Recording

Layer = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

MM_PER_S, MM_PER_MV = 25.0, 10.0
PX_PER_MM = (3.2, 5.4)
ROW_MM = (22.0, 32.0)
ROW_MM_12 = (13.0, 18.0)  # pages of more than seven rows
GRID_COLOURS: dict[str, Colour] = {
    "red": (222, 84, 84),
    "pink": (244, 150, 176),
    "orange": (240, 158, 92),
    "blue": (128, 168, 232),
    "green": (112, 190, 128),
}
INKS: tuple[Colour, ...] = ((12, 12, 16), (12, 12, 16), (30, 30, 60), (18, 28, 112), (70, 16, 84))
PAPERS: tuple[Colour, ...] = ((255, 255, 255), (252, 250, 246), (253, 247, 240), (255, 244, 244))
STROKES_PX = (1.5, 2.0, 2.5, 3.0)
GRIDS: tuple[GridKind, ...] = ("solid", "solid", "solid", "thin_only", "dotted_lines", "dots", "thick_only")


def render(recording: Recording, layout: Layout, rng: np.random.Generator) -> RenderedPage:
    """Draw a recording on coloured paper.

    Args:
        recording: What to draw, at least as long as the layout.
        layout: Which lead is where.
        rng: Source of every draw.

    Returns:
        The page as RGB, its mask and geometry.
    """
    geometry, turn, top_px = _lay_out(rng, layout)
    stroke_px = float(rng.choice(STROKES_PX))
    colour_name = list(GRID_COLOURS)[int(rng.integers(len(GRID_COLOURS)))]
    kind = GRIDS[int(rng.integers(len(GRIDS)))]
    grid = _grid(rng, kind, geometry, turn)
    ink_colour = INKS[int(rng.integers(len(INKS)))]
    # Half of the carts print everything with one pen.
    text_colour = ink_colour if rng.random() < 0.5 else INKS[int(rng.integers(len(INKS)))]
    paper = PAPERS[int(rng.integers(len(PAPERS)))]
    planes = [
        np.asarray(cv2.LUT(grid, _ramp(of_paper, of_grid)), dtype=np.uint8)
        for of_paper, of_grid in zip(paper, GRID_COLOURS[colour_name], strict=True)
    ]
    planes = _inked(planes, _furnish(rng, geometry, top_px), text_colour)
    planes = _inked(planes, _trace(recording, geometry, stroke_px), ink_colour)
    image = _photograph(rng, np.asarray(cv2.merge(planes), dtype=np.uint8))
    mask = draw_mask(recording, geometry, stroke_px)
    return RenderedPage(image, mask, geometry, False, stroke_px, f"{colour_name} {kind}")


def _lay_out(rng: np.random.Generator, layout: Layout) -> tuple[Geometry, npt.NDArray[np.float64], float]:
    """Choose scale and size of a page; returns the geometry, its turn and where the traces begin."""
    px_per_mm = float(rng.uniform(*PX_PER_MM))
    row_mm = float(rng.uniform(*(ROW_MM if layout.n_rows <= 7 else ROW_MM_12)))
    left_px, right_px = float(rng.uniform(9.5, 16.0)) * px_per_mm, float(rng.uniform(3.0, 14.0)) * px_per_mm
    top_px, bottom_px = float(rng.uniform(60.0, 120.0)), float(rng.uniform(20.0, 50.0))
    traces_px = layout.n_rows * row_mm * px_per_mm
    sheet = Sheet(
        width=round(left_px + layout.duration_s * MM_PER_S * px_per_mm + right_px),
        height=round(top_px + traces_px + bottom_px),
        left=left_px,
        top=top_px,
        bottom=top_px + traces_px,
        px_per_s=px_per_mm * MM_PER_S,
        px_per_mv=px_per_mm * MM_PER_MV,
    )
    angle_deg = float(rng.normal(0.0, 0.15)) if rng.random() < 0.5 else 0.0
    affine, turn = stretch_and_turn(sheet, 1.0, 1.0, angle_deg)
    return place(sheet, layout, affine, np.zeros(layout.n_rows)), turn, top_px


def _grid(
    rng: np.random.Generator, kind: GridKind, geometry: Geometry, turn: npt.NDArray[np.float64]
) -> Layer:
    """Darkness of the grid, thick lines stronger than thin ones."""
    pitch = (geometry.px_per_s / MM_PER_S, geometry.px_per_mv / MM_PER_MV)
    phase = (float(rng.uniform(0.0, 5.0)) * pitch[0], float(rng.uniform(0.0, 5.0)) * pitch[1])
    ruling = Ruling(pitch, phase, turn, float(rng.uniform(0.7, 1.2)), float(rng.uniform(1.2, 2.4)))
    thin, thick = grid_layers(rng, kind, (geometry.height, geometry.width), ruling, 0.0)
    faint = cv2.convertScaleAbs(thin, alpha=float(rng.uniform(0.35, 0.75)))
    strong = cv2.convertScaleAbs(thick, alpha=float(rng.uniform(0.75, 1.0)))
    return np.asarray(cv2.max(faint, strong), dtype=np.uint8)


def _trace(recording: Recording, geometry: Geometry, stroke_px: float) -> Layer:
    """Darkness of the traces, drawn by an even pen."""
    canvas = np.zeros((geometry.height, geometry.width), dtype=np.float32)
    for points in traces(recording, geometry):
        trace = extents(points)
        even = np.ones(trace.high_y.size)
        stamp_ink(canvas, points, stroke_px * even, even, trace)
    return np.asarray(cv2.convertScaleAbs(canvas, alpha=255.0), dtype=np.uint8)


def _furnish(rng: np.random.Generator, geometry: Geometry, top_px: float) -> Layer:
    """Draw header, names, pulses and marks."""
    layer = np.zeros((geometry.height, geometry.width), dtype=np.uint8)
    name = str(rng.choice(lettering.OTHER_FONTS))
    small = Font(name, int(rng.integers(12, 18)))
    furniture.draw_pulses(layer, geometry, "left", int(rng.integers(1, 3)))
    marks: tuple[furniture.MarkKind, ...] = ("ticks", "dots", "none", "none")
    furniture.draw_marks(layer, geometry, marks[int(rng.integers(len(marks)))], 1)
    furniture.draw_lead_names(rng, layer, geometry, Font(name, int(rng.integers(15, 24))))
    furniture.draw_header(rng, layer, top_px - small.size_px, int(rng.integers(1, 4)), small)
    foot = (rng.uniform(0.02, 0.5) * geometry.width, geometry.height - rng.uniform(18.0, 24.0))
    lettering.write(layer, lettering.foot_line(rng), foot, small)
    return layer


def _ramp(start: int, end: int) -> Layer:
    """Levels from one colour channel to another, (256,)."""
    return np.rint(np.linspace(start, end, 256)).astype(np.uint8)


def _inked(planes: list[npt.NDArray[np.uint8]], ink: Layer, colour: Colour) -> list[npt.NDArray[np.uint8]]:
    """Lay ink of a colour over the three planes."""
    paper_share = cv2.bitwise_not(ink)
    return [
        np.asarray(
            cv2.add(cv2.multiply(plane, paper_share, scale=1 / 255), cv2.LUT(ink, _ramp(0, level))),
            dtype=np.uint8,
        )
        for plane, level in zip(planes, colour, strict=True)
    ]


def _photograph(rng: np.random.Generator, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Soft focus, uneven light and a little sensor noise."""
    shape = (image.shape[0], image.shape[1])
    if rng.random() < 0.6:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.4, 0.8))), dtype=np.uint8)
    light = 1.0 - np.float32(rng.uniform(0.0, 0.1)) * smooth_field(rng, shape, 500.0)
    levels = cv2.merge([over_page(light, shape)] * 3)
    image = np.asarray(cv2.multiply(image, levels, scale=1 / 255), dtype=np.uint8)
    noise = rng.integers(0, int(rng.integers(1, 8)), shape, dtype=np.uint8)
    return np.asarray(cv2.subtract(image, cv2.merge([noise] * 3)), dtype=np.uint8)
