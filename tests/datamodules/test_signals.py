import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.errors import ConfigError, DataError
from datamodules.layout import LEADS
from datamodules.signals import (
    Recording,
    Simulated,
    WfdbFolder,
    cart_filter,
    choose_records,
    open_signals,
    patient_hash,
    resampled,
    signal_problems,
    write_recording,
)
from datamodules.wave_marks import write_marks
from datamodules.wfdb_files import write_record
from tests.datamodules.rendering.recordings import beats, marked
from tests.shared import SHARED, needs_shared


def _mv(rate_hz=500.0, duration_s=10.0, seed=0):
    """Twelve leads with a beat-like bump a second, each with its own height."""
    time_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    beat = np.exp(-(((time_s % 1.0) - 0.5) ** 2) / 0.002)
    heights = np.random.default_rng(seed).uniform(0.3, 1.5, (12, 1))
    return (heights * beat).astype(np.float32)


def _folder(tmp_path: Path, mv=None, leads=LEADS, rate_hz=500.0, comments=()) -> WfdbFolder:
    write_record(tmp_path / "r1", leads, _mv() if mv is None else mv, rate_hz, comments)
    return WfdbFolder(tmp_path)


def _codes(source: WfdbFolder, record_id="r1") -> list[str]:
    with pytest.raises(DataError) as error:
        source.load(record_id)
    return [problem.code for problem in error.value.problems]


# WFDB folders


def test_a_record_comes_back_in_millivolts(tmp_path: Path):
    recording = _folder(tmp_path).load("r1")
    assert recording.rate_hz == 500
    assert recording.mv.dtype == np.float32
    assert np.abs(recording.mv - _mv()).max() <= 0.00051


def test_lead_names_of_any_case_and_order_are_mapped(tmp_path: Path):  # F37
    order = np.random.default_rng(1).permutation(12)
    names = [LEADS[place] for place in order]
    spellings = [name.lower() if place % 2 else f"MDC_ECG_LEAD_{name}" for place, name in enumerate(names)]
    recording = _folder(tmp_path, _mv()[order], tuple(spellings)).load("r1")
    assert np.abs(recording.mv - _mv()).max() <= 0.00051


def test_extra_signals_are_left_out(tmp_path: Path):
    mv = np.concatenate([_mv()[:1] * 0, _mv()])
    assert _folder(tmp_path, mv, ("vx", *LEADS)).load("r1").mv.shape == (12, 5000)


def test_missing_doubled_and_inverted_leads_are_reasons(tmp_path: Path):  # F37
    assert _codes(_folder(tmp_path / "a", _mv()[:11], LEADS[:11])) == ["LEAD_MISSING"]
    assert _codes(_folder(tmp_path / "b", leads=(*LEADS[:11], "v5"))) == ["LEAD_MISSING", "LEAD_TWICE"]
    assert _codes(_folder(tmp_path / "c", leads=(*LEADS[:3], "-aVR", *LEADS[4:]))) == ["LEAD_MISSING"]


@pytest.mark.parametrize("rate_hz", [100.0, 250.0, 257.0, 360.0, 999.5, 1000.0])
def test_any_rate_becomes_500_hz_and_keeps_the_wave(tmp_path: Path, rate_hz: float):
    time_s = np.arange(round(rate_hz * 10)) / rate_hz
    wave = np.stack([0.2 + np.sin(2 * np.pi * (3 + lead) * time_s) for lead in range(12)])
    recording = _folder(tmp_path, wave, rate_hz=rate_hz).load("r1")
    assert recording.rate_hz == 500
    assert recording.mv.shape == (12, 5000)
    expected = np.stack([0.2 + np.sin(2 * np.pi * (3 + lead) * np.arange(5000) / 500) for lead in range(12)])
    assert np.abs(recording.mv - expected)[:, 100:-100].max() < 0.02


def test_resampling_a_constant_keeps_it_to_the_ends():
    recording = Recording("r", "r", 360.0, np.full((12, 3600), 2.5, np.float32))
    assert np.abs(resampled(recording, 500.0).mv - 2.5).max() < 1e-3


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda mv: mv[:, :4000], ["SIGNAL_SHORT"]),
        (lambda mv: mv[:, :1], ["SIGNAL_SHORT", *["SIGNAL_CONSTANT"] * 12]),
        (lambda mv: mv * 0, ["SIGNAL_CONSTANT"] * 12),
        (lambda mv: mv * np.r_[np.ones(11), 0][:, None], ["SIGNAL_CONSTANT"]),
        (lambda mv: _gap(mv, 4, slice(600, 700)), ["SIGNAL_GAP"]),
        (lambda mv: _gap(mv, 4, slice(None)), ["SIGNAL_NAN"]),
        (lambda mv: mv / 1000, ["SIGNAL_CONSTANT"] * 12),
        (lambda mv: mv / 50, ["UNIT_SUSPECT"]),
    ],
    ids=["short", "one", "flat", "one-flat", "gap", "nan", "V-as-mV", "tiny"],
)
def test_unusable_signals_are_reasons(tmp_path: Path, change, codes):  # F34, F35
    assert _codes(_folder(tmp_path, change(_mv()))) == codes


def _gap(mv, lead, where):
    mv[lead, where] = np.nan
    return mv


def test_a_gap_is_named_with_lead_length_and_place(tmp_path: Path):
    source = _folder(tmp_path, _gap(_mv(), 4, slice(600, 700)))
    with pytest.raises(DataError, match=r"lead aVL: 200 ms missing, first at 1\.20 s"):
        source.load("r1")


def test_microvolts_declared_as_millivolts_are_suspect():  # F35
    assert [p.code for p in signal_problems(_mv() * 1000, 500.0, "r", 10.0)] == ["UNIT_SUSPECT"]


def test_infinite_and_empty_signals_are_reasons():  # F34
    mv = _mv()
    mv[2, 5] = np.inf
    assert [p.code for p in signal_problems(mv, 500.0, "r", 10.0)] == ["SIGNAL_INF"]
    assert [p.code for p in signal_problems(mv[:, :0], 500.0, "r", 10.0)] == ["SIGNAL_EMPTY"]


def test_patient_is_read_from_the_header_else_the_record(tmp_path: Path):
    source = _folder(tmp_path / "a", comments=("Patient_ID: 0042",))
    assert source.load("r1").patient_id == source.patient_id("r1") == "0042"
    source = _folder(tmp_path / "b", comments=("patients seen: 3",))
    assert source.load("r1").patient_id == source.patient_id("r1") == "r1"


def test_subfolders_count_and_ids_are_their_paths(tmp_path: Path):
    write_record(tmp_path / "01" / "b", LEADS, _mv(), 500.0)
    write_record(tmp_path / "a", LEADS, _mv(), 500.0)
    source = WfdbFolder(tmp_path)
    assert source.record_ids() == ["01/b", "a"]
    assert source.load("01/b").record_id == "01/b"


def test_header_of_another_folder_is_a_reason(tmp_path: Path):  # F27
    source = _folder(tmp_path / "a")
    header = tmp_path / "a" / "r1.hea"
    header.write_text(header.read_text().replace("r1.dat", "../r1.dat"))
    assert _codes(source) == ["PATH_ESCAPE"]


def test_missing_and_empty_folders_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="SIGNALS_MISSING"):
        open_signals(tmp_path / "none", 0)
    with pytest.raises(DataError, match="SIGNALS_EMPTY"):
        open_signals(tmp_path, 0)


def test_a_bad_annotation_keeps_its_record_out_and_no_other(tmp_path: Path):
    for number in range(2):
        write_recording(
            tmp_path / f"sub/r{number}", dataclasses.replace(beats(number), marks={"V1": marked([1.0, 2.0])})
        )
    (tmp_path / "sub/r1.ii").write_bytes(b"")
    recordings, rejects = choose_records(WfdbFolder(tmp_path), 2, seed=0, at_least=1)
    assert [recording.record_id for recording in recordings] == ["sub/r0"]
    assert [(problem.code, problem.where) for problem in rejects] == [("ANNOTATION_FORMAT", "r1.ii")]
    assert recordings[0].marks["V1"].symbols == marked([1.0, 2.0]).symbols


def test_fingerprint_follows_annotation(tmp_path: Path):
    write_recording(tmp_path / "r", beats())
    prints = [WfdbFolder(tmp_path).fingerprint()]
    for onset_s in (1.0, 1.002):  # files of one size
        write_marks(tmp_path / "r", {"II": marked([onset_s])}, 500.0)
        prints.append(WfdbFolder(tmp_path).fingerprint())
    assert len(set(prints)) == 3


def test_fingerprint_follows_headers_and_sizes(tmp_path: Path):
    source = _folder(tmp_path)
    before = source.fingerprint()
    assert WfdbFolder(tmp_path).fingerprint() == before
    with (tmp_path / "r1.dat").open("ab") as stream:
        stream.write(b"\0\0")
    longer = WfdbFolder(tmp_path).fingerprint()
    assert longer != before
    with (tmp_path / "r1.hea").open("a") as stream:
        stream.write("# patient: x\n")
    assert WfdbFolder(tmp_path).fingerprint() not in (before, longer)


def test_written_recording_keeps_its_patient(tmp_path: Path):
    recording = Recording("r1", "p 9", 500.0, np.round(_mv(), 3))
    write_recording(tmp_path / "r1", recording)
    again = WfdbFolder(tmp_path).load("r1")
    assert again.patient_id == "p 9"
    assert np.allclose(again.mv, recording.mv, atol=1e-6)


@needs_shared
@pytest.mark.parametrize("name", ["ptbxl", "ludb", "ningbo"])
def test_real_folders_load(name: str):
    source = WfdbFolder(SHARED / "signals" / name)
    recordings, rejects = choose_records(source, 10, 0)
    assert len(recordings) == 10
    assert len(rejects) <= 2
    for recording in recordings:
        i_mv, ii_mv, iii_mv = recording.mv[:3]
        assert recording.mv.shape == (12, 5000)
        if name != "ludb":  # LUDB holds Einthoven only roughly
            assert np.median(np.abs(i_mv + iii_mv - ii_mv)) < 0.02


# Simulated


def test_simulated_leads_obey_einthoven_and_goldberger():
    recording = Simulated(0).load("sim0-00003")
    i, ii, iii, avr, avl, avf = recording.mv[:6]
    assert recording.mv.shape == (12, 5000)
    assert recording.mv.dtype == np.float32
    assert i + iii == pytest.approx(ii, abs=1e-6)
    assert avr + avl + avf == pytest.approx(0, abs=1e-6)
    assert 0.3 < np.ptp(recording.mv[1]) < 6
    assert signal_problems(recording.mv, 500.0, "sim", 10.0) == []


def test_simulated_depends_on_seed_and_index_alone():
    first = Simulated(5).load("sim5-00001").mv
    other_order = Simulated(5)
    other_order.load("sim5-00002")
    assert np.array_equal(first, other_order.load("sim5-00001").mv)
    assert not np.array_equal(first, Simulated(5).load("sim5-00002").mv)
    assert not np.array_equal(first, Simulated(6).load("sim6-00001").mv)


def test_simulated_leaves_torch_and_the_folder_as_they_were(tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    Simulated(0).load("sim0-00000")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    assert capfd.readouterr() == ("", "")


def test_simulated_refuses_ids_that_are_not_its_own():
    for record_id in ("sim1-00000", "sim0-1", "../x"):
        with pytest.raises(DataError, match="RECORD_UNKNOWN"):
            Simulated(0).load(record_id)


def test_simulated_fingerprint_follows_the_seed():
    assert (
        open_signals("simulated", 0).fingerprint() == Simulated(0).fingerprint() != Simulated(1).fingerprint()
    )


# Choice


class _Fake:
    """A hundred records, every seventh of them unusable; three records a patient."""

    def __init__(self):
        self.loaded = []

    def record_ids(self):
        return [f"r{index:02d}" for index in range(99, -1, -1)]

    def patient_id(self, record_id):
        return f"p{int(record_id[1:]) // 3}"

    def load(self, record_id):
        self.loaded.append(record_id)
        if int(record_id[1:]) % 7 == 0:
            from datamodules.errors import Problem

            raise DataError(Problem("SIGNAL_SHORT", record_id, "1 s"))
        return Recording(record_id, self.patient_id(record_id), 500.0, _mv())

    def fingerprint(self):
        return ""


def test_choice_skips_and_reports_rejects_and_reads_no_more_than_needed():
    source = _Fake()
    recordings, rejects = choose_records(source, 40, 0)
    assert len(recordings) == len({recording.record_id for recording in recordings}) == 40
    assert len(source.loaded) == 40 + len(rejects)
    assert all(int(problem.where[1:]) % 7 == 0 for problem in rejects)


def test_choice_depends_on_the_seed_and_not_on_the_order_of_ids():
    def ids(seed, ordered=False):
        source = _Fake()
        if ordered:
            source.record_ids = lambda: sorted(_Fake.record_ids(source))
        return [recording.record_id for recording in choose_records(source, 20, seed)[0]]

    assert ids(0) == ids(0, ordered=True)
    assert ids(0) != ids(1)


def test_shares_that_do_not_overlap_have_no_patient_in_common():  # R6
    low, _ = choose_records(_Fake(), 30, 0, share=(0.0, 0.6))
    high, _ = choose_records(_Fake(), 10, 3, share=(0.6, 1.0))
    assert not {r.patient_id for r in low} & {r.patient_id for r in high}
    assert all(patient_hash(r.patient_id) >= 0.6 for r in high)


def test_too_few_records_is_an_error_with_the_reasons():
    with pytest.raises(DataError, match="RECORDS_TOO_FEW") as error:
        choose_records(_Fake(), 95, 0)
    assert sum(problem.code == "SIGNAL_SHORT" for problem in error.value.problems) == 15
    with pytest.raises(ConfigError, match="SHARE_INVALID"):
        choose_records(_Fake(), 1, 0, share=(0.5, 0.5))


# Filter


@pytest.mark.parametrize(("frequency_hz", "gain"), [(1.0, 1.0), (10.0, 1.0), (40.0, 0.5), (100.0, 0.03)])
def test_cart_filter_gain(frequency_hz: float, gain: float):
    time_s = np.arange(20_000) / 500
    wave = np.sin(2 * np.pi * frequency_hz * time_s)
    filtered = cart_filter(wave, 500.0)[5000:-5000]
    assert np.std(filtered) / np.std(wave) == pytest.approx(gain, abs=0.02)


def test_cart_filter_takes_off_offset_and_keeps_the_time_of_a_peak():
    mv = np.zeros((12, 5000)) + 3.0
    mv[:, 2500] += 1.0
    filtered = cart_filter(mv, 500.0)
    assert filtered.dtype == np.float32
    assert (filtered.argmax(axis=1) == 2500).all()
    assert np.abs(np.median(filtered, axis=1)).max() < 0.01


@pytest.mark.parametrize("first", [0, 100, 250, 400])
def test_cart_filter_bends_no_baseline_wherever_the_record_starts(first: int):
    long_mv = _mv(duration_s=40.0)
    whole = cart_filter(long_mv, 500.0)[:, 10_000 + first : 15_000 + first]
    part = cart_filter(long_mv[:, 10_000 + first : 15_000 + first], 500.0)
    assert np.abs((part - whole) / np.ptp(whole, axis=1, keepdims=True)).max() < 0.05


def test_cart_filter_needs_a_rate_that_can_carry_it():
    with pytest.raises(ValueError, match="80"):
        cart_filter(np.zeros((12, 100)), 80.0)


def test_recording_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recording("r", "p", 500.0, _mv()).rate_hz = 1.0
