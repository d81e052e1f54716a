"""From a coarse placement to tenths of a pixel: the drawn lines slide to where they hold most ink.

All pieces share one start, one scale and one skew, and the pieces of a row share a height, since a
printer moves its paper at one speed. So a handful of numbers is fitted to thousands of pixels, and a
single piece lying over a grid line cannot pull them away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from datamodules.annotation.placement import MIN_ROW_GAP_PX, Placement, increasing_heights
from datamodules.annotation.templates import Piece, Scale
from datamodules.rendering.strokes import stamp_mask

# Blur of the page, px: wide catches a line two pixels off, narrow tells a tenth.
COARSE_BLURS_PX = (2.0, 1.0)
FINE_BLURS_PX = (1.0, 0.6)
# PROTOCOL R11: the ranges searched around the nominal scale.
TIME_RANGE = 0.035
AMPLITUDE_RANGE = 0.06
MAX_SKEW = 0.02
INK_RUN_PX = 0.2  # measured on rendered pages, stroke 1 to 4 px

Ink = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fit:
    """Where everything lies on the scan.

    Attributes:
        scale: Time, voltage and skew, one for the page.
        x0_px: Scan column of (first second of the record, 0 mV) in the upper left corner's row; on a
            skewed page lower rows start further to the side.
        row_y_px: (n_rows,) scan row of (first second of the record, 0 mV), per row of `rows`.
        rows: Row numbers.
    """

    scale: Scale
    x0_px: float
    row_y_px: npt.NDArray[np.float64]
    rows: tuple[int, ...]

    def origin(self, piece: Piece) -> npt.NDArray[np.float64]:
        """Scan px (x, y) of (start of the piece, 0 mV)."""
        row_y = self.row_y_px[self.rows.index(piece.row)]
        x = self.x0_px - self.scale.c / self.scale.a * row_y + self.scale.a * piece.start_s
        return np.array([x, row_y + self.scale.c * piece.start_s])

    def line(self, piece: Piece) -> npt.NDArray[np.float64]:
        """(n, 2) scan px of the piece's samples."""
        return self.scale.points(piece) + self.origin(piece)


def start_fit(placement: Placement) -> Fit:
    """Take over a coarse placement; rows it did not find stay out."""
    rows = tuple(sorted(placement.row_y_px))
    heights = np.array([placement.row_y_px[row] for row in rows])
    return Fit(placement.scale, placement.x0_px, heights, rows)


def refine(ink: Ink, pieces: Sequence[Piece], fit: Fit, nominal: Scale) -> Fit:
    """Slide the lines onto the ink.

    Args:
        ink: (H, W) float32 page, 0 = paper, 1 = ink.
        pieces: Pieces whose rows `fit` holds.
        fit: The coarse placement.
        nominal: Declared scale; the result stays within the searched range of it.

    Returns:
        The placement under which the lines hold most ink.
    """
    standing_out = contrast(ink, FINE_BLURS_PX[0])
    fit = _climb_through(ink, pieces, fit, nominal, COARSE_BLURS_PX)
    for _ in range(2):
        # Once time and skew are known, a whole row tells its height far better than a piece did.
        fit = replace(fit, row_y_px=_row_heights(standing_out, pieces, fit))
        fit = _climb_through(ink, pieces, fit, nominal, FINE_BLURS_PX)
    return fit


def contrast(ink: Ink, blur_px: float) -> Ink:
    """Ink in excess of its surroundings: a line stands out from an even grey, however dark that is."""
    wide = cv2.GaussianBlur(ink, (0, 0), blur_px + 4.0)
    return np.asarray(cv2.GaussianBlur(ink, (0, 0), blur_px) - 0.7 * wide)


def fit_pen(ink: Ink, pieces: Sequence[Piece], fit: Fit) -> tuple[Fit, float]:
    """Find stroke width and amplitude together, where the drawn mask differs least from the page.

    Blurred lines cannot tell a tall narrow stroke from a short wide one; the drawn mask can, and the sum
    of squared differences between mask and page is the paper's own measure.

    Args:
        ink: (H, W) float32 page.
        pieces: The signal.
        fit: The refined placement.

    Returns:
        The placement with its amplitude corrected, and the stroke width in px.
    """
    factor, stroke_px = _best_pen(ink, pieces, fit, np.arange(0.95, 1.111, 0.03), np.arange(1.0, 7.1, 1.0))
    factor, stroke_px = _best_pen(
        ink, pieces, fit, factor + np.arange(-0.02, 0.021, 0.01), stroke_px + np.arange(-0.5, 0.51, 0.5)
    )
    # Ink runs a little beyond the pen, which makes the best-fitting pen slightly too wide.
    stroke_px = max(1.0, stroke_px - INK_RUN_PX)
    factor, _ = _best_pen(ink, pieces, fit, factor + np.arange(-0.02, 0.021, 0.01), np.array([stroke_px]))
    return _with_amplitude(fit, factor), stroke_px


def _best_pen(
    ink: Ink,
    pieces: Sequence[Piece],
    fit: Fit,
    factors: npt.NDArray[np.float64],
    strokes_px: npt.NDArray[np.float64],
) -> tuple[float, float]:
    """Amplitude factor and stroke width with the best agreement, between the ones tried."""
    agreement = np.array(
        [[_agreement(ink, pieces, _with_amplitude(fit, f), max(w, 1.0)) for f in factors] for w in strokes_px]
    )
    stroke, factor = np.unravel_index(int(agreement.argmax()), agreement.shape)
    return (
        _between(factors, int(factor), agreement[stroke]),
        max(1.0, _between(strokes_px, int(stroke), agreement[:, factor])),
    )


def _with_amplitude(fit: Fit, factor: float) -> Fit:
    return replace(fit, scale=replace(fit.scale, d=fit.scale.d * factor))


def _agreement(ink: Ink, pieces: Sequence[Piece], fit: Fit, width_px: float) -> float:
    """Ink under the mask minus paper under it: minus the paper's R, up to a constant of the page."""
    mask = np.zeros(ink.shape, np.uint8)
    for piece in pieces:
        stamp_mask(mask, fit.line(piece), width_px)
    return 2.0 * float(ink[mask > 0].sum()) - float(mask.sum())


def _between(tried: npt.NDArray[np.float64], top: int, values: npt.NDArray[np.float64]) -> float:
    """Top of the parabola through the best of equally spaced trials and its neighbours."""
    if not 0 < top < len(values) - 1:
        return float(tried[top])
    before, at, after = values[top - 1 : top + 2]
    bend = before - 2 * at + after
    steps = float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
    return float(tried[top] + steps * (tried[1] - tried[0]))


def _row_heights(standing_out: Ink, pieces: Sequence[Piece], fit: Fit) -> npt.NDArray[np.float64]:
    """Give every row the height its lines like best, rows in order from top to bottom."""
    profiles = np.stack([_height_profile(standing_out, pieces, fit, row) for row in fit.rows])
    heights, _ = increasing_heights(profiles, MIN_ROW_GAP_PX)
    return heights.astype(np.float64)


def _height_profile(
    standing_out: Ink, pieces: Sequence[Piece], fit: Fit, row: int
) -> npt.NDArray[np.float64]:
    """(H,) mean contrast under the lines of one row, for 0 mV at every y of the page."""
    heights = np.arange(standing_out.shape[0], dtype=np.float64)
    flat = replace(fit, row_y_px=np.zeros(len(fit.rows)))
    # Every other sample is plenty at 500 Hz.
    points = np.concatenate([flat.line(piece)[::2] for piece in pieces if piece.row == row])
    x = points[:, 0] - fit.scale.c / fit.scale.a * heights[:, None]
    y = points[:, 1] + heights[:, None]
    return np.asarray(_look(standing_out, x, y).mean(axis=1), dtype=np.float64)


def _look(image: Ink, x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> Ink:
    """Image values between pixels; 0 outside the page. Shape as `x`."""
    # OpenCV takes no more than 32767 columns or rows of places, so they are folded into a square.
    columns = 1024
    padded = np.full((-(-x.size // columns), columns, 2), -1e3, dtype=np.float32)
    padded.reshape(-1, 2)[: x.size] = np.stack([x.ravel(), y.ravel()], axis=1)
    seen = cv2.remap(image, padded, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0)
    return np.asarray(seen.ravel()[: x.size].reshape(x.shape), dtype=np.float32)


def _climb_through(
    ink: Ink, pieces: Sequence[Piece], fit: Fit, nominal: Scale, blurs_px: Sequence[float]
) -> Fit:
    lines = _Lines(pieces, fit)
    vector = lines.pack(fit)
    for blur_px in blurs_px:
        soft = cv2.GaussianBlur(ink, (0, 0), blur_px)
        vector = _climb(soft, lines, vector, nominal, first_step_px=2.0 * blur_px)
    return lines.unpack(vector)


class _Lines:
    """Every pixel of every line, as linear functions of the fitted numbers.

    The numbers are scaled so that one unit moves some pixel of the page by about one pixel: a search
    then takes equal steps in all of them.
    """

    def __init__(self, pieces: Sequence[Piece], fit: Fit) -> None:
        self.rows = fit.rows
        samples = [_even_samples(piece, fit.scale) for piece in pieces]
        self.time_s = np.concatenate(
            [time_s + p.start_s for p, (time_s, _) in zip(pieces, samples, strict=True)]
        )
        self.mv = np.concatenate([mv for _, mv in samples])
        self.row = np.repeat([fit.rows.index(p.row) for p in pieces], [len(mv) for _, mv in samples])
        self.time_unit = 1.0 / max(float(self.time_s.max()), 1e-9)
        self.mv_unit = 1.0 / max(float(np.percentile(np.abs(self.mv), 99)), 1e-9)

    def pack(self, fit: Fit) -> npt.NDArray[np.float64]:
        scale = fit.scale
        head = [fit.x0_px, scale.a / self.time_unit, scale.c / self.time_unit, scale.d / self.mv_unit]
        return np.concatenate([head, fit.row_y_px])

    def unpack(self, vector: npt.NDArray[np.float64]) -> Fit:
        scale = Scale(
            float(vector[1] * self.time_unit),
            float(vector[2] * self.time_unit),
            float(vector[3] * self.mv_unit),
        )
        return Fit(scale, float(vector[0]), vector[4:].copy(), self.rows)

    def xy(self, vector: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        scale = self.unpack(vector).scale
        row_y = vector[4:][self.row]
        x = vector[0] - scale.c / scale.a * row_y + scale.a * self.time_s + scale.b * self.mv
        y = row_y + scale.c * self.time_s + scale.d * self.mv
        return x.astype(np.float32), y.astype(np.float32)


def _even_samples(piece: Piece, scale: Scale) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Seconds and millivolts of one point per pixel of the drawn line's length."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(scale.points(piece), axis=0).T))])
    at = np.arange(0.5, length[-1], 1.0)
    return np.interp(at, length, piece.time_s), np.interp(at, length, piece.mv)


def _climb(
    soft: Ink,
    lines: _Lines,
    start: npt.NDArray[np.float64],
    nominal: Scale,
    first_step_px: float,
) -> npt.NDArray[np.float64]:
    def paper_under_lines(vector: npt.NDArray[np.float64]) -> float:
        x, y = lines.xy(vector)
        return 1.0 - float(_look(soft, x, y).mean())

    found = minimize(
        paper_under_lines,
        start,
        method="Powell",
        bounds=_bounds(lines, start, nominal, reach_px=2.0 + 4.0 * (first_step_px - 1.2)),
        options={"direc": np.eye(start.size) * first_step_px, "xtol": 0.02, "ftol": 1e-5, "maxiter": 12},
    )
    return np.asarray(found.x)


def _bounds(
    lines: _Lines, start: npt.NDArray[np.float64], nominal: Scale, reach_px: float
) -> list[tuple[float, float]]:
    def around(value: float, share: float) -> tuple[float, float]:
        return min(value * (1 - share), value * (1 + share)), max(value * (1 - share), value * (1 + share))

    a_low, a_high = around(nominal.a, TIME_RANGE)
    d_low, d_high = around(nominal.d, AMPLITUDE_RANGE)
    skew = MAX_SKEW * nominal.a
    bounds = [
        (start[0] - reach_px, start[0] + reach_px),
        (a_low / lines.time_unit, a_high / lines.time_unit),
        (-skew / lines.time_unit, skew / lines.time_unit),
        (d_low / lines.mv_unit, d_high / lines.mv_unit),
        *((y - reach_px, y + reach_px) for y in start[4:]),
    ]
    return [(min(low, value), max(high, value)) for (low, high), value in zip(bounds, start, strict=True)]
