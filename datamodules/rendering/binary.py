"""The paper's own kind of page: 886 x 1120 px, 1 bit, an uneven grid as dark as the trace.

A page is composed as the chance of ink of every pixel and then compared with a map of thresholds, as a
1-bit scanner compares paper with its level. Thin lines so dissolve into dots, edges fray and weak
strokes break by themselves, and every share of black is a number in `Difficulty`.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.geometry import Geometry
from datamodules.layout import Layout
from datamodules.rendering import furniture, lettering
from datamodules.rendering.difficulty import NOMINAL, Difficulty, GridKind, Range
from datamodules.rendering.fields import Grain, crisp, flip, scale_by, smooth_field, threshold_map
from datamodules.rendering.grids import Ruling, grid_layers, print_grid
from datamodules.rendering.lettering import Font
from datamodules.rendering.pages import RenderedPage, draw_mask, traces
from datamodules.rendering.placement import Sheet, place, stretch_and_turn
from datamodules.rendering.strokes import extents, stamp_ink
from datamodules.signals import Recording

Layer = npt.NDArray[np.uint8]


def render(
    recording: Recording, layout: Layout, rng: np.random.Generator, difficulty: Difficulty = NOMINAL
) -> RenderedPage:
    """Draw a recording as a noisy binary scan.

    Args:
        recording: What to draw, at least as long as the layout.
        layout: Which lead is where.
        rng: Source of every draw.
        difficulty: How noisy the page is.

    Returns:
        The page, its mask and geometry.
    """
    geometry, turn, rows_px = _lay_out(rng, layout, difficulty)
    shape = (difficulty.height_px, difficulty.width_px)
    stroke_px = float(rng.choice(difficulty.strokes_px))
    kinds, weights = zip(*difficulty.grids, strict=True)
    kind: GridKind = kinds[int(rng.choice(len(kinds), p=weights))]

    mask = draw_mask(recording, geometry, stroke_px)
    trace = _worn_trace(rng, recording, geometry, stroke_px, difficulty)
    ruling = _ruling(rng, geometry, turn, difficulty)
    thin, thick = grid_layers(rng, kind, shape, ruling, float(rng.uniform(*difficulty.thick_breaks)))
    low, high = difficulty.grid_density
    # A light scan loses both stroke and grid: thin traces lie on sparser grids, or nobody could read them.
    grid = print_grid(rng, kind, thin, thick, (low, high * min(1.0, 0.4 + 0.2 * stroke_px)))
    lettered = _furnish(rng, shape, geometry, rows_px, difficulty)
    chance = cv2.max(cv2.max(grid, trace), lettered)
    image = scan(rng, np.asarray(chance, dtype=np.uint8), kind, difficulty)
    return RenderedPage(image, mask, geometry, True, stroke_px, kind)


def _lay_out(
    rng: np.random.Generator, layout: Layout, difficulty: Difficulty
) -> tuple[Geometry, npt.NDArray[np.float64], tuple[float, float]]:
    """Draw scale, place, stretch and skew of a page; at a large scale it shows fewer seconds."""
    px_per_mm, aspect = difficulty.nominal_px_per_mm, 1.0
    has_many_rows = layout.n_rows > 7
    if has_many_rows or rng.random() >= difficulty.nominal_share:
        low, high = difficulty.px_per_mm
        # Many rows leave little height to each; such pages are printed small.
        px_per_mm = float(rng.uniform(low, low + 0.3 * (high - low) if has_many_rows else high))
        aspect = 1.0 if has_many_rows else float(rng.uniform(*difficulty.aspect))
    top = float(rng.uniform(24.0, 60.0)) if has_many_rows else float(rng.uniform(70.0, 150.0))
    bottom = difficulty.height_px - float(rng.uniform(16.0, 50.0))
    px_per_s = px_per_mm * difficulty.mm_per_s
    if layout.paper_s * px_per_s > difficulty.width_px:
        spaces_s = layout.paper_s - layout.duration_s
        layout = replace(layout, duration_s=float(int(difficulty.width_px / px_per_s - spaces_s)))
    room = difficulty.width_px - layout.paper_s * px_per_s
    left = float(rng.uniform(0.15, 0.85)) * room
    sheet = Sheet(
        difficulty.width_px, difficulty.height_px, left, top, bottom, px_per_s,
        px_per_mm * aspect * difficulty.mm_per_mv,
    )  # fmt: skip
    stretch_x, stretch_y = (float(s) for s in rng.uniform(*difficulty.stretch, 2))
    # All ten seconds stay on the page, which is stretched around its middle.
    half = difficulty.width_px / 2
    longer_side = max(half - left, left + layout.paper_s * px_per_s - half)
    stretch_x = min(stretch_x, (half - 3.0) / longer_side)
    angle = float(np.clip(rng.normal(0.0, 0.45), -1.0, 1.0)) * difficulty.skew_deg
    affine, turn = stretch_and_turn(sheet, stretch_x, stretch_y, angle)
    jitter = rng.uniform(-0.06, 0.06, layout.n_rows) * (bottom - top) / layout.n_rows
    return place(sheet, layout, affine, jitter), turn, (top, bottom)


def _ruling(
    rng: np.random.Generator, geometry: Geometry, turn: npt.NDArray[np.float64], difficulty: Difficulty
) -> Ruling:
    """Place the grid: any phase to the traces, since many carts print on ruled paper."""
    pitch = (
        geometry.scan_px_per_s / difficulty.mm_per_s,
        geometry.scan_px_per_mv / difficulty.mm_per_mv,
    )
    phase = tuple(float(rng.uniform(0.0, 5.0)) * step for step in pitch)
    return Ruling(
        pitch, (phase[0], phase[1]), turn,
        float(rng.uniform(*difficulty.thin_line_px)), float(rng.uniform(*difficulty.thick_line_px)),
    )  # fmt: skip


def _worn_trace(
    rng: np.random.Generator,
    recording: Recording,
    geometry: Geometry,
    stroke_px: float,
    difficulty: Difficulty,
) -> Layer:
    """Draw the traces as a printer does: thinner on steep strokes, wandering in width, with breaks."""
    canvas = np.zeros((geometry.height, geometry.width), dtype=np.float32)
    solidity = float(rng.uniform(*difficulty.trace_solidity))
    fade = float(rng.uniform(*difficulty.steep_fade))
    mean_width_px = stroke_px * float(rng.uniform(0.95, 1.1))
    drawn = traces(recording, geometry)
    for points in drawn:
        trace = extents(points)
        # A pen or a heated dot row that moves fast leaves less: half of the loss at 8 px up per px on.
        loss = fade * trace.steepness / (trace.steepness + 8.0)
        width = mean_width_px * _wander(rng, trace.x_px, *difficulty.stroke_wander) * (1.0 - loss)
        strength = _wander(rng, trace.x_px, 0.85, 1.0) * (1.0 - 0.5 * loss)
        stamp_ink(canvas, points, np.maximum(width, 0.9), strength, trace)
    darkness = np.asarray(cv2.convertScaleAbs(canvas, alpha=255.0), dtype=np.uint8)
    ink = crisp(darkness, 0.12, 0.62)
    ink = np.asarray(cv2.convertScaleAbs(ink, alpha=solidity), dtype=np.uint8)
    _spot(rng, ink, drawn, geometry, difficulty.gaps_per_s, difficulty.gap_px, darkness=20)
    _spot(rng, ink, drawn, geometry, difficulty.blots_per_s, (stroke_px, stroke_px + 2.5), darkness=255)
    return ink


def _spot(
    rng: np.random.Generator,
    ink: Layer,
    drawn: list[npt.NDArray[np.float64]],
    geometry: Geometry,
    spots_per_s: Range,
    size_px: Range,
    darkness: int,
) -> None:
    """Put round breaks or blots on the traces, as many per length of line on steep strokes, in place."""
    points = np.concatenate(drawn)
    seconds = sum(segment.stop_s - segment.start_s for segment in geometry.segments)
    weight = 1.0 + np.minimum(np.abs(np.diff(points[:, 1], append=points[-1, 1])) * 4.0, 40.0)
    n_spots = rng.poisson(float(rng.uniform(*spots_per_s)) * seconds)
    for spot in points[rng.choice(len(points), n_spots, p=weight / weight.sum())]:
        centre = np.rint((spot + rng.normal(0.0, 0.6, 2)) * 16.0).astype(int).tolist()
        radius = round(float(rng.uniform(*size_px)) * 8.0)
        cv2.circle(ink, centre, radius, darkness, -1, cv2.LINE_AA, 4)


def _wander(
    rng: np.random.Generator, x: npt.NDArray[np.float64], low: float, high: float
) -> npt.NDArray[np.float64]:
    """Slow random walk between two bounds along a trace, with knots every 24 px."""
    knots = np.arange(x[0], x[-1] + 24.0, 24.0)
    values = np.interp(x, knots, rng.uniform(low, high, knots.size))
    return np.asarray(values, dtype=np.float64)


def _furnish(
    rng: np.random.Generator,
    shape: tuple[int, int],
    geometry: Geometry,
    rows_px: tuple[float, float],
    difficulty: Difficulty,
) -> Layer:
    """Draw header, names, pulses, marks, notes and pen marks."""
    layer = np.zeros(shape, dtype=np.uint8)
    name = str(rng.choice(lettering.PLAIN_FONTS))
    small = Font(name, int(rng.integers(11, 17)))
    line_px = int(rng.integers(1, 3))
    side = _pulse_side(rng, geometry)
    kind: furniture.MarkKind = ("ticks", "bars", "dots", "none")[int(rng.choice(4, p=(0.4, 0.2, 0.15, 0.25)))]
    furniture.draw_pulses(layer, geometry, side, line_px)
    furniture.draw_marks(layer, geometry, kind, line_px)
    furniture.draw_lead_names(rng, layer, geometry, Font(name, int(rng.integers(12, 21))))
    n_blocks = int(rng.integers(difficulty.header_blocks[0], difficulty.header_blocks[1] + 1))
    furniture.draw_header(rng, layer, rows_px[0] + 12.0, n_blocks, small)
    foot_px = shape[0] - rng.uniform(18.0, 40.0)
    foot = lettering.foot_line(rng, difficulty.mm_per_s)
    lettering.write(layer, foot, (rng.uniform(0.02, 0.5) * shape[1], foot_px), small)
    n_notes = int(rng.integers(difficulty.between_notes[0], difficulty.between_notes[1] + 1))
    furniture.draw_notes(rng, layer, n_notes, rows_px, small)
    if rng.random() < 0.25:
        furniture.draw_scribble(rng, layer, (20.0, 0.9 * shape[0]))
    return crisp(layer, 0.1, float(rng.uniform(0.5, 0.9)))


def _pulse_side(rng: np.random.Generator, geometry: Geometry) -> furniture.PulseSide:
    """Choose a side for the calibration pulses among those with room for them."""
    first_px, last_px = furniture.trace_ends(geometry)
    room = {"left": first_px, "right": geometry.width - last_px}
    wanted = ("left", "right", "none")[int(rng.choice(3, p=(0.55, 0.2, 0.25)))]
    enough_px = furniture.PULSE_ROOM_S * geometry.px_per_s
    sides: tuple[furniture.PulseSide, ...] = ("left", "right")
    return next((side for side in sides if side == wanted and room[side] >= enough_px), "none")


def scan(rng: np.random.Generator, chance: Layer, kind: GridKind, difficulty: Difficulty) -> Layer:
    """Turn the chance of ink into a 1-bit page with blots, speckle, salt and the scanner's margin.

    Args:
        rng: Source of the draws.
        chance: (H, W) uint8, 255 = 1.
        kind: A halftone is screened.
        difficulty: How noisy the page is.

    Returns:
        (H, W) uint8, 0 or 255 = ink.
    """
    shape = (chance.shape[0], chance.shape[1])
    # Ink runs by about a pixel in some regions, and strokes stay thin in the others.
    field = smooth_field(rng, shape, float(rng.uniform(80.0, 250.0)))
    runs = (field - np.float32(1.0 - difficulty.ink_run * rng.random())) * np.float32(3.0)
    swollen = cv2.dilate(chance, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    chance = np.asarray(cv2.max(chance, scale_by(np.asarray(swollen, dtype=np.uint8), runs)), dtype=np.uint8)
    grain: Grain = "screen" if kind == "halftone" else ("white", "clumped")[int(rng.random() < 0.7)]
    ink = np.asarray(chance > threshold_map(rng, shape, grain))
    flip(rng, ink, float(rng.uniform(*difficulty.salt)), to=False)
    _streak(rng, ink, difficulty)
    _cut_margin(rng, ink, difficulty)
    flip(rng, ink, float(rng.uniform(*difficulty.speckle)), to=True)
    return ink.view(np.uint8) * np.uint8(255)


def _cut_margin(rng: np.random.Generator, ink: npt.NDArray[np.bool_], difficulty: Difficulty) -> None:
    """Blank what the scanner saw beside the paper; an edge may throw a shadow. In place."""
    for side in rng.permutation(4)[: rng.integers(1, 5)]:
        # The page with this side on top.
        turned = np.rot90(ink, -int(side))
        depth = int(rng.uniform(*difficulty.margin_px) * (0.6 if side % 2 == 0 else 0.35))
        turned[:depth] = False
        if rng.random() < difficulty.shadow_share:
            shadow = int(rng.integers(1, 7))
            begin, end = np.sort(rng.integers(0, turned.shape[1], 2))
            turned[:shadow, begin:end] = True


def _streak(rng: np.random.Generator, ink: npt.NDArray[np.bool_], difficulty: Difficulty) -> None:
    """Dust on the scanner's glass: lines along its travel, dark or bright. In place."""
    if rng.random() >= difficulty.streak_share:
        return
    width = ink.shape[1]
    for column in rng.integers(0, width, rng.integers(1, 4)):
        rows = slice(*np.sort(rng.integers(0, ink.shape[0], 2)))
        # A third of the pixels escape, so that a streak never looks ruled.
        hit = rng.random(ink[rows, column].size) < 0.7
        ink[rows, column][hit] = bool(rng.random() < 0.6)
