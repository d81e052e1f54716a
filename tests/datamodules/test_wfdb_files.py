from pathlib import Path

import numpy as np
import pytest
import wfdb

from datamodules.errors import DataError, IntegrityError
from datamodules.layout import LEADS
from datamodules.wfdb_files import read_header, read_record, write_record
from tests.shared import SHARED, needs_shared


def _mv(n_samples=600, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, (12, n_samples)).astype(np.float32)


def _code(stem: Path) -> str:
    with pytest.raises(DataError) as error:
        read_record(stem)
    return error.value.problems[0].code


def test_what_is_written_is_read_by_wfdb_and_by_us(tmp_path: Path):
    mv = _mv()
    mv[3, 100:200] = np.nan
    write_record(tmp_path / "r1", LEADS, mv, 500.0, ("patient: p7",))
    record = wfdb.rdrecord(str(tmp_path / "r1"))
    assert tuple(record.sig_name) == LEADS
    assert record.fs == 500
    assert np.allclose(record.p_signal.T, mv, atol=0.00051, equal_nan=True)
    ours = read_record(tmp_path / "r1")
    assert ours.leads == LEADS
    assert ours.comments == ("patient: p7",)
    assert np.allclose(ours.mv, record.p_signal.T, atol=1e-6, equal_nan=True)
    assert wfdb.rdheader(str(tmp_path / "r1")).checksum == [
        int(row.sum()) & 0xFFFF for row in wfdb.rdrecord(str(tmp_path / "r1"), physical=False).d_signal.T
    ]


def test_bytes_depend_on_the_arguments_alone(tmp_path: Path):
    for folder in ("a", "b"):
        write_record(tmp_path / folder / "r", LEADS, _mv(), 500.0)
    for suffix in (".hea", ".dat"):
        assert (tmp_path / f"a/r{suffix}").read_bytes() == (tmp_path / f"b/r{suffix}").read_bytes()


@pytest.mark.parametrize(("name", "mv"), [("a b", _mv()), ("r", _mv()[:3]), ("r", _mv() * 1000)])
def test_what_wfdb_cannot_hold_is_not_written(tmp_path: Path, name: str, mv: np.ndarray):
    with pytest.raises(ValueError, match="wanted"):
        write_record(tmp_path / name, LEADS, mv, 500.0)
    assert list(tmp_path.iterdir()) == []


@needs_shared
@pytest.mark.parametrize("name", ["ptbxl/10589", "ludb/1", "ludb/100", "ningbo/JS20000"])
def test_real_records_read_as_wfdb_reads_them(name: str):
    stem = SHARED / "signals" / name
    record, ours = wfdb.rdrecord(str(stem)), read_record(stem)
    assert list(ours.leads) == record.sig_name
    assert np.allclose(ours.mv, record.p_signal.T, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("fmt", ["24", "32", "80", "212"])
def test_other_formats_go_through_wfdb(tmp_path: Path, fmt: str):
    mv = _mv()
    wfdb.wrsamp(
        "r",
        360,
        ["mV"] * 12,
        list(LEADS),
        p_signal=mv.T.astype(np.float64),
        fmt=[fmt] * 12,
        write_dir=str(tmp_path),
    )
    ours = read_record(tmp_path / "r")
    assert ours.rate_hz == 360
    assert np.abs(ours.mv - mv).max() < 0.02


def test_several_files_of_format_16_and_a_baseline(tmp_path: Path):
    (tmp_path / "a.dat").write_bytes(np.array([100, 300], "<i2").tobytes())
    (tmp_path / "b.dat").write_bytes(np.array([0, 2000], "<i2").tobytes())
    (tmp_path / "r.hea").write_text(
        "r 2 500 2\na.dat 16 200(100)/mV 16 0 0 0 0 I\nb.dat 16 1000/uV 16 0 0 0 0 II\n"
    )
    mv = read_record(tmp_path / "r").mv
    assert mv[0] == pytest.approx([0.0, 1.0])
    assert mv[1] == pytest.approx([0.0, 0.002])


def test_units_become_millivolts(tmp_path: Path):
    (tmp_path / "r.dat").write_bytes(np.array([[1000] * 4], "<i2").tobytes())
    lines = "".join(f"r.dat 16 1000(0)/{unit} 16 0 0 0 0 {unit}\n" for unit in ("mV", "uV", "V", "µV"))
    (tmp_path / "r.hea").write_text(f"r 4 500 1\n{lines}")
    assert read_record(tmp_path / "r").mv[:, 0] == pytest.approx([1.0, 0.001, 1000.0, 0.001])


HEADER = "r 1 500 4\nr.dat 16 1000(0)/mV 16 0 0 0 0 I\n"


@pytest.mark.parametrize(
    ("header", "n_bytes", "code"),
    [
        ("", 8, "SIGNAL_FORMAT"),
        ("# only a comment\n", 8, "SIGNAL_FORMAT"),
        ("what is this\n", 8, "SIGNAL_FORMAT"),
        ("r 3 500 4\nr.dat 16 1000/mV\n", 8, "SIGNAL_FORMAT"),
        ("r 1 500 4\nr.dat sixteen\n", 8, "SIGNAL_FORMAT"),
        ("r/2 1 500 4\nr1 2\nr2 2\n", 8, "SIGNAL_FORMAT"),
        (HEADER.replace("500", "0"), 8, "SIGNAL_RATE"),
        (HEADER.replace("500", "1e9"), 8, "SIGNAL_RATE"),
        ("r 0 500 4\n", 8, "SIGNAL_EMPTY"),
        (HEADER.replace(" 4\n", " 0\n"), 0, "SIGNAL_EMPTY"),
        (HEADER.replace(" 4\n", " 99999999999\n"), 8, "SIGNAL_TOO_LONG"),
        (HEADER.replace(" 4\n", " 5\n"), 8, "SIGNAL_LENGTH"),  # F36
        (HEADER, 7, "SIGNAL_LENGTH"),
        (HEADER, None, "SIGNAL_MISSING"),
        (HEADER.replace("1000(0)", "0"), 8, "UNIT_SUSPECT"),  # F35
        (HEADER.replace(" 1000(0)/mV 16 0 0 0 0 I", ""), 8, "UNIT_SUSPECT"),
        (HEADER.replace("1000(0)", "1e999"), 8, "UNIT_SUSPECT"),
        (HEADER.replace("mV", "mmHg"), 8, "UNIT_SUSPECT"),
        (HEADER.replace(" 16 1000", " 999 1000"), 8, "SIGNAL_FORMAT"),
        (HEADER.replace(" 16 1000", " 212 1000"), 1, "SIGNAL_FORMAT"),
    ],
)
def test_damaged_records_become_reasons(tmp_path: Path, header: str, n_bytes: int | None, code: str):
    (tmp_path / "r.hea").write_text(header)
    if n_bytes is not None:
        (tmp_path / "r.dat").write_bytes(b"\1" * n_bytes)
    assert _code(tmp_path / "r") == code


def test_binary_and_missing_headers_become_reasons(tmp_path: Path):
    assert _code(tmp_path / "r") == "FILE_MISSING"
    (tmp_path / "r.hea").write_bytes(b"\xff\x00\x81" * 20)
    assert _code(tmp_path / "r") == "FILE_ENCODING"


@pytest.mark.parametrize(
    "name", ["../r.dat", "/etc/passwd", "sub/r.dat", "..", "C:r.dat", "file://r.dat", "a\\b"]
)
def test_a_header_that_names_another_folder_is_refused_unread(tmp_path: Path, name: str):  # F27
    (tmp_path / "r.hea").write_text(HEADER.replace("r.dat", name))
    with pytest.raises(IntegrityError, match="PATH_ESCAPE"):
        read_header(tmp_path / "r")
