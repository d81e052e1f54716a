"""`inkbeat score` as a user meets it: records on disk in, JSON or a table or a refusal out."""

import json

import numpy as np
import pytest
import wfdb
from click.testing import CliRunner

from datamodules.errors import DataError, IntegrityError
from datamodules.layout import LEADS
from lightning_app.score_commands import resampled, score

KEYS = {
    "pcc",
    "pcc_best_lag",
    "lag_ms",
    "rmse_mv",
    "gain",
    "coverage",
    "snr_db",
    "snr_cinc2024_db",
    "snr_kaggle2025_db",
}


def ecg(rate_hz=500, seconds=4.0, leads=12):
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    beat = np.exp(-((((t % 0.8) - 0.4) / 0.02) ** 2))
    return np.stack([(0.3 + 0.1 * k) * beat + 0.01 * k for k in range(leads)], axis=1)


def write(folder, name, mv, rate_hz=500, leads=LEADS, unit="mV"):
    wfdb.wrsamp(
        name,
        fs=rate_hz,
        units=[unit] * mv.shape[1],
        sig_name=list(leads),
        p_signal=mv,
        fmt=["16"] * mv.shape[1],
        write_dir=str(folder),
    )
    return folder / name


def run_json(*paths):
    result = CliRunner().invoke(score, [*map(str, paths), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_a_record_scored_against_itself(tmp_path):
    ref = write(tmp_path, "ref", ecg())
    got = run_json(ref, f"{ref}.hea")
    assert list(got) == ["overall", "leads"]
    assert list(got["leads"]) == list(LEADS)
    assert set(got["overall"]) >= KEYS
    assert got["overall"]["pcc"] == pytest.approx(1)
    assert got["overall"]["coverage"] == 1
    assert got["leads"]["V3"]["snr_cinc2024_db"] is None
    assert got["leads"]["V3"]["snr_kaggle2025_db"] == pytest.approx(25.84, abs=0.01)


def test_leads_are_matched_by_name_in_any_order_and_spelling(tmp_path):
    ref = write(tmp_path, "ref", ecg())
    est = write(tmp_path, "est", ecg()[:, ::-1], leads=[name.lower() for name in LEADS[::-1]])
    assert run_json(est, ref)["overall"]["rmse_mv"] < 1e-4


def test_a_missing_lead_is_an_empty_output(tmp_path):
    ref = write(tmp_path, "ref", ecg())
    est = write(tmp_path, "est", ecg()[:, :11], leads=LEADS[:11])
    got = run_json(est, ref)
    assert got["leads"]["V6"]["coverage"] == 0
    assert got["leads"]["V6"]["pcc"] is None
    assert got["leads"]["V6"]["snr_cinc2024_db"] == 0
    assert got["overall"]["pcc"] == pytest.approx(11 / 12)


def test_unread_samples_are_uncovered(tmp_path):
    mv = ecg()
    mv[:500, 0] = np.nan
    got = run_json(write(tmp_path, "est", mv), write(tmp_path, "ref", ecg()))
    assert got["leads"]["I"]["coverage"] == pytest.approx(0.75)


@pytest.mark.parametrize("rate_hz", [250, 400, 1000])
def test_another_rate_is_resampled_to_the_reference(tmp_path, rate_hz):
    est = write(tmp_path, "est", ecg(rate_hz), rate_hz)
    got = run_json(est, write(tmp_path, "ref", ecg()))
    assert got["overall"]["pcc"] > 0.999
    assert got["overall"]["lag_ms"] == 0
    assert got["overall"]["coverage"] > 0.999


def test_microvolts_are_millivolts_in_the_end(tmp_path):
    est = write(tmp_path, "est", 1000 * ecg(), unit="uV")
    assert run_json(est, write(tmp_path, "ref", ecg()))["overall"]["gain"] == pytest.approx(1, abs=1e-3)


def test_the_table_shows_every_lead_and_says_what_coverage_means(tmp_path):
    ref = write(tmp_path, "ref", ecg())
    result = CliRunner().invoke(score, [str(ref), str(ref)], env={"COLUMNS": "160"}, catch_exceptions=False)
    assert result.exit_code == 0
    assert all(lead in result.stdout for lead in (*LEADS, "all", "Coverage is"))


def refusal(*paths):
    result = CliRunner().invoke(score, [str(path) for path in paths])
    assert isinstance(result.exception, DataError)
    assert result.exception.exit_code == 3
    return {problem.code for problem in result.exception.problems}


def test_every_missing_record_is_named_at_once(tmp_path):
    result = CliRunner().invoke(score, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert [problem.code for problem in result.exception.problems] == ["RECORD_MISSING"] * 2


def test_damaged_records_are_refused(tmp_path):
    ref = write(tmp_path, "ref", ecg())
    cut = write(tmp_path, "cut", ecg())
    cut.with_suffix(".dat").write_bytes(cut.with_suffix(".dat").read_bytes()[:1000])
    assert refusal(cut, ref) == {"SIGNAL_LENGTH"}
    lone = write(tmp_path, "lone", ecg())
    lone.with_suffix(".dat").unlink()
    assert refusal(lone, ref) == {"SIGNAL_MISSING"}
    (tmp_path / "junk.hea").write_bytes(b"\x00\xff\x80 what is this")
    (tmp_path / "empty.hea").write_text("")
    assert len(refusal(tmp_path / "junk", ref)) == 1
    assert len(refusal(tmp_path / "empty", ref)) == 1


def test_no_file_outside_the_records_folder_is_read(tmp_path):
    ref = write(tmp_path, "ref", ecg())
    (tmp_path / "sub").mkdir()
    header = (tmp_path / "ref.hea").read_text().replace("ref.dat", "../ref.dat")
    (tmp_path / "sub" / "ref.hea").write_text(header)
    result = CliRunner().invoke(score, [str(tmp_path / "sub" / "ref"), str(ref)])
    assert isinstance(result.exception, IntegrityError)
    assert result.exception.exit_code == 4


def test_records_that_cannot_be_compared_are_refused(tmp_path):
    ref = write(tmp_path, "ref", ecg()[:, :1], leads=["I"])
    assert refusal(write(tmp_path, "other", ecg()[:, :1], leads=["V1"]), ref) == {"LEADS_UNMATCHED"}
    assert refusal(write(tmp_path, "pulse", ecg()[:, :1], leads=["PLETH"]), ref) == {"LEADS_UNKNOWN"}
    assert refusal(write(tmp_path, "twice", ecg()[:, :2], leads=["I", "i"]), ref) == {"LEAD_TWICE"}
    assert refusal(write(tmp_path, "unit", ecg()[:, :1], leads=["I"], unit="mmHg"), ref) == {"UNIT_SUSPECT"}


def test_resampling_keeps_gaps_and_length():
    mv = np.sin(np.arange(100) / 5.0)
    mv[40:60] = np.nan
    up = resampled(mv, 100, 500)
    assert up.size == 500
    assert np.isnan(up[200:300]).all()
    assert np.isfinite(up[:200]).all()
    assert np.isfinite(up[300:]).all()
    assert resampled(up, 500, 100)[:40] == pytest.approx(mv[:40])
