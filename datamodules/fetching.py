"""Recordings from PhysioNet, verified and resumable: `inkbeat cohort fetch`.

Files are laid out as PhysioNet does for `wfdb`: RECORDS lists the records, SHA256SUMS.txt the hash of every
file. The `wfdb` package compares sizes only, so the few lines of download are here. A file has its final name
only after its hash was compared; what was begun waits as NAME.part and is continued.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from datamodules.cohort import inside
from datamodules.errors import ConfigError, DataError, IntegrityError, Problem
from datamodules.files import write_atomic
from datamodules.signals import patient_hash
from datamodules.wave_marks import LEAD_OF_EXTENSION

PHYSIONET = "https://physionet.org/files/"
TIMEOUT_S = 30.0
TRIES = 3
CHUNK_BYTES = 1 << 16
MAX_FILE_BYTES = 64 * 1024 * 1024
SUMS = "SHA256SUMS.txt"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A database on PhysioNet.

    Attributes:
        path: Database and version below the server's files.
        patients: Table with patient_id and filename_hr; empty where each record is another patient.
        credit: Licence, and whom to cite.
    """

    path: str
    patients: str
    credit: str


SOURCES = {
    "ptb-xl": Source(
        "ptb-xl/1.0.3/",
        "ptbxl_database.csv",
        "PTB-XL 1.0.3, CC BY 4.0. Wagner et al. 2020, doi:10.1038/s41597-020-0495-6.",
    ),
    "ludb": Source(
        "ludb/1.0.1/", "", "LUDB 1.0.1, ODC-By 1.0. Kalyakulina et al. 2020, doi:10.1109/ACCESS.2020.3029211."
    ),
}


def fetch(
    name: str,
    n_records: int,
    out: Path,
    *,
    server: str = PHYSIONET,
    on_progress: Progress | None = None,
) -> list[Path]:
    """Fetch records, each of another patient, so that no patient can get into two folds.

    Which ones depends on the patients alone: 100 records are among the 200 of another call, and what is there
    already is only hashed. Annotation of the waves, as LUDB has it, comes with the records.

    Args:
        name: One of `SOURCES`.
        n_records: How many; at most as many as there are patients.
        out: Folder for the records, ready for `inkbeat cohort make --signals`.
        server: Where the databases lie; http or https.
        on_progress: Called with (done, total) records.

    Returns:
        The records, without suffix.

    Raises:
        ConfigError: `SOURCE_UNKNOWN`, `SERVER_INVALID`, `RECORDS_TOO_FEW`.
        DataError: `DOWNLOAD_FAILED`; run it again to continue.
        IntegrityError: `SHA256_MISMATCH`, `SHA256_ABSENT`, `PATH_ESCAPE`.
    """
    if name not in SOURCES:
        raise ConfigError(Problem("SOURCE_UNKNOWN", "fetch", name, f"one of {', '.join(SOURCES)}"))
    if urllib.parse.urlsplit(server).scheme not in ("http", "https"):
        raise ConfigError(Problem("SERVER_INVALID", "fetch", server, "an http or https address"))
    source = SOURCES[name]
    base = urllib.parse.urljoin(server if server.endswith("/") else f"{server}/", source.path)
    sums = _sums(_download(base + SUMS).decode("utf-8", "replace"))
    records = _choose(base, source, sums, n_records)
    write_atomic(out / "CREDIT.txt", f"{source.credit}\n{base}\n".encode())
    for number, record in enumerate(records, start=1):
        marks = [name for lead in LEAD_OF_EXTENSION if (name := f"{record}.{lead}") in sums]
        for name in (f"{record}.hea", f"{record}.dat", *marks):
            _fetch_file(base, name, sums, out)
        if on_progress:
            on_progress(number, n_records)
    return [out / record for record in records]


def _choose(base: str, source: Source, sums: dict[str, str], n_records: int) -> list[str]:
    """The first records in the order of a fixed hash of their patients."""
    if source.patients:
        table = _download(base + source.patients)
        _compare(hashlib.sha256(table).hexdigest(), sums, source.patients)
        of_patient: dict[str, str] = {}
        for row in csv.DictReader(io.StringIO(table.decode())):
            of_patient.setdefault(str(row["patient_id"]), str(row["filename_hr"]))
    else:
        lines = _download(base + "RECORDS").decode("utf-8", "replace").split()
        of_patient = {record: record for record in lines}
    if n_records > len(of_patient):
        got, wanted = f"{n_records} records", f"at most {len(of_patient)}, one per patient"
        raise ConfigError(Problem("RECORDS_TOO_FEW", "fetch", got, wanted, "ask for fewer"))
    chosen = sorted(of_patient, key=lambda patient: (patient_hash(patient), patient))[:n_records]
    return [of_patient[patient] for patient in chosen]


def _sums(text: str) -> dict[str, str]:
    """Path to SHA-256."""
    matches = (re.fullmatch(r"([0-9a-f]{64})\s+\*?(.+)", line.strip()) for line in text.splitlines())
    return {match[2].removeprefix("./"): match[1] for match in matches if match}


def _compare(got: str, sums: dict[str, str], relative: str) -> None:
    if relative not in sums:
        raise IntegrityError(Problem("SHA256_ABSENT", relative, f"no line in {SUMS}", "the file's hash"))
    if got != sums[relative]:
        remedy = "run it again; if it stays, the server's file is damaged"
        raise IntegrityError(Problem("SHA256_MISMATCH", relative, got, sums[relative], remedy))


def _fetch_file(base: str, relative: str, sums: dict[str, str], out: Path) -> None:
    path = inside(out, relative, relative)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        _compare(hashlib.sha256(path.read_bytes()).hexdigest(), sums, relative)
        return
    part = path.with_name(f"{path.name}.part")
    _download(base + urllib.parse.quote(relative), part)
    try:
        _compare(hashlib.sha256(part.read_bytes()).hexdigest(), sums, relative)
    except IntegrityError:
        part.unlink()  # a damaged beginning would be continued for ever
        raise
    part.replace(path)


def _download(url: str, part: Path | None = None) -> bytes:
    """Read a file, to memory or appended to what `part` holds; tried again when the line breaks."""
    for attempt in range(1, TRIES + 1):
        try:
            return _read(url, part)
        except urllib.error.HTTPError as error:
            if error.code == 416 and part is not None:  # nothing is left to read
                return b""
            reason = f"HTTP {error.code}"
            if error.code < 500:
                break
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
        if attempt < TRIES:
            time.sleep(0.5 * attempt)
    raise DataError(Problem("DOWNLOAD_FAILED", url, reason, "the file", "run it again to continue"))


def _read(url: str, part: Path | None) -> bytes:
    begun = part.stat().st_size if part is not None and part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        wanted = int(answer.headers.get("Content-Length") or 0)
        if begun + wanted > MAX_FILE_BYTES:
            raise DataError(Problem("FILE_TOO_LARGE", url, f"{begun + wanted} bytes", f"{MAX_FILE_BYTES}"))
        if part is None:
            content: bytes = answer.read(MAX_FILE_BYTES)
            read = len(content)
        else:
            content, read = b"", 0
            # A server without ranges sends all of it again.
            with part.open("ab" if answer.status == 206 else "wb") as file:
                while chunk := answer.read(CHUNK_BYTES):
                    file.write(chunk)
                    read += len(chunk)
    if wanted and read < wanted:
        raise OSError(f"{read} of {wanted} bytes")
    return content
