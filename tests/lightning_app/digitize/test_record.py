import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import wfdb

from datamodules.page import read_page
from lightning_app.digitize.record import assemble, describe, draw_overlay, write_reading
from lightning_app.digitize.results import Digitized, NumberedRows, Refusal, Scale, SegmentReading
from tests.lightning_app.digitize.drawing import FOUR_LINE, LEADS, heart


def segment(lead, start_s, mv, confidence=1.0):
    path = np.column_stack([np.linspace(10, 90, 50), np.full(50, 40.0)])
    stop_s, coverage = start_s + len(mv) / 500, float(np.isfinite(mv).mean())
    return SegmentReading(lead, 0, start_s, stop_s, mv.astype(np.float32), coverage, confidence, (), path)


def reading(segments):
    scale = Scale(100.0, 40.0, "grid", "grid", 25.0, 10.0, (4.0, 4.0), ("10 mm/mV",))
    mv, mask = assemble(segments, 10.0), np.zeros((100, 120), bool)
    checks = {"einthoven": 0.99}
    return Digitized(
        mv, 500.0, "3x4+1", "recognised", 0, 0.1, scale, tuple(segments), checks, 0.97, mask, 2.3
    )


def test_nothing_drawn_is_nan():
    record = assemble([segment("aVR", 2.5, np.ones(1250))], 10.0)
    assert record.shape == (12, 5000)
    assert np.isfinite(record).sum() == 1250
    assert np.isfinite(record[LEADS.index("aVR"), 1250:2500]).all()


def test_strip_and_segment_become_one_lead():
    wave = np.sin(np.arange(5000) / 50)
    strip = segment("V1", 0.0, wave)
    own = segment("V1", 5.0, wave[2500:3750] + 0.3, confidence=0.5)
    lead = assemble([own, strip], 10.0)[LEADS.index("V1")]
    assert np.abs(lead - wave).max() < 1e-5


def test_segment_fills_a_gap_of_its_strip():
    wave = np.sin(np.arange(5000) / 50)
    torn = wave.copy()
    torn[2600:2700] = np.nan
    lead = assemble([segment("V1", 0.0, torn), segment("V1", 5.0, wave[2500:3750])], 10.0)[LEADS.index("V1")]
    assert np.abs(lead - wave).max() < 1e-5


def test_files_of_a_reading(tmp_path):
    wave = np.sin(np.arange(5000) / 50)
    wave[100:200] = np.nan
    result = reading([segment("II", 0.0, wave)])
    page = np.zeros((100, 120), np.uint8)
    files = write_reading(tmp_path, "scan", result, page, result.mask)
    assert sorted(path.name for path in files) == sorted(path.name for path in tmp_path.iterdir())
    record = wfdb.rdrecord(str(tmp_path / "scan"))
    assert (record.fs, record.sig_name, set(record.units)) == (500, list(LEADS), {"mV"})
    assert np.isnan(record.p_signal[:, 0]).all()
    assert np.array_equal(np.isnan(record.p_signal[:, 1]), np.isnan(wave))
    assert np.nanmax(np.abs(record.p_signal[:, 1] - wave)) <= 0.0006
    described = json.loads((tmp_path / "scan.json").read_text())
    assert described["status"] == "ok"
    assert described["leads"]["II"]["coverage"] == pytest.approx(0.98)
    assert described["leads"]["I"] == {"coverage": 0.0, "confidence": 0.0, "seconds": [], "gaps": []}
    assert read_page(tmp_path / "scan.mask.png").ink.shape == (100, 120)


def test_parameters_stand_in_the_json_with_unit_or_reason():
    mv = heart(bpm=75.0)
    parts = [
        replace(segment(lead, 2.5 * column, mv[LEADS.index(lead)][1250 * column :][:1250]), row=row)
        for row, leads in enumerate(FOUR_LINE[:3])
        for column, lead in enumerate(leads)
    ]
    described = describe(reading([*parts, replace(segment("V1", 0.0, mv[6]), row=3)]))["parameters"]
    assert set(described) == {"segments", "strip V1"}
    for found in described.values():
        assert set(found["values"]) | set(found["absent"]) == {"hr_bpm", "rr_ms", "hrv_ms", "pr_ms", "qrs_ms"}
        assert found["values"]["hr_bpm"]["value"] == pytest.approx(75, abs=2)
        assert found["values"]["hr_bpm"]["unit"] == "1/min"
        assert found["values"]["rr_ms"]["unit"] == "ms"
    flat = describe(reading([segment("II", 0.0, np.zeros(5000))]))["parameters"]["segments"]
    assert flat == {"values": {}, "absent": dict.fromkeys(flat["absent"], "FLAT")}
    assert len(flat["absent"]) == 5


def test_numbered_rows_of_an_unknown_layout_are_written_beside_the_refusal(tmp_path):
    wave = np.sin(np.arange(5000) / 50)
    rows = tuple(segment(f"row {n}", 0.0, n * wave) for n in (1, 2))
    scale = Scale(100.0, 40.0, "grid", "grid")
    refusal = Refusal("LAYOUT_UNKNOWN", "2 rows", "give it with --layout", rows=NumberedRows(rows, scale))
    files = write_reading(tmp_path, "scan", refusal, np.zeros((100, 120), np.uint8), None)
    assert sorted(path.name for path in files) == sorted(path.name for path in tmp_path.iterdir())
    record = wfdb.rdrecord(str(tmp_path / "scan_rows"))
    assert (record.fs, record.sig_name) == (500, ["row 1", "row 2"])
    assert np.abs(record.p_signal[:, 1] - 2 * wave).max() <= 0.0006
    described = json.loads((tmp_path / "scan.json").read_text())
    assert (described["status"], described["rows"]["row 2"]) == ("refused", {"coverage": 1.0})
    assert read_page(tmp_path / "scan.overlay.png").ink.shape == (100, 120)


def test_files_of_a_refusal(tmp_path):
    refusal = Refusal("SCALE_UNKNOWN", "no grid", "give --px-per-s", {"row_px": 7.0})
    write_reading(tmp_path, "scan", refusal, np.zeros((50, 60), np.uint8), None)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.json"]
    assert describe(refusal)["refusal"]["code"] == "SCALE_UNKNOWN"


def test_overlay_is_coloured_where_the_trace_is():
    picture = draw_overlay(np.zeros((100, 120), np.uint8), [segment("II", 0.0, np.zeros(5000))])
    coloured = np.ptp(picture.astype(int), axis=2) > 60
    assert coloured[40, 12:88].all()
    assert not coloured[60:].any()
    assert cv2.countNonZero(coloured.astype(np.uint8)) > 0
