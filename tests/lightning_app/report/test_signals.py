"""Signals in the report: refusals count against a model, and the ceiling belongs to the same scans."""

import json

import numpy as np
import pandas as pd
import pytest

from lightning_app.evaluate.scan_columns import PARAMETERS, SOURCES
from lightning_app.report.signals import signal_tables


def values(rng, pcc):
    row = {"signal_pcc": pcc, "signal_coverage": 1.0, "signal_snr_db": 12.0, "signal_rmse_mv": 0.02}
    for parameter in PARAMETERS:
        for source in SOURCES:
            true = float(rng.uniform(60, 100))
            row |= {f"{parameter}_{source}_true": true, f"{parameter}_{source}_read": true + rng.normal()}
    return row


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    table = []
    for model, pcc in (("A", 0.98), ("B", 0.5)):
        for scan in range(8):
            scores = values(rng, pcc)
            identity = {"model": model, "test_set": "cv", "scan_id": f"s{scan}", "patient_id": f"p{scan}"}
            table.append({**identity, "layout": "four_line", "digitized": "read", **scores})
    return pd.DataFrame(table)


def test_a_refused_page_counts_as_no_agreement(rows):
    refused = (rows["model"] == "A") & (rows["scan_id"] == "s0")
    rows.loc[refused, "digitized"] = "NO_WAVEFORM"
    rows.loc[refused, rows.filter(like="signal_").columns] = np.nan
    summary = signal_tables([], rows, ["A", "B"]).summary.set_index("model")
    assert summary.loc["A", "n_read"] == 7
    assert summary.loc["A", "refusals"] == "NO_WAVEFORM 1"
    assert summary.loc["A", "signal_pcc_mean"] == pytest.approx(0.98 * 7 / 8)
    assert summary.loc["A", "signal_pcc_ci_low"] < summary.loc["A", "signal_pcc_mean"]


def test_a_page_one_seed_refused_counts_half(rows):
    again = rows[rows["model"] == "A"].assign(digitized="NO_WAVEFORM", signal_pcc=np.nan)
    summary = signal_tables([], pd.concat([rows, again]), ["A"]).summary
    assert summary["signal_pcc_mean"].item() == pytest.approx(0.98 / 2)


def test_table1_has_a_part_for_every_model(rows):
    table = signal_tables([], rows, ["A", "B"]).table1
    assert table["model"].unique().tolist() == ["A", "B"]
    signal = table[(table["quantity"] == "Signal") & (table["layout"] == "overall")].set_index("model")
    assert signal.loc["A", "mean"] == pytest.approx(0.98, abs=1e-6)


def test_a_model_that_reads_nothing_has_a_part_of_gaps_beside_the_others(rows):
    unread = rows["model"] == "A"
    scores = [name for name in rows.columns if name.startswith("signal_") or name.endswith("_read")]
    rows.loc[unread, "digitized"] = "NO_WAVEFORM"
    rows.loc[unread, scores] = np.nan
    table = signal_tables([], rows, ["A", "B"]).table1  # pandas' warnings are errors here
    means = table[table["quantity"] != "Signal"].groupby("model")["mean"].count()
    assert means["A"] == 0
    assert means["B"] > 0


def test_the_ceiling_stands_only_where_every_scan_has_one(rows, tmp_path):
    rng = np.random.default_rng(1)
    for scan in range(8):
        known = {"true": {}, "ceiling": values(rng, 0.99)}
        (tmp_path / f"s{scan}.json").write_text(json.dumps(known))
    assert signal_tables([tmp_path], rows, ["A"]).summary["ceiling_pcc"].item() == pytest.approx(0.99)
    (tmp_path / "s3.json").unlink()
    assert np.isnan(signal_tables([tmp_path], rows, ["A"]).summary["ceiling_pcc"].item())


def test_people_are_read_from_the_rows_and_joined_to_the_ceiling(rows, tmp_path):
    rng = np.random.default_rng(1)
    human = {f"s{scan}": rng.uniform(60, 100) for scan in range(8)}
    for scan in range(8):
        known = {"true": {}, "ceiling": values(rng, 0.99)}
        known["ceiling"]["hr_bpm_strip_read"] = human[f"s{scan}"] + rng.normal()
        (tmp_path / f"s{scan}.json").write_text(json.dumps(known))
    rows["hr_bpm_strip_human"] = rows["scan_id"].map(human)
    rows["hr_bpm_strip_human_reason"] = ""
    rows.loc[rows["scan_id"] == "s2", ["hr_bpm_strip_human", "hr_bpm_strip_human_reason"]] = [
        np.nan,
        "FEW_BEATS",
    ]
    again = rows.assign(seed=1)  # a second seed of each model
    table = signal_tables([tmp_path], pd.concat([rows, again]), ["A"]).table1
    got = table[(table["reference"] == "human") & (table["layout"] == "overall")].set_index("measured_on")
    assert got.loc["digitized", ["n", "n_asked", "n_patients"]].tolist() == [7, 7, 7]
    assert got.loc["digitized", "note"] == "no human value for 1 of 8 scans (FEW_BEATS 1)"
    assert got.loc["digitized", "ceiling"] > 0.95 > abs(got.loc["digitized", "r"])
    assert set(got.index) == {"digitized", "true signal"}


def test_sweeps_without_digitized_scans_have_no_such_tables(rows):
    assert signal_tables([], rows.drop(columns="digitized"), ["A"]) is None
    assert signal_tables([], rows.assign(digitized=""), ["A"]) is None
