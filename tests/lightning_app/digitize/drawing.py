"""A small page painter of its own, so that digitization is tested against geometry it did not choose."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from datamodules.page import Page
from datamodules.traced import mean_heights
from models.lead_ends import end_maps

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
FOUR_LINE = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"), ("V1",))
SUPERSAMPLING = 4


@dataclass
class Drawn:
    """A painted page with everything known about it."""

    ink: np.ndarray
    mask: np.ndarray
    px_per_s: float
    px_per_mv: float
    x0_px: float
    row_y_px: list[float]
    matrix: np.ndarray = field(default_factory=lambda: np.eye(2, 3))
    lines: list[np.ndarray] = field(default_factory=list)


def heart(duration_s=10.0, rate_hz=500.0, bpm=70.0, seed=0):
    """(12, n) mV: a beat of Gaussian waves as two limb leads and six chest leads, the rest by Einthoven."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    beats_s = np.cumsum(60.0 / bpm * (1 + 0.03 * rng.standard_normal(int(duration_s * bpm / 60) + 3))) - 0.6
    waves = [(-0.17, 0.022), (-0.03, 0.008), (0.0, 0.011), (0.035, 0.010), (0.28, 0.045)]
    mean = {
        "I": (0.08, -0.06, 0.7, -0.12, 0.18),
        "II": (0.14, -0.08, 1.1, -0.2, 0.3),
        "V1": (0.05, 0.0, 0.25, -0.9, -0.1),
        "V2": (0.06, 0.0, 0.45, -1.3, 0.45),
        "V3": (0.07, 0.0, 0.8, -0.9, 0.5),
        "V4": (0.08, -0.08, 1.3, -0.5, 0.45),
        "V5": (0.08, -0.1, 1.2, -0.25, 0.35),
        "V6": (0.08, -0.1, 0.95, -0.1, 0.25),
    }
    lead = {}
    for name, amplitudes in mean.items():  # every lead sees the waves at a time and width of its own
        lead[name] = np.zeros_like(time_s)
        for amplitude, (centre_s, width_s) in zip(amplitudes, waves, strict=True):
            shift_s, width_s = 0.5 * width_s * rng.standard_normal(), width_s * rng.uniform(0.8, 1.3)
            amplitude *= 1 + 0.2 * rng.standard_normal()
            for beat_s in beats_s:
                lead[name] += amplitude * np.exp(
                    -0.5 * ((time_s - beat_s - centre_s - shift_s) / width_s) ** 2
                )
    lead["III"] = lead["II"] - lead["I"]
    lead["aVR"] = -(lead["I"] + lead["II"]) / 2
    lead["aVL"] = lead["I"] - lead["II"] / 2
    lead["aVF"] = lead["II"] - lead["I"] / 2
    return np.stack([lead[name] for name in LEADS]).astype(np.float32)


def affine(width, height, degrees=0.0, stretch=(1.0, 1.0), shift=(0.0, 0.0)):
    """Rotation about the page centre after a stretch, (2, 3)."""
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1.0)
    scale = np.array([[stretch[0], 0, shift[0]], [0, stretch[1], shift[1]], [0, 0, 1]])
    return matrix @ scale


def _polyline(canvas, points, matrix, stroke_px):
    points = points @ matrix[:, :2].T + matrix[:, 2]
    scaled = np.round(((points + 0.5) * SUPERSAMPLING - 0.5) * 16).astype(np.int32)
    width = max(1, round(stroke_px * SUPERSAMPLING))
    cv2.polylines(canvas, [scaled.reshape(-1, 1, 2)], False, 255, width, cv2.LINE_8, 4)


def _write(canvas, text, xy_px, height_px):
    x, y = (round(value * SUPERSAMPLING) for value in xy_px)
    size = height_px * SUPERSAMPLING / 22  # capitals of this typeface are 22 px high at size 1
    cv2.putText(
        canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, 255, round(height_px * SUPERSAMPLING / 8)
    )


def draw(
    mv, rows=FOUR_LINE, *, px_per_s=100.0, px_per_mv=40.0, width=1120, height=886, x0_px=61.3, stroke_px=3.0,
    px_per_mm=4.0, grid=("thin", "thick"), grid_ink=0.35, degrees=0.0, stretch=(1.0, 1.0), binary=True,
    pulse=False, names=False, name_lift=0.45, noise=0.0, keep=1.0, seed=0, space_s=0.0, early_s=0.0,
):  # fmt: skip
    """Paint ten seconds.

    `keep` is the share of grid pixels left, `noise` the share of pepper and salt, `name_lift` how high over
    its trace the foot of a name stands, of the distance of rows. Between leads of a row lies paper for
    `space_s`, and the last `early_s` of every lead are not drawn. `lines` of what comes back are (n, 2) x and
    y of every lead's samples, without the next lead's first, which joins the strokes of two.
    """
    rng = np.random.default_rng(seed)
    size = (height * SUPERSAMPLING, width * SUPERSAMPLING)
    trace, marks, lines = (np.zeros(size, np.uint8) for _ in range(3))
    matrix = affine(width, height, degrees, stretch)
    pitch_px = height / (len(rows) + 0.6)
    row_y = [(0.75 + k) * pitch_px for k in range(len(rows))]
    lines_px = []
    for y, leads in zip(row_y, rows, strict=True):
        n = 5000 // len(leads)
        for j, lead in enumerate(leads):
            is_joined = not (space_s or early_s)
            values = mv[LEADS.index(lead), j * n : (j + 1) * n - round(early_s * 500) + is_joined]
            x = x0_px + (j * n + np.arange(len(values))) / 500 * px_per_s + j * space_s * px_per_s
            points = np.stack([x, y - values * px_per_mv], 1)
            _polyline(trace, points, matrix, stroke_px)
            lines_px.append(points[: n - round(early_s * 500)] @ matrix[:, :2].T + matrix[:, 2])
            if names:
                _write(
                    marks, lead, matrix @ (x[0] + px_per_mm, y - name_lift * pitch_px, 1.0), 3.0 * px_per_mm
                )
        if pulse:
            x = x0_px + 0.2 * px_per_s * (np.array([-0.3, 0, 0, 1, 1, 1.3]) - 1.6)
            _polyline(
                marks, np.stack([x, y - px_per_mv * np.array([0, 0, 1, 1, 0, 0])], 1), matrix, stroke_px
            )
    for name, step_px, line_px in (("thin", px_per_mm, 0.7), ("thick", 5 * px_per_mm, 1.5)):
        if name in grid:
            for x in np.arange(7.7 - 40 * step_px, width + 90, step_px):
                _polyline(lines, np.array([[x, -90.0], [x, height + 90.0]]), matrix, line_px)
            for y in np.arange(3.1 - 40 * step_px, height + 90, step_px):
                _polyline(lines, np.array([[-90.0, y], [width + 90.0, y]]), matrix, line_px)
    trace, marks, lines = (
        cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        for layer in (trace, marks, lines)
    )
    lines *= rng.random(lines.shape) < keep
    drawn = np.maximum(trace, marks)
    ink = np.maximum(drawn, grid_ink * lines)
    if binary:
        ink = np.maximum(drawn >= 0.5, (lines > 0.45) & (grid_ink > 0)).astype(np.float32)
    speckle = rng.random(ink.shape)
    ink = np.where(speckle < noise / 2, 0.0, np.where(speckle > 1 - noise / 2, 1.0, ink))
    pixels = np.round(ink * 255).astype(np.uint8)
    mask = (trace >= 0.5).astype(np.uint8)
    return Drawn(pixels, mask, px_per_s, px_per_mv, x0_px, row_y, matrix, lines_px)


def as_page(ink):
    """An ink image as `read_page` would give it."""
    return Page(
        ink=np.ascontiguousarray(ink), rgb=None, sha256="", is_binary=False, dpi=None, was_inverted=False
    )


def maps_of(page, mask=None):
    """The maps of a network that is never wrong about lines, beside any mask."""
    height, width = page.ink.shape
    weights = np.full((2, height, width), -200.0, dtype=np.float32)
    y = np.arange(height)[:, None]
    lines = page.lines
    for line in lines:
        heights = mean_heights(line, width).reshape(width, 2).T  # (2, W)
        for half in range(2):
            with np.errstate(invalid="ignore"):
                weights[half] = np.fmax(weights[half], -np.square(y - heights[half]))
    ends = [
        end_maps(
            torch.tensor(np.array([[line[place] for line in lines]]), dtype=torch.float32), height, width
        )
        for place in (0, -1)
    ]
    mask = page.mask if mask is None else mask
    return np.stack([mask.astype(np.float32), *weights, *(one[0].numpy() for one in ends)])
