"""P waves, QRS complexes and T waves as a person marked them: WFDB annotation files, one per lead.

The files lie beside the record with the lead as extension, as LUDB's do: `17.hea`, `17.dat`, `17.i`, `17.ii`,
`17.avr`, `17.v1`. A wave is an onset `(`, a peak (`p`, `t`, `u`, or any beat symbol such as `N` for a QRS
complex) and an end `)`. Everything else in such a file, notes and their text too, is left out: notes may
name people.

Read here and not through `wfdb`, because hashes are compared on the very bytes that are used, because a
damaged file has to give a refusal, and because a check of 20,000 scans has no second to lose on a lead.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError, Problem
from datamodules.files import read_bytes, write_atomic
from datamodules.layout import LEADS
from datamodules.wfdb_files import Header, Read, read_header

LEAD_OF_EXTENSION = {lead.lower(): lead for lead in LEADS}
MARKS_MAX_BYTES = 1024 * 1024
Kind = Literal["p", "qrs", "t"]

# Codes of the MIT format (WFDB Programmer's Guide, annotation codes); each word is code << 10 | interval.
_BEATS = "NLRaVFJASEj/Q"  # codes 1 to 13
_SYMBOL_OF_CODE = {
    **{code: symbol for code, symbol in enumerate(_BEATS, start=1)},
    **{25: "B", 30: "?", 34: "e", 35: "n", 38: "f", 41: "r"},  # further beats
    **{24: "p", 27: "t", 29: "u", 39: "(", 40: ")"},
}
_CODE_OF_SYMBOL = {symbol: code for code, symbol in _SYMBOL_OF_CODE.items()}
_OTHER_WAVES = "ptu"
_NOTE, _SKIP, _NUM, _SUB, _CHN, _AUX = 22, 59, 60, 61, 62, 63
_LAST_CODE = 49
_LONGEST_INTERVAL = 1023


@dataclass(frozen=True)
class LeadMarks:
    """What was marked in one lead.

    Attributes:
        times_s: (n,) float64 seconds from the start of the record, ascending.
        symbols: n symbols: `(`, `)`, `p`, `t`, `u`, or that of a beat.
    """

    times_s: npt.NDArray[np.float64]
    symbols: tuple[str, ...]

    def waves(self, kind: Kind) -> npt.NDArray[np.float64]:
        """Give the waves of one kind.

        Args:
            kind: `p`, `qrs` or `t`.

        Returns:
            (n, 3) seconds of onset, peak and end; NaN where a boundary was not marked.
        """
        found: list[tuple[float, float, float]] = []
        onset_s = peak_s = np.nan
        for time_s, symbol in [*zip(self.times_s.tolist(), self.symbols, strict=True), (np.nan, "(")]:
            if symbol == ")":
                found.append((onset_s, peak_s, time_s))
                onset_s = peak_s = np.nan
                continue
            if not np.isnan(peak_s):  # the wave before has no end
                found.append((onset_s, peak_s, np.nan))
                onset_s = peak_s = np.nan
            if symbol == "(":
                onset_s = time_s
            elif _kind_of(symbol) == kind:
                peak_s = time_s
            else:
                onset_s = np.nan
        sound = [wave for wave in found if not np.isnan(wave[1])]
        return np.array(sound, dtype=np.float64).reshape(-1, 3)


Marks = Mapping[str, LeadMarks]  # by lead; leads that nobody marked are not in it


def mark_files(folder: Path) -> dict[str, list[Path]]:
    """Find the annotation files of a folder, by name of their record; the extension in any case."""
    found: dict[str, list[Path]] = {}
    paths = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(path for path in paths if path.suffix[1:].lower() in LEAD_OF_EXTENSION):
        found.setdefault(path.stem, []).append(path)
    return found


def read_marks(stem: Path, files: Iterable[Path], read: Read = read_bytes) -> dict[str, LeadMarks]:
    """Read the annotation files of a record.

    Args:
        stem: Path of the record without suffix; its header says rate and length.
        files: Its annotation files, as `mark_files` finds them.
        read: How a file is read; whoever compares hashes does it here.

    Returns:
        Marks by lead.

    Raises:
        DataError: With every problem of all files: `ANNOTATION_FORMAT`, `ANNOTATION_EMPTY`,
            `ANNOTATION_OUT_OF_RANGE`, `ANNOTATION_TWICE`; or what `read` or the header refuses.
    """
    paths = list(files)
    if not paths:
        return {}
    header = read_header(stem, read)
    marks: dict[str, LeadMarks] = {}
    problems: list[Problem] = []
    for path in paths:
        lead = LEAD_OF_EXTENSION[path.suffix[1:].lower()]
        if lead in marks:
            problems.append(Problem("ANNOTATION_TWICE", path.name, f"lead {lead} again", "one file a lead"))
        try:
            marks[lead] = _decoded(read(path, MARKS_MAX_BYTES), header, path.name)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return marks


def write_marks(stem: Path, marks: Marks, rate_hz: float) -> None:
    """Write one annotation file per lead; the bytes depend on the arguments alone.

    Args:
        stem: Path of the record without suffix.
        marks: By lead.
        rate_hz: Samples per second of the record; times are rounded to its samples.
    """
    for lead, of_lead in marks.items():
        samples = np.rint(of_lead.times_s * rate_hz).astype(int).tolist()
        write_atomic(stem.parent / f"{stem.name}.{lead.lower()}", _encoded(samples, of_lead.symbols))


def cut_marks(marks: Marks, duration_s: float) -> dict[str, LeadMarks]:
    """Keep what was marked before a time; a lead without any mark left is left out.

    Args:
        marks: By lead.
        duration_s: Seconds from the start of the record.
    """
    shorter = {}
    for lead, of_lead in marks.items():
        n_marks = int(np.searchsorted(of_lead.times_s, duration_s))
        if n_marks:
            shorter[lead] = LeadMarks(of_lead.times_s[:n_marks], of_lead.symbols[:n_marks])
    return shorter


def _kind_of(symbol: str) -> str:
    return symbol if symbol in _OTHER_WAVES else "qrs"


def _decoded(content: bytes, header: Header, name: str) -> LeadMarks:
    try:
        samples, symbols, rate_hz = _words(content)
    except (struct.error, ValueError) as error:
        is_cut = isinstance(error, struct.error)
        got = f"{len(content)} bytes that end in the middle" if is_cut else str(error)
        wanted, remedy = "a WFDB annotation file in the MIT format", "write it again, or take it out"
        raise _refusal("ANNOTATION_FORMAT", name, got, wanted, remedy) from None
    if not symbols:
        wanted, remedy = "onsets, peaks and ends of waves", "take the file out if nobody marked this lead"
        raise _refusal("ANNOTATION_EMPTY", name, "no mark of a wave", wanted, remedy)
    times_s = np.array(samples, dtype=np.float64) / (rate_hz or header.rate_hz)
    duration_s = (header.n_samples or np.inf) / header.rate_hz
    if times_s.min() < 0 or times_s.max() > duration_s:
        outside_s = times_s.max() if times_s.max() > duration_s else times_s.min()
        wanted, remedy = f"marks from 0 to {duration_s:g} s", "is it another record's, or at another rate?"
        raise _refusal("ANNOTATION_OUT_OF_RANGE", name, f"a mark at {outside_s:.3f} s", wanted, remedy)
    order = np.argsort(times_s, kind="stable")
    return LeadMarks(times_s[order], tuple(symbols[place] for place in order))


def _refusal(code: str, name: str, got: str, wanted: str, remedy: str) -> DataError:
    return DataError(Problem(code, name, got, wanted, remedy))


def _words(content: bytes) -> tuple[list[int], list[str], float | None]:
    """Read the words of an annotation file: samples, symbols, and the rate if the file states its own."""
    samples: list[int] = []
    symbols: list[str] = []
    rate_hz, sample, at, code = None, 0, 0, 0
    while True:
        (word,) = struct.unpack_from("<H", content, at)  # a file that just stops raises here
        at, kind, value = at + 2, word >> 10, word & 0x3FF
        if word == 0:
            return samples, symbols, rate_hz
        if kind == _SKIP:  # a long interval: two words, the high one first
            high, low = struct.unpack_from("<hH", content, at)
            sample, at = sample + (high << 16) + low, at + 4
        elif kind == _AUX:
            text = content[at : at + value]
            at += value + value % 2
            resolution = re.match(rb"## time resolution: ([\d.]+)", text)
            if resolution and code == _NOTE:
                rate_hz = float(resolution[1])
        elif kind not in (_NUM, _SUB, _CHN):
            if kind > _LAST_CODE:  # this is some other file
                raise ValueError(f"a mark of unknown code {kind}")
            code, sample = kind, sample + value
            if kind in _SYMBOL_OF_CODE:
                samples.append(sample)
                symbols.append(_SYMBOL_OF_CODE[kind])


def _encoded(samples: Sequence[int], symbols: Sequence[str]) -> bytes:
    parts, before = [], 0
    for sample, symbol in zip(samples, symbols, strict=True):
        interval, before = sample - before, sample
        if interval > _LONGEST_INTERVAL:
            parts.append(struct.pack("<HhH", _SKIP << 10, interval >> 16, interval & 0xFFFF))
            interval = 0
        parts.append(struct.pack("<H", _CODE_OF_SYMBOL[symbol] << 10 | interval))
    return b"".join([*parts, b"\0\0"])
