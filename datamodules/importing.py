"""A folder of scans with equally named WFDB records becomes a cohort: `inkbeat cohort import`."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.cohort import MAX_ID_BYTES, Scan, write_cohort
from datamodules.errors import ConfigError, DataError, InkbeatError, Problem
from datamodules.files import write_atomic
from datamodules.page import read_image_bytes, read_page
from datamodules.signals import signal_problems, to_recording, write_recording
from datamodules.wave_marks import mark_files, read_marks
from datamodules.wfdb_files import read_record

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
MIN_SIGNAL_S = 2.5  # the shortest stretch a layout shows

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Imported:
    """What an import took over, and what it left out.

    Attributes:
        scans: Rows of the new cohort.
        problems: Why files were left out; `where` is the scan id.
    """

    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...]


def import_folder(
    folder: Path,
    out: Path,
    *,
    layout: str = "",
    px_per_s: float | None = None,
    px_per_mv: float | None = None,
    on_progress: Progress | None = None,
) -> Imported:
    """Make a cohort of every image that has a WFDB record of the same name beside it.

    Images are copied byte by byte. Records are read and written anew, 12 leads in order and in microvolts,
    with no comment but the patient's id, which comes from the header or is the record's name. Annotation
    files beside a record (NAME.i, NAME.ii, ...) keep their marks and lose their notes.

    Args:
        folder: Holds NAME.tif (or .tiff, .png, .jpg, .jpeg), NAME.hea and its data file.
        out: The cohort's folder; must not exist, or be empty.
        layout: Name of the layout of all scans; empty when not known.
        px_per_s: Scale of all scans, when known.
        px_per_mv: Scale of all scans, when known.
        on_progress: Called with (done, total) images.

    Returns:
        What was taken over and left out.

    Raises:
        ConfigError: `OUT_EXISTS`.
        DataError: `FOLDER_MISSING`; `COHORT_EMPTY` with all reasons, when nothing can be taken over.
    """
    if not folder.is_dir():
        raise DataError(Problem("FOLDER_MISSING", str(folder), "no such folder", "a folder with scans"))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        wanted, remedy = "a new folder", "move it or name another"
        raise ConfigError(Problem("OUT_EXISTS", str(out), "something there already", wanted, remedy))
    images, problems = _images(folder)
    marked = mark_files(folder)
    scans: list[Scan] = []
    building = out.parent / f".{out.name}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        for number, image in enumerate(images, start=1):
            try:
                marks = marked.get(image.stem, [])
                scans.append(_take_over(image, marks, building, layout, px_per_s, px_per_mv))
            except InkbeatError as error:
                problems += error.problems
            if on_progress:
                on_progress(number, len(images))
        if not scans:
            wanted = "scans with WFDB records of the same name"
            raise DataError([Problem("COHORT_EMPTY", str(folder), "nothing to take over", wanted), *problems])
        scales = {"px_per_s": px_per_s, "px_per_mv": px_per_mv}
        write_cohort(
            building,
            out.name,
            scans,
            licence="not stated; these are scans of patients",
            provenance="Imported by inkbeat cohort import.",
            defaults={name: value for name, value in scales.items() if value is not None},
        )
        building.replace(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Imported(tuple(scans), tuple(problems))


def _images(folder: Path) -> tuple[list[Path], list[Problem]]:
    """Images with a record beside them, and the problems of the other files."""
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            by_stem.setdefault(path.stem, []).append(path)
    records = {path.stem for path in folder.glob("*.hea")}
    problems = []
    images = []
    for stem, paths in by_stem.items():
        if len(paths) > 1:
            got = f"{len(paths)} images: {', '.join(path.name for path in paths)}"
            problems.append(Problem("ID_TWICE", stem, got, "one image a name", "rename, or take one out"))
        elif stem not in records:
            problems.append(
                Problem("SIGNAL_MISSING", stem, f"no {stem}.hea beside {paths[0].name}", "a WFDB record")
            )
        else:
            images.append(paths[0])
    for stem in sorted(records - by_stem.keys()):
        problems.append(Problem("IMAGE_MISSING", stem, "a record without image", "an image of the same name"))
    return images, problems


def _take_over(
    image: Path,
    mark_paths: list[Path],
    cohort: Path,
    layout: str,
    px_per_s: float | None,
    px_per_mv: float | None,
) -> Scan:
    scan_id = image.stem
    if not scan_id.isprintable() or len(scan_id.encode()) > MAX_ID_BYTES or scan_id[0] in "-.=+@~":
        wanted = f"1 to {MAX_ID_BYTES} printable bytes, not starting with - . = + @ ~"
        raise DataError(Problem("ID_INVALID", scan_id, "the file's name", wanted, "rename the file"))
    content = read_image_bytes(image, where=scan_id)
    read_page(content, where=scan_id)
    recording = to_recording(read_record(image.with_suffix("")), scan_id)
    found = signal_problems(recording.mv, recording.rate_hz, scan_id, MIN_SIGNAL_S)
    # A hospital's export may hold only the seconds that were printed.
    problems = [problem for problem in found if problem.code not in ("SIGNAL_GAP", "SIGNAL_NAN")]
    if problems:
        raise DataError(problems)
    recording = replace(recording, marks=read_marks(image.with_suffix(""), mark_paths))
    relative = f"images/{image.name}"
    write_atomic(cohort / relative, content)
    signal = f"signals/{scan_id}"
    (cohort / "signals").mkdir(parents=True, exist_ok=True)
    write_recording(cohort / signal, recording)
    return Scan(
        scan_id=scan_id,
        patient_id=recording.patient_id,
        image=relative,
        image_sha256=hashlib.sha256(content).hexdigest(),
        signal=signal,
        layout=layout,
        px_per_s=px_per_s,
        px_per_mv=px_per_mv,
    )
