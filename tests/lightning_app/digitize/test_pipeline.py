from dataclasses import replace

import cv2
import numpy as np
import pytest

from datamodules.errors import ConfigError
from datamodules.layout import known_layouts
from datamodules.page import Page
from lightning_app.digitize.leads import isoelectric
from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.results import Digitized, Refusal
from tests.lightning_app.digitize.drawing import LEADS, as_page, draw, heart
from tests.shared import SHARED, needs_shared

MV = heart(seed=1)


def correlations(result, layout, mv=MV):
    found = []
    for segment in layout.segments:
        window = slice(round(segment.start_s * 500), round(segment.stop_s * 500))
        lead = LEADS.index(segment.lead)
        read, true = result.mv[lead, window], mv[lead, window]
        there = np.isfinite(read)
        found.append(np.corrcoef(read[there], true[there])[0, 1])
    return np.array(found)


def read(page, **options):
    return digitize_page(as_page(page.ink), page.mask.astype(np.float32), **options)


@pytest.mark.parametrize("name", sorted(known_layouts()))
def test_every_layout_is_recognised_and_read(name):
    layout = known_layouts()[name]
    page = draw(MV, layout.rows, pulse=True, stroke_px=2.0, degrees=0.6)
    result = read(page)
    assert isinstance(result, Digitized)
    assert (result.layout, result.quarter_turns) == (name, 0)
    assert result.scale.px_per_s == pytest.approx(100, rel=1e-3)
    assert result.scale.px_per_mv == pytest.approx(40, rel=1e-3)
    assert result.skew_deg == pytest.approx(0.6, abs=0.03)
    assert min(segment.coverage for segment in result.segments) >= 0.99
    pcc = correlations(result, layout)
    assert np.median(pcc) > 0.98
    assert pcc.mean() > (0.95 if name == "12x1" else 0.97)


def test_a_page_of_no_known_layout_is_refused_with_its_rows_numbered():
    leads = ("I", "II", "V1", "V2", "V5")
    page = draw(MV, tuple((lead,) for lead in leads), pulse=True, degrees=0.6)
    result = read(page)
    assert isinstance(result, Refusal)
    assert (result.code, "5 rows" in result.reason) == ("LAYOUT_UNKNOWN", True)
    assert [row.lead for row in result.rows.rows] == [f"row {n}" for n in range(1, 6)]
    assert result.rows.scale.px_per_s == pytest.approx(100, rel=1e-3)
    for row, lead in zip(result.rows.rows, leads, strict=True):
        there = np.isfinite(row.mv)
        assert there.mean() > 0.99
        assert np.corrcoef(row.mv[there], MV[LEADS.index(lead)][there])[0, 1] > 0.97


@pytest.mark.parametrize("turns", [0, 1])
def test_the_mask_of_a_reading_holds_its_traces_and_nothing_beside_them(turns):
    layout = known_layouts()["3x4"]
    page = draw(MV, layout.rows, pulse=True, degrees=0.6)
    spoilt = page.mask.copy()
    cv2.putText(spoilt, "Vent. rate 79", (60, 28), cv2.FONT_HERSHEY_PLAIN, 1.5, 1, 2)  # taken for trace
    result = digitize_page(as_page(np.rot90(page.ink, turns)), np.rot90(spoilt, turns).astype(np.float32))
    assert isinstance(result, Digitized)
    mask = np.rot90(result.mask, -turns)
    near = cv2.dilate(page.mask, np.ones((3, 3), np.uint8))
    assert np.mean(near[mask] > 0) > 0.995
    assert mask[page.mask > 0].mean() > 0.99


@pytest.mark.parametrize(("turns", "name"), [(1, "6x2"), (2, "four_line"), (3, "3x4")])
def test_turned_pages_are_turned_back(turns, name):  # F17
    layout = known_layouts()[name]
    page = draw(MV, layout.rows, pulse=True)
    result = digitize_page(as_page(np.rot90(page.ink, turns)), np.rot90(page.mask, turns).astype(np.float32))
    assert isinstance(result, Digitized)
    assert (result.quarter_turns + turns) % 4 == 0
    assert correlations(result, layout).mean() > 0.94
    assert result.mask.shape == np.rot90(page.ink, turns).shape
    for segment in result.segments:  # the overlay's path lies on ink of the page as it was read
        path = segment.path_px[np.isfinite(segment.path_px).all(axis=1)]
        x, y = np.round(path).astype(int).T
        near = cv2.dilate(np.ascontiguousarray(np.rot90(page.mask, turns)), np.ones((3, 3), np.uint8))
        assert near[np.clip(y, 0, near.shape[0] - 1), np.clip(x, 0, near.shape[1] - 1)].mean() > 0.9


@pytest.mark.parametrize(
    ("flip", "name"),
    [
        (np.fliplr, "12x1"),
        (np.flipud, "3x4"),
        (np.fliplr, "3x4+1"),
        pytest.param(np.flipud, "12x1", marks=pytest.mark.slow),
        pytest.param(np.fliplr, "3x4", marks=pytest.mark.slow),
        pytest.param(np.flipud, "3x4+1", marks=pytest.mark.slow),
        pytest.param(np.fliplr, "6x2", marks=pytest.mark.slow),
        pytest.param(np.flipud, "6x2", marks=pytest.mark.slow),
        pytest.param(np.fliplr, "6x2+1", marks=pytest.mark.slow),
        pytest.param(np.flipud, "6x2+1", marks=pytest.mark.slow),
    ],
)
def test_a_mirrored_page_is_never_read(flip, name):  # F17
    page = draw(MV, known_layouts()[name].rows)
    mirrored = np.ascontiguousarray(flip(page.mask)).astype(np.float32)
    assert isinstance(digitize_page(as_page(flip(page.ink)), mirrored), Refusal)


@pytest.mark.parametrize(
    ("how", "px_per_s", "px_per_mv"),
    [
        ({"px_per_mm": 2.0, "px_per_mv": 20.0, "grid": ("thick",)}, 100, 20),  # 50 mm/s
        ({"px_per_mv": 80.0, "pulse": True}, 100, 80),  # 20 mm/mV
        ({"px_per_mv": 20.0, "pulse": True}, 100, 20),  # 5 mm/mV
        ({"binary": False, "grid_ink": 0.2}, 100, 40),
        ({"noise": 0.03, "keep": 0.4}, 100, 40),
        ({"stretch": (1.02, 0.97)}, 102, 38.8),
    ],
    ids=str,
)
def test_scale_is_found(how, px_per_s, px_per_mv):
    result = read(draw(MV, **how))
    assert isinstance(result, Digitized)
    assert result.scale.px_per_s == pytest.approx(px_per_s, rel=3e-3)
    assert result.scale.px_per_mv == pytest.approx(px_per_mv, rel=0.02)
    assert correlations(result, known_layouts()["four_line"]).mean() > 0.93


def test_a_pulse_that_reaches_into_its_row_still_tells_the_gain():
    page = draw(MV, px_per_mv=80.0)
    left_px = round(page.x0_px) - 15
    for y_px in np.round(page.row_y_px).astype(int):
        corners = [(0, 0), (0, -80), (20, -80), (20, 0)]
        outline = np.array([(left_px + x, y_px + y) for x, y in corners], dtype=np.int32)
        cv2.polylines(page.ink, [outline], False, 255, 3)
    result = read(page)
    assert isinstance(result, Digitized)
    assert (result.scale.gain_source, result.scale.mm_per_mv) == ("pulse", 20)


def test_pulse_and_rows_are_enough_without_a_grid():
    result = read(draw(MV, grid=(), pulse=True))
    assert isinstance(result, Digitized)
    assert result.scale.time_source == "pulse"
    assert result.scale.px_per_s == pytest.approx(100, rel=4e-3)
    assert result.scale.px_per_mv == pytest.approx(40, rel=0.02)


def blank():
    return np.zeros((500, 700), np.uint8)


def photo():
    y, x = np.mgrid[:500, :700]
    return (127 + 80 * np.sin(x / 37 + np.sin(y / 23)) + 40 * np.cos(y / 11)).astype(np.uint8)


@pytest.mark.parametrize(
    ("ink", "code"),
    [
        (np.zeros((100, 700), np.uint8), {"TOO_SMALL"}),
        (blank(), {"NO_WAVEFORM"}),
        (blank() + 255, {"NO_WAVEFORM", "SCALE_UNKNOWN", "LAYOUT_UNKNOWN"}),
        (photo(), {"NO_WAVEFORM", "SCALE_UNKNOWN", "LAYOUT_UNKNOWN"}),
    ],
    ids=["small", "blank", "black", "photo"],
)
def test_what_is_no_page_is_refused(ink, code):  # F14, F15
    result = digitize_page(as_page(ink), (ink > 127).astype(np.float32))
    assert isinstance(result, Refusal)
    assert result.code in code
    assert result.reason
    assert result.remedy


def test_without_grid_and_pulse_the_scale_must_be_declared():  # F19
    page = draw(MV, grid=())
    refused = read(page)
    assert isinstance(refused, Refusal)
    assert refused.code == "SCALE_UNKNOWN"
    declared = read(page, px_per_s=100.0, px_per_mv=40.0)
    assert isinstance(declared, Digitized)
    assert declared.scale.time_source == "declared"


def test_declared_scale_that_the_grid_denies_is_refused():  # F20
    refused = read(draw(MV), px_per_s=80.0)
    assert isinstance(refused, Refusal)
    assert refused.code == "SCALE_CONFLICT"


def test_wrong_declared_layout_is_refused():
    refused = read(draw(MV), layout="3x4+1")  # the strip is V1
    assert isinstance(refused, Refusal)
    assert refused.code in {"LAYOUT_UNKNOWN", "LOW_CONFIDENCE"}
    assert read(draw(MV), layout="6x2").code == "LAYOUT_UNKNOWN"
    with pytest.raises(ConfigError):
        read(draw(MV), layout="five_line")


def test_gaps_are_listed_and_not_filled():
    page = draw(MV)
    page.mask[:, 200:201] = 0  # 10 ms: interpolated
    page.mask[:, 400:420] = 0  # 200 ms: a gap
    result = read(page)
    strip = result.segments[-1]
    ((start_s, stop_s),) = strip.gaps_s
    assert start_s == pytest.approx((400 - page.x0_px) / 100, abs=0.02)
    assert stop_s == pytest.approx((420 - page.x0_px) / 100, abs=0.02)
    assert strip.coverage == pytest.approx(0.98, abs=0.003)
    assert np.isnan(result.mv[LEADS.index("V1"), 1750])


def test_half_a_page_is_not_read_as_a_whole_one():
    page = draw(MV)
    result = digitize_page(as_page(page.ink[:, :600]), page.mask[:, :600].astype(np.float32))
    assert isinstance(result, Refusal)


def test_a_page_on_its_side_is_predicted_again():
    page = draw(MV)
    asked = []

    def predict(ink):
        asked.append(ink.shape)
        return page.mask.astype(np.float32)

    digitize_page(
        as_page(np.rot90(page.ink, -1)), np.rot90(page.mask, -1).astype(np.float32), predict=predict
    )
    assert asked == [page.ink.shape]


@pytest.mark.parametrize("turns", [0, 1])
def test_a_large_page_is_read_in_its_own_pixels(turns):
    page = draw(MV, px_per_s=200, px_per_mv=80, px_per_mm=8, width=2240, height=1772, stroke_px=5.0)
    turned = np.rot90(page.mask, -turns)
    result = digitize_page(
        as_page(np.rot90(page.ink, -turns)),
        turned.astype(np.float32),
        px_per_s=200.0,
        predict=lambda ink: page.mask.astype(np.float32),
    )
    assert isinstance(result, Digitized)
    assert result.scale.px_per_mv == pytest.approx(80, rel=3e-3)
    assert result.mask.shape == turned.shape
    assert correlations(result, known_layouts()["four_line"]).mean() > 0.98
    path = result.segments[0].path_px
    x, y = np.round(path[np.isfinite(path).all(axis=1)]).astype(int).T
    near = cv2.dilate(np.ascontiguousarray(turned), np.ones((3, 3), np.uint8))
    assert near[y, x].mean() > 0.9


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shape"):
        digitize_page(as_page(blank()), np.zeros((5, 5), np.float32))


def test_isoelectric_is_where_a_lead_rests():
    assert isoelectric(MV[1].astype(float)) == pytest.approx(0.0, abs=0.03)
    assert isoelectric(np.full(10, np.nan)) == 0.0


@needs_shared
@pytest.mark.parametrize("name", ["145", *(pytest.param(x, marks=pytest.mark.slow) for x in ("001", "152"))])
def test_real_pages_with_a_thresholded_trace(name):
    import wfdb

    folder = SHARED / "pages" / "ludb"
    rgb = cv2.imread(str(folder / f"{name}.png"))[:, :, ::-1]
    ink = 255 - cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    page = replace(as_page(ink), rgb=np.ascontiguousarray(rgb))
    assert isinstance(page, Page)
    dark = np.clip((200 - rgb.max(axis=2).astype(np.float32)) / 150, 0, 1)
    result = digitize_page(page, dark)
    assert isinstance(result, Digitized)
    assert result.layout == "3x4+1"
    assert result.scale.px_per_s == pytest.approx(193.8, rel=1e-3)
    assert result.scale.px_per_mv == pytest.approx(74.4, rel=1e-3)
    truth = wfdb.rdrecord(str(folder / name))
    mv = np.stack([truth.p_signal[:, truth.sig_name.index(lead)] for lead in LEADS])
    assert correlations(result, known_layouts()["3x4+1"], mv).mean() > 0.98
