"""A small page painter of its own, so that digitization is tested against geometry it did not choose."""

from dataclasses import dataclass, field

import cv2
import numpy as np

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


def heart(duration_s=10.0, rate_hz=500.0, bpm=70.0, seed=0):
    """(12, n) mV: a beat of Gaussian waves as two limb leads and six chest leads, the rest by Einthoven."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    beats_s = np.cumsum(60.0 / bpm * (1 + 0.03 * rng.standard_normal(int(duration_s * bpm / 60) + 3))) - 0.6
    waves = [(-0.17, 0.022), (-0.03, 0.008), (0.0, 0.011), (0.035, 0.010), (0.28, 0.045)]
    basis = np.stack([sum(np.exp(-0.5 * ((time_s - b - c) / w) ** 2) for b in beats_s) for c, w in waves])
    mean = {
        "I": (0.08, -0.06, 0.7, -0.12, 0.18), "II": (0.14, -0.08, 1.1, -0.2, 0.3),
        "V1": (0.05, 0.0, 0.25, -0.9, -0.1), "V2": (0.06, 0.0, 0.45, -1.3, 0.45), "V3": (0.07, 0.0, 0.8, -0.9, 0.5),
        "V4": (0.08, -0.08, 1.3, -0.5, 0.45), "V5": (0.08, -0.1, 1.2, -0.25, 0.35), "V6": (0.08, -0.1, 0.95, -0.1, 0.25),
    }  # fmt: skip
    lead = {name: np.asarray(a) * (1 + 0.1 * rng.standard_normal(5)) @ basis for name, a in mean.items()}
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


def draw(
    mv, rows=FOUR_LINE, *, rate_hz=500.0, px_per_s=100.0, px_per_mv=40.0, width=1120, height=886, x0_px=61.3,
    top_px=None, pitch_px=None, stroke_px=3.0, px_per_mm=4.0, grid=("thin", "thick"), grid_ink=0.35, degrees=0.0,
    stretch=(1.0, 1.0), binary=True, pulse=False, noise=0.0, keep=1.0, mm_per_mv=10.0, seed=0, duration_s=10.0,
):  # fmt: skip
    """Paint a page. `keep` is the share of grid pixels left, `noise` the share of pepper and salt."""
    rng = np.random.default_rng(seed)
    size = (height * SUPERSAMPLING, width * SUPERSAMPLING)
    trace, marks, lines = (np.zeros(size, np.uint8) for _ in range(3))
    matrix = affine(width, height, degrees, stretch)
    pitch_px = pitch_px or height / (len(rows) + 0.6)
    top_px = top_px or 0.75 * pitch_px
    row_y = [top_px + k * pitch_px for k in range(len(rows))]
    for y, leads in zip(row_y, rows, strict=True):
        n = int(duration_s * rate_hz) // len(leads)
        for j, lead in enumerate(leads):
            values = mv[LEADS.index(lead), j * n : (j + 1) * n + 1]
            x = x0_px + (j * n + np.arange(len(values))) / rate_hz * px_per_s
            _polyline(trace, np.stack([x, y - values * px_per_mv], 1), matrix, stroke_px)
        if pulse:
            s, v = 0.2 * px_per_s, px_per_mv
            x = x0_px - 1.6 * s + np.array([-0.3 * s, 0, 0, s, s, 1.3 * s])
            _polyline(marks, np.stack([x, y - np.array([0, 0, v, v, 0, 0])], 1), matrix, stroke_px)
    for name, step_mm, line_px in (("thin", 1, 1.0), ("thick", 5, 1.6)):
        if name in grid:
            for x in np.arange(7.7, width + 60, step_mm * px_per_mm * px_per_s / (25 * px_per_mm) if False else step_mm * px_per_mm):
                _polyline(lines, np.array([[x, -90.0], [x, height + 90.0]]), matrix, line_px)
            for y in np.arange(3.1, height + 60, step_mm * px_per_mm):
                _polyline(lines, np.array([[-90.0, y], [width + 90.0, y]]), matrix, line_px)
    down = lambda a: cv2.resize(a, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255  # noqa: E731
    trace, marks, lines = down(trace), down(marks), down(lines)
    lines *= rng.random(lines.shape) < keep
    ink = np.maximum(np.maximum(trace, marks), grid_ink * lines)
    if binary:
        ink = (np.maximum(np.maximum(trace, marks) >= 0.5, (lines > 0.45) & (grid_ink > 0))).astype(np.float32)
    speckle = rng.random(ink.shape)
    ink = np.where(speckle < noise / 2, 0.0, np.where(speckle > 1 - noise / 2, 1.0, ink))
    return Drawn(
        np.round(ink * 255).astype(np.uint8), (trace >= 0.5).astype(np.uint8), px_per_s, px_per_mv, x0_px, row_y, matrix
    )
