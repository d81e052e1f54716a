"""Everything on a page that is ink and no trace: headers, lead names, pulses, lead-change marks.

None of it is in the mask (PROTOCOL R13).
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.geometry import Geometry
from datamodules.rendering import lettering
from datamodules.rendering.lettering import Font

Layer = npt.NDArray[np.uint8]
PulseSide = Literal["left", "right", "none"]
MarkKind = Literal["ticks", "bars", "dots", "none"]

_FRACTION_BITS = 4  # OpenCV draws at 1/16 px
PULSE_S = 0.2
PULSE_ROOM_S = 0.34  # the pulse with its feet


def draw_lines(
    layer: Layer, lines: list[npt.NDArray[np.float64]], width_px: int, darkness: int = 255
) -> None:
    """Draw open polylines.

    Args:
        layer: (H, W) uint8 darkness, changed in place.
        lines: Each (n, 2) x and y in px.
        width_px: OpenCV thickness.
        darkness: 0 to 255.
    """
    fixed = [np.rint(line * (1 << _FRACTION_BITS)).astype(np.int32) for line in lines]
    cv2.polylines(layer, fixed, False, darkness, width_px, cv2.LINE_AA, _FRACTION_BITS)


def trace_ends(geometry: Geometry) -> tuple[float, float]:
    """Ideal columns where the rows begin and end."""
    first = min(segment.x0_px for segment in geometry.segments)
    last = max(
        segment.x0_px + (segment.stop_s - segment.start_s) * geometry.px_per_s
        for segment in geometry.segments
    )
    return first, last


def draw_pulses(layer: Layer, geometry: Geometry, side: PulseSide, width_px: int) -> None:
    """Draw a calibration pulse of 1 mV and 0.2 s beside every row.

    Args:
        layer: (H, W) uint8 darkness, changed in place.
        geometry: Where the rows are.
        side: Where the pulses stand.
        width_px: Line width.
    """
    if side == "none":
        return
    foot, top = 0.06 * geometry.px_per_s, PULSE_S * geometry.px_per_s
    shape = np.array([[0, 0], [foot, 0], [foot, -1], [foot + top, -1], [foot + top, 0], [2 * foot + top, 0]])
    shape[:, 1] *= geometry.px_per_mv
    first_px, last_px = trace_ends(geometry)
    start = last_px + 2.0 if side == "right" else first_px - shape[-1, 0] - 2.0
    baselines = {segment.row: segment.y0_px for segment in geometry.segments}
    lines = [geometry.to_scan(shape + np.array([start, y0_px])) for y0_px in baselines.values()]
    draw_lines(layer, lines, width_px)


def draw_marks(layer: Layer, geometry: Geometry, kind: MarkKind, width_px: int) -> None:
    """Mark where one lead ends and the next begins.

    Args:
        layer: (H, W) uint8 darkness, changed in place.
        geometry: Where the leads begin.
        kind: `ticks` above and below the line, one `bars` through it, `dots`, or nothing.
        width_px: Line width.
    """
    mm = geometry.px_per_mv / 10.0
    strokes = {
        "ticks": [(-6.0, -2.0), (2.0, 6.0)],
        "bars": [(-5.0, 5.0)],
        "dots": [(-6.2, -5.8), (5.8, 6.2)],
        "none": [],
    }[kind]
    lines = [
        geometry.to_scan([[segment.x0_px, segment.y0_px + a * mm], [segment.x0_px, segment.y0_px + b * mm]])
        for segment in geometry.segments
        if segment.start_s > 0
        for a, b in strokes
    ]
    if lines:
        draw_lines(layer, lines, width_px)


def draw_lead_names(rng: np.random.Generator, layer: Layer, geometry: Geometry, font: Font) -> None:
    """Write each lead's name above the start of its trace, close enough to touch it at times.

    Args:
        rng: Source of the draws.
        layer: (H, W) uint8 darkness, changed in place.
        geometry: Where the leads begin.
        font: Typeface and size.
    """
    lift = rng.uniform(0.15, 0.85) * geometry.px_per_mv
    indent = rng.uniform(1.0, 14.0)
    for segment in geometry.segments:
        lead = segment.lead
        ((x, y),) = geometry.to_scan([[segment.x0_px + indent, segment.y0_px - lift]])
        lettering.write(layer, lead, (x, y - font.size_px * 0.8 + rng.normal(0.0, 1.5)), font)


def draw_header(rng: np.random.Generator, layer: Layer, bottom_px: float, n_blocks: int, font: Font) -> None:
    """Write blocks of text side by side above the traces.

    Args:
        rng: Source of the draws.
        layer: (H, W) uint8 darkness, changed in place.
        bottom_px: Where the traces begin; the blocks may reach a little below.
        n_blocks: Number of blocks.
        font: Typeface and size.
    """
    blocks = [lettering.identity(rng), lettering.measurements(rng), lettering.findings(rng)]
    order = rng.permutation(3)[:n_blocks]
    width = layer.shape[1]
    x = rng.uniform(0.02, 0.08) * width
    y0 = rng.uniform(4.0, 16.0)
    if rng.random() < 0.4:
        lettering.write(layer, lettering.head_line(rng), (rng.uniform(0.3, 0.6) * width, y0), font)
        y0 += 1.3 * font.size_px
    for number in sorted(order):
        y = y0
        for line in blocks[number]:
            if y > bottom_px:
                break
            lettering.write(layer, line, (x, y), font)
            y += 1.25 * font.size_px
        x += rng.uniform(0.26, 0.36) * width
    if rng.random() < 0.2:
        draw_frame(rng, layer, (y0, min(bottom_px, y0 + 7 * font.size_px)))


def draw_frame(rng: np.random.Generator, layer: Layer, rows_px: tuple[float, float]) -> None:
    """Rule a box around the header.

    Args:
        rng: Source of the draws.
        layer: (H, W) uint8 darkness, changed in place.
        rows_px: Upper and lower side.
    """
    width = layer.shape[1]
    left, right = rng.uniform(0.01, 0.03) * width, rng.uniform(0.9, 0.99) * width
    top, bottom = rows_px
    draw_lines(
        layer,
        [np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])],
        int(rng.integers(1, 3)),
    )


def draw_notes(
    rng: np.random.Generator, layer: Layer, n_notes: int, rows_px: tuple[float, float], font: Font
) -> None:
    """Write short notes anywhere between the traces.

    Args:
        rng: Source of the draws.
        layer: (H, W) uint8 darkness, changed in place.
        n_notes: How many.
        rows_px: Upper and lower end of the traces' space.
        font: Typeface and size.
    """
    for _ in range(n_notes):
        place = (rng.uniform(0.05, 0.9) * layer.shape[1], rng.uniform(*rows_px))
        lettering.write(layer, lettering.note(rng), place, font)


def draw_scribble(rng: np.random.Generator, layer: Layer, rows_px: tuple[float, float]) -> None:
    """Draw a signature or pen mark: a smooth curve through random points.

    Args:
        rng: Source of the draws.
        layer: (H, W) uint8 darkness, changed in place.
        rows_px: Rows it may begin in.
    """
    n = int(rng.integers(5, 11))
    place = np.array([rng.uniform(0.05, 0.85) * layer.shape[1], rng.uniform(*rows_px)])
    knots = np.cumsum(rng.normal([9.0, 0.0], [9.0, 15.0], (n, 2)), axis=0)
    knots[:, 1] -= knots[:, 1].mean()
    fine = cv2.resize(knots.astype(np.float32), (2, n * 10), interpolation=cv2.INTER_CUBIC)
    draw_lines(layer, [place + fine.astype(np.float64)], int(rng.integers(1, 3)))
