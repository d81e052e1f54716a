"""The digitizing stage: held-out scans become rows of signal scores, whatever the model found."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import wfdb

from datamodules.cohort import Cohort, write_manifest
from datamodules.layout import LEADS
from datamodules.rendering.make import make_cohort
from datamodules.wave_marks import write_marks
from lightning_app.ceiling import read_known
from lightning_app.evaluate.scan_columns import DIGITIZED_OK
from lightning_app.reading import Reader
from lightning_app.report.table1 import table1
from tests.datamodules.rendering.recordings import marked
from tests.shared import SHARED, needs_shared


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort.open(make_cohort("binary", 1, 3, "simulated", tmp_path_factory.mktemp("made") / "cohort"))


@pytest.fixture
def reader(cohort, tmp_path):
    return Reader(cohort, tmp_path)


def test_a_perfect_prediction_reads_like_its_ceiling(cohort, reader, tmp_path):
    scan = cohort.scans[0]
    mask = (cohort.load_mask(scan) > 0).astype(np.float32)
    row = reader(scan, mask)
    assert row["digitized"] == DIGITIZED_OK
    assert row["signal_pcc"] > 0.95
    known = read_known(tmp_path / f"{scan.scan_id}.json")
    assert known.ceiling["signal_pcc"] == row["signal_pcc"]
    assert row["hr_bpm_strip_true"] == pytest.approx(known.true["hr_bpm_strip_true"], nan_ok=True)


def test_what_people_marked_stands_in_the_row_also_of_a_page_that_was_refused(cohort, tmp_path):
    copy = tmp_path / "cohort"
    shutil.copytree(cohort.root, copy)
    marks = {lead: marked(np.arange(0.7, 9.3, 0.75), qrs_width_s=0.11) for lead in LEADS}
    write_marks(copy / cohort.scans[0].signal, marks, 500.0)
    write_manifest(copy, cohort.scans)
    annotated = Cohort.open(copy)
    scan, blank = annotated.scans[0], np.zeros((886, 1120), np.float32)
    row = Reader(annotated, tmp_path)(scan, blank)
    assert row["digitized"] == "NO_WAVEFORM"
    assert row["hr_bpm_strip_human"] == pytest.approx(80, rel=1e-3)
    assert row["qrs_ms_segments_human"] == pytest.approx(110, abs=2)
    assert row["qrs_ms_segments_human_reason"] == ""
    plain = Reader(cohort, tmp_path)(scan, blank)
    assert set(row) - set(plain) == {name for name in row if "_human" in name}
    assert {name: row[name] for name in plain} == pytest.approx(plain, nan_ok=True)


def test_a_bad_annotation_costs_the_annotation_alone(cohort, tmp_path, caplog):
    copy = tmp_path / "cohort"
    shutil.copytree(cohort.root, copy)
    (copy / f"{cohort.scans[0].signal}.ii").write_bytes(b"damaged")
    row = Reader(Cohort.open(copy), tmp_path)(cohort.scans[0], np.zeros((886, 1120), np.float32))
    assert row["digitized"] == "NO_WAVEFORM"
    assert not [name for name in row if "human" in name]
    assert "ANNOTATION_FORMAT" in caplog.text


def test_an_empty_prediction_is_refused_and_counted(cohort, reader):
    row = reader(cohort.scans[0], np.zeros((886, 1120), np.float32))
    assert row["digitized"] == "NO_WAVEFORM"
    assert row["signal_coverage"] == 0.0
    assert np.isnan(row["signal_pcc"])


def test_what_no_model_changes_is_worked_out_once(cohort, reader, tmp_path):
    scan = cohort.scans[0]
    path = tmp_path / f"{scan.scan_id}.json"
    blank = np.zeros((886, 1120), np.float32)
    reader(scan, blank)
    edited = json.loads(path.read_text())
    edited["true"]["hr_bpm_strip_true"] = 61.5
    path.write_text(json.dumps(edited))
    assert reader(scan, blank)["hr_bpm_strip_true"] == 61.5


def test_a_scan_without_a_signal_is_left_alone(cohort, reader):
    scan = replace(cohort.scans[0], signal=None)
    assert reader(scan, np.zeros((886, 1120), np.float32)) == {"digitized": ""}


@needs_shared
def test_what_cardiologists_marked_in_ludb_comes_through_a_cohort_into_the_table(tmp_path):
    ludb = SHARED / "signals" / "ludb"
    drawn = Cohort.open(make_cohort("binary", 4, 5, ludb, tmp_path / "cohort", layouts=["four_line"]))
    reader, table = Reader(drawn, tmp_path), []
    for scan in drawn.scans:
        mask = (drawn.load_mask(scan) > 0).astype(np.float32)
        ids = {"scan_id": scan.scan_id, "patient_id": scan.patient_id, "layout": scan.layout}
        table.append({**ids, **reader(scan, mask)})
        comments = wfdb.rdheader(str(drawn.root / scan.signal)).comments
        record = next(comment.removeprefix("record: ") for comment in comments if "record: " in comment)
        marks = wfdb.rdann(str(ludb / record), "v1")
        beats_s = marks.sample[np.array(marks.symbol) == "N"] / 500
        assert table[-1]["rr_ms_strip_human"] == pytest.approx(1000 * np.diff(beats_s).mean(), abs=0.01)
        assert table[-1]["hrv_ms_strip_human"] == pytest.approx(1000 * np.diff(beats_s).std(ddof=1), abs=0.01)
    lines = table1(pd.DataFrame(table))
    against = lines[
        (lines["reference"] == "human") & (lines["quantity"] == "RR") & (lines["layout"] == "overall")
    ]
    assert against["n"].tolist() == [4] * 4  # segments and strip, digitized and true signal
    assert (against["r"] > 0.9).all()
