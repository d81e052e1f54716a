"""Start of the record by the ends of leads, where a network gives maps of them (`models.lead_ends`).

Every row begins and ends, and in between one lead ends where the next begins. All of these points lie at
times that the layout knows, so together they say where the record begins far better than any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter1d, minimum_filter1d

from lightning_app.digitize.trace import Edges
from models.lead_ends import KINDS

SEARCH_S = 0.15  # the record begins within this of where the rows' ends say
STEP_PX = 0.1
AROUND_PX = 4.0  # of its row's ink, an end is looked for
FLOOR = 0.1  # of an end that the map does not show at all; it must not outweigh the others
# Squared, since ends that a map shows at a half are right to half a pixel and those at a fifth hardly at all.
SHARPNESS = 2
# Ends within a row, where one lead joins the next without a gap, are seen worst.
WITHIN_ROW = 0.5
# The ink of the rows' ends tells the place, too: half of the pages to this, the others to anything.
INK_PX, INK_WEIGHT = 0.3, 0.5
NEAR_PX = 1.0  # of the best place, places count by how likely they are
SEEN = 0.2  # of a map's peak, for an end to count as seen
# A renderer may draw nothing in the last hundredths of every lead, but begins to draw where its lead begins.
MAX_EARLY_S, EARLY = 0.22, 6.0  # and how unlikely that is, as a logarithm
# Of all ends: leads that join without a gap show none. Rendered pages with so many were right to 4 ms.
ENOUGH = 0.4
ONLY = np.ones(1)  # a grid or the user has told the scale
# Rows of which some ends are lost among pulses and specks tell it wrong by a percent.
STRETCHES = 1.0 + np.arange(-0.02, 0.0201, 0.00025)  # a quarter of a pixel at the end of ten seconds

Array = NDArray[np.float32]
Seen = NDArray[np.float64]
Profiles = tuple[Seen, Seen]


@dataclass(frozen=True)
class LeadEnd:
    """An end of a lead that a layout knows.

    Attributes:
        row: Row of the page as it lies.
        time_s: From the row's left end.
        is_begin: Whether a lead begins there, seen from the left.
    """

    row: int
    time_s: float
    is_begin: bool


@dataclass(frozen=True)
class Start:
    """Where a record begins by the ends of its leads.

    Attributes:
        offset_px: From where it was thought to begin, positive = further right.
        stretch: Its pixels per second over those it was thought to have.
        agreement: Share of the ends that are seen there, over what is enough; at most 1.
        sd_px: Standard deviation of where else it may begin, by all that speaks for it.
    """

    offset_px: float
    stretch: float
    agreement: float
    sd_px: float


def profiles_of(lines: Array, paths: NDArray[np.intp], bands: Sequence[Edges]) -> tuple[Profiles, ...]:
    """What the maps show of ends along each row.

    Args:
        lines: (4, H, W) from `heights.lines_of`.
        paths: (n, W) y of each row's path in the same pixels.
        bands: The ink of each row.

    Returns:
        Per row (W,) of begins and (W,) of ends, highest value near the row in every column.
    """
    return tuple(_profiles(lines[-KINDS:], path, band) for path, band in zip(paths, bands, strict=True))


def _profiles(maps: Array, path: NDArray[np.intp], band: Edges) -> Profiles:
    top = minimum_filter1d(np.fmin(path, band.top), 3) - AROUND_PX
    bottom = maximum_filter1d(np.fmax(path, band.bottom), 3) + AROUND_PX
    first = max(0, int(top.min()))
    piece = maps[:, first : int(bottom.max()) + 2]
    y = np.arange(first, first + piece.shape[1])[:, None]
    near = np.where((y >= top) & (y <= bottom), piece, np.float32(0)).max(axis=1)
    begins, ends = near.astype(np.float64)
    return begins, ends


@dataclass(frozen=True)
class Offsets:
    """Starts that are looked at, px from where the rows' ends say.

    Attributes:
        of_begins: (k,) all of them.
        of_ends: (n_early + k,) likewise, and those before them that ends of leads speak for which lie early.
    """

    of_begins: Seen
    of_ends: Seen


def offsets_to_try(px_per_s: float) -> Offsets:
    """Starts to look at on a page of this scale."""
    reach_px = SEARCH_S * px_per_s
    of_begins = np.arange(-reach_px, reach_px + STEP_PX, STEP_PX)
    n_early = round(MAX_EARLY_S * px_per_s / STEP_PX)
    return Offsets(of_begins, np.r_[of_begins[0] - STEP_PX * np.arange(n_early, 0, -1), of_begins])


def start_from_ends_seen(
    profiles: Sequence[Profiles],
    columns: Sequence[float],
    ends: Sequence[LeadEnd],
    px_per_s: float,
    *,
    stretches: Seen = ONLY,
    of_begins: float | Seen = 0.0,
    of_ends: float | Seen = 0.0,
) -> Start:
    """Where the record begins, and how long it is where that is open.

    Args:
        profiles: From `profiles_of`.
        columns: Per end the column where it would lie.
        ends: Which ends they are.
        px_per_s: Scale by which they would lie there.
        stretches: (s,) scales to try, over that one.
        of_begins: (k,) what else speaks for each of `offsets_to_try`, as logarithms of likelihoods.
        of_ends: (n_early + k,) likewise, if ends lie where they should.

    Returns:
        How far from where it was thought to be the record begins, and its scale.
    """
    to_try = offsets_to_try(px_per_s)
    offsets, n_early = to_try.of_begins, len(to_try.of_ends) - len(to_try.of_begins)
    last_s = max(end.time_s for end in ends)

    def seen(x: float, end: LeadEnd, stretch: Seen, at: Seen) -> Seen:
        profile = profiles[end.row][not end.is_begin]
        return _between(profile, x + (stretch - 1)[:, None] * end.time_s * px_per_s + at)

    def speak(is_begin: bool, at: Seen) -> Seen:
        likely = np.zeros((len(stretches), len(at)))
        for x, end in zip(columns, ends, strict=True):
            if end.is_begin == is_begin:
                weight = 1.0 if end.time_s in (0.0, last_s) else WITHIN_ROW
                likely += weight * np.log(FLOOR + seen(x, end, stretches, at) ** SHARPNESS)
        return likely

    by_ends = speak(False, to_try.of_ends) + of_ends
    likely = speak(True, offsets) + of_begins + _allowing_early(by_ends, n_early)
    likely -= INK_WEIGHT * np.log1p((offsets / INK_PX) ** 2)
    best, at = np.unravel_index(int(likely.argmax()), likely.shape)
    near = np.abs(offsets - offsets[at]) <= NEAR_PX
    offset = float(np.average(offsets[near], weights=np.exp(likely[best, near] - likely.max())))
    around = offsets[np.abs(offsets - offset) <= 1.0]
    stretch = stretches[best : best + 1]
    early_px = STEP_PX * _early_by(by_ends[best], int(at), n_early)
    shown = [
        seen(x, end, stretch, around if end.is_begin else around - early_px).max() >= SEEN
        for x, end in zip(columns, ends, strict=True)
    ]
    agreement = min(1.0, float(np.mean(shown)) / ENOUGH)
    return Start(offset, float(stretch[0]), agreement, _spread(offsets, likely[best]))


def _allowing_early(likely: Seen, n_early: int) -> Seen:
    """What ends of leads say of a start, (s, n_early + k) to (s, k), if all may lie `n_early` steps early."""
    return np.maximum(likely, highest_before(likely, n_early) - EARLY)[:, n_early:]


def _early_by(likely: Seen, at: int, n_early: int) -> int:
    """By how many steps ends lie early that begin a record `at` this step; (n_early + k,) as above."""
    steps = likely[at : at + n_early + 1][::-1]
    likeliest = int(steps.argmax())
    return likeliest if steps[likeliest] - EARLY > steps[0] else 0


def highest_before(values: Seen, reach: int) -> Seen:
    """Highest value at this place of the last axis or at one of the `reach` before it."""
    origin = reach - (reach + 1) // 2
    return np.asarray(maximum_filter1d(values, reach + 1, origin=origin, mode="nearest"))


def _spread(offsets: NDArray[np.float64], likely: NDArray[np.float64]) -> float:
    weights = np.exp(likely - likely.max())
    mean = np.average(offsets, weights=weights)
    return float(np.sqrt(np.average((offsets - mean) ** 2, weights=weights)))


def _between(profile: Seen, x: NDArray[np.float64]) -> Seen:
    """Values between columns, cubic: straight pieces would put every peak on a whole column."""
    return np.clip(map_coordinates(profile, x[None], order=3, mode="nearest"), 0.0, 1.0)
