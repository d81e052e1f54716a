"""Annotation files: read as `wfdb` reads them, written so that `wfdb` reads them, refused when damaged."""

import contextlib
import struct

import numpy as np
import pytest
import wfdb

from datamodules.errors import DataError
from datamodules.layout import LEADS
from datamodules.signals import write_recording
from datamodules.wave_marks import LeadMarks, cut_marks, mark_files, read_marks, write_marks
from tests.datamodules.rendering.recordings import beats, marked
from tests.shared import SHARED, needs_shared

RATE_HZ = 500.0


@pytest.fixture
def stem(tmp_path):
    write_recording(tmp_path / "r", beats())
    return tmp_path / "r"


def read(stem):
    return read_marks(stem, mark_files(stem.parent).get(stem.name, ()))


def by_wfdb(stem, samples, symbols, extension="ii", **more):
    wfdb.wrann(stem.name, extension, np.array(samples), symbols, write_dir=str(stem.parent), **more)


def refusal(stem):
    with pytest.raises(DataError) as error:
        read(stem)
    return [(problem.code, problem.where) for problem in error.value.problems]


def test_wfdb_reads_what_is_written(stem):
    marks = {"II": marked([1.0, 1.8, 5.9]), "aVR": marked([0.5])}  # 5.9 - 1.8 s: an interval of two words
    write_marks(stem, marks, RATE_HZ)
    for lead, of_lead in marks.items():
        there = wfdb.rdann(str(stem), lead.lower())
        assert tuple(there.symbol) == of_lead.symbols
        assert there.sample / RATE_HZ == pytest.approx(of_lead.times_s, abs=0.51 / RATE_HZ)


def test_what_wfdb_writes_is_read_without_its_notes(stem):
    by_wfdb(
        stem,
        [10, 20, 25, 30, 4000, 4010, 4020],
        ["+", "(", "V", ")", "(", "t", ")"],
        aux_note=["(AFIB, Mr. Smith", "", "", "", "", "", ""],
        subtype=np.array([1, 0, 2, 0, 0, 0, 0]),
        chan=np.array([0, 1, 1, 1, 1, 1, 1]),
        num=np.array([3, 0, 0, 0, 0, 0, 0]),
    )
    got = read(stem)["II"]
    assert got.symbols == ("(", "V", ")", "(", "t", ")")
    assert got.times_s * RATE_HZ == pytest.approx([20, 25, 30, 4000, 4010, 4020])
    write_marks(stem.with_name("s"), {"II": got}, RATE_HZ)
    assert b"Smith" not in stem.with_name("s.ii").read_bytes()


def test_a_file_may_state_its_own_rate(stem):
    by_wfdb(stem, [100, 110, 120], ["(", "N", ")"], fs=250)
    assert read(stem)["II"].times_s == pytest.approx([0.4, 0.44, 0.48])


@needs_shared
@pytest.mark.parametrize("record", ["1", "34", "111"])
def test_ludb_is_read_as_wfdb_reads_it_and_written_byte_by_byte(record, tmp_path):
    ludb = SHARED / "signals" / "ludb"
    marks = read(ludb / record)
    assert set(marks) == set(LEADS)
    write_marks(tmp_path / record, marks, RATE_HZ)
    for lead, got in marks.items():
        there = wfdb.rdann(str(ludb / record), lead.lower())
        assert got.symbols == tuple(there.symbol)
        assert got.times_s * RATE_HZ == pytest.approx(there.sample)
        name = f"{record}.{lead.lower()}"
        assert (tmp_path / name).read_bytes() == (ludb / name).read_bytes()


def test_waves_keep_what_was_marked_of_them():
    times_s = np.arange(12) / 10
    lead = LeadMarks(times_s, ("N", ")", "(", "p", ")", "(", "N", "t", ")", "(", ")", "V"))
    assert lead.waves("qrs").tolist() == pytest.approx(
        np.array([[np.nan, 0.0, 0.1], [0.5, 0.6, np.nan], [np.nan, 1.1, np.nan]]), nan_ok=True
    )
    assert lead.waves("p").tolist() == pytest.approx(np.array([[0.2, 0.3, 0.4]]))
    assert lead.waves("t").tolist() == pytest.approx(np.array([[np.nan, 0.7, 0.8]]), nan_ok=True)


def test_marks_after_the_cut_are_gone():
    got = cut_marks({"I": marked([1.0, 2.0, 3.0]), "II": marked([2.5, 3.0])}, 2.1)
    assert set(got) == {"I"}
    assert got["I"].waves("qrs")[:, 0] == pytest.approx([1.0, 2.0])
    assert got["I"].waves("qrs")[-1, 2] == pytest.approx(2.09)


def test_a_record_without_annotation_has_none(stem):
    assert read(stem) == {}
    assert mark_files(stem.parent / "nowhere") == {}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "ANNOTATION_FORMAT"),
        (b"\x01", "ANNOTATION_FORMAT"),
        (struct.pack("<HH", 39 << 10 | 5, 1 << 10 | 5), "ANNOTATION_FORMAT"),  # no end
        (b"int main() { return 0; }", "ANNOTATION_FORMAT"),
        (struct.pack("<HH", 55 << 10 | 5, 0), "ANNOTATION_FORMAT"),
        (struct.pack("<HH", 28 << 10 | 5, 0), "ANNOTATION_EMPTY"),
        (b"\0\0", "ANNOTATION_EMPTY"),
        (struct.pack("<HhHHH", 59 << 10, 0, 5001, 1 << 10, 0), "ANNOTATION_OUT_OF_RANGE"),
        (struct.pack("<HhHHH", 59 << 10, -1, 0, 1 << 10, 0), "ANNOTATION_OUT_OF_RANGE"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(stem, content, code):
    write_marks(stem, {"V1": marked([1.0])}, RATE_HZ)
    stem.with_name("r.ii").write_bytes(content)
    assert refusal(stem) == [(code, "r.ii")]


def test_every_bad_file_is_told_and_a_lead_has_one(stem):
    write_marks(stem, {"V1": marked([1.0])}, RATE_HZ)
    stem.with_name("r.V1").write_bytes(stem.with_name("r.v1").read_bytes())
    stem.with_name("r.aVF").write_bytes(b"")
    assert refusal(stem) == [("ANNOTATION_FORMAT", "r.aVF"), ("ANNOTATION_TWICE", "r.v1")]


@pytest.mark.parametrize("seed", range(50))
def test_damaged_bytes_are_marks_or_a_refusal(stem, seed):
    write_marks(stem, {"II": marked([1.0, 1.8, 5.9])}, RATE_HZ)
    rng = np.random.default_rng(seed)
    content = bytearray(stem.with_name("r.ii").read_bytes())
    for _ in range(3):
        content[rng.integers(len(content))] = rng.integers(256)
    stem.with_name("r.ii").write_bytes(bytes(content[: rng.integers(1, len(content) + 1)]))
    with contextlib.suppress(DataError):  # any other error, or a mark out of range, fails
        got = read(stem)["II"]
        assert 0 <= got.times_s.min() <= got.times_s.max() <= 10.0
