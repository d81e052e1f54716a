"""What went wrong with a page is named by its first cause; drawn masks in place of a network."""

import numpy as np
import pandas as pd
import pytest

from datamodules.cohort import Cohort
from datamodules.rendering.make import make_cohort
from lightning_app.digitize.reader import Reader
from lightning_app.evaluate.scan_columns import PARAMETERS, SOURCES
from lightning_app.reader_check import CAUSES, read_scan, summary


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "cohort"
    return Cohort.open(make_cohort("colour", 2, 3, "simulated", folder, workers=1, layouts=["3x4+1"]))


def drawn_by_hand(cohort, scan, change=lambda mask: mask):
    mask = change(cohort.load_mask(scan).astype(np.float32))
    return Reader(lambda ink: mask, is_network=False)


def test_a_perfect_mask_is_read_well(cohort):
    scan = cohort.scans[0]
    reading = read_scan(drawn_by_hand(cohort, scan), cohort, scan)
    row = reading.page
    assert (row["state"], row["wrong"], row["read_layout"]) == ("read", False, "3x4+1")
    assert row["cause"] in ("good", "signal")
    assert row["f1_2px"] == 1.0
    assert row["pcc"] > 0.95
    assert abs(row["px_per_s_error"]) < 0.02
    assert len(reading.leads) == 13  # twelve, and the rhythm strip
    assert min(lead["pcc"] for lead in reading.leads) > 0.9
    assert row["hr_bpm_segments_read"] == pytest.approx(row["hr_bpm_segments_true"], abs=2.0)
    assert {"ink", "own", "slim", "laws", "ends", "size_px"} <= set(reading.leads[0])


def test_an_empty_mask_is_a_refusal_and_not_wrong(cohort):
    scan = cohort.scans[0]
    reading = read_scan(drawn_by_hand(cohort, scan, np.zeros_like), cohort, scan)
    row = reading.page
    assert reading.leads == []
    assert (row["state"], row["cause"], row["wrong"]) == ("NO_WAVEFORM", "refused", False)


def test_a_page_on_which_reading_fails_is_a_row_too(cohort):
    scan = cohort.scans[0]
    row = read_scan(drawn_by_hand(cohort, scan, lambda mask: mask[:, 1:]), cohort, scan).page
    assert (row["state"], row["cause"], row["wrong"]) == ("ERROR", "refused", False)
    assert row["reason"].startswith("ValueError: got maps of shape")


def test_another_scans_trace_counts_as_wrong_if_it_is_read(cohort):
    ours, theirs = cohort.scans

    def swapped(mask):
        other = np.zeros_like(mask)
        piece = cohort.load_mask(theirs)[: mask.shape[0], : mask.shape[1]]
        other[: piece.shape[0], : piece.shape[1]] = piece
        return other

    row = read_scan(drawn_by_hand(cohort, ours, swapped), cohort, ours).page
    assert row["wrong"] == (row["state"] == "read")
    assert row["f1_2px"] < 0.9


def test_the_summary_counts_every_scan_once():
    rows = pd.DataFrame(
        {
            "patient_id": ["a", "b", "c", "d"],
            "state": ["read", "read", "NO_WAVEFORM", "read"],
            "cause": ["good", "scale", "refused", "layout"],
            "wrong": [False, False, False, True],
            "pcc": [0.99, 0.97, np.nan, 0.2],
            "pcc_best_lag": [0.99, 0.98, np.nan, 0.3],
            "worst_pcc": [0.97, 0.96, np.nan, -0.5],
            "snr_db": [15.0, 12.0, np.nan, -3.0],
            "snr_kaggle2025_db": [16.0, 13.0, np.nan, -2.0],
            "rmse_mv": [0.02, 0.03, np.nan, 0.4],
        }
    )
    found = summary(rows)
    assert (found["scans"], found["read"], found["wrong but accepted"]) == (4, 3, 1)
    assert sum(found["causes"].values()) == 4
    assert list(found["causes"]) == list(CAUSES)
    assert found["refusals"] == {"NO_WAVEFORM": 1}
    assert found["signal, scans read"]["PCC median"] == 0.97


def test_parameters_are_compared_with_those_of_the_truth_over_the_pages_read():
    true = [60.0, 70.0, 80.0, 90.0, 100.0]
    columns = {f"{name}_{source}": 1.0 for name in PARAMETERS for source in SOURCES}
    rows = pd.DataFrame(
        {
            "patient_id": list("abcde"),
            "state": ["read"] * 4 + ["NO_WAVEFORM"],
            "cause": ["good"] * 4 + ["refused"],
            "wrong": False,
            **{f"{name}_{whose}": value for name, value in columns.items() for whose in ("read", "true")},
            **dict.fromkeys(
                ("pcc", "pcc_best_lag", "worst_pcc", "snr_db", "snr_kaggle2025_db", "rmse_mv"), 0.9
            ),
        }
    )
    rows["hr_bpm_strip_true"] = true
    rows["hr_bpm_strip_read"] = [61.0, 72.0, np.nan, 90.0, 0.0]
    found = summary(rows)["parameters, scans read"]
    r = np.corrcoef([61.0, 72.0, 90.0], [60.0, 70.0, 90.0])[0, 1]
    assert found["hr_bpm strip"].startswith(f"r {r:.3f} [")
    assert found["hr_bpm strip"].endswith("median error 1.00, 3 of 4")
    assert "equal" in found["qrs_ms segments"]
