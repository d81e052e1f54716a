"""Known signals on pages whose geometry is known: annotation has to find what the renderer wrote down."""

import dataclasses
from functools import cache

import cv2
import numpy as np
import pytest

from datamodules.annotation.matching import annotate_page, stretched
from datamodules.layout import LEADS, load_layout
from datamodules.rendering.binary import render
from datamodules.rendering.pseudo import Variant
from datamodules.rendering.pseudo import render as draw_plain
from tests.datamodules.annotation.drawing import binary_page, bumpy_recording, true_place


def _dice(one, other):
    return 2 * int((one & other).sum()) / int(one.sum() + other.sum())


@cache
def annotated(seed=1, layout="four_line"):
    """A page as drawn and as found: recording, page, layout, annotation."""
    recording, page, shown = binary_page(seed, layout)
    scale = page.geometry.px_per_s, page.geometry.px_per_mv
    return recording, page, shown, annotate_page(page.image, recording, [shown], *scale)


@pytest.mark.parametrize(("seed", "layout"), [(1, "four_line"), (3, "3x4"), (4, "6x2+1")])
def test_leads_are_found_within_a_pixel_and_a_step_of_scale(seed, layout):
    _, page, shown, found = annotated(seed, layout)
    geometry = page.geometry
    assert found.unresolved == ()
    assert found.resolved_s == pytest.approx(shown.n_rows * shown.duration_s)
    for lead in found.leads:
        place = true_place(geometry, lead.segment.lead, lead.segment.row, lead.segment.start_s)
        assert np.abs(place - (lead.x_px, lead.y_px)).max() < 1.0
        assert 0.0 <= lead.residual < 0.4
    assert found.geometry.scan_px_per_s == pytest.approx(geometry.scan_px_per_s, rel=0.005)
    assert found.geometry.scan_px_per_mv == pytest.approx(geometry.scan_px_per_mv, rel=0.01)
    assert _dice(found.mask, page.mask) > 0.9


def test_the_geometry_draws_the_mask_again():
    recording, page, _, annotation = annotated()
    found = annotation.geometry
    for segment, true in zip(found.segments, page.geometry.segments, strict=True):
        mv = recording.mv[LEADS.index(segment.lead)]
        ours = found.polyline(segment, mv, recording.rate_hz)
        theirs = page.geometry.polyline(true, mv, recording.rate_hz)
        assert np.abs(ours - theirs).max() < 2.0  # a step of scale at the highest peak
        assert np.abs(ours - theirs).mean() < 0.5


def test_a_page_of_another_patient_is_refused_wholly():
    _, page, shown = binary_page(1)
    found = annotate_page(
        page.image, bumpy_recording(99), [shown], page.geometry.px_per_s, page.geometry.px_per_mv
    )
    assert found.geometry is None
    assert not found.mask.any()
    assert len(found.unresolved) == len(shown.segments)
    assert all(lead.reason for lead in found.unresolved)


def test_a_lead_that_is_not_what_was_printed_is_named_and_left_out():
    recording, page, shown = binary_page(1)
    mv = recording.mv.copy()
    mv[LEADS.index("V2")] = bumpy_recording(99).mv[LEADS.index("V2")]
    wrong = dataclasses.replace(recording, mv=mv)
    found = annotate_page(page.image, wrong, [shown], page.geometry.px_per_s, page.geometry.px_per_mv)
    assert [lead.segment.lead for lead in found.unresolved] == ["V2"]
    assert found.unresolved[0].reason in ("NOT_UNIQUE", "POOR_FIT")
    assert "V2" not in {segment.lead for segment in found.geometry.segments}
    x, y = true_place(page.geometry, "V2", 1, 5.0)
    strip = found.mask[:, round(x) + 10 : round(x) + 200][round(y) - 5 : round(y) + 5]
    assert strip.mean() < 0.1


def test_two_leads_of_one_patient_under_each_others_name_are_named():
    recording, page, shown = binary_page(1)
    mv = recording.mv.copy()
    first, second = LEADS.index("aVR"), LEADS.index("V5")
    mv[[first, second]] = mv[[second, first]]
    wrong = dataclasses.replace(recording, mv=mv)
    found = annotate_page(page.image, wrong, [shown], page.geometry.px_per_s, page.geometry.px_per_mv)
    assert {lead.segment.lead for lead in found.unresolved} == {"aVR", "V5"}


def test_leads_that_look_much_alike_are_told_apart():
    # Found by place alone, each would be accepted: it lies on a trace of nearly its own shape.
    recording = bumpy_recording(1)
    mv = recording.mv.copy()
    first, second = LEADS.index("V4"), LEADS.index("V5")
    mv[second] = 0.85 * mv[first]
    recording = dataclasses.replace(recording, mv=mv)
    shown = load_layout("four_line")
    page = render(recording, shown, np.random.default_rng(1))
    scale = page.geometry.px_per_s, page.geometry.px_per_mv
    assert annotate_page(page.image, recording, [shown], *scale).unresolved == ()
    mv = mv.copy()
    mv[[first, second]] = mv[[second, first]]
    swapped = dataclasses.replace(recording, mv=mv)
    found = annotate_page(page.image, swapped, [shown], *scale)
    assert {(lead.segment.lead, lead.reason) for lead in found.unresolved} == {
        ("V4", "OTHER_LEAD"),
        ("V5", "OTHER_LEAD"),
    }


def test_two_rows_under_each_others_name_are_both_named():
    # One of them is found, in the other one's row, where only that row's own signal is printed.
    recording, page, shown = binary_page(3, "3x4+3")
    first, second = LEADS.index("II"), LEADS.index("V1")
    mv = recording.mv.copy()
    mv[[first, second]] = mv[[second, first]]
    wrong = dataclasses.replace(recording, mv=mv)
    found = annotate_page(page.image, wrong, [shown], page.geometry.px_per_s, page.geometry.px_per_mv)
    named = {(lead.segment.lead, lead.segment.row): lead.reason for lead in found.unresolved}
    assert named.keys() == {("V1", 0), ("II", 1), ("II", 3), ("V1", 4)}
    assert named["II", 3] == "OTHER_LEAD"


def test_a_row_drawn_onto_the_strip_of_another_lead_is_not_accepted():
    # Under the name of V6 lies the signal of II, which the strip below shows at the same time: the row of V6
    # is found there, and only aVF, left out of it, tells that the row belongs elsewhere.
    recording, page, shown = binary_page(4, "6x2+1")
    first, second = LEADS.index("II"), LEADS.index("V6")
    mv = recording.mv.copy()
    mv[[first, second]] = mv[[second, first]]
    wrong = dataclasses.replace(recording, mv=mv)
    found = annotate_page(page.image, wrong, [shown], page.geometry.px_per_s, page.geometry.px_per_mv)
    assert {"II", "V6"} <= {lead.segment.lead for lead in found.unresolved}
    assert all(lead.segment.row == 5 or lead.segment.lead == "II" for lead in found.unresolved)


def test_a_frame_around_the_header_draws_no_lead():
    recording, page, shown = binary_page(2, "six_line")
    framed = page.image.copy()
    for y in (20, 60):
        framed[y : y + 4, 20:1080] = 255
    found = annotate_page(framed, recording, [shown], page.geometry.px_per_s, page.geometry.px_per_mv)
    assert found.unresolved == ()


def test_a_lead_without_samples_is_named():
    recording, page, shown = binary_page(1)
    mv = recording.mv.copy()
    mv[LEADS.index("aVL")] = np.nan
    blank = dataclasses.replace(recording, mv=mv)
    found = annotate_page(page.image, blank, [shown], page.geometry.px_per_s, page.geometry.px_per_mv)
    assert [(lead.segment.lead, lead.reason) for lead in found.unresolved] == [("aVL", "NO_SIGNAL")]


@pytest.mark.parametrize("name", ["3x4+1", "3x4"])
def test_the_layout_with_most_on_the_page_is_chosen(name):
    recording, page, _ = binary_page(2, name)
    layouts = [load_layout(name) for name in ("3x4", "four_line", "3x4+1", "6x2")]
    found = annotate_page(page.image, recording, layouts, page.geometry.px_per_s, page.geometry.px_per_mv)
    assert found.layout.name == name
    assert found.unresolved == ()


def test_a_faint_row_is_named_and_no_layout_without_its_neighbours_is_taken():
    recording, page, shown = binary_page(2, "six_line")
    faint = shown.n_rows - 1
    segment = next(each for each in page.geometry.segments if each.row == faint)
    mv = recording.mv[LEADS.index(segment.lead)]
    heights = page.geometry.polyline(segment, mv, recording.rate_hz)[:, 1]
    image = page.image.copy()
    row = image[int(heights.min()) - 5 : int(heights.max()) + 5]
    row[np.random.default_rng(0).random(row.shape) < 0.4] = 0
    scale = page.geometry.px_per_s, page.geometry.px_per_mv
    found = annotate_page(image, recording, [load_layout("four_line"), shown], *scale)
    assert found.layout.name == "six_line"
    assert [lead.segment.row for lead in found.unresolved] == [faint]


def test_a_grey_page_gives_what_its_ink_gives():
    recording, page, shown, binary = annotated()
    scale = page.geometry.px_per_s, page.geometry.px_per_mv
    grey = (page.image * 0.5 + 40).astype(np.uint8)
    np.testing.assert_allclose(stretched(grey), stretched(page.image), atol=0.01)
    pale = annotate_page(grey, recording, [shown], *scale)
    assert _dice(binary.mask, pale.mask) > 0.98


@pytest.mark.parametrize(
    "factors", [(1.05, 1.0), (1.0, 1.1), pytest.param((0.95, 1.0), marks=pytest.mark.slow)]
)
def test_a_scale_that_is_too_wrong_is_refused_not_stretched(factors):
    recording, page, shown = binary_page(3, "3x4")
    scale = page.geometry.scan_px_per_s * factors[0], page.geometry.scan_px_per_mv * factors[1]
    found = annotate_page(page.image, recording, [shown], *scale)
    assert found.geometry is None
    assert not found.mask.any()
    assert all(lead.reason for lead in found.leads)


@pytest.mark.parametrize(
    "turn", [lambda ink: ink[::-1, ::-1], lambda ink: ink[:, ::-1]], ids=["180", "mirror"]
)
def test_a_page_the_wrong_way_round_resolves_nothing(turn):  # F17
    recording, page, shown = binary_page(3, "3x4")
    ink = np.ascontiguousarray(turn(page.image))
    found = annotate_page(ink, recording, [shown], page.geometry.px_per_s, page.geometry.px_per_mv)
    assert found.geometry is None
    assert not found.mask.any()


@pytest.mark.parametrize(
    ("skew_degrees", "stretch", "is_found"), [(0.5, 1.03, True), (-0.5, 0.97, True), (3.0, 1.0, False)]
)
def test_skew_and_stretch_are_followed_within_a_pixel_or_refused(skew_degrees, stretch, is_found):  # F18
    recording, shown = bumpy_recording(3), load_layout("3x4")
    page = draw_plain(recording, shown, np.random.default_rng(3), Variant("thin", 0.02, 2.0))
    height, width = page.image.shape
    warp = cv2.getRotationMatrix2D((width / 2, height / 2), skew_degrees, 1.0)
    warp[0, :2] *= stretch
    ink = cv2.warpAffine(page.image, warp, (width, height), flags=cv2.INTER_NEAREST)
    found = annotate_page(ink, recording, [shown], page.geometry.px_per_s, page.geometry.px_per_mv)
    assert all(lead.is_resolved == is_found for lead in found.leads)
    for lead in found.leads:
        x, y = true_place(page.geometry, lead.segment.lead, lead.segment.row, lead.segment.start_s)
        if is_found:
            assert np.abs(warp @ [x, y, 1.0] - (lead.x_px, lead.y_px)).max() < 1.0


def test_a_layout_too_wide_for_the_page_is_named():
    recording, page, shown = binary_page(1)
    found = annotate_page(page.image, recording, [shown], 150.0, 60.0)
    assert {lead.reason for lead in found.leads} == {"LAYOUT_TOO_WIDE"}
    assert not found.mask.any()


@pytest.mark.parametrize("level", [0, 255])
def test_an_empty_page_resolves_nothing(level):
    recording, page, shown = binary_page(1)
    found = annotate_page(np.full_like(page.image, level), recording, [shown], 100.0, 40.0)
    assert found.resolved_s == 0
    assert not found.mask.any()


def test_the_same_page_gives_the_same_annotation_and_is_left_alone():
    recording, page, shown = binary_page(1)
    before, scale = page.image.copy(), (page.geometry.px_per_s, page.geometry.px_per_mv)
    one, other = annotate_page(page.image, recording, [shown], *scale), annotated()[-1]
    assert np.array_equal(one.mask, other.mask)
    assert one.geometry == other.geometry
    assert np.array_equal(page.image, before)


@pytest.mark.parametrize(("layouts", "px_per_s"), [((), 100.0), (("3x4",), 0.0)])
def test_nothing_to_look_for_is_an_error(layouts, px_per_s):
    with pytest.raises(ValueError, match="wanted more than 0"):
        annotate_page(
            np.zeros((50, 50), np.uint8),
            bumpy_recording(0),
            [load_layout(x) for x in layouts],
            px_per_s,
            40.0,
        )
