"""Lead names printed on a page, and whether they stand where a layout has its leads.

No law of the leads knows which of V1 to V6 is which, and a part of a page may keep every law of a whole one.
Names tell, but each may be misread: only several that agree by where they stand count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.layout import Layout, Segment
from lightning_app.digitize.printed import read_word

# Of a word: its height, its width, the gap between its letters, and the margin it is read with.
HEIGHT_MM, WIDEST_MM, GAP_MM, MARGIN_MM = (1.2, 6.0), 13.0, 0.5, 0.6
LONGEST_STROKE_MM = 7.0  # longer straight lines are what is left of grid and pulses
INK = 96  # of 255
MOST_WORDS = 60  # names and what else is written among the rows; more are pieces of a grid that did not go
# A name stands over the beginning of its trace or, like all names of its page, under it; or left of it.
FAR, BESIDE = 0.9, 0.1  # of the distance of rows, from the level of a trace to the middle of its name
WAYS = ((-BESIDE, FAR), (-FAR, BESIDE))  # how high over their traces names stand
BEFORE_S, AFTER_S = 0.4, 1.2  # from the beginning of a lead to that of its name
MIN_AGAINST = 2  # names in other leads' places; on 150 pages that were read rightly there was none
# Only a column of six without a word counts; three names may all stand beside a line that is not taken out.
MIN_NAMED, MIN_BARE = 3, 6
_ALIKE = str.maketrans({"Ⅰ": "I", "Ⅱ": "II", "Ⅲ": "III", "l": "I", "|": "I"})
_AUGMENTED = re.compile(r"AV([RLF])")
_CHEST = re.compile(r"[1I]?V([1-6])")  # a mark at the change of leads is read as a stroke before the name
_LIMB = ("II", "III")  # I may be any stroke


@dataclass(frozen=True)
class Word:
    """Something written on the straight page.

    Attributes:
        text: As read, empty where it could not be.
        left_px: Its left edge.
        middle_px: y of its middle.
    """

    text: str
    left_px: float
    middle_px: float


@dataclass(frozen=True)
class Place:
    """Where a layout lies on the straight page, which stands upright.

    Attributes:
        layout: Which lead is where.
        rows_px: (n,) level of the rows, top to bottom.
        start_px: Where the first sample lies.
        px_per_s: Pixels per second.
    """

    layout: Layout
    rows_px: NDArray[np.float64]
    start_px: float
    px_per_s: float


def lead_of(text: str) -> str | None:
    """The lead that a word names, if it can hardly be another one.

    Args:
        text: As read.

    Returns:
        II, III, aVR, aVL, aVF or V1 to V6; None for anything else, and for I.
    """
    plain = text.replace(" ", "").translate(_ALIKE).upper()
    if plain in _LIMB:
        return plain
    if match := _AUGMENTED.fullmatch(plain):
        return f"aV{match[1]}"
    if match := _CHEST.fullmatch(plain):
        return f"V{match[1]}"
    return None


def contradiction(words: Sequence[Word], place: Place) -> str | None:
    """Say how what is written on a page contradicts a layout.

    Args:
        words: What is written.
        place: Where the layout lies.

    Returns:
        That several names stand where other leads should be, or that nothing is written where a column of
        leads begins although another column has its names: the page shows something else. None if all is
        well.
    """
    placed = _placed(words, place)
    against = [
        f"{p.lead} where {p.segment.lead if p.segment else 'none'} would be" for p in placed if p.is_against
    ]
    if len(against) >= MIN_AGAINST:
        return "the page prints " + ", ".join(against)
    named = {p.segment for p in placed if p.agrees}
    bare = _bare_column(place.layout, {p.begun for p in placed}, named)
    return f"nothing is written where {', '.join(s.lead for s in bare)} would begin" if bare else None


def strip_names(words: Sequence[Word], place: Place) -> dict[int, str]:
    """Read the names that stand where rhythm strips begin.

    Args:
        words: What is written.
        place: Where the layout lies.

    Returns:
        Row to lead; without strips that have no legible name there, or several.
    """
    names: dict[int, set[str]] = {}
    for p in _placed(words, place):
        if p.lead and p.begun and p.begun.row in place.layout.rhythm_rows:
            names.setdefault(p.begun.row, set()).add(p.lead)
    return {row: leads.pop() for row, leads in names.items() if len(leads) == 1}


@dataclass(frozen=True)
class _Placed:
    """A word on a layout.

    Attributes:
        lead: What it names, if anything.
        segment: The stretch it would name; None over the first row of names that stand under their traces,
            and under the last row of names that stand over them.
        second: Of the record, at its left edge.
    """

    lead: str | None
    segment: Segment | None
    second: float

    @property
    def agrees(self) -> bool:
        return self.segment is not None and self.lead == self.segment.lead

    @property
    def is_against(self) -> bool:
        # II and III are read for one another: they may speak for a layout, not against it.
        return self.lead is not None and self.lead not in _LIMB and not self.agrees

    @property
    def begun(self) -> Segment | None:
        is_early = self.segment is not None and self.second - self.segment.left_s < BEFORE_S + AFTER_S
        return self.segment if is_early else None


def _placed(words: Sequence[Word], place: Place) -> list[_Placed]:
    """All words as standing over their traces, or all as standing under them: whichever agrees better.

    Between two rows one name alone could be either's.
    """
    at = [[_segment_at(word, place, way) for word in words] for way in WAYS]
    near = [any(segments) for segments in zip(*at, strict=True)]
    readings = [
        [
            _Placed(lead_of(word.text), segment, _seconds(word, place))
            for word, segment, is_near in zip(words, segments, near, strict=True)
            if is_near
        ]
        for segments in at
    ]
    return max(readings, key=lambda placed: sum(p.agrees - p.is_against for p in placed))


def _seconds(word: Word, place: Place) -> float:
    return max((word.left_px - place.start_px) / place.px_per_s + BEFORE_S, 0.0)


def _pitch_px(rows_px: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(rows_px)))  # no layout that could be contradicted has a single row


def _segment_at(word: Word, place: Place, way: tuple[float, float]) -> Segment | None:
    """The stretch that a word would name if names stand so high over their traces; None far from all rows."""
    lowest, highest = way
    rises = (place.rows_px - word.middle_px) / _pitch_px(place.rows_px)
    row, second = int(np.argmax(rises >= lowest)), _seconds(word, place)
    if not lowest <= rises[row] < highest:
        return None
    # Paper between two leads belongs to the one on its left: of the other's name it is `BEFORE_S` away.
    space_s = place.layout.space_s
    return next(
        (s for s in place.layout.segments if s.row == row and s.left_s <= second < s.right_s + space_s), None
    )


def _bare_column(
    layout: Layout, begun: set[Segment | None], named: set[Segment | None]
) -> list[Segment] | None:
    """A column of leads without a word, while another column of the same rows has its names."""
    columns: dict[tuple[int, float], list[Segment]] = {}
    for segment in layout.segments:
        columns.setdefault((len(layout.rows[segment.row]), segment.start_s), []).append(segment)
    vouched = {
        width for (width, _), column in columns.items() if len(named.intersection(column)) >= MIN_NAMED
    }
    return next(
        (
            column
            for (n, _), column in columns.items()
            if n in vouched and len(column) >= MIN_BARE and not begun.intersection(column)
        ),
        None,
    )


def find_words(paper: NDArray[np.uint8], px_per_mm: float, rows_px: NDArray[np.float64]) -> list[Word]:
    """Read what is written among the rows of a page, over the first and under the last.

    Args:
        paper: (H, W) uint8, 255 = paper, straight and upright, without its traces and grid.
        px_per_mm: Its millimetre.
        rows_px: (n,) level of the rows, top to bottom.

    Returns:
        The words; none where so many pieces are left that they must be the grid's.
    """
    clean = _without_lines(paper, round(LONGEST_STROKE_MM * px_per_mm))
    ink = np.asarray(clean < 255 - INK, np.uint8)
    pitch_px = _pitch_px(rows_px)
    top_px, bottom_px = rows_px[0] - FAR * pitch_px, rows_px[-1] + FAR * pitch_px
    boxes = [box for box in word_boxes(ink, px_per_mm) if top_px <= box.middle_px <= bottom_px]
    # What stands under the last row may be the foot of a page, which prints as much as it likes.
    among_rows = [box for box in boxes if box.middle_px <= rows_px[-1] + BESIDE * pitch_px]
    if sum(box.may_be_name for box in among_rows) > MOST_WORDS:
        return []
    margin = round(MARGIN_MM * px_per_mm)
    return [
        Word(read_word(box.cut(clean, margin)) if box.may_be_name else "", box.left_px, box.middle_px)
        for box in boxes
    ]


def _without_lines(paper: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    """Take out straight lines of this length and more along either axis, though other lines parted them."""
    ink, clean = np.asarray(paper < 255 - INK, np.uint8), paper.copy()
    for length, gap in (((1, longest_px), (1, 3)), ((longest_px, 1), (3, 1))):
        whole = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones(gap, np.uint8))
        clean[cv2.morphologyEx(whole, cv2.MORPH_OPEN, np.ones(length, np.uint8)) > 0] = 255
    return clean


@dataclass(frozen=True)
class Box:
    """Pieces of ink that stand side by side, px.

    Attributes:
        left_px: Left edge.
        top_px: Upper edge.
        width_px: Width.
        height_px: Height.
        may_be_name: Whether it is no larger than a word of a few letters.
    """

    left_px: int
    top_px: int
    width_px: int
    height_px: int
    may_be_name: bool

    @property
    def middle_px(self) -> float:
        """Height of its middle, px from the top."""
        return self.top_px + self.height_px / 2

    def cut(self, paper: NDArray[np.uint8], margin_px: int) -> NDArray[np.uint8]:
        """The box out of its page, with a margin around it."""
        top, left = max(0, self.top_px - margin_px), max(0, self.left_px - margin_px)
        bottom, right = self.top_px + self.height_px, self.left_px + self.width_px
        return paper[top : bottom + margin_px, left : right + margin_px]


def word_boxes(ink: NDArray[np.uint8], px_per_mm: float) -> list[Box]:
    """Find what is as high as letters and higher.

    Args:
        ink: (H, W) uint8 0/1.
        px_per_mm: Its millimetre.

    Returns:
        What stands side by side in one box each.
    """
    reach = round(GAP_MM * px_per_mm)
    joined = cv2.dilate(ink, np.ones((3, 2 * reach + 1), np.uint8))
    found = cv2.connectedComponentsWithStats(joined)[2][1:, :4] + [reach, 1, -2 * reach, -2]
    least_px, most_px, widest_px = px_per_mm * np.array((*HEIGHT_MM, WIDEST_MM))
    return [
        Box(x, y, width, height, height <= most_px and width <= widest_px)
        for x, y, width, height in found.tolist()
        if height >= least_px
    ]
