"""Start of a record by the ends of its leads, on maps drawn from a known start."""

import numpy as np
import pytest
import torch

from datamodules.layout import known_layouts
from lightning_app.digitize.layouts import Hypothesis
from lightning_app.digitize.lead_ends import (
    ENOUGH,
    STRETCHES,
    LeadEnd,
    offsets_to_try,
    profiles_of,
    start_from_ends_seen,
)
from lightning_app.digitize.marks import marks_evidence
from lightning_app.digitize.timing import lead_ends
from lightning_app.digitize.trace import Edges
from models.lead_ends import end_maps

PX_PER_S = 100.0
START_PX = 61.37
ROW_Y = (60.0, 140.0)
ENDS = [
    LeadEnd(row, time_s, is_begin)
    for row in range(2)
    for time_s, is_begin in ((0.0, True), (4.998, False), (5.0, True), (9.998, False))
]


def bands(width=1120):
    def level(y):
        return np.full(width, y)

    nothing = np.zeros(width, dtype=bool)
    return [Edges(level(y - 1.5), level(y + 1.5), level(1.0), nothing) for y in ROW_Y]


def profiles(ends, start_px=START_PX):
    lines = np.zeros((4, 200, 1120), dtype=np.float32)
    for number, is_begin in ((2, True), (3, False)):
        xy = [(start_px + e.time_s * PX_PER_S, ROW_Y[e.row]) for e in ends if e.is_begin == is_begin]
        if not xy:
            continue
        lines[number] = end_maps(torch.tensor([xy], dtype=torch.float32), 200, 1120)[0].numpy()
    paths = np.array([np.full(1120, round(y)) for y in ROW_Y])
    return profiles_of(lines, paths, bands())


def found(of_profiles, thought_px, ends=ENDS):
    columns = [thought_px + end.time_s * PX_PER_S for end in ends]
    start = start_from_ends_seen(of_profiles, columns, ends, PX_PER_S)
    assert start.stretch == 1.0
    return thought_px + start.offset_px, start.agreement


@pytest.mark.parametrize("off_px", [-9.3, 0.0, 6.4])
def test_the_start_is_found_to_a_part_of_a_pixel(off_px):
    start_px, share = found(profiles(ENDS), START_PX + off_px)
    assert start_px == pytest.approx(START_PX, abs=0.06)
    assert share == 1.0


def test_ends_that_are_not_seen_lower_the_share_but_hardly_the_precision():
    start_px, share = found(profiles(ENDS[1:4]), START_PX + 3.0)
    assert start_px == pytest.approx(START_PX, abs=0.2)
    assert share == pytest.approx(3 / 8 / ENOUGH)


def test_the_fewer_ends_are_seen_the_wider_the_start_is_spread():
    columns = [START_PX + end.time_s * PX_PER_S for end in ENDS]
    spreads = [
        start_from_ends_seen(profiles(shown), columns, ENDS, PX_PER_S).sd_px
        for shown in (ENDS, [ENDS[0], ENDS[3], ENDS[7]], [ENDS[0], ENDS[3]])
    ]
    assert 0 < spreads[0] < spreads[1] < spreads[2]
    assert spreads[0] < 0.5


def test_a_false_end_does_not_outvote_the_others():
    wrong = [LeadEnd(0, -0.07, is_begin=True), LeadEnd(1, -0.07, is_begin=True)]
    start_px, share = found(profiles(ENDS[1:4] + ENDS[5:] + wrong), START_PX + 1.0)
    assert start_px == pytest.approx(START_PX, abs=0.2)
    assert share == 1.0


@pytest.mark.parametrize("stretch", [0.985, 1.0, 1.0121])
def test_the_scale_is_found_where_rows_alone_have_told_it(stretch):
    thought = PX_PER_S / stretch
    columns = [START_PX - 2.1 + end.time_s * thought for end in ENDS]
    start = start_from_ends_seen(profiles(ENDS), columns, ENDS, thought, stretches=STRETCHES)
    assert start.stretch == pytest.approx(stretch, abs=0.0003)
    assert start.offset_px == pytest.approx(2.1, abs=0.25)  # the rows' ink holds it a little
    assert start.agreement == 1.0


def test_a_sure_scale_is_not_stretched_to_what_is_seen():
    columns = [START_PX + end.time_s * PX_PER_S * 0.99 for end in ENDS]
    assert start_from_ends_seen(profiles(ENDS), columns, ENDS, PX_PER_S * 0.99).stretch == 1.0


def test_what_else_speaks_for_a_start_counts_where_ends_leave_it_open():
    either = [LeadEnd(0, -0.03, True), LeadEnd(0, 0.03, True), LeadEnd(1, 9.998, False)]
    ends, thought_px = [LeadEnd(0, 0.0, True)], START_PX
    columns = [thought_px]
    offsets = offsets_to_try(PX_PER_S).of_begins
    for wanted_px in (-3.0, 3.0):
        evidence = -np.square(offsets - wanted_px) / 4
        start = start_from_ends_seen(profiles(either), columns, ends, PX_PER_S, of_begins=evidence)
        assert start.offset_px == pytest.approx(wanted_px, abs=0.3)


@pytest.mark.parametrize(("marked_px", "least_px", "most_px"), [(0.4, 0.05, 0.3), (7.0, -0.1, 0.1)])
def test_marks_beside_ends_that_are_seen_draw_the_start_a_little_and_letters_not_at_all(
    marked_px, least_px, most_px
):
    columns = [START_PX + end.time_s * PX_PER_S for end in ENDS]
    evidence = marks_evidence(marked_px, offsets_to_try(PX_PER_S).of_begins)
    start = start_from_ends_seen(profiles(ENDS), columns, ENDS, PX_PER_S, of_begins=evidence)
    assert least_px < start.offset_px < most_px


def test_marks_alone_tell_the_start_where_no_end_is_seen():
    columns = [START_PX + end.time_s * PX_PER_S for end in ENDS]
    evidence = marks_evidence(1.3, offsets_to_try(PX_PER_S).of_begins)
    start = start_from_ends_seen(profiles([]), columns, ENDS, PX_PER_S, of_begins=evidence)
    assert start.offset_px == pytest.approx(1.3, abs=0.1)


@pytest.mark.parametrize("gap_s", [0.02, 0.08, 0.2])
def test_leads_that_are_not_drawn_to_their_end_begin_where_they_begin(gap_s):
    short = [end if end.is_begin else LeadEnd(end.row, end.time_s - gap_s, False) for end in ENDS]
    for off_px in (-4.0, 0.0, 4.0):
        start_px, _ = found(profiles(short), START_PX + off_px, ENDS + ENDS)  # speaks as four rows do
        assert start_px == pytest.approx(START_PX, abs=0.2)


def test_ends_that_lie_early_count_as_seen():
    early = [LeadEnd(end.row, end.time_s - 0.1, False) for end in ENDS if not end.is_begin]
    begins = [end for end in ENDS if end.is_begin and end.time_s == 0.0]
    start_px, share = found(profiles(begins + early), START_PX, ENDS + ENDS)
    assert start_px == pytest.approx(START_PX, abs=0.2)
    assert share == 1.0
    assert len(begins) / len(ENDS) < ENOUGH  # alone they would not do


def test_ink_settles_what_the_maps_leave_open():
    either = [LeadEnd(0, -0.03, True), LeadEnd(0, 0.03, True), LeadEnd(1, 9.998, False)]
    start_px, _ = found(profiles(either), START_PX + 2.7, [LeadEnd(0, 0.0, True)])
    assert start_px == pytest.approx(START_PX + 3.0, abs=0.3)


def test_what_is_seen_beside_a_row_belongs_to_another():
    one_row = [end for end in ENDS if end.row == 0]
    begins, _ = profiles(one_row)[1]
    assert begins.max() < 0.01


def test_a_page_on_its_head_ends_where_it_began():
    layout = known_layouts()["3x4+1"]
    upright = lead_ends(Hypothesis(layout, False, {}, 1.0))
    turned = lead_ends(Hypothesis(layout, True, {}, 1.0))
    assert len(upright) == len(turned) == 2 * 13
    assert sorted((3 - end.row, end.time_s) for end in turned if end.is_begin) == sorted(
        (end.row, end.time_s) for end in upright if end.is_begin
    )
    assert LeadEnd(3, 9.998, is_begin=False) in upright
    assert LeadEnd(0, 0.0, is_begin=True) in turned
