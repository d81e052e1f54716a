"""A cohort on disk: scans, their digital truth and masks, in one folder.

    COHORT/
      cohort.yaml   schema_version, name, licence, provenance,
                    defaults (px_per_s, px_per_mv, mm_per_s, mm_per_mv)
      scans.csv     scan_id, patient_id, image, image_sha256, signal, layout
                    [, mask, page, px_per_s, px_per_mv]
      images/  signals/  masks/  geometry/<scan_id>.json  layouts/*.yaml
      manifest.csv  path, sha256 of masks, signals, annotation and geometry
                    (by `inkbeat cohort check --fix-hashes`)

Waves that a person marked lie beside the signal, as WFDB annotation files with the lead as extension
(`signals/17.ii`, see `wave_marks`).

Opening reads the two tables and nothing else, so a cohort of 20,000 scans opens in a second. Every path is
held inside the folder before anything is read; every file with a recorded hash is compared with it when it is
loaded.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from datamodules.errors import DataError, InkbeatError, IntegrityError, Problem
from datamodules.files import as_text, read_bytes, read_text, write_atomic
from datamodules.geometry import Geometry
from datamodules.labels import require_visible
from datamodules.layout import Layout, known_layouts
from datamodules.page import Page, read_image_bytes, read_mask, read_page
from datamodules.signals import Recording, to_recording
from datamodules.wave_marks import Marks, mark_files, read_marks
from datamodules.wfdb_files import Read, data_paths, header_path, read_header, read_record
from datamodules.yaml_text import read_yaml_mapping

SCHEMA_VERSION = 1
REQUIRED_COLUMNS = ("scan_id", "patient_id", "image", "image_sha256", "signal", "layout")
OPTIONAL_COLUMNS = ("mask", "page", "px_per_s", "px_per_mv")
DEFAULTS = ("px_per_s", "px_per_mv", "mm_per_s", "mm_per_mv")
YAML_KEYS = ("schema_version", "name", "licence", "provenance", "defaults")
TABLE_MAX_BYTES = 128 * 1024 * 1024
GEOMETRY_MAX_BYTES = 1024 * 1024
MAX_ID_BYTES = 128
MAX_PAGE = 1000


@dataclass(frozen=True)
class Scan:
    """A row of `scans.csv`; paths are relative to the cohort's folder.

    Attributes:
        scan_id: Unique name, fit to be a file name.
        patient_id: Folds keep a patient together.
        image: Page image.
        image_sha256: Of the image file; empty until `inkbeat cohort check --fix-hashes` wrote it.
        signal: WFDB record without suffix; None when there is no digital truth.
        layout: Name of a layout; empty when not declared.
        mask: Mask of the waveform, if there is one.
        page: Page of a multi-page image, from 0; None for the only one.
        px_per_s: Pixels per second, from the row or the cohort's defaults; None when not declared.
        px_per_mv: Pixels per millivolt, likewise.
    """

    scan_id: str
    patient_id: str
    image: str
    image_sha256: str
    signal: str | None
    layout: str
    mask: str | None = None
    page: int | None = None
    px_per_s: float | None = None
    px_per_mv: float | None = None


@dataclass(frozen=True)
class Cohort:
    """An opened cohort.

    Attributes:
        root: Its folder.
        name: What reports call it.
        licence: Under which it may be passed on.
        provenance: Where it comes from; `text`, or what the generator wrote.
        defaults: Declared scales: px_per_s, px_per_mv, mm_per_s, mm_per_mv.
        scans: The rows, in the order of the table.
    """

    root: Path
    name: str
    licence: str
    provenance: dict[str, Any]
    defaults: dict[str, float]
    scans: tuple[Scan, ...] = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> Cohort:
        """Read and check the tables of a cohort; no image, signal or mask is opened.

        Args:
            path: Folder with `cohort.yaml` and `scans.csv`.

        Returns:
            The cohort.

        Raises:
            IntegrityError: `PATH_ESCAPE` for every path that leaves the folder.
            DataError: With every other problem of both tables.
        """
        root = Path(path)
        if not root.is_dir():
            wanted = "a folder with cohort.yaml and scans.csv"
            raise DataError(Problem("COHORT_MISSING", str(root), "no such folder", wanted, "check the path"))
        problems: list[Problem] = []
        description = _collect(problems, lambda: read_description(root), {})
        defaults = {key: float(value) for key, value in description.get("defaults", {}).items()}
        scans = _collect(problems, lambda: read_scans(root, defaults), ())
        escapes = [problem for problem in problems if problem.code == "PATH_ESCAPE"]
        if escapes:
            raise IntegrityError(escapes)
        if problems:
            raise DataError(problems)
        provenance = description.get("provenance", {})
        return cls(
            root=root,
            name=description["name"],
            licence=description.get("licence", ""),
            provenance=provenance if isinstance(provenance, dict) else {"text": provenance},
            defaults=defaults,
            scans=scans,
        )

    @cached_property
    def content_sha256(self) -> str:
        """Hash of the table and of all files it names; equal for a copy in another place.

        Image hashes come from the table and the others from the manifest; only files in neither are read.
        """
        digest = hashlib.sha256(json.dumps(self.defaults, sort_keys=True).encode())
        for scan in sorted(self.scans, key=lambda scan: scan.scan_id):
            hashes = [scan.image_sha256 or _file_sha256(self.root, scan.image)]
            hashes += [
                self._sha256.get(path) or _file_sha256(self.root, path) for path in self.files_of(scan)
            ]
            row = [str(value) for value in vars(scan).values()]
            digest.update("\0".join([*row, *hashes, ""]).encode())
        return digest.hexdigest()

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """Layouts by name: those that ship and those in the cohort's folder `layouts`, which win."""
        return known_layouts() | known_layouts(self.root / "layouts")

    def scan(self, scan_id: str) -> Scan:
        """Find a scan.

        Args:
            scan_id: Its id.

        Returns:
            The scan.

        Raises:
            DataError: `SCAN_UNKNOWN`.
        """
        for scan in self.scans:
            if scan.scan_id == scan_id:
                return scan
        raise DataError(
            Problem("SCAN_UNKNOWN", scan_id, "no such scan", f"one of the {len(self.scans)} scans")
        )

    def load_page(self, scan: Scan) -> Page:
        """Read the page of a scan, its hash compared with the table's.

        Args:
            scan: One of `scans`.

        Returns:
            The page.

        Raises:
            DataError: If the image cannot be used.
            IntegrityError: `SHA256_MISMATCH`, `PATH_ESCAPE`.
        """
        content = read_image_bytes(self._paths.inside(scan.image, scan.scan_id), where=scan.scan_id)
        if scan.image_sha256:
            _compare(hashlib.sha256(content).hexdigest(), scan.image_sha256, scan.scan_id, scan.image)
        return read_page(content, scan.page, where=scan.scan_id)

    def load_image(self, scan: Scan) -> npt.NDArray[np.uint8]:
        """Read the page of a scan as ink.

        Args:
            scan: One of `scans`.

        Returns:
            (H, W) uint8, 0 = paper, 255 = ink.

        Raises:
            DataError: As `load_page`.
            IntegrityError: As `load_page`.
        """
        return self.load_page(scan).ink

    def load_rgb(self, scan: Scan) -> npt.NDArray[np.uint8]:
        """Read the page of a scan in colour.

        Args:
            scan: One of `scans`.

        Returns:
            (H, W, 3) uint8, white = paper; a page without colour has three equal channels.

        Raises:
            DataError: As `load_page`.
            IntegrityError: As `load_page`.
        """
        page = self.load_page(scan)
        return page.rgb if page.rgb is not None else np.repeat(255 - page.ink[..., None], 3, axis=2)

    def load_mask(self, scan: Scan) -> npt.NDArray[np.uint8]:
        """Read the mask of a scan.

        Args:
            scan: One of `scans`.

        Returns:
            (H, W) uint8, 1 = waveform.

        Raises:
            DataError: `MASK_MISSING`, or if the file cannot be used.
            IntegrityError: `SHA256_MISMATCH`, `PATH_ESCAPE`.
        """
        require_visible(scan.scan_id, "mask")
        if scan.mask is None:
            remedy = "inkbeat cohort annotate"
            raise DataError(Problem("MASK_MISSING", scan.scan_id, "no mask in scans.csv", "a mask", remedy))
        content = read_image_bytes(self._paths.inside(scan.mask, scan.scan_id), where=scan.mask)
        self._compare_listed(scan, scan.mask, content)
        return read_mask(content, where=scan.mask)

    def load_signal(self, scan: Scan) -> Recording:
        """Read the digital truth of a scan.

        Args:
            scan: One of `scans`.

        Returns:
            12 leads in mV at the record's own rate, NaN where there is no sample.

        Raises:
            DataError: `SIGNAL_MISSING`, or if the record cannot be used.
            IntegrityError: `SHA256_MISMATCH`, `PATH_ESCAPE`.
        """
        require_visible(scan.scan_id, "signal")
        if scan.signal is None:
            raise DataError(
                Problem("SIGNAL_MISSING", scan.scan_id, "no signal in scans.csv", "a WFDB record")
            )

        recording = to_recording(read_record(self.root / scan.signal, self._reader(scan)), scan.scan_id)
        return Recording(scan.scan_id, scan.patient_id, recording.rate_hz, recording.mv)

    def load_marks(self, scan: Scan) -> Marks:
        """Read which waves of a scan's signal a person marked.

        Args:
            scan: One of `scans`.

        Returns:
            Marks by lead; empty where there is no annotation.

        Raises:
            DataError: With one of the codes of `read_marks`.
            IntegrityError: `SHA256_MISMATCH`, `PATH_ESCAPE`.
        """
        require_visible(scan.scan_id, "annotation")
        if scan.signal is None:
            return {}
        files = [self.root / path for path in self._marks_of_signal(scan.signal)]
        return read_marks(self.root / scan.signal, files, self._reader(scan))

    def _reader(self, scan: Scan) -> Read:
        """How a file of the scan is read: inside the folder, and compared with its recorded hash."""

        def read(path: Path, max_bytes: int) -> bytes:
            relative = path.relative_to(self.root).as_posix()
            content = read_bytes(self._paths.inside(relative, scan.scan_id), max_bytes)
            self._compare_listed(scan, relative, content)
            return content

        return read

    def load_geometry(self, scan: Scan) -> Geometry | None:
        """Read where a rendered or annotated scan has its leads.

        Args:
            scan: One of `scans`.

        Returns:
            The geometry, None when there is none.

        Raises:
            DataError: `GEOMETRY_INVALID`.
            IntegrityError: `SHA256_MISMATCH`, `PATH_ESCAPE`.
        """
        require_visible(scan.scan_id, "geometry")
        relative = geometry_path(scan.scan_id)
        path = self._paths.inside(relative, scan.scan_id)
        if not path.is_file():
            return None
        content = read_bytes(path, GEOMETRY_MAX_BYTES)
        self._compare_listed(scan, relative, content)
        return Geometry.from_json(as_text(content, relative), relative)

    def signal_files(self, scan: Scan) -> tuple[str, ...]:
        """Name the files of a scan's record: header and data, relative to the folder.

        Args:
            scan: One of `scans`.

        Returns:
            Paths, none when there is no signal.

        Raises:
            DataError: If the header cannot be read.
            IntegrityError: `PATH_ESCAPE`, also if the header names a file elsewhere.
        """
        if scan.signal is None:
            return ()
        stem = self.root / scan.signal
        self._paths.inside(f"{scan.signal}.hea", scan.scan_id)
        paths = (header_path(stem), *data_paths(stem, read_header(stem)))
        relative = tuple(path.relative_to(self.root).as_posix() for path in paths)
        for path in relative:
            self._paths.inside(path, scan.scan_id)
        return relative

    def files_of(self, scan: Scan) -> tuple[str, ...]:
        """Name the files of a scan besides its image that exist: signal, annotation, mask, geometry.

        Args:
            scan: One of `scans`.

        Returns:
            Paths relative to the folder.

        Raises:
            IntegrityError: `PATH_ESCAPE`.
        """
        signal: tuple[str, ...] = (f"{scan.signal}.hea", f"{scan.signal}.dat")
        if not all(path in self._sha256 for path in signal):
            try:
                signal = self.signal_files(scan)
            except DataError:  # told when the signal is loaded
                signal = ()
        marks = self._marks_of_signal(scan.signal) if scan.signal else ()
        others = (*marks, scan.mask, geometry_path(scan.scan_id))
        return tuple(
            path for path in (*signal, *others) if path and self._paths.inside(path, scan.scan_id).is_file()
        )

    def _marks_of_signal(self, signal: str) -> tuple[str, ...]:
        """Name the annotation files of a record, relative to the folder."""
        folder, _, name = signal.rpartition("/")
        if folder not in self._mark_files:
            # One look into the folder instead of twelve for each of 20,000 records.
            self._mark_files[folder] = mark_files(self.root / folder)
        found = self._mark_files[folder].get(name, ())
        return tuple(path.relative_to(self.root).as_posix() for path in found)

    @cached_property
    def _mark_files(self) -> dict[str, dict[str, list[Path]]]:
        return {}

    @cached_property
    def _paths(self) -> _PathChecker:
        return _PathChecker(self.root)

    @cached_property
    def _sha256(self) -> dict[str, str]:
        return read_manifest(self.root)

    def _compare_listed(self, scan: Scan, path: str, content: bytes) -> None:
        if path in self._sha256:
            _compare(hashlib.sha256(content).hexdigest(), self._sha256[path], scan.scan_id, path)


def inside(root: Path, relative: str, where: str) -> Path:
    """Make a path from a table safe to open.

    Args:
        root: Folder it has to stay in.
        relative: As written in the table.
        where: Scan id for the problem.

    Returns:
        The path below `root`.

    Raises:
        IntegrityError: `PATH_ESCAPE` for absolute paths, drive letters, `..`, URLs, and links that lead out.
    """
    return _PathChecker(root).inside(relative, where)


def geometry_path(scan_id: str) -> str:
    """Where the geometry of a scan lies, relative to the cohort's folder."""
    return f"geometry/{scan_id}.json"


def read_description(root: Path) -> dict[str, Any]:
    """Read and check `cohort.yaml`.

    Args:
        root: Folder of the cohort.

    Returns:
        Its fields.

    Raises:
        DataError: With every problem of the file.
    """
    fields = read_yaml_mapping(root / "cohort.yaml")
    version = fields.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        wanted = f"at most {SCHEMA_VERSION}"
        raise DataError(
            Problem("SCHEMA_NEWER", "cohort.yaml", f"schema_version {version}", wanted, "update Inkbeat")
        )
    problems = [
        Problem("COHORT_INVALID", "cohort.yaml", *problem) for problem in _description_problems(fields)
    ]
    if problems:
        raise DataError(problems)
    return fields


def read_scans(root: Path, defaults: dict[str, float]) -> tuple[Scan, ...]:
    """Read and check `scans.csv`.

    Args:
        root: Folder of the cohort.
        defaults: Scales for rows without their own.

    Returns:
        The rows.

    Raises:
        DataError: With every problem of the table; `PATH_ESCAPE` is among them.
    """
    scans, problems = parse_scans(root, defaults)
    if problems:
        raise DataError(problems)
    return scans


def parse_scans(
    root: Path, defaults: dict[str, float], *, needs_hashes: bool = True
) -> tuple[tuple[Scan, ...], list[Problem]]:
    """Read `scans.csv`: UTF-8 or UTF-16, with or without byte order mark, `,` or `;` or tab.

    Args:
        root: Folder of the cohort.
        defaults: Scales for rows without their own.
        needs_hashes: Whether the column `image_sha256` must be there.

    Returns:
        The sound rows, and the problems of the others.

    Raises:
        DataError: If the table as a whole cannot be read, or a column is missing or unknown.
    """
    header, rows = _table(root / "scans.csv")
    problems = _header_problems(header, needs_hashes)
    if problems:
        raise DataError(problems)
    scans: list[Scan] = []
    checker = _PathChecker(root)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            got, wanted = f"{len(row)} cells", f"{len(header)}, one per column"
            problems.append(Problem("ROW_INVALID", f"scans.csv row {number}", got, wanted))
            continue
        cells = {column: cell.strip() for column, cell in zip(header, row, strict=True)}
        bad = _row_problems(cells, f"scans.csv row {number}", checker)
        problems += bad
        if not bad:
            scans.append(_scan(cells, defaults))
    problems += _duplicate_problems(scans)
    if not rows:
        problems.append(Problem("COHORT_EMPTY", "scans.csv", "no rows", "at least one scan"))
    return tuple(scans), problems


def write_cohort(
    root: Path,
    name: str,
    scans: Sequence[Scan],
    *,
    licence: str,
    provenance: str | dict[str, Any],
    defaults: dict[str, float],
) -> None:
    """Write the tables of a cohort whose files lie in place already.

    Args:
        root: Its folder.
        name: What reports call it.
        scans: The rows.
        licence: Under which it may be passed on.
        provenance: Where it comes from, in words or as a mapping.
        defaults: px_per_s, px_per_mv, mm_per_s, mm_per_mv as far as known.
    """
    write_scans(root, scans)
    write_manifest(root, scans)
    description = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "licence": licence,
        "provenance": provenance,
        "defaults": defaults,
    }
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    write_atomic(root / "cohort.yaml", text.encode())


def write_scans(root: Path, scans: Sequence[Scan]) -> None:
    """Write `scans.csv`.

    Args:
        root: Folder of the cohort.
        scans: The rows; scales are written into each.
    """
    rows = [["" if value is None else str(value) for value in vars(scan).values()] for scan in scans]
    write_atomic(root / "scans.csv", _csv([*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS], rows))


def write_manifest(root: Path, scans: Sequence[Scan]) -> None:
    """Write `manifest.csv`: the hashes of all masks, signals, annotation files and geometries.

    Whoever changes one of these files writes the manifest again, or the change is refused as damage.

    Args:
        root: Folder of the cohort.
        scans: The rows.

    Raises:
        IntegrityError: `PATH_ESCAPE`.
    """
    cohort = Cohort(root, "", "", {}, {}, tuple(scans))
    paths = {path for scan in scans for path in cohort.files_of(scan)}
    write_manifest_rows(root, {path: _file_sha256(root, path) for path in paths})


def read_manifest(root: Path) -> dict[str, str]:
    """Read `manifest.csv`.

    Args:
        root: Folder of the cohort.

    Returns:
        Path to SHA-256; empty when there is no manifest.

    Raises:
        DataError: `MANIFEST_INVALID`.
    """
    path = root / "manifest.csv"
    if not path.is_file():
        return {}
    rows = list(csv.reader(io.StringIO(read_text(path, TABLE_MAX_BYTES), newline="")))
    if not rows or rows[0] != ["path", "sha256"] or any(len(row) != 2 for row in rows):
        wanted, remedy = "two columns, path and sha256", "inkbeat cohort check --fix-hashes"
        raise DataError(Problem("MANIFEST_INVALID", path.name, "another table", wanted, remedy))
    return {path: sha256 for path, sha256 in rows[1:]}


def write_manifest_rows(root: Path, sha256_of: dict[str, str]) -> None:
    """Write `manifest.csv` with the rows given.

    Args:
        root: Folder of the cohort.
        sha256_of: Path to SHA-256.
    """
    write_atomic(root / "manifest.csv", _csv(["path", "sha256"], sorted(sha256_of.items())))


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _collect(problems: list[Problem], read: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return read()
    except InkbeatError as error:
        problems.extend(error.problems)
        return otherwise


def _compare(got: str, wanted: str, where: str, path: str) -> None:
    if got != wanted.lower():
        remedy = "restore the file; if the change is meant, delete its hash and run cohort check --fix-hashes"
        raise IntegrityError(Problem("SHA256_MISMATCH", where, f"{path} with {got}", wanted, remedy))


def _file_sha256(root: Path, relative: str) -> str:
    """Hash a file that `inside` has passed; a missing one has the hash of nothing, which no file has."""
    path = root / relative
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def _description_problems(fields: dict[str, Any]) -> list[tuple[str, str]]:
    problems = [(f"the key {key}", ", ".join(YAML_KEYS)) for key in fields.keys() - set(YAML_KEYS)]
    if fields.get("schema_version") != SCHEMA_VERSION:
        problems.append((f"schema_version {fields.get('schema_version')!r}", str(SCHEMA_VERSION)))
    name = fields.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable():
        problems.append((f"name {name!r:.80}", "a text of 1 to 200 printable characters"))
    if not isinstance(fields.get("licence", ""), str):
        problems.append((f"licence {fields['licence']!r:.80}", "a text"))
    if not isinstance(fields.get("provenance", ""), str | dict):
        problems.append((f"provenance {fields['provenance']!r:.80}", "a text or a mapping"))
    defaults = fields.get("defaults", {})
    if not isinstance(defaults, dict):
        return [*problems, (f"defaults {defaults!r:.80}", "a mapping of " + ", ".join(DEFAULTS))]
    for key, value in defaults.items():
        if key not in DEFAULTS:
            problems.append((f"defaults.{key}", ", ".join(DEFAULTS)))
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e5:
            problems.append((f"defaults.{key} {value!r:.80}", "a number above 0"))
    return problems


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    text = read_text(path, TABLE_MAX_BYTES)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row
        ]
    except csv.Error as error:
        raise DataError(
            Problem("TABLE_INVALID", path.name, str(error), "CSV with one line per scan")
        ) from None
    if not rows:
        raise DataError(Problem("TABLE_INVALID", path.name, "no header", ",".join(REQUIRED_COLUMNS)))
    return [column.strip() for column in rows[0]], rows[1:]


def _header_problems(header: list[str], needs_hashes: bool) -> list[Problem]:
    required = [column for column in REQUIRED_COLUMNS if needs_hashes or column != "image_sha256"]
    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    problems = []
    for column in required:
        if column not in header:
            remedy = "inkbeat cohort check --fix-hashes" if column == "image_sha256" else "add the column"
            problems.append(Problem("COLUMN_MISSING", "scans.csv", f"no column {column}", column, remedy))
    for column in dict.fromkeys(header):
        if column not in known:
            remedy = "rename it, or take it out: tables of a cohort hold nothing else about patients"
            problems.append(Problem("COLUMN_UNKNOWN", "scans.csv", repr(column), ", ".join(known), remedy))
        if header.count(column) > 1:
            problems.append(Problem("COLUMN_TWICE", "scans.csv", f"{column} twice", "each column once"))
    return problems


def _row_problems(cells: dict[str, str], where: str, checker: _PathChecker) -> list[Problem]:
    """Collect what is wrong with a row; `where` becomes the scan id once that is known to be sound."""
    id_problem = _id_problem(cells["scan_id"])
    if id_problem:
        return [Problem("ID_INVALID", where, *id_problem)]
    where = cells["scan_id"]
    problems = []
    patient = cells["patient_id"]
    if (
        not patient
        or not patient.isprintable()
        or len(patient.encode()) > MAX_ID_BYTES
        or patient[0] in "=+@"
    ):
        wanted = f"1 to {MAX_ID_BYTES} bytes, printable, no formula"
        problems.append(Problem("PATIENT_INVALID", where, f"patient_id {patient!r:.60}", wanted))
    if not cells["image"]:
        problems.append(Problem("IMAGE_MISSING", where, "no image", "a path inside the cohort's folder"))
    sha256 = cells.get("image_sha256", "")
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        problems.append(
            Problem("SHA256_INVALID", where, repr(sha256[:70]), "64 hexadecimal digits, or nothing")
        )
    for column in ("image", "signal", "mask"):
        if cells.get(column) and checker.escapes(cells[column], column):
            wanted = "a path inside the cohort's folder"
            problems.append(Problem("PATH_ESCAPE", where, f"{column} {cells[column]!r:.120}", wanted))
    if cells.get("page") and not (
        re.fullmatch(r"[0-9]{1,4}", cells["page"]) and int(cells["page"]) <= MAX_PAGE
    ):
        problems.append(Problem("PAGE_INVALID", where, f"page {cells['page']!r:.20}", f"0 to {MAX_PAGE}"))
    for column in ("px_per_s", "px_per_mv"):
        if cells.get(column) and _positive(cells[column]) is None:
            got = f"{column} {cells[column]!r:.40}"
            problems.append(Problem("SCALE_INVALID", where, got, "a number above 0, with a point"))
    return problems


def _id_problem(scan_id: str) -> tuple[str, str] | None:
    """Ids name files and stand in tables: no separator, no control character, no formula, no hidden file."""
    sound = scan_id and scan_id.isprintable() and len(scan_id.encode()) <= MAX_ID_BYTES
    if sound and not re.search(r'[/\\:*?"<>|]', scan_id) and scan_id[0] not in "-.=+@~":
        return None
    wanted = f'1 to {MAX_ID_BYTES} bytes, printable, none of /\\:*?"<>|, not starting with - . = + @ ~'
    return f"scan_id {scan_id!r:.80}", wanted


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < 1e5 else None


def _scan(cells: dict[str, str], defaults: dict[str, float]) -> Scan:
    return Scan(
        scan_id=cells["scan_id"],
        patient_id=cells["patient_id"],
        image=cells["image"],
        image_sha256=cells.get("image_sha256", "").lower(),
        signal=cells["signal"].removesuffix(".hea") or None,
        layout=cells["layout"],
        mask=cells.get("mask") or None,
        page=int(cells["page"]) if cells.get("page") else None,
        px_per_s=_positive(cells.get("px_per_s", "")) or defaults.get("px_per_s"),
        px_per_mv=_positive(cells.get("px_per_mv", "")) or defaults.get("px_per_mv"),
    )


def _duplicate_problems(scans: Sequence[Scan]) -> list[Problem]:
    problems = []
    ids: set[str] = set()
    pages: dict[tuple[str, int | None], str] = {}
    for scan in scans:
        # Ids name files, and some file systems know no upper case.
        if scan.scan_id.casefold() in ids:
            problems.append(Problem("ID_TWICE", scan.scan_id, "the same scan_id again", "each id once"))
        ids.add(scan.scan_id.casefold())
        other = pages.setdefault((os.path.normpath(scan.image), scan.page), scan.scan_id)
        if other != scan.scan_id:
            got = f"the image of {other}, {scan.image}"
            problems.append(Problem("IMAGE_TWICE", scan.scan_id, got, "each page under one id"))
    return problems


def _looks_outside(relative: str) -> bool:
    """Judge a path by its text alone, for any operating system."""
    return (
        relative.startswith(("/", "\\", "~"))
        or any(part == ".." for part in re.split(r"[/\\]", relative))
        or re.search(r"[\\:#?*\x00-\x1f]", relative) is not None
    )


def _leads_outside(root: Path, path: Path) -> bool:
    """Follow links; text, since a `Path` takes five times as long and a scan has ten files."""
    real_root, real = os.path.realpath(root), os.path.realpath(path)
    return real != real_root and not real.startswith(real_root.rstrip(os.sep) + os.sep)


class _PathChecker:
    """Holds paths inside a folder; each folder below is resolved once, and a file only if it is a link."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, bool] = {}

    def inside(self, relative: str, where: str) -> Path:
        """As the function `inside`."""
        if self._leads_out(relative):
            remedy = "copy the file into the cohort and write its path from there"
            raise IntegrityError(
                Problem("PATH_ESCAPE", where, repr(relative), "a path inside the cohort's folder", remedy)
            )
        return self._root / relative

    def escapes(self, relative: str, column: str) -> bool:
        """Judge a cell of the table; a signal stands for two files."""
        names = (relative, f"{relative}.hea", f"{relative}.dat") if column == "signal" else (relative,)
        return any(self._leads_out(name) for name in names)

    def _leads_out(self, relative: str) -> bool:
        if _looks_outside(relative):
            return True
        folder = os.path.dirname(relative)  # noqa: PTH120 (a Path for each of 60,000 cells takes a second)
        if folder not in self._folders:
            self._folders[folder] = _leads_outside(self._root, self._root / folder)
        return self._folders[folder] or (
            os.path.islink(f"{self._root}/{relative}")  # noqa: PTH114
            and _leads_outside(self._root, self._root / relative)
        )
