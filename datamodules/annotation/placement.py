"""Find a layout on a page, coarsely: every piece votes for where the page begins and its row lies.

One short piece of a flat lead fits in many places. What is unique is the arrangement: pieces of a row
share a line, and all pieces share the column where the record starts. So each piece is matched against
the whole page once, in a small picture of it, and then time scale, skew, start and rows are searched by
adding up what the pieces found where that arrangement puts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.annotation.templates import Piece, Scale, draw, mean_under, without_rules

# The search runs in a picture of about this scale: a stroke is a pixel wide there, a QRS five.
COARSE_PX_PER_S = 50.0
# PROTOCOL R11 proposes 0.97 to 1.03 in steps of 0.005; a little beyond, so that its ends are no edges.
TIME_SCALES = tuple(np.arange(0.965, 1.0351, 0.005).round(4).tolist())
SKEWS = tuple(np.tan(np.radians(np.arange(-1.0, 1.01, 0.25))).tolist())
# Within one percent of its own time scale a piece of 2.5 s moves by half a small pixel at its ends.
DRAWN_TIME_SCALES = (0.975, 1.0, 1.025)
START_STEP = 3  # small px; the tolerances cover the steps of start, time scale and skew
COLUMN_TOLERANCE = 2
ROW_TOLERANCE = 2
HEIGHT_STEP = 2  # small px; likewise
BORDER = 24
MIN_ROW_GAP_PX = 12

# A layout with less support than this share of another one's is not looked at closely.
WORTH_A_CLOSER_LOOK = 0.8
N_CLOSER_LOOKS = 3

Map = npt.NDArray[np.float32]
_Step = tuple[int, int]  # numbers of time scale and skew
WIDE_STEPS: tuple[_Step, ...] = tuple(
    (time_step, skew_step)
    for time_step in range(0, len(TIME_SCALES), 2)
    for skew_step in range(0, len(SKEWS), 2)
)


@dataclass(frozen=True, order=True)
class _Candidate:
    score: float
    time_step: int
    skew_step: int
    start: float


@dataclass(frozen=True)
class Placement:
    """A layout placed on the page, in scan pixels.

    Attributes:
        scale: Time, voltage and skew on the scan.
        x0_px: Column of the first second of the record, in the page's uppermost row.
        row_y_px: Row number to the y of (first second of the record, 0 mV).
        score: Mean over the pieces of the ink standing out under their lines.
    """

    scale: Scale
    x0_px: float
    row_y_px: dict[int, float]
    score: float


class CoarsePage:
    """A page made small, and where each piece would fit on it; layouts share what they have in common.

    Args:
        ink: (H, W) float32 page, 0 = paper, 1 = ink.
        px_per_s: Nominal scale; the page may be stretched by 3 %.
        px_per_mv: Nominal scale.
    """

    def __init__(self, ink: Map, px_per_s: float, px_per_mv: float) -> None:
        self.shrink = max(1.0, px_per_s / COARSE_PX_PER_S)
        self.nominal = Scale(px_per_s / self.shrink, 0.0, -px_per_mv / self.shrink)
        self.height = max(1, round(ink.shape[0] / self.shrink))
        self.width = max(1, round(ink.shape[1] / self.shrink))
        small = cv2.resize(ink, (self.width, self.height), interpolation=cv2.INTER_AREA)
        small = without_rules(np.asarray(small, np.float32), px_per_s / self.shrink)
        # A trace may begin at the very edge; templates have a margin.
        self._standing_out: Map = np.pad(_standing_out(small), BORDER)
        self._supports: dict[tuple[str, float, int, float], Map] = {}

    def support(self, piece: Piece, time_scale: float) -> Map:
        """How well a piece fits wherever it may lie.

        Args:
            piece: The signal.
            time_scale: Factor on the nominal px per s; the nearest one drawn is used.

        Returns:
            (height * width + 1,) ink standing out under the line when the middle of the piece, at 0 mV,
            lies near that small pixel, row by row; 0 where the piece leaves the page, and in the last
            entry, which stands for every place off the page.
        """
        drawn = min(DRAWN_TIME_SCALES, key=lambda tried: abs(tried - time_scale))
        key = (piece.lead, piece.start_s, piece.mv.size, drawn)
        if key not in self._supports:
            self._supports[key] = self._match(piece, drawn)
        return self._supports[key]

    def _match(self, piece: Piece, time_scale: float) -> Map:
        scale = replace(self.nominal, a=self.nominal.a * time_scale)
        template = draw(piece, scale, width_px=2.0)
        fitting = np.zeros((self.height, self.width), np.float32)
        if any(np.less(self._standing_out.shape, template.image.shape)):
            return np.append(fitting, np.float32(0))
        found = mean_under(self._standing_out, template)
        # Entry (y, x) of `found` puts the middle at (y + top, x + left) of the page without border.
        left = round(template.anchor_xy[0] + scale.a * piece.middle_s) - BORDER
        top = template.anchor_xy[1] - BORDER
        kernel = np.ones((2 * ROW_TOLERANCE + 1, 2 * COLUMN_TOLERANCE + 1), np.uint8)
        found = np.asarray(cv2.dilate(found, kernel))
        y, x = max(0, top), max(0, left)
        part = found[y - top : self.height - top, x - left : self.width - left]
        fitting[y : y + part.shape[0], x : x + part.shape[1]] = part
        return np.append(fitting, np.float32(0))


def place_layouts(
    page: CoarsePage, layouts: Sequence[Sequence[Piece]], n_best: int = 1
) -> list[list[Placement]]:
    """Find the arrangements of all pieces that the page supports best.

    Every other time scale and skew is tried first; the tolerances cover the steps between. Then all those
    next to the best ones are, for the layouts that are still worth it.

    Args:
        page: The page.
        layouts: Pieces of each layout, of all its rows.
        n_best: At most so many placements of a layout, of different start or time scale.

    Returns:
        Placements of each layout, best first; none where it does not fit on the page at this scale, or has
        far less support than another one.
    """
    candidates: list[list[_Candidate]] = [[] for _ in layouts]
    _try(page, layouts, dict.fromkeys(WIDE_STEPS, range(len(layouts))), n_best, candidates)
    best = max((one.score for found in candidates for one in found), default=0.0)
    near: dict[_Step, list[int]] = {}
    for number, found in enumerate(candidates):
        found.sort(reverse=True)
        if found and found[0].score < WORTH_A_CLOSER_LOOK * best:
            found.clear()
        for step in _steps_near(found):
            near.setdefault(step, []).append(number)
    _try(page, layouts, near, n_best, candidates)
    return [
        _distinct(page, pieces, sorted(found, reverse=True), n_best)
        for pieces, found in zip(layouts, candidates, strict=True)
    ]


def increasing_heights(
    profiles: npt.NDArray[np.floating], min_gap: int
) -> tuple[npt.NDArray[np.intp], float]:
    """Choose one height per row, from top to bottom, with the largest sum.

    Args:
        profiles: (n_rows, H) support of each row at each height.
        min_gap: Smallest distance of two rows, in entries.

    Returns:
        (n_rows,) heights, strictly increasing, and the sum.
    """
    running = np.asarray(profiles, dtype=np.float64).copy()
    came_from = np.zeros(running.shape, dtype=np.intp)
    for row in range(1, len(running)):
        best_above = np.maximum.accumulate(running[row - 1])
        is_new_best = running[row - 1] >= best_above
        at = np.maximum.accumulate(np.where(is_new_best, np.arange(best_above.size), 0))
        running[row, min_gap:] += best_above[:-min_gap]
        running[row, :min_gap] = -np.inf
        came_from[row, min_gap:] = at[:-min_gap]
    heights = [int(np.argmax(running[-1]))]
    for row in range(len(running) - 1, 0, -1):
        heights.append(int(came_from[row, heights[-1]]))
    return np.array(heights[::-1]), float(running[-1].max())


def _standing_out(small: Map) -> Map:
    # Ink in excess of its surroundings: neither a dense corner of the grid nor a block of text, where
    # any line finds ink, may outvote the trace.
    return np.asarray(small - 0.9 * cv2.GaussianBlur(small, (0, 0), 3.0), dtype=np.float32)


def _min_row_gap(page: CoarsePage) -> int:
    return max(1, round(MIN_ROW_GAP_PX / page.shrink / HEIGHT_STEP))


def _try(
    page: CoarsePage,
    layouts: Sequence[Sequence[Piece]],
    tried: Mapping[_Step, Sequence[int]],
    n_best: int,
    candidates: list[list[_Candidate]],
) -> None:
    """Add the best starts of the layouts named at each time scale and skew; what they share is read once."""
    for (time_step, skew_step), numbers in tried.items():
        time_scale, skew = TIME_SCALES[time_step], SKEWS[skew_step]
        seen: dict[Any, Map] = {}
        for number in numbers:
            pieces = layouts[number]
            if not pieces:
                continue
            starts = _starts(page, pieces, time_scale, skew)
            if starts.size == 0:
                continue
            profiles = _profiles(page, pieces, time_scale, skew, starts, seen)
            totals = _best_totals(profiles, _min_row_gap(page)) / len(pieces)
            for at in np.argsort(totals)[-n_best:]:
                found = _Candidate(float(totals[at]), time_step, skew_step, float(starts[at]))
                candidates[number].append(found)


def _steps_near(found: Sequence[_Candidate]) -> list[_Step]:
    """The steps left out around the best ones."""
    around = [(one.time_step, one.skew_step) for one in found[:N_CLOSER_LOOKS]]
    near = {(t + dt, s + ds): None for t, s in around for dt in (-1, 0, 1) for ds in (-1, 0, 1)}
    return [
        (t, s)
        for t, s in near
        if 0 <= t < len(TIME_SCALES) and 0 <= s < len(SKEWS) and (t, s) not in WIDE_STEPS
    ]


def _distinct(
    page: CoarsePage, pieces: Sequence[Piece], found: Sequence[_Candidate], n_best: int
) -> list[Placement]:
    placements: list[Placement] = []
    for one in found:
        if len(placements) == n_best:
            break
        placement = _placement(page, pieces, one)
        if not any(_is_near(placement, other, page.shrink) for other in placements):
            placements.append(placement)
    return placements


def _end_s(pieces: Sequence[Piece]) -> float:
    return max(piece.start_s + float(piece.time_s[-1]) for piece in pieces)


def _starts(
    page: CoarsePage, pieces: Sequence[Piece], time_scale: float, skew: float
) -> npt.NDArray[np.float64]:
    """Columns at small row 0 where the record may start, so that all of it lies on the page."""
    lean = max(0.0, skew) * page.height
    low, high = -START_STEP, page.width - _end_s(pieces) * page.nominal.a * time_scale + START_STEP
    return np.arange(low + min(0.0, skew) * page.height, high + lean, START_STEP)


def _profiles(
    page: CoarsePage,
    pieces: Sequence[Piece],
    time_scale: float,
    skew: float,
    starts: npt.NDArray[np.float64],
    seen: dict[Any, Map],
) -> Map:
    """Support of every row at every height, for every start of the record.

    Args:
        page: The page.
        pieces: Of one layout.
        time_scale: Factor on the nominal px per s.
        skew: Slope of the rows.
        starts: (n_starts,) columns of the start at small row 0, as `_starts` gives them.
        seen: What was read at this time scale and skew for other layouts; added to.

    Returns:
        (n_rows, n_heights, n_starts) sums, a height every `HEIGHT_STEP` small px.
    """
    rows = sorted({piece.row for piece in pieces})
    a = page.nominal.a * time_scale
    end_s = _end_s(pieces)
    heights = np.arange(0, page.height, HEIGHT_STEP)
    profiles = np.zeros((len(rows), heights.size, starts.size), np.float32)
    # Lower rows of a skewed page start further to the side.
    columns = starts[None, :] - skew * heights[:, None]
    places: dict[float, npt.NDArray[np.intp]] = {}
    for piece in pieces:
        key = (piece.lead, piece.start_s, piece.mv.size, end_s)
        if key not in seen:
            middle_s = piece.start_s + piece.middle_s
            if middle_s not in places:
                y = heights + round(skew * a * middle_s)
                places[middle_s] = _places(page, columns + a * middle_s, y)
            seen[key] = page.support(piece, time_scale).take(places[middle_s])
        profiles[rows.index(piece.row)] += seen[key]
    return profiles


def _places(page: CoarsePage, x: npt.NDArray[np.float64], y: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Entries of a support at columns x (n_heights, n_starts) and rows y (n_heights,)."""
    columns = np.rint(x).astype(np.intp)
    inside = (columns >= 0) & (columns < page.width) & ((y >= 0) & (y < page.height))[:, None]
    off_page = page.height * page.width
    return np.asarray(np.where(inside, y[:, None] * page.width + columns, off_page), dtype=np.intp)


def _best_totals(profiles: Map, min_gap: int) -> npt.NDArray[np.float32]:
    """(n_starts,) what `increasing_heights` gives for each start, without the heights."""
    running = profiles[0]
    for profile in profiles[1:]:
        best_above = np.maximum.accumulate(running, axis=0)
        running = np.full_like(profile, -np.inf)
        running[min_gap:] = profile[min_gap:] + best_above[:-min_gap]
    return np.asarray(running.max(axis=0))


def _placement(page: CoarsePage, pieces: Sequence[Piece], found: _Candidate) -> Placement:
    time_scale, skew, start = TIME_SCALES[found.time_step], SKEWS[found.skew_step], found.start
    profiles = _profiles(page, pieces, time_scale, skew, np.array([start]), {})
    heights, total = increasing_heights(profiles[:, :, 0], _min_row_gap(page))
    rows = sorted({piece.row for piece in pieces})
    # Area averaging puts the middle of small pixel 0 at (shrink - 1) / 2.
    offset = (page.shrink - 1.0) / 2.0
    row_y = {row: float(y) * HEIGHT_STEP * page.shrink + offset for row, y in zip(rows, heights, strict=True)}
    a = page.nominal.a * time_scale * page.shrink
    scale = Scale(a, skew * a, page.nominal.d * page.shrink)
    return Placement(scale, start * page.shrink + offset * (1 + skew), row_y, total / len(pieces))


def _is_near(one: Placement, other: Placement, shrink: float) -> bool:
    """Same start, to within the tolerances, and rows at the same heights: the refinement would join them."""
    near_px = 6.0 * shrink
    return abs(one.x0_px - other.x0_px) < near_px and all(
        abs(y - other.row_y_px[row]) < near_px for row, y in one.row_y_px.items()
    )
