"""Pages of every look, to train a reader of unknown pages: 1 bit, grey and colour, whole and damaged.

A page is printed as layers of ink on an ideal sheet, laid on the scanner by one map (`warps`), lit, damaged
and, for half of the pages, brought to one bit. Traces are drawn where the map puts their points, so that
masks are exact on turned and bent pages, too. What is drawn how often says `Variety`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.geometry import IDENTITY, Geometry
from datamodules.layout import LEADS, Layout, load_layout
from datamodules.rendering import binary, forms, furniture, lettering
from datamodules.rendering.brush import Footprint, footprint
from datamodules.rendering.difficulty import NOMINAL, WIDE, GridKind, Range
from datamodules.rendering.finishes import Printed, finished
from datamodules.rendering.grids import Ruling, grid_layers, print_grid
from datamodules.rendering.lettering import Font
from datamodules.rendering.pages import RenderedPage, traces
from datamodules.rendering.placement import Sheet, place
from datamodules.rendering.variety import VARIED, Variety
from datamodules.rendering.warps import Warp, Wave, turned
from datamodules.signals import Recording

Layer = npt.NDArray[np.uint8]
Choice = TypeVar("Choice")

SHIPPED = ("four_line", "six_line", "seven_line", "3x4", "3x4+1", "3x4+3", "6x2", "6x2+1", "12x1")


@dataclass(frozen=True)
class _Plan:
    """The ideal page.

    Attributes:
        geometry: Where leads lie, ideal.
        warp: How the page lies on the scan.
        mm_px: Millimetre in px, (along x, along y).
        rows_px: Upper and lower end of the space for traces.
        stroke_px: Nominal stroke.
        kind: Kind of grid.
    """

    geometry: Geometry
    warp: Warp
    mm_px: tuple[float, float]
    rows_px: tuple[float, float]
    stroke_px: float
    kind: GridKind

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of page and scan."""
        return self.geometry.height, self.geometry.width


def draw_layout(rng: np.random.Generator, variety: Variety = VARIED) -> Layout:
    """Choose a layout that ships, or arrange leads in rows and columns as no cart does.

    Args:
        rng: Source of the draws.
        variety: Shares and ranges.

    Returns:
        The layout, over 10 s; one that does not ship is called `random`, and leads of one that does may stop
        early or have paper between them.
    """
    if rng.random() < variety.shipped_layout_share:
        return _spaced(rng, _shipped()[int(rng.integers(len(SHIPPED)))], variety)
    n_rows = int(rng.integers(variety.random_rows[0], variety.random_rows[1] + 1))
    n_columns = int(rng.integers(variety.random_columns[0], variety.random_columns[1] + 1))
    rows = [tuple(str(lead) for lead in rng.choice(LEADS, n_columns, replace=False)) for _ in range(n_rows)]
    if n_columns > 1 and rng.random() < 0.4:
        rows[-1] = rows[-1][:1]
    return _spaced(rng, Layout("random", 10.0, tuple(rows)), variety)


def _spaced(rng: np.random.Generator, layout: Layout, variety: Variety) -> Layout:
    """Let leads stop early on some pages, and leave paper between them on others."""
    if rng.random() < variety.early_share:
        layout = replace(layout, early_s=float(rng.uniform(*variety.early_s)))
    if rng.random() < variety.space_share:
        layout = replace(layout, space_s=float(rng.uniform(*variety.space_s)))
    return layout


@lru_cache(maxsize=1)
def _shipped() -> tuple[Layout, ...]:
    return tuple(load_layout(name) for name in SHIPPED)


def render(
    recording: Recording, layout: Layout, rng: np.random.Generator, variety: Variety = VARIED
) -> RenderedPage:
    """Draw a recording on a page of any look.

    Args:
        recording: What to draw, at least as long as the layout.
        layout: Which lead is where; where it does not fit, fewer seconds are shown.
        rng: Source of every draw.
        variety: Shares and ranges.

    Returns:
        The page: ink where it is 1 bit, else brightness in grey or RGB; with mask and geometry.
    """
    finish = _pick(rng, variety.finishes)
    if finish == "wide":
        return binary.render(recording, layout, rng, WIDE)
    plan = _plan(rng, layout, variety)
    pen = _footprint(recording, plan, variety)
    mask = pen.mask(plan.stroke_px)
    printed = _print(rng, plan, pen, variety, as_chance=finish == "chance")
    geometry, off_px = _fitted(plan)
    image, quality = finished(rng, printed, mask, finish, variety)
    is_binary = finish not in ("grey", "colour", "reduced", "enlarged")
    return RenderedPage(
        image, mask, geometry, is_binary, plan.stroke_px, f"{finish} {plan.kind}", off_px, quality
    )


def _pick(rng: np.random.Generator, weighted: tuple[tuple[Choice, float], ...]) -> Choice:
    weights = np.array([weight for _, weight in weighted])
    return weighted[int(rng.choice(len(weighted), p=weights / weights.sum()))][0]


def _plan(rng: np.random.Generator, layout: Layout, variety: Variety) -> _Plan:
    """Choose scale, size, places of rows, stroke, grid and how the page lies."""
    mm_x = float(rng.uniform(*variety.px_per_mm))
    mm_y = mm_x * (float(rng.uniform(*variety.aspect)) if rng.random() < 0.5 else 1.0)
    px_per_s = mm_x * _pick(rng, variety.mm_per_s)
    px_per_mv = mm_y * _pick(rng, variety.mm_per_mv)
    is_strip = bool(rng.random() < variety.strip_share)
    left, right = (float(side) * mm_x for side in rng.uniform(1.0 if is_strip else 4.0, 16.0, 2))
    room_s = (variety.max_side_px[0] - left - right) / px_per_s
    if room_s < layout.paper_s:
        spaces_s = layout.paper_s - layout.duration_s
        layout = replace(layout, duration_s=float(np.floor((room_s - spaces_s) * 2.0) / 2.0))
    top, bottom = (
        (10.0, 10.0)
        if is_strip
        else (float(rng.uniform(*variety.header_px)), float(rng.uniform(*variety.foot_px)))
    )
    few, some, many = variety.row_mm
    row_mm = float(rng.uniform(*(few if layout.n_rows <= 4 else some if layout.n_rows <= 7 else many)))
    rows_px = min(layout.n_rows * row_mm * mm_y, variety.max_side_px[1] - top - bottom)
    width = round(left + layout.paper_s * px_per_s + right)
    height = round(top + rows_px + bottom)
    sheet = Sheet(width, height, left, top, top + rows_px, px_per_s, px_per_mv)
    jitter = rng.uniform(-0.06, 0.06, layout.n_rows) * rows_px / layout.n_rows
    stroke_px = min(_pick(rng, variety.strokes_px), mm_x)
    kind: GridKind = _pick(rng, variety.grids)
    if stroke_px <= 1.2 and rng.random() < 0.5:
        kind = variety.hair_grids[int(rng.integers(len(variety.hair_grids)))]
    return _Plan(
        place(sheet, layout, IDENTITY, jitter), _warp(rng, (height, width), variety), (mm_x, mm_y),
        (top, top + rows_px), stroke_px, kind,
    )  # fmt: skip


def _warp(rng: np.random.Generator, shape: tuple[int, int], variety: Variety) -> Warp:
    if rng.random() < variety.large_skew_share:
        angle = float(rng.uniform(-1.0, 1.0)) * variety.large_skew_deg
    else:
        angle = float(rng.normal(0.0, 1.0)) * variety.skew_deg * float(rng.random() < 0.8)
    corners = np.zeros((4, 2))
    if rng.random() < variety.perspective_share:
        corners = rng.uniform(-1.0, 1.0, (4, 2)) * variety.perspective * np.array(shape[::-1])
    waves: list[Wave] = []
    if rng.random() < variety.curl_share:
        for _ in range(int(rng.integers(1, 3))):
            height = float(rng.uniform(*variety.curl_px))
            # Paper curls along one side: lines move up and down and, less, to the sides.
            length_px = float(rng.uniform(0.8, 2.5)) * max(shape)
            angle_rad = float(rng.normal(0.0, 0.3))
            per_px = 2 * np.pi / length_px
            waves.append(
                Wave(
                    (0.4 * height * float(rng.normal()), height),
                    (per_px * float(np.cos(angle_rad)), per_px * float(np.sin(angle_rad))),
                    float(rng.uniform(0.0, 2 * np.pi)),
                )
            )
    return Warp(turned(shape, angle, corners), tuple(waves))


def _fitted(plan: _Plan) -> tuple[Geometry, float]:
    """Geometry on the scan, and by how much its affine map misses the bent page, px."""
    points = [
        (
            segment.x0_px + share * (segment.stop_s - segment.start_s) * plan.geometry.px_per_s,
            segment.y0_px + dy,
        )
        for segment in plan.geometry.segments
        for share in (0.0, 0.5, 1.0)
        for dy in (-0.3 * plan.geometry.px_per_mv, 0.3 * plan.geometry.px_per_mv)
    ]
    affine, off_px = plan.warp.best_affine(points)
    return replace(plan.geometry, affine=affine), off_px


def _footprint(recording: Recording, plan: _Plan, variety: Variety) -> Footprint:
    paths = [plan.warp.to_scan(points) for points in traces(recording, plan.geometry)]
    return footprint(plan.shape, paths, plan.stroke_px * variety.stroke_wander[1])


def _print(
    rng: np.random.Generator,
    plan: _Plan,
    pen: Footprint,
    variety: Variety,
    as_chance: bool,
) -> Printed:
    """Draw all layers and lay them on the scan; as chances of ink, the grid is one layer only."""
    thin, thick = _grid(rng, plan, variety, as_chance)
    text, hand = np.zeros(plan.shape, dtype=np.uint8), np.zeros(plan.shape, dtype=np.uint8)
    _furnish(rng, text, hand, plan, variety)
    # Some scanners show where the sheet ends, on others the paper is larger than the glass.
    has_edge = rng.random() < 0.5
    sheet = np.asarray(cv2.merge([thin, thick, text, np.full_like(thin, 255)]), dtype=np.uint8)
    laid = plan.warp.lay(sheet, cv2.BORDER_CONSTANT if has_edge else cv2.BORDER_REFLECT_101)
    thin, thick, text, paper = (np.ascontiguousarray(laid[..., channel]) for channel in range(4))
    if hand.any():
        hand = plan.warp.lay(hand, cv2.BORDER_CONSTANT)
    trace = _trace(rng, pen, plan, variety)
    return Printed(thin, thick, text, hand, paper, trace, plan.kind, plan.mm_px[0], plan.stroke_px)


def _grid(rng: np.random.Generator, plan: _Plan, variety: Variety, as_chance: bool) -> tuple[Layer, Layer]:
    """Thin and thick lines; on half of the pages they end around the traces."""
    phase = tuple(float(rng.uniform(0.0, 5.0)) * pitch for pitch in plan.mm_px)
    thin_px = float(rng.uniform(*variety.thin_line_px)) * min(1.0, plan.mm_px[0] / 4.5)
    thick_px = max(thin_px, float(rng.uniform(*variety.thick_line_px)) * min(1.0, plan.mm_px[0] / 4.5))
    ruling = Ruling(plan.mm_px, (phase[0], phase[1]), np.eye(2), thin_px, thick_px)
    breaks = float(rng.uniform(0.0, 2.0)) if rng.random() < 0.3 else 0.0
    thin, thick = grid_layers(rng, plan.kind, plan.shape, ruling, breaks)
    if as_chance:
        low, high = NOMINAL.grid_density
        thin = print_grid(rng, plan.kind, thin, thick, (low, high * min(1.0, 0.4 + 0.2 * plan.stroke_px)))
        thick = np.zeros_like(thin)
    elif plan.kind == "halftone":
        thin = np.full_like(thin, int(rng.integers(60, 160)))  # a tint, which the dither turns to dots
    if rng.random() < 0.5:
        above, below = (float(side) for side in rng.uniform(0.0, 25.0, 2))
        top, bottom = max(round(plan.rows_px[0] - above), 0), round(plan.rows_px[1] + below)
        for layer in (thin, thick):
            layer[:top] = 0
            layer[bottom:] = 0
    return thin, thick


def _furnish(rng: np.random.Generator, text: Layer, hand: Layer, plan: _Plan, variety: Variety) -> None:
    """Write what the cart prints on `text` and what people add on `hand`, in place."""
    height, width = plan.shape
    top, bottom = plan.rows_px
    font_name = str(rng.choice(lettering.MANY_FONTS))
    line_px = int(rng.integers(1, 4)) if plan.stroke_px > 1.5 else int(rng.integers(1, 3))
    side = _pulse_side(rng, plan.geometry)
    furniture.draw_pulses(text, plan.geometry, side, line_px)
    marks: tuple[tuple[furniture.MarkKind, float], ...] = (
        ("ticks", 0.3),
        ("bars", 0.2),
        ("dots", 0.1),
        ("none", 0.4),
    )
    furniture.draw_marks(text, plan.geometry, _pick(rng, marks), line_px)
    if rng.random() < 0.12:
        forms.draw_separators(rng, text, plan.geometry, plan.rows_px)
    if rng.random() < 0.92:
        forms.name_leads(rng, text, plan.geometry, Font(font_name, int(rng.integers(11, 26))), plan.mm_px[1])
    n_blocks = int(rng.integers(variety.text_blocks[0], variety.text_blocks[1] + 1))
    n_head = min(n_blocks, 5)
    if top > 40.0 and n_head:
        forms.fill_band(rng, text, (4.0, top + float(rng.uniform(-10.0, 20.0))), n_head)
    if height - bottom > 30.0 and rng.random() < 0.7:
        forms.fill_band(rng, text, (bottom - 5.0, height - 2.0), int(rng.integers(1, 4)))
    small = Font(font_name, int(rng.integers(9, 17)))
    n_notes = int(rng.integers(variety.notes[0], variety.notes[1] + 1)) if rng.random() < 0.6 else 0
    furniture.draw_notes(rng, text, n_notes, (top, bottom), small)
    if rng.random() < 0.15:
        _write_between(rng, text, plan, small)
    if rng.random() < 0.12:
        forms.draw_boxes(rng, text, (8.0, top - 6.0, width - 8.0, bottom + 6.0))
    for chance, draw in ((0.2, forms.draw_handwriting), (0.12, forms.draw_stamp)):
        for _ in range(int(rng.integers(1, 4)) if rng.random() < chance else 0):
            draw(rng, hand, (float(rng.uniform(0.05, 0.85)) * width, float(rng.uniform(0.04, 0.96)) * height))
    if rng.random() < 0.12:
        furniture.draw_scribble(rng, hand, (20.0, 0.9 * height))


def _write_between(rng: np.random.Generator, text: Layer, plan: _Plan, font: Font) -> None:
    """Lines or a table of text between two rows, over the traces where these are high."""
    rows = sorted({segment.y0_px for segment in plan.geometry.segments})
    row = int(rng.integers(len(rows)))
    left = float(rng.uniform(0.02, 0.5)) * text.shape[1]
    top = rows[row] + float(rng.uniform(0.25, 0.6)) * plan.geometry.px_per_mv
    box = (
        left,
        top,
        left + float(rng.uniform(150.0, 600.0)),
        top + float(rng.uniform(1.5, 5.0)) * font.size_px,
    )
    (forms.write_block if rng.random() < 0.6 else forms.write_table)(rng, text, box, font)


def _pulse_side(rng: np.random.Generator, geometry: Geometry) -> furniture.PulseSide:
    first_px, last_px = furniture.trace_ends(geometry)
    enough_px = furniture.PULSE_ROOM_S * geometry.px_per_s
    sides: list[tuple[furniture.PulseSide, float]] = [("none", 0.2)]
    if first_px >= enough_px:
        sides.append(("left", 0.6))
    if geometry.width - last_px >= enough_px:
        sides.append(("right", 0.3))
    return _pick(rng, tuple(sides))


def _trace(rng: np.random.Generator, pen: Footprint, plan: _Plan, variety: Variety) -> Layer:
    """Ink of the traces: wandering width, thinner on steep strokes, with breaks."""
    fade = float(rng.uniform(*variety.steep_fade)) * pen.steepness**2
    low, high = variety.stroke_wander
    x = pen.middle[:, 0]
    knots = np.arange(x.min() - 24.0, x.max() + 48.0, 24.0)
    wander = np.interp(x, knots, rng.uniform(low, high, knots.size))
    width = np.maximum(plan.stroke_px * wander * (1.0 - fade), 0.8)
    strength = np.interp(x, knots, rng.uniform(0.85, 1.0, knots.size)) * (1.0 - 0.4 * fade)
    ink = pen.ink(width, strength)
    seconds = sum(segment.stop_s - segment.start_s for segment in plan.geometry.segments)
    if rng.random() < 0.5:
        n_gaps = rng.poisson(float(rng.uniform(*variety.gaps_per_s)) * seconds)
        _erase(rng, ink, pen.middle[rng.integers(0, len(pen.middle), n_gaps)], variety.gap_px)
    return ink


def _erase(rng: np.random.Generator, ink: Layer, spots: npt.NDArray[np.float64], size_px: Range) -> None:
    for spot in spots:
        centre = np.rint((spot + rng.normal(0.0, 0.6, 2)) * 16.0).astype(int).tolist()
        cv2.circle(ink, centre, round(float(rng.uniform(*size_px)) * 8.0), 20, -1, cv2.LINE_AA, 4)
