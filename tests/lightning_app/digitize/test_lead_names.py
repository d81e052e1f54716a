"""Names on pages: which lead a word names, what contradicts a layout, which pages are refused."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from datamodules.layout import load_layout
from lightning_app.digitize.lead_names import (
    Box,
    Place,
    Word,
    contradiction,
    find_words,
    lead_of,
    strip_names,
    word_boxes,
)
from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.record import describe
from lightning_app.digitize.results import Digitized, Refusal
from tests.lightning_app.digitize.drawing import LEADS, as_page, draw, heart

MV = heart(seed=4)
START_PX, PX_PER_S, PITCH_PX = 60.0, 100.0, 120.0


def place_of(name):
    layout = load_layout(name)
    return Place(layout, 100.0 + PITCH_PX * np.arange(layout.n_rows), START_PX, PX_PER_S)


def named_like(place, rows=None, shift_s=0.0, lift=0.4):
    """Names as a page of these rows of leads prints them, on the rows of `place`."""
    return [
        Word(
            lead,
            START_PX + PX_PER_S * (10.0 / len(leads) * column + shift_s),
            100.0 + PITCH_PX * (row - lift),
        )
        for row, leads in enumerate(rows or place.layout.rows)
        for column, lead in enumerate(leads)
    ]


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        *((lead, lead) for lead in ("II", "III", "aVR", "aVL", "aVF", "V1", "V6")),
        *(("AVR", "aVR"), ("avf", "aVF"), ("a VL", "aVL"), ("v5", "V5"), ("1V5", "V5"), ("|V2", "V2")),
        *(("ll", "II"), ("Ⅲ", "III"), ("ⅡI", "III")),
        *((text, None) for text in ("", "I", "1", "V", "V7", "V1-V6", "QRS", "aV", "Rate V1", "ⅢII", "12")),
    ],
)
def test_words_name_a_lead_or_nothing(text, lead):
    assert lead_of(text) == lead


@pytest.mark.parametrize("name", ["3x4", "3x4+1", "3x4+3", "four_line", "six_line", "6x2", "6x2+1", "12x1"])
@pytest.mark.parametrize(
    ("shift_s", "lift"), [(0.05, 0.4), (-0.3, 0.0), (0.5, 0.8), (0.05, -0.2), (0.3, -0.5), (0.05, -0.8)]
)
def test_a_page_with_its_own_names_is_not_contradicted(name, shift_s, lift):
    place = place_of(name)
    words = named_like(place, shift_s=shift_s, lift=lift)
    assert contradiction(words, place) is None
    assert contradiction(words[::3], place) is None  # two thirds were not seen
    assert contradiction([], place) is None


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("3x4", [("III", "aVF", "V3", "V6"), ("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5")]),
        ("3x4", [("I", "aVR", "V4", "V1"), ("II", "aVL", "V5", "V2"), ("III", "aVF", "V6", "V3")]),
        ("3x4", [("I", "aVR", "V1", "V2"), ("II", "aVL", "V3", "V4"), ("III", "aVF", "V5", "V6")]),
        ("6x2", [(lead, f"V{6 - row}") for row, lead in enumerate(("I", "II", "III", "aVR", "aVL", "aVF"))]),
    ],
)
@pytest.mark.parametrize("lift", [0.4, -0.4])
def test_names_in_other_leads_places_contradict(name, printed, lift):
    place = place_of(name)
    words = named_like(place, printed, lift=lift)
    assert "the page prints" in contradiction(words, place)
    own = named_like(place, lift=lift)
    false = [w for w in words if w not in own and w.text not in ("I", "II", "III")]
    assert contradiction(own + false[:1], place) is None  # one may be misread
    assert "the page prints" in contradiction(own + false[:2], place)


def test_names_over_all_but_the_first_row_are_not_those_of_traces_above():
    place = place_of("3x4")
    shifted = named_like(place, (place.layout.rows[2], *place.layout.rows[:2]))
    assert "aVF where none would be" in contradiction(shifted, place)


@pytest.mark.parametrize("lift", [0.4, 0.0, -0.4])
def test_names_at_the_beginning_of_strips_are_those_of_strips(lift):
    place = place_of("3x4+3")
    printed = [*place.layout.rows[:3], ("V2",), ("II",), ("I",)]
    assert strip_names(named_like(place, printed, lift=lift), place) == {3: "V2", 4: "II"}
    late = [Word("V2", word.left_px + 2.5 * PX_PER_S, word.middle_px) for word in named_like(place)]
    assert strip_names(late, place) == {}
    both = [word for row in ("V2", "V6") for word in named_like(place, [*printed[:3], (row,), ("II",)])]
    assert strip_names(both, place) == {4: "II"}  # two names: none of them is sure
    assert strip_names(named_like(place_of("12x1")), place_of("12x1")) == {}


def test_two_and_three_are_never_held_against_a_layout():
    place = place_of("3x4")
    words = [Word(lead, START_PX, 100.0 + PITCH_PX * row) for row, lead in enumerate(("II", "III", "II"))]
    assert contradiction(words, place) is None


def test_the_limb_half_of_twelve_rows_is_no_page_of_two_columns():
    place = place_of("6x2")
    left = [(lead,) for lead in ("I", "II", "III", "aVR", "aVL", "aVF")]
    words = named_like(place, left)
    assert "V1, V2, V3, V4, V5, V6" in contradiction(words, place)
    # A stroke where one of them would begin may be what is left of a name, and two names vouch for nothing.
    assert contradiction([*words, Word("", START_PX + 5.1 * PX_PER_S, 100.0 - 0.4 * PITCH_PX)], place) is None
    assert contradiction(words[-2:], place) is None


def test_words_far_from_every_row_and_long_strips_count_for_nothing():
    place = place_of("six_line")
    head = [Word(lead, START_PX + 300, 100.0 - 1.2 * PITCH_PX) for lead in ("V1", "V2", "V6")]
    assert contradiction(head, place) is None
    # Neither three rhythm strips without names nor three chest leads are enough.
    assert contradiction(named_like(place, place.layout.rows[:3]), place) is None
    assert contradiction([w for w in named_like(place) if w.text not in ("V4", "V5", "V6")], place) is None


def lettered(paper, text, xy_px, size_px):
    image = Image.fromarray(paper)
    ImageDraw.Draw(image).text(xy_px, text, font=ImageFont.load_default(size_px), fill=0)
    return np.array(image)


def test_words_are_found_and_read_where_they_stand():
    paper = np.full((440, 600), 255, np.uint8)
    for lead, x, y in (("aVR", 80, 60), ("V4", 330, 62), ("V6", 330, 212), ("V1", 80, 300)):
        paper = lettered(paper, lead, (x, y), 17)
    cv2.line(paper, (0, 100), (599, 100), 0, 1)  # a line of the grid, and one that others parted
    paper[:, 341][np.arange(440) % 20 > 0] = 0
    cv2.rectangle(paper, (20, 150), (40, 200), 0, 2)  # a pulse
    paper = lettered(paper, "aVF", (80, 400), 17)  # too far under the last row
    cv2.rectangle(paper, (450, 200), (470, 232), 0, -1)  # a blot
    words = find_words(paper, 5.0, np.array([100.0, 250.0]))
    read = {lead_of(word.text): (word.left_px, word.middle_px) for word in words}
    assert Word("", 450, 216.5) in words  # too high for a name
    assert set(read) - {None} == {"aVR", "V4", "V6", "V1"}
    assert read["V4"] == pytest.approx((330, 72), abs=5)
    assert read["V6"] == pytest.approx((330, 222), abs=5)


def test_so_many_pieces_are_those_of_a_grid():
    rng = np.random.default_rng(3)
    paper = np.full((600, 900), 255, np.uint8)
    for x, y in rng.integers((0, 0), (880, 580), (400, 2)).tolist():
        cv2.rectangle(paper, (x, y), (x + 5, y + 8), 0, -1)
    assert len(word_boxes((paper == 0).astype(np.uint8), 4.0)) > 60
    assert find_words(paper, 4.0, np.array([150.0, 300.0, 450.0])) == []


def test_boxes_have_the_size_of_what_is_drawn():
    ink = np.zeros((100, 200), np.uint8)
    ink[40:52, 30:55] = 1
    ink[5:9, 100:104] = 1  # a speck
    ink[10:90, 150:156] = 1  # higher than letters
    assert word_boxes(ink, 4.0) == [Box(150, 10, 6, 80, False), Box(30, 40, 25, 12, True)]


EXCHANGED = (("I", "aVR", "V4", "V1"), ("II", "aVL", "V5", "V2"), ("III", "aVF", "V6", "V3"))
FOUR_COLUMNS = load_layout("3x4").rows


def read_drawn(rows, way=1, layout=None, **options):
    page = draw(MV, rows, pulse=True, binary=False, grid_ink=0.25, **options)
    ink, mask = page.ink[::way, ::way], page.mask[::way, ::way]
    return digitize_page(as_page(ink), np.ascontiguousarray(mask, np.float32), layout=layout)


@pytest.mark.parametrize("upside_down", [False, True])
def test_a_page_whose_names_contradict_its_traces_is_refused_with_its_rows(upside_down):
    way = -1 if upside_down else 1
    assert isinstance(read_drawn(EXCHANGED, way), Digitized)  # every law holds: none knows V1 from V4
    result = read_drawn(EXCHANGED, way, names=True)
    assert isinstance(result, Refusal)
    assert (result.code, "V4 where V1 would be" in result.reason) == ("LAYOUT_UNKNOWN", True)
    assert len(result.rows.rows) == 3
    # What the user says counts more.
    assert isinstance(read_drawn(EXCHANGED, way, layout="3x4", names=True), Digitized)


@pytest.mark.parametrize("way", [1, -1])
def test_names_may_stand_under_their_traces(way):
    result = read_drawn((*FOUR_COLUMNS, ("II",)), way, names=True, name_lift=-0.4)
    assert isinstance(result, Digitized), result.reason
    assert result.layout == "3x4+1"


def test_names_under_their_traces_are_held_against_a_layout_too():
    result = read_drawn(EXCHANGED, names=True, name_lift=-0.4)
    assert isinstance(result, Refusal)
    assert "V4 where V1 would be" in result.reason


@pytest.mark.parametrize("way", [1, -1])
def test_a_strip_that_no_layout_has_is_read_under_its_printed_name(way):
    rows = (*FOUR_COLUMNS, ("V6",))
    result = read_drawn(rows, way, names=True)
    assert isinstance(result, Digitized), result.reason
    assert describe(result)["layout"] == {"name": "3x4+1, long V6", "source": "recognised", "rows": rows}
    assert "rhythm V6" in result.checks
    assert np.isfinite(result.mv[LEADS.index("V6")]).mean() > 0.99
    assert np.isfinite(result.mv[LEADS.index("II")]).mean() < 0.26


def test_a_strip_that_no_layout_has_is_refused_without_its_name():
    nameless = read_drawn((*FOUR_COLUMNS, ("V6",)))
    assert isinstance(nameless, Refusal)
    assert (nameless.code, "rather repeats V6" in nameless.reason) == ("LAYOUT_UNKNOWN", True)
    assert len(nameless.rows.rows) == 4
