"""The last tenths of a pixel: fit what a page should look like, pixel by pixel, to what it looks like.

Where lines hold most ink tells their place, but not their amplitude: a wide pen at a small amplitude covers
nearly the same pixels as a narrow one at a large amplitude, and printers draw steep strokes thinner. So the
ink is predicted: every pixel has a chance of ink, that of the page around it or, as far as a pen covers it,
that of a stroke. Place, scale, pen and darkness are then fitted together, each pixel weighted by how much it
tells (Fisher scoring of the likelihood). Level stretches tell the pen, gentle slopes tell the amplitude
whatever the pen, and all leads of the page share it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.annotation.refinement import Fit, Numbers
from datamodules.annotation.templates import Piece
from datamodules.rendering.strokes import Cover, extents, soft_cover

Ink = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]

# The pen has a width of its own on level, slanting and steep strokes, and widths between them in between.
PEN_STEEPNESS = (1.0, 4.0, 16.0)  # px of height per px of time
N_PENS = len(PEN_STEEPNESS)
THINNEST_PX = 0.5
ROUNDS = 3
# Upright strokes widen by quarters of a pixel: a smaller difference sees steps or none, and a fit gets stuck.
DIFFERENCE_PX = 1.0
LONGEST_STEP_PX = 1.0
# Where nothing steep is drawn its pen is unknown; a pixel's worth of ink holds it where it was.
PEN_INERTIA = 1.0
DARKNESS = (0.3, 0.995)
PAPER_CHANCE = (0.002, 0.9)
# Added to the variance of every pixel: blots, letters and breaks are no surprise anywhere.
MISHAPS = 0.02
ZONE_PX = 4  # around the lines; what is farther off does not depend on them
CLEAR_PX = 2  # around the lines; what is nearer may be their ink
NEIGHBOURHOOD_PX = 61
# Pixels of the neighbourhood's mean that are counted along with a grid line's own.
GRID_INERTIA_PX = 8.0


def sharpen(ink: Ink, pieces: Sequence[Piece], fit: Fit, stroke_px: float) -> Fit:
    """Correct a placement by tenths of a pixel, and its amplitude by what is left.

    Args:
        ink: (H, W) float32 page, 0 = paper, 1 = ink.
        pieces: Pieces whose rows `fit` holds; rows without pieces stay where they are.
        fit: The placement, right to about a pixel.
        stroke_px: Width of the pen, about.

    Returns:
        The placement under which the page is most likely.
    """
    model = _Model(ink, pieces, fit, stroke_px)
    vector = np.concatenate([np.full(N_PENS, stroke_px), model.numbers.pack(fit)])
    darkness = model.darkness(vector)
    for _ in range(ROUNDS):
        vector, darkness = _improved(model, vector, darkness)
    return model.numbers.unpack(vector[N_PENS:])


def _improved(model: _Model, vector: Vector, darkness: float) -> tuple[Vector, float]:
    """One step of Fisher scoring: pens, fit and darkness together."""
    covered = model.coverage(vector)
    chance = model.paper + (darkness - model.paper) * covered
    weight = 1.0 / (chance * (1.0 - chance) + MISHAPS)
    slopes = [(darkness - model.paper) * model.slope(vector, entry) for entry in range(vector.size)]
    slope = np.vstack([*slopes, covered])
    weighted = slope * weight
    known = weighted @ slope.T
    known[np.diag_indices(N_PENS)] += PEN_INERTIA
    known[np.diag_indices_from(known)] += 1e-6  # a row without pieces has no slope
    step = np.linalg.solve(known, weighted @ (model.ink - chance))
    vector = vector + np.clip(step[:-1], -LONGEST_STEP_PX, LONGEST_STEP_PX)
    vector[:N_PENS] = np.maximum(vector[:N_PENS], THINNEST_PX)
    return vector, float(np.clip(darkness + step[-1], *DARKNESS))


class _Model:
    """Chance of ink of the pixels near the lines.

    A vector holds the pens' widths in px and then the numbers of the fit.

    Attributes:
        numbers: How a fit is written as a vector.
        ink: (n,) what the page shows near the lines.
        paper: (n,) chance of ink there without a trace.
    """

    def __init__(self, ink: Ink, pieces: Sequence[Piece], fit: Fit, stroke_px: float) -> None:
        time_s = np.concatenate([piece.start_s + piece.time_s for piece in pieces])
        self.numbers = Numbers.of(time_s, np.concatenate([piece.mv for piece in pieces]), fit.rows)
        self._pieces = pieces
        self._shape = ink.shape
        drawn = np.zeros(ink.shape, np.uint8)
        for cover in self._covers(fit, np.full(N_PENS, stroke_px)):
            drawn[cover.row, cover.column] = 1
        near = np.flatnonzero(_around(drawn, ZONE_PX))
        # All pixels farther off share one place, which is cut off.
        self._place = np.full(ink.size, near.size)
        self._place[near] = np.arange(near.size)
        self.ink: Vector = ink.ravel()[near].astype(np.float64)
        self.paper: Vector = paper_chance(ink, _around(drawn, CLEAR_PX) > 0).ravel()[near].astype(np.float64)

    def darkness(self, vector: Vector) -> float:
        """Mean ink where a pen covers a pixel nearly whole."""
        inside = self.ink[self.coverage(vector) > 0.7]
        return float(np.clip(inside.mean() if inside.size else 1.0, *DARKNESS))

    def coverage(self, vector: Vector, rows: Sequence[int] | None = None) -> Vector:
        """(n,) share of each pixel that is covered by the lines, of some rows or of all."""
        covers = self._covers(self.numbers.unpack(vector[N_PENS:]), vector[:N_PENS], rows)
        n_near = self.ink.size
        if not covers:
            return np.zeros(n_near)
        pixel = np.concatenate([cover.row * self._shape[1] + cover.column for cover in covers])
        share = np.concatenate([cover.share for cover in covers])
        return np.minimum(np.bincount(self._place[pixel], share, n_near + 1)[:n_near], 1.0)

    def _covers(self, fit: Fit, pens_px: Vector, rows: Sequence[int] | None = None) -> list[Cover]:
        """What the pens cover of the page, piece by piece."""
        covers = []
        for piece in self._pieces:
            if rows is None or piece.row in rows:
                trace = extents(fit.line(piece))
                steepness = np.maximum(trace.steepness, PEN_STEEPNESS[0])
                width_px = np.interp(np.log(steepness), np.log(PEN_STEEPNESS), pens_px)
                covers.append(soft_cover(trace, width_px, self._shape))
        return covers

    def slope(self, vector: Vector, entry: int) -> Vector:
        """(n,) how coverage changes with an entry of the vector, per px."""
        row = entry - (vector.size - len(self.numbers.rows))
        rows = None if row < 0 else self.numbers.rows[row : row + 1]
        step = np.zeros(vector.size)
        step[entry] = DIFFERENCE_PX / 2
        change = self.coverage(vector + step, rows) - self.coverage(vector - step, rows)
        return np.asarray(change / DIFFERENCE_PX)


def paper_chance(ink: Ink, is_trace: npt.NDArray[np.bool_]) -> Ink:
    """Tell how much ink a page would hold without its trace.

    Grid lines go on beneath a trace: what its row and its column hold nearby is taken together.

    Args:
        ink: (H, W) float32 page, 0 = paper, 1 = ink.
        is_trace: (H, W) what is not looked at.

    Returns:
        (H, W) float32 in 0.002 to 0.9.
    """
    paper = (~is_trace).astype(np.float32)
    side = NEIGHBOURHOOD_PX
    mean = _mean_of(ink, paper, (side, side), np.zeros_like(ink), 1e-3)
    along, down = (
        _mean_of(ink, paper, window, mean, GRID_INERTIA_PX / side) for window in ((side, 1), (1, side))
    )
    return np.asarray(np.clip(along + down - mean, *PAPER_CHANCE), dtype=np.float32)


def _mean_of(ink: Ink, seen: Ink, window: tuple[int, int], prior: Ink, inertia: float) -> Ink:
    """Mean of what is seen in a window, and of a prior that counts as a share of the window."""
    total, count = cv2.blur(ink * seen, window), cv2.blur(seen, window)
    return np.asarray((total + np.float32(inertia) * prior) / (count + np.float32(inertia)), dtype=np.float32)


def _around(drawn: npt.NDArray[np.uint8], reach_px: int) -> npt.NDArray[np.uint8]:
    """Pixels up to some pixels from drawn ones."""
    side = 2 * reach_px + 1
    return np.asarray(cv2.dilate(drawn, np.ones((side, side), np.uint8)), dtype=np.uint8)
