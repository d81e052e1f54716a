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
from datamodules.annotation.templates import Piece, Scale, without_rules
from datamodules.rendering.strokes import Runs, column_runs, extents

# PROTOCOL R11: the ranges searched around the nominal scale, a little beyond the 3 % and 5 % it proposes.
TIME_RANGE = 0.035
AMPLITUDE_RANGE = 0.06
MAX_SKEW = 0.02
INK_RUN_PX = 0.25  # measured on 40 rendered pages, stroke 1 to 4 px

Ink = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Step:
    """One climb: a picture of the page, and how far the lines may move on it.

    Narrow reaches matter: on a dense grid a line that may stretch freely finds more ink by stretching.
    """

    blur_px: float
    place_px: float
    ends_px: float  # by time scale and skew, at the far end of the record
    peaks_px: float  # by amplitude, at the highest peaks
    spacing_px: float  # of the points looked at, along the lines


# Wide blurs catch a line some pixels off, narrow ones tell a tenth.
FIRST_STEPS = (_Step(2.0, 9.0, 9.0, 0.0, 2.0), _Step(1.2, 5.0, 5.0, 8.0, 2.0))
LAST_STEPS = (_Step(1.0, 3.0, 3.0, 8.0, 2.0), _Step(0.6, 2.0, 2.0, 8.0, 1.0))


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


@dataclass(frozen=True)
class Numbers:
    """A fit as a vector, so scaled that one unit of any entry moves some pixel of the page by about one.

    A search then takes equal steps in all of them. The entries are the start, time scale, skew and amplitude,
    and the heights of the rows.

    Attributes:
        time_unit: One over the seconds to the end of the record.
        mv_unit: One over the millivolts of the highest peaks.
        rows: Row numbers.
    """

    time_unit: float
    mv_unit: float
    rows: tuple[int, ...]

    @classmethod
    def of(
        cls, time_s: npt.NDArray[np.float64], mv: npt.NDArray[np.float64], rows: tuple[int, ...]
    ) -> Numbers:
        """Choose the units for the points that are fitted; (n,) seconds of the record and millivolts."""
        peak_mv = float(np.percentile(np.abs(mv), 99))
        return cls(1.0 / max(float(time_s.max()), 1e-9), 1.0 / max(peak_mv, 1e-9), rows)

    def pack(self, fit: Fit) -> npt.NDArray[np.float64]:
        """(4 + n_rows,) the fit as a vector."""
        scale = fit.scale
        head = [fit.x0_px, scale.a / self.time_unit, scale.c / self.time_unit, scale.d / self.mv_unit]
        return np.concatenate([head, fit.row_y_px])

    def unpack(self, vector: npt.NDArray[np.float64]) -> Fit:
        """The fit of a vector."""
        x0_px, a, c, d = vector[:4].tolist()
        scale = Scale(a * self.time_unit, c * self.time_unit, d * self.mv_unit)
        return Fit(scale, x0_px, vector[4:].copy(), self.rows)


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
        The placement under which the lines stand out most.
    """
    for step in FIRST_STEPS:
        fit = _climb(ink, pieces, fit, nominal, step)
    # Once time and skew are known, a whole row tells its height far better than a piece did.
    return settle(ink, pieces, place_rows(ink, pieces, fit, nominal), nominal)


def settle(ink: Ink, pieces: Sequence[Piece], fit: Fit, nominal: Scale) -> Fit:
    """Correct a placement that is right to a few pixels.

    Args:
        ink: As for `refine`.
        pieces: As for `refine`; rows without pieces stay where they are.
        fit: The placement.
        nominal: As for `refine`.

    Returns:
        The placement under which the lines stand out most.
    """
    for step in LAST_STEPS:
        fit = _climb(ink, pieces, fit, nominal, step)
    return fit


def place_rows(ink: Ink, pieces: Sequence[Piece], fit: Fit, nominal: Scale) -> Fit:
    """Give every row the height its lines like best, rows in order from top to bottom.

    Args:
        ink: As for `refine`.
        pieces: As for `refine`.
        fit: Scale and start; its heights do not matter.
        nominal: As for `refine`.

    Returns:
        The placement with new heights.
    """
    standing_out = contrast(without_rules(ink, nominal.a), 1.0)
    profiles = np.stack(
        [height_profile(standing_out, [p for p in pieces if p.row == row], fit) for row in fit.rows]
    )
    heights, _ = increasing_heights(profiles, MIN_ROW_GAP_PX)
    return replace(fit, row_y_px=heights.astype(np.float64))


def contrast(ink: Ink, blur_px: float) -> Ink:
    """Ink in excess of its surroundings: a line stands out from an even grey, however dark that is."""
    wide = cv2.GaussianBlur(ink, (0, 0), blur_px + 4.0)
    return np.asarray(cv2.GaussianBlur(ink, (0, 0), blur_px) - 0.7 * wide)


def fit_pen(ink: Ink, pieces: Sequence[Piece], fit: Fit) -> tuple[Fit, float]:
    """Find stroke width and amplitude together, where the drawn mask differs least from the page.

    Blurred lines cannot tell a tall narrow stroke from a short wide one; the drawn mask can, and the sum
    of squared differences between mask and page is the paper's own measure. One pen for all strokes leaves
    the amplitude a percent off; `sharpen` tells it better.

    Args:
        ink: (H, W) float32 page.
        pieces: The signal.
        fit: The refined placement.

    Returns:
        The placement with its amplitude corrected, and the stroke width in px.
    """
    above = ink_above(ink, break_even(ink, pieces, fit))
    # To look around, every other piece is enough.
    factor, stroke_px = _best_pen(
        above, pieces[::2], fit, np.arange(0.95, 1.111, 0.03), np.arange(1.0, 7.1, 1.0)
    )
    factor, stroke_px = _best_pen(
        above, pieces, fit, factor + np.arange(-0.02, 0.021, 0.02), stroke_px + np.arange(-0.5, 0.51, 0.25)
    )
    # Ink runs a little beyond the pen, which makes the best-fitting pen slightly too wide.
    return _with_amplitude(fit, factor), max(1.0, stroke_px - INK_RUN_PX)


def break_even(ink: Ink, pieces: Sequence[Piece], fit: Fit) -> float:
    """Darkness half-way between the page and what lies under some strokes.

    Against half of full ink, a faded stroke counts as paper, and a shorter one fits better.

    Args:
        ink: (H, W) float32 page.
        pieces: The strokes.
        fit: The placement.
    """
    x, y = np.concatenate([fit.line(piece) for piece in pieces]).T
    return 0.5 * (float(ink.mean()) + float(look(ink, x, y).mean()))


def ink_above(ink: Ink, level: float) -> Ink:
    """Add up darkness beyond a level along every column, so that any run of pixels is one difference.

    Args:
        ink: (H, W) float32 page.
        level: Darkness that counts as nothing.

    Returns:
        (H + 1, W) float32: row y holds the sum over the rows above y.
    """
    above = np.zeros((ink.shape[0] + 1, ink.shape[1]), np.float32)
    np.cumsum(ink - np.float32(level), axis=0, out=above[1:])
    return above


def agreement(above: Ink, runs: Sequence[Runs], reach_px: tuple[int, int] = (0, 0)) -> float:
    """Tell how well drawn strokes agree with a page: minus the paper's R, up to a constant of the page.

    Args:
        above: What `ink_above` gives.
        runs: The strokes, moved together.
        reach_px: How far they may move along x and y to agree best.
    """
    height, width = above.shape[0] - 1, above.shape[1]
    column, first, stop = (
        np.concatenate([getattr(run, name) for run in runs]) for name in ("column", "first_row", "stop_row")
    )
    best = -np.inf
    for right in range(-reach_px[0], reach_px[0] + 1):
        moved = column + right
        on_page = (moved >= 0) & (moved < width)
        x, top, bottom = moved[on_page], first[on_page], stop[on_page]
        for down in range(-reach_px[1], reach_px[1] + 1):
            ends = above[np.clip(bottom + down, 0, height), x] - above[np.clip(top + down, 0, height), x]
            best = max(best, float(ends.sum()))
    return best


def _best_pen(
    above: Ink,
    pieces: Sequence[Piece],
    fit: Fit,
    factors: npt.NDArray[np.float64],
    strokes_px: npt.NDArray[np.float64],
) -> tuple[float, float]:
    """Amplitude factor and stroke width with the best agreement, between the ones tried."""
    found = _agreements(above, pieces, fit, factors, strokes_px)
    stroke, best = np.unravel_index(int(found.argmax()), found.shape)
    return (
        _between(factors, int(best), found[stroke]),
        max(1.0, _between(strokes_px, int(stroke), found[:, best])),
    )


def _agreements(
    above: Ink,
    pieces: Sequence[Piece],
    fit: Fit,
    factors: npt.NDArray[np.float64],
    strokes_px: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """(n_strokes, n_factors) agreement of each pen, at least 1 px wide, at each amplitude."""
    found = np.zeros((strokes_px.size, factors.size))
    for place, factor in enumerate(factors):
        scaled = _with_amplitude(fit, factor)
        traces = [extents(scaled.line(piece)) for piece in pieces]
        for row, width_px in enumerate(np.maximum(strokes_px, 1.0)):
            found[row, place] = agreement(above, [column_runs(trace, width_px) for trace in traces])
    return found


def _with_amplitude(fit: Fit, factor: float) -> Fit:
    return replace(fit, scale=replace(fit.scale, d=fit.scale.d * factor))


def _between(tried: npt.NDArray[np.float64], top: int, values: npt.NDArray[np.float64]) -> float:
    """Top of the parabola through the best of equally spaced trials and its neighbours."""
    if not 0 < top < len(values) - 1:
        return float(tried[top])
    before, at, after = values[top - 1 : top + 2]
    bend = before - 2 * at + after
    steps = float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
    return float(tried[top] + steps * (tried[1] - tried[0]))


def height_profile(standing_out: Ink, pieces: Sequence[Piece], fit: Fit) -> npt.NDArray[np.float64]:
    """Look for a row at every height of the page.

    Args:
        standing_out: (H, W) float32, what `contrast` gives.
        pieces: Of one row.
        fit: Scale and start.

    Returns:
        (H,) mean contrast under the lines, for 0 mV at every y of the page.
    """
    heights = np.arange(standing_out.shape[0], dtype=np.float64)
    flat = replace(fit, row_y_px=np.zeros(len(fit.rows)))
    # Every fourth sample is plenty at 500 Hz.
    points = np.concatenate([flat.line(piece)[::4] for piece in pieces])
    x = points[:, 0] - fit.scale.c / fit.scale.a * heights[:, None]
    y = points[:, 1] + heights[:, None]
    return np.asarray(look(standing_out, x, y).mean(axis=1), dtype=np.float64)


def look(image: Ink, x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> Ink:
    """See what an image holds between its pixels.

    Args:
        image: (H, W) float32.
        x: Columns.
        y: Rows, same shape.

    Returns:
        Values at those places, same shape; 0 outside the image.
    """
    # OpenCV takes no more than 32767 columns or rows of places, so they are folded into a square.
    columns = 1024
    padded = np.full((2, -(-x.size // columns), columns), -1e3, dtype=np.float32)
    padded.reshape(2, -1)[:, : x.size] = x.ravel(), y.ravel()
    seen = cv2.remap(
        image, padded[0], padded[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0
    )
    return np.asarray(seen.ravel()[: x.size].reshape(x.shape), dtype=np.float32)


class _Lines:
    """Points of every line, evenly spaced, as linear functions of the fitted numbers.

    Args:
        pieces: Pieces whose rows `fit` holds.
        fit: The placement.
        spacing_px: Distance of the points along the lines.
    """

    def __init__(self, pieces: Sequence[Piece], fit: Fit, spacing_px: float) -> None:
        samples = [_even_samples(piece, fit.scale, spacing_px) for piece in pieces]
        self.time_s = np.concatenate(
            [time_s + p.start_s for p, (time_s, _) in zip(pieces, samples, strict=True)]
        )
        self.mv = np.concatenate([mv for _, mv in samples])
        self.row = np.repeat([fit.rows.index(p.row) for p in pieces], [len(mv) for _, mv in samples])
        self.numbers = Numbers.of(self.time_s, self.mv, fit.rows)

    def xy(self, vector: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        scale = self.numbers.unpack(vector).scale
        row_y = vector[4:][self.row]
        x = vector[0] - scale.c / scale.a * row_y + scale.a * self.time_s + scale.b * self.mv
        y = row_y + scale.c * self.time_s + scale.d * self.mv
        return x.astype(np.float32), y.astype(np.float32)


def _even_samples(
    piece: Piece, scale: Scale, spacing_px: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Seconds and millivolts of points at equal distances along the drawn line."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(scale.points(piece), axis=0).T))])
    at = np.arange(0.5 * spacing_px, length[-1], spacing_px)
    return np.interp(at, length, piece.time_s), np.interp(at, length, piece.mv)


def _climb(ink: Ink, pieces: Sequence[Piece], fit: Fit, nominal: Scale, step: _Step) -> Fit:
    lines = _Lines(pieces, fit, step.spacing_px)
    start = lines.numbers.pack(fit)
    soft = contrast(ink, step.blur_px)

    def missed_contrast(vector: npt.NDArray[np.float64]) -> float:
        x, y = lines.xy(vector)
        return 1.0 - float(look(soft, x, y).mean())

    found = minimize(
        missed_contrast,
        start,
        method="Powell",
        bounds=_bounds(lines, start, nominal, step),
        options={"direc": np.eye(start.size) * 1.5 * step.blur_px, "xtol": 0.02, "ftol": 1e-5, "maxiter": 12},
    )
    return lines.numbers.unpack(np.asarray(found.x))


def _bounds(
    lines: _Lines, start: npt.NDArray[np.float64], nominal: Scale, step: _Step
) -> list[tuple[float, float]]:
    """Hold each number near its start, and the scale within the searched range."""
    skew = MAX_SKEW * nominal.a
    searched = (
        _around(nominal.a, TIME_RANGE, lines.numbers.time_unit),
        (-skew / lines.numbers.time_unit, skew / lines.numbers.time_unit),
        _around(nominal.d, AMPLITUDE_RANGE, lines.numbers.mv_unit),
    )
    reaches = np.full(start.size, step.place_px)
    reaches[1:4] = step.ends_px, step.ends_px, step.peaks_px
    bounds = [
        (value - reach, value + reach) for value, reach in zip(start.tolist(), reaches.tolist(), strict=True)
    ]
    bounds[1:4] = [
        (max(near[0], far[0]), min(near[1], far[1])) for near, far in zip(bounds[1:4], searched, strict=True)
    ]
    return [(min(low, value), max(high, value)) for (low, high), value in zip(bounds, start, strict=True)]


def _around(value: float, share: float, unit: float) -> tuple[float, float]:
    low, high = sorted((value * (1 - share) / unit, value * (1 + share) / unit))
    return low, high
