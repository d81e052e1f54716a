"""WFDB records on disk: header and samples to millivolts, and back.

Headers are read here, because a cohort of 20,000 records has to open in seconds and because the `wfdb`
package turns a gain of 0 silently into 200. Records in one file of format 16 (PTB-XL, LUDB, the CinC
challenges, everything Inkbeat writes) are read here too; all other formats go through `wfdb`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError, IntegrityError, Problem
from datamodules.files import as_text, read_bytes, write_atomic

HEADER_MAX_BYTES = 256 * 1024
MAX_VALUES = 50_000_000  # samples times signals of one record: an hour of 12 leads at 1 kHz
DATA_MAX_BYTES = 4 * MAX_VALUES
GAIN_PER_MV = 1000.0
NAN_16 = -32768  # the value format 16 reserves for "no sample"
MV_PER_UNIT = {"v": 1000.0, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6}

Read = Callable[[Path, int], bytes]  # a file of at most so many bytes

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RECORD_LINE = re.compile(
    rf"(?P<name>[^\s/]+)(?:/(?P<segments>\d+))?\s+(?P<signals>\d+)"
    rf"(?:\s+(?P<rate>{_NUMBER})(?:/\S*)?(?:\s+(?P<samples>\d+).*)?)?$"
)
_SIGNAL_LINE = re.compile(
    rf"(?P<file>\S+)\s+(?P<format>\d+)(?P<special>(?:x\d+)?(?::\d+)?(?:\+\d+)?)"
    rf"(?:\s+(?P<gain>{_NUMBER})(?:\((?P<baseline>[-+]?\d+)\))?(?:/(?P<units>\S+))?"
    r"(?:\s+\d+(?:\s+(?P<zero>[-+]?\d+)(?:\s+[-+]?\d+(?:\s+[-+]?\d+(?:\s+\d+(?:\s+(?P<lead>.+))?)?)?)?)?)?)?$"
)


@dataclass(frozen=True)
class SignalLine:
    """What a header says about one signal; `special` is frame size, skew and offset, empty when usual."""

    file: str
    format: str
    special: str
    gain: float
    baseline: int
    units: str
    lead: str


@dataclass(frozen=True)
class Header:
    """A WFDB header.

    Attributes:
        rate_hz: Samples per second.
        n_samples: Samples per signal, None when the header does not say.
        signals: One line per signal.
        comments: Text after `#`, without it.
    """

    rate_hz: float
    n_samples: int | None
    signals: tuple[SignalLine, ...]
    comments: tuple[str, ...]


@dataclass(frozen=True)
class RawRecord:
    """Signals as stored: (n_signals, n_samples) float32 mV, NaN where there is no sample."""

    leads: tuple[str, ...]
    mv: npt.NDArray[np.float32]
    rate_hz: float
    comments: tuple[str, ...]


def read_header(stem: Path, read: Read = read_bytes) -> Header:
    """Read and check `stem`.hea.

    Args:
        stem: Path of the record without suffix.
        read: How a file is read; whoever compares hashes does it here, on the very bytes that are used.

    Returns:
        The header.

    Raises:
        DataError: `FILE_MISSING`, `SIGNAL_FORMAT`, `SIGNAL_RATE`, `SIGNAL_EMPTY` or `SIGNAL_TOO_LONG`.
        IntegrityError: `PATH_ESCAPE` when it names a data file in another folder.
    """
    path = header_path(stem)
    lines = [line.strip() for line in as_text(read(path, HEADER_MAX_BYTES), path.name).splitlines()]
    content = [line for line in lines if line and not line.startswith("#")]
    match = _RECORD_LINE.fullmatch(content[0]) if content else None
    if match is None:
        got = repr(content[0][:60]) if content else "no record line"
        raise _refusal("SIGNAL_FORMAT", path, got, "a WFDB header: name, signals, rate, samples")
    if match["segments"]:
        got = "a record made of other records"
        raise _refusal(
            "SIGNAL_FORMAT", path, got, "one segment", "cut the part you need into a record of its own"
        )
    header = Header(
        rate_hz=float(match["rate"] or 250.0),  # the default of the format
        n_samples=int(match["samples"] or 0) or None,  # 0 means unknown in WFDB
        signals=_signal_lines(path, content[1:], int(match["signals"])),
        comments=tuple(line[1:].strip() for line in lines if line.startswith("#")),
    )
    _check_header(path, header)
    return header


def read_record(stem: Path, read: Read = read_bytes) -> RawRecord:
    """Read a record, all its signals in millivolts.

    Args:
        stem: Path of the record without suffix.
        read: As for `read_header`. Formats other than 16 are read again by `wfdb` afterwards.

    Returns:
        The signals as stored, under the names of the header.

    Raises:
        DataError: With one of the codes of `read_header`, `SIGNAL_MISSING`, `SIGNAL_LENGTH`,
            `SIGNAL_FORMAT` or `UNIT_SUSPECT`.
        IntegrityError: `PATH_ESCAPE`.
    """
    header = read_header(stem, read)
    _check_units(stem, header)
    for path in data_paths(stem, header):
        if not path.is_file():
            raise _refusal("SIGNAL_MISSING", path, "no such file", "the data file the header names")
    files = {(line.file, line.format, line.special) for line in header.signals}
    if len(files) == 1 and next(iter(files))[1:] == ("16", ""):
        return _read_format_16(stem, header, read)
    for path in data_paths(stem, header):
        read(path, DATA_MAX_BYTES)
    return _read_by_wfdb(stem, header)


def header_path(stem: Path) -> Path:
    """Name of the header; record names may hold dots, so no suffix is replaced."""
    return stem.parent / f"{stem.name}.hea"


def data_paths(stem: Path, header: Header) -> tuple[Path, ...]:
    """Name the data files of a record.

    Args:
        stem: Path of the record without suffix.
        header: Its header.

    Returns:
        Paths in the folder of the header, each once.
    """
    return tuple(stem.parent / name for name in dict.fromkeys(line.file for line in header.signals))


def write_record(
    stem: Path,
    leads: tuple[str, ...],
    mv: npt.NDArray[np.floating],
    rate_hz: float,
    comments: tuple[str, ...] = (),
) -> None:
    """Write a record in format 16 at 1000 units per mV; the bytes depend on the arguments alone.

    Args:
        stem: Path without suffix; its name may hold letters, digits, `-` and `_`.
        leads: Names of the signals.
        mv: (n_leads, n_samples) mV within +-32.767, NaN where there is no sample.
        rate_hz: Samples per second.
        comments: Lines for the end of the header.

    Raises:
        ValueError: For a name, shape or value the format cannot hold.
    """
    if not re.fullmatch(r"[-\w]+", stem.name, re.ASCII):
        raise ValueError(f"got the record name {stem.name!r}, wanted letters, digits, - and _")
    if mv.ndim != 2 or mv.shape[0] != len(leads):
        raise ValueError(f"got shape {mv.shape}, wanted ({len(leads)}, n_samples)")
    units = np.round(mv.astype(np.float64) * GAIN_PER_MV)
    if np.nanmax(np.abs(units), initial=0.0) > 32767:
        raise ValueError(f"got {np.nanmax(np.abs(mv)):.1f} mV, wanted at most 32.767")
    samples = np.where(np.isnan(units), NAN_16, units).astype("<i2")
    lines = [f"{stem.name} {len(leads)} {rate_hz:g} {mv.shape[1]}"]
    for lead, row in zip(leads, samples, strict=True):
        checksum = int(row.astype(np.int64).sum()) & 0xFFFF
        first = int(row[0]) if row.size else 0
        lines.append(f"{stem.name}.dat 16 {GAIN_PER_MV:g}(0)/mV 16 0 {first} {checksum} 0 {lead}")
    lines += [f"# {comment}" for comment in comments]
    # Data first: a header without data would be a broken record, data without header is none.
    write_atomic(stem.parent / f"{stem.name}.dat", np.ascontiguousarray(samples.T).tobytes())
    write_atomic(header_path(stem), ("\n".join(lines) + "\n").encode())


def _refusal(code: str, path: Path, got: str, wanted: str, remedy: str = "") -> DataError:
    return DataError(Problem(code, path.name, got, wanted, remedy))


def _signal_lines(path: Path, lines: list[str], n_signals: int) -> tuple[SignalLine, ...]:
    if len(lines) < n_signals:
        raise _refusal("SIGNAL_FORMAT", path, f"{len(lines)} signal lines", f"{n_signals}")
    return tuple(_signal_line(path, line) for line in lines[:n_signals])


def _signal_line(path: Path, line: str) -> SignalLine:
    match = _SIGNAL_LINE.fullmatch(line)
    if match is None:
        raise _refusal(
            "SIGNAL_FORMAT", path, repr(line[:60]), "file, format, gain(baseline)/units, ..., lead"
        )
    name = match["file"]
    if "/" in name or "\\" in name or name in ("..", "~") or ":" in name:
        wanted = "a file beside the header"
        raise IntegrityError(Problem("PATH_ESCAPE", path.name, repr(name), wanted, "edit the header"))
    return SignalLine(
        file=name,
        format=match["format"],
        special=match["special"],
        gain=float(match["gain"] or 0.0),
        baseline=int(match["baseline"] or match["zero"] or 0),
        units=match["units"] or "mV",
        lead=(match["lead"] or "").strip(),
    )


def _check_header(path: Path, header: Header) -> None:
    if not 1.0 <= header.rate_hz <= 100_000.0:
        raise _refusal("SIGNAL_RATE", path, f"{header.rate_hz:g} Hz", "1 to 100000 Hz")
    if not header.signals:
        raise _refusal("SIGNAL_EMPTY", path, "a record without signals", "12 leads of at least 10 s")
    n_values = (header.n_samples or 0) * len(header.signals)
    if n_values > MAX_VALUES:
        raise _refusal(
            "SIGNAL_TOO_LONG", path, f"{n_values} values", f"at most {MAX_VALUES}", "cut the record"
        )


def _check_units(stem: Path, header: Header) -> None:
    problems = []
    for line in header.signals:
        if line.units.lower() not in MV_PER_UNIT:
            problems.append(
                Problem("UNIT_SUSPECT", stem.name, f"lead {line.lead} in {line.units}", "mV or uV")
            )
        if not np.isfinite(line.gain) or line.gain == 0:
            got = f"lead {line.lead} with a gain of {line.gain:g}, that is, not calibrated"
            problems.append(
                Problem(
                    "UNIT_SUSPECT", stem.name, got, "units per mV above 0", "write the gain into the header"
                )
            )
    if problems:
        raise DataError(problems)


def _read_format_16(stem: Path, header: Header, read: Read) -> RawRecord:
    path = stem.parent / header.signals[0].file
    n_signals = len(header.signals)
    n_found = path.stat().st_size // (2 * n_signals)
    n_samples = n_found if header.n_samples is None else header.n_samples
    # Checked before anything is read: the header of a 1 kB file may claim gigabytes.
    if n_found < n_samples or n_found * n_signals > MAX_VALUES:
        raise _refusal(
            "SIGNAL_LENGTH", path, f"{n_found} samples per lead", f"{n_samples}, as its header says"
        )
    if n_samples == 0:
        raise _refusal("SIGNAL_EMPTY", path, "a record without samples", "12 leads of at least 10 s")
    content = read(path, DATA_MAX_BYTES)
    units = np.frombuffer(content, "<i2", count=n_samples * n_signals).reshape(n_samples, n_signals)
    units = np.ascontiguousarray(units.T)  # turned while small: everything below is five times as fast so
    scale = np.array([MV_PER_UNIT[line.units.lower()] / line.gain for line in header.signals])
    baseline = np.array([line.baseline for line in header.signals], dtype=np.float64)
    with np.errstate(over="ignore"):
        mv = ((units - baseline[:, None]) * scale[:, None]).astype(np.float32)
    mv[units == NAN_16] = np.nan
    return RawRecord(tuple(line.lead for line in header.signals), mv, header.rate_hz, header.comments)


def _read_by_wfdb(stem: Path, header: Header) -> RawRecord:
    import wfdb  # a second or two, and most cohorts never need it

    try:
        record = wfdb.rdrecord(str(stem))
        scale = np.array([MV_PER_UNIT[unit.lower()] for unit in record.units])
        mv = (record.p_signal * scale).T.astype(np.float32)
        leads = tuple(record.sig_name)
    except Exception as error:  # noqa: BLE001 (wfdb raises errors of any kind on damaged records)
        got = f"{type(error).__name__}: {error}"
        raise _refusal("SIGNAL_FORMAT", header_path(stem), got, "a readable WFDB record") from None
    if mv.shape[1] == 0:
        raise _refusal(
            "SIGNAL_EMPTY", header_path(stem), "a record without samples", "12 leads of at least 10 s"
        )
    return RawRecord(leads, mv, header.rate_hz, header.comments)
