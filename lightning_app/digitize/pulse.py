"""The calibration pulse: a rectangle of 1 mV by 0.2 s beside the rows, and what it says about the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from lightning_app.digitize.grid import Grid

STROKE_INK = 0.8  # mean darkness of a drawn stroke; grids on 1-bit pages reach 0.35
INSIDE_INK = 0.3  # a pulse is hollow
MIN_HEIGHT_PX, MAX_HEIGHT_PX = 8.0, 260.0
FOOT_REACH = 0.12  # of the rows' distance: how far a pulse's foot may lie from the row's level
TILE_PERIODS = 8
MIN_TILE_PX = 120
IN_LINE_PX = 4.0
LONE_SCORE = 0.93
STEP = 1.05  # ratio of neighbouring sizes tried when nothing is known

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Pulse:
    """A calibration pulse.

    Attributes:
        height_px: From foot to plateau, between stroke centres.
        width_px: Between the two vertical strokes' centres.
        left_px: x of the left stroke.
        row: Row it stands in.
        score: Darkness of its strokes less that of its inside, 0 to 1.
    """

    height_px: float
    width_px: float
    left_px: float
    row: int
    score: float

    @property
    def right_px(self) -> float:
        """X of the right stroke."""
        return self.left_px + self.width_px


def without_grid(dark: Array, grid: Grid) -> Array:
    """Take the regular part out of a straight page.

    Args:
        dark: (H, W) darkness in [0, 1].
        grid: Its line families.

    Returns:
        (H, W) darkness less the mean grid cell around: print and scan are not even over a page.
    """
    if grid.x is None or grid.y is None:
        return dark
    height, width = dark.shape
    y_cell, x_cell = _cells(height, grid.y.period_px), _cells(width, grid.x.period_px)
    n_x = int(x_cell.max()) + 1
    cell = (y_cell[:, None] * n_x + x_cell[None]).ravel()
    mean = np.bincount(cell, dark.ravel()) / np.maximum(np.bincount(cell), 1)
    regular = mean[cell].reshape(height, width)
    return np.asarray(np.clip((dark - regular) / np.maximum(1 - regular, 0.3), 0, 1), dtype=np.float32)


def _cells(n: int, period_px: float) -> NDArray[np.intp]:
    """Number of the tile and of the place within the period, in one index, for each of n pixels."""
    at = np.arange(n)
    span_px = max(TILE_PERIODS * period_px, MIN_TILE_PX)
    tile = np.minimum(at // span_px, max(0, n // span_px - 1)).astype(np.intp)
    return tile * (int(period_px) + 1) + np.floor(at % period_px).astype(np.intp)


def find_pulses(
    dark: Array, rows_y: NDArray[np.float64], pitch_px: float, spans: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[float, float]] | None,
) -> list[Pulse]:  # fmt: skip
    """Find pulses beside the traces of a straight page.

    Args:
        dark: (H, W) darkness in [0, 1], grid taken out.
        rows_y: (n,) level of each row, px.
        pitch_px: Distance of the rows.
        spans: Column ranges to look in, the page's margins left and right of the traces.
        sizes: (height, width) in px to try; None: everything a page may hold, and then measured.

    Returns:
        At most one pulse per row and side, all of one size, the size that most rows agree on; best first.
    """
    tries = sizes or _all_sizes(pitch_px)
    thick = maximum_filter(dark, size=3)
    down, along = _sums(thick, 0), _sums(thick, 1)
    inside = _sums(_sums(dark, 0), 1)
    best: list[Pulse] = []
    best_total = 0.0
    for height, width in tries:
        found = []
        for row, y in enumerate(rows_y):
            hits = [_best_at(down, along, inside, y, pitch_px, span, height, width, row) for span in spans]
            found.extend([hit for hit in hits if hit is not None])
        found = _in_line(found)
        total = sum(hit.score - 0.4 for hit in found)
        if total > best_total:
            best, best_total = found, total
    if sizes is None:
        best = [_measured(dark, pulse, rows_y[pulse.row], pitch_px) for pulse in best]
    return sorted(best, key=lambda pulse: -pulse.score)


def _in_line(pulses: list[Pulse]) -> list[Pulse]:
    """The pulses that stand above each other: a rectangle that one beat happens to draw stands alone."""
    groups = [[p for p in pulses if abs(p.left_px - first.left_px) <= IN_LINE_PX] for first in pulses]
    best = max(groups, key=len, default=[])
    return best if len(best) > 1 or any(pulse.score > LONE_SCORE for pulse in best) else []


def _all_sizes(pitch_px: float) -> list[tuple[float, float]]:
    top = min(MAX_HEIGHT_PX, 1.2 * pitch_px)
    steps = int(np.log(max(top, MIN_HEIGHT_PX) / MIN_HEIGHT_PX) / np.log(STEP)) + 1
    heights = MIN_HEIGHT_PX * STEP ** np.arange(steps)
    # 0.2 s at 25 or 50 mm/s by 1 mV at 5, 10 or 20 mm: never flatter than 2, never slimmer than 1 in 4.
    return [(float(h), float(h * ratio)) for h in heights for ratio in (0.25, 0.5, 1.0, 2.0) for ratio in
            (ratio * 0.9, ratio, ratio * 1.1)]  # fmt: skip


def _sums(image: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
    """Running sums with a leading zero, so that differences are sums of ranges."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (1, 0)
    return np.cumsum(np.pad(image, pad), axis=axis, dtype=np.float64)


def _best_at(
    down: NDArray[np.floating], along: NDArray[np.floating], inside: NDArray[np.floating], y: float,
    pitch_px: float, span: tuple[int, int], height: float, width: float, row: int,
) -> Pulse | None:  # fmt: skip
    h, w = round(height), round(width)
    page_h, page_w = down.shape[0] - 1, along.shape[1] - 1
    reach = max(3, round(FOOT_REACH * pitch_px))
    foot = np.arange(round(y) - reach, round(y) + reach + 1)
    foot = foot[(foot - h >= 0) & (foot < page_h)]
    left = np.arange(max(0, span[0]), min(span[1], page_w - 1) - w)
    if len(foot) == 0 or len(left) == 0 or w < 4:
        return None
    f, x = foot[:, None], left[None]
    sides = np.minimum(down[f, x] - down[f - h, x], down[f, x + w] - down[f - h, x + w]) / h
    roof = (along[f - h, x + w] - along[f - h, x]) / w
    rim = max(2, min(h, w) // 6)
    area = (h - 2 * rim) * (w - 2 * rim)
    if area <= 0:
        return None
    y0, y1, x0, x1 = f - h + rim + 1, f - rim + 1, x + rim, x + w - rim
    hollow = (inside[y1, x1] - inside[y0, x1] - inside[y1, x0] + inside[y0, x0]) / area
    strokes = np.minimum(sides, roof)
    score = np.where((strokes >= STROKE_INK) & (hollow <= INSIDE_INK), strokes - hollow, 0.0)
    at = np.unravel_index(int(score.argmax()), score.shape)
    if score[at] <= 0:
        return None
    return Pulse(float(h), float(w), float(left[at[1]]), row, float(score[at]))


def _measured(dark: Array, pulse: Pulse, row_y: float, pitch_px: float) -> Pulse:
    """The same pulse with its size to a fraction of a pixel, from the centres of its strokes."""
    h, w, x = round(pulse.height_px), round(pulse.width_px), round(pulse.left_px)
    page_w = dark.shape[1]
    reach = max(3, round(FOOT_REACH * pitch_px))
    middle = slice(max(0, round(row_y - 0.75 * h)), max(1, round(row_y - 0.3 * h)))
    left = _centre(dark[middle, max(0, x - 4) : x + 5].mean(axis=0)) + max(0, x - 4)
    right = _centre(dark[middle, x + w - 4 : min(page_w, x + w + 5)].mean(axis=0)) + x + w - 4
    inner = slice(x + max(2, w // 4), x + w - max(2, w // 4) + 1)
    top = max(0, round(row_y) - reach - h)
    roof_profile = dark[top : round(row_y) + reach - h + 1, inner].mean(axis=1)
    roof = _centre(np.where(roof_profile > 0.5 * roof_profile.max(initial=0), roof_profile, 0)) + top
    foot = _stroke_end(dark, left, roof, h)
    thick = float((dark[middle, max(0, x - 4) : x + 5]).mean(axis=0).sum())
    height = foot - roof - thick / 2
    return Pulse(float(height), float(right - left), float(left), pulse.row, pulse.score)


def _centre(profile: NDArray[np.floating]) -> float:
    total = float(profile.sum())
    return float((profile * np.arange(len(profile))).sum() / total) if total > 0 else (len(profile) - 1) / 2


def _stroke_end(dark: Array, x: float, roof: float, h: int) -> float:
    """Lower end of the left stroke: where its darkness falls to half below the expected foot."""
    column = dark[:, max(0, round(x) - 1) : round(x) + 2].max(axis=1)
    y = round(roof) + h - max(3, h // 8)
    end = min(len(column) - 1, y + 2 * max(3, h // 8) + 4)
    while y < end and column[y] >= 0.5:
        y += 1
    before = column[y - 1]
    share = (before - 0.5) / max(before - column[y], 1e-6) if column[y] < 0.5 else 0.5
    return float(y - 1 + np.clip(share, 0, 1))
