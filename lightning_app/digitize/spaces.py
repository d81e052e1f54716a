"""Blank paper between the columns of leads, which no grid and no pulse tells of.

Most pages draw one column of leads where the last one ends; some leave paper between them, and on some all
leads stop before their time. The maps of the ends of leads (`models.lead_ends`) show where leads begin and
end. All leads of a column begin together, so the columns that have most begins and ends where the maps show
them are the page's. Which part of a blank is paper, and which is time that was not drawn, says the length of
ten seconds by the grid; without a grid, a long lead, which has no spaces; without either, the calibration
pulse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from datamodules.layout import Layout
from lightning_app.digitize.followed import Followed
from lightning_app.digitize.lead_ends import EARLY, FLOOR, MAX_EARLY_S, SHARPNESS, highest_before
from lightning_app.digitize.pulse import Pulse
from lightning_app.digitize.results import DigitizeRefusal
from lightning_app.digitize.scale import DURATION_S, PULSE_S

MAX_SPACE_S = 0.8  # 20 mm at the usual speed
STEP_PX = 0.25
LEAST_PX = 1.5  # a space that is narrower is an error of the scale
# By how much, as a logarithm, ends are better explained with a space than without: 0 on pages that have none
# (at most .1 on 70 rendered ones), 7 and more where the space that was found is right.
NO_GAIN, SURE_GAIN = 2.0, 6.0
ROWS_OFF = 0.1  # of their length, by which rows seem longer or shorter than they are
WIDTH_OFF, CLEARLY = 0.02, 0.03  # of a pulse's width: its error, and how much better it must fit
HAS_COLUMNS = 0.3  # of what the row shows that shows most of the ends within rows
SEEN = 0.5  # of an end's peak in the map of a row
NEAR_PX = 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spaces:
    """Paper between the columns of a page.

    Attributes:
        n_columns: Leads in a row.
        start_px: Where the first ones begin, straight px.
        space_px: Blank paper between two.
        length_px: Ten seconds.
        is_spaced: (n,) which rows have columns, and not one long lead.
    """

    n_columns: int
    start_px: float
    space_px: float
    length_px: float
    is_spaced: NDArray[np.bool_]

    @property
    def total_px(self) -> float:
        """All blank paper of a row."""
        return (self.n_columns - 1) * self.space_px


@dataclass(frozen=True)
class Columns:
    """Where leads begin and end on a page.

    Attributes:
        n_columns: Leads in a row.
        start_px: Where the first ones begin, straight px.
        pitch_px: From one column to the next.
        drawn_px: Length of a lead as drawn.
        likely: How well the maps show that, as a logarithm.
    """

    n_columns: int
    start_px: float
    pitch_px: float
    drawn_px: float
    likely: float

    @property
    def blank_px(self) -> float:
        """From where a lead ends to where the next one begins."""
        return self.pitch_px - self.drawn_px

    @property
    def likely_each(self) -> float:
        """The same per column: of two columns taken for four, every other is not there."""
        return self.likely / self.n_columns


class EndMaps:
    """What the maps say of begins and ends at every straight u, over all rows, as logarithms."""

    def __init__(self, page: Followed) -> None:
        # Leads that stop early may have their time beside the page.
        u = np.arange(0.0, (1 + MAX_SPACE_S / DURATION_S) * page.width, STEP_PX)
        shown = np.zeros((2, len(page.profiles), len(u)))
        for row, profiles in enumerate(page.profiles):
            zero, one = page.row_to_x(row, 0.0), page.row_to_x(row, 1.0)
            for kind, profile in enumerate(profiles):
                x = zero + (one - zero) * u
                shown[kind, row] = np.interp(x, np.arange(page.width), profile, left=0.0, right=0.0)
        self._ends_shown = shown[1]
        # Nothing seen counts as nothing, so that columns may lie beside the page.
        self._by_row = np.log1p(shown**SHARPNESS / FLOOR)
        self._begins, self._ends = self._by_row.sum(axis=1)

    def fitted(
        self, n_columns: int, pitch_px: float, longest_px: float, reach_px: float, price: float = EARLY
    ) -> Columns | None:
        """The best place for columns at this distance.

        Args:
            n_columns: Leads in a row.
            pitch_px: From one column to the next.
            longest_px: A lead that is drawn to its end.
            reach_px: How much may be missing there.
            price: How unlikely that is, as a logarithm.

        Returns:
            None if the page is too narrow.
        """
        lefts = [round(column * pitch_px / STEP_PX) for column in range(n_columns)]
        longest, reach = round(longest_px / STEP_PX), round(reach_px / STEP_PX)
        n_starts = len(self._begins) - lefts[-1] - longest
        if n_starts < 1 or longest <= reach:
            return None
        by_begins = sum(self._begins[left : left + n_starts] for left in lefts)
        # From `reach` before the first start on: of ends that lie early.
        first = longest - reach
        by_ends = np.asarray(
            sum(self._ends[left + first : left + first + reach + n_starts] for left in lefts)
        )
        early = highest_before(by_ends, reach)[reach:] - price
        likely = by_begins + np.maximum(by_ends[reach:], early)
        start = int(likely.argmax())
        missing = 0
        if early[start] > by_ends[reach + start]:
            missing = int(by_ends[start : start + reach + 1][::-1].argmax())
        return Columns(
            n_columns, start * STEP_PX, pitch_px, longest_px - missing * STEP_PX, float(likely[start])
        )

    def has_columns(self, fit: Columns) -> NDArray[np.bool_]:
        """(n,) which rows show ends where columns begin and end within rows; the others are long leads."""
        begins, ends = self._by_row
        within = np.zeros(len(begins))
        for column in range(1, fit.n_columns):
            left_px = fit.start_px + column * fit.pitch_px
            within += _highest_near(begins, left_px) + _highest_near(ends, left_px - fit.blank_px)
        return np.asarray(within >= HAS_COLUMNS * within.max())

    def end_of_long_lead(self, row: int, fit: Columns) -> float | None:
        """Length of a lead that begins with the first column and is whole; None if its end is not seen."""
        shortest_px = fit.n_columns * fit.drawn_px - NEAR_PX
        longest_px = (fit.n_columns - 1) * fit.pitch_px + fit.drawn_px + NEAR_PX
        first, stop = (round((fit.start_px + px) / STEP_PX) for px in (shortest_px, longest_px))
        shown = self._ends_shown[row, first:stop]
        if not len(shown) or shown.max() < SEEN:
            return None
        return (first + int(shown.argmax())) * STEP_PX - fit.start_px


def _highest_near(values: Floats, at_px: float) -> Floats:
    """(n,) highest of (n, m) values within `NEAR_PX` of a place."""
    first, stop = (max(0, round((at_px + off) / STEP_PX)) for off in (-NEAR_PX, NEAR_PX))
    return np.asarray(values[:, first : stop + 1].max(axis=1, initial=0.0))


def find_spaces(page: Followed, lengths_px: Sequence[float], layouts: Sequence[Layout]) -> Spaces | None:
    """Look for paper between the columns of a page of which the length of ten seconds is known.

    Args:
        page: Its traces, with the maps of the ends of leads.
        lengths_px: That length, or several of which the grid cannot tell which it is.
        layouts: Those that come into question.

    Returns:
        The spaces; None where leads are explained as well without.

    Raises:
        DigitizeRefusal: `LOW_CONFIDENCE` where that cannot be told.
    """
    maps = EndMaps(page)
    found = []
    for length_px, n in product(lengths_px, _columns_of(layouts)):
        px_per_s = length_px / DURATION_S
        spaces_px = np.arange(0.0, MAX_SPACE_S * px_per_s, STEP_PX)
        found += _best_of(
            [
                (fit, float(space_px))
                for space_px in spaces_px
                if (fit := maps.fitted(n, length_px / n + space_px, length_px / n, MAX_EARLY_S * px_per_s))
            ]
        )
    if not found:
        return None
    fit, space_px, gain = max(found, key=lambda each: each[0].likely_each)
    if not _is_blank(space_px, gain):
        return None
    return _spaces(fit, space_px, maps.has_columns(fit))


def _spaces(fit: Columns, space_px: float, is_spaced: NDArray[np.bool_]) -> Spaces:
    length_px = fit.n_columns * (fit.pitch_px - space_px)
    return Spaces(fit.n_columns, fit.start_px, space_px, length_px, is_spaced)


def _columns_of(layouts: Sequence[Layout]) -> list[int]:
    return sorted({layout.n_columns for layout in layouts} - {1})


def _best_of(found: Sequence[tuple[Columns, float]]) -> list[tuple[Columns, float, float]]:
    """The likeliest columns, the blank between them, and by how much they are likelier than with none."""
    if not found:
        return []
    fit, blank_px = max(found, key=lambda each: each[0].likely)
    joined = max((each.likely for each, px in found if px <= LEAST_PX), default=0.0)
    return [(fit, blank_px, fit.likely - joined)]


def _is_blank(blank_px: float, gain: float) -> bool:
    """Whether leads are apart; a refusal where their ends are seen too badly to tell."""
    if gain < NO_GAIN or blank_px < LEAST_PX:
        return False
    if gain < SURE_GAIN:
        raise DigitizeRefusal(
            "LOW_CONFIDENCE",
            "leads of a row seem to have paper between them, but their ends are seen too badly to tell",
            "scan with more pixels per inch, or without compression",
        )
    return True


def find_spaces_without_grid(page: Followed, pulse: Pulse | None, layouts: Sequence[Layout]) -> Spaces | None:
    """Look for paper between the columns of a page of which nothing tells the length of ten seconds exactly.

    Args:
        page: Its traces, with the maps of the ends of leads.
        pulse: Its calibration pulse, if it has one.
        layouts: Those that come into question.

    Returns:
        The spaces; None where leads join or stop early.

    Raises:
        DigitizeRefusal: `SCALE_UNKNOWN` where these cannot be told apart; `LOW_CONFIDENCE` as `find_spaces`.
    """
    maps = EndMaps(page)
    firsts, lasts = page.row_ends()
    row_px = float(np.median(lasts) - np.median(firsts))
    found = []
    for n in _columns_of(layouts):
        pitches_px = np.arange((1 - ROWS_OFF) * row_px / n, (1 + ROWS_OFF) * row_px / n, STEP_PX / 2)
        reach_px = MAX_SPACE_S / DURATION_S * row_px
        # Nothing is known of what a blank is, so it has no price.
        fits = [
            maps.fitted(n, float(px), float(px), reach, price=0.0)
            for px in pitches_px
            for reach in (reach_px, 0.0)
        ]
        found += _best_of([(fit, fit.blank_px) for fit in fits if fit])
    if not found:
        return None
    fit, blank_px, gain = max(found, key=lambda each: each[0].likely_each)
    if not _is_blank(blank_px, gain):
        return None
    is_spaced = maps.has_columns(fit)
    long_px = [px for row in np.flatnonzero(~is_spaced) if (px := maps.end_of_long_lead(int(row), fit))]
    if long_px:
        space_px = _paper_px(fit, float(np.median(long_px)))
    else:
        space_px = blank_px if _are_apart(fit, pulse) else 0.0
    return _spaces(fit, space_px, is_spaced) if space_px >= LEAST_PX else None


def _paper_px(fit: Columns, long_px: float) -> float:
    """The part of a blank that is paper, by the length of a lead that is not interrupted.

    It shows ten seconds less what is not drawn, the others a column's share of them less the same.
    """
    column_px = (long_px - fit.drawn_px) / (fit.n_columns - 1)
    return float(np.clip(fit.pitch_px - column_px, 0.0, fit.blank_px))


def _are_apart(fit: Columns, pulse: Pulse | None) -> bool:
    """Whether by the pulse's width a column lasts as long as it is drawn, and not until the next begins."""
    if pulse is not None:
        length_px = pulse.width_px / PULSE_S * DURATION_S
        drawn_off, pitch_off = (
            abs(np.log(px * fit.n_columns / length_px)) for px in (fit.drawn_px, fit.pitch_px)
        )
        # Where it fits neither, a part of the blank is paper and a part is not.
        if abs(drawn_off - pitch_off) > CLEARLY and min(drawn_off, pitch_off) < WIDTH_OFF:
            return bool(drawn_off < pitch_off)
    raise DigitizeRefusal(
        "SCALE_UNKNOWN",
        f"between two leads {fit.blank_px / fit.pitch_px:.1%} of a column is blank: paper, or time that is "
        "not drawn, and without a grid nothing tells which",
        "give --px-per-s and --px-per-mv",
    )
