"""Masks for the scans of a cohort that have none: `inkbeat cohort annotate`.

Every scan is its own piece of work, done in any process and in any order. What is found waits in the folder
`.annotate` of the cohort until all scans are through; then masks, geometry and tables are written, so an
interrupted run changes nothing and the next one takes up the scans that wait.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import io
import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.annotation.matching import Annotation, LeadMatch, annotate_page
from datamodules.cohort import (
    Cohort,
    Scan,
    geometry_path,
    inside,
    read_manifest,
    write_manifest_rows,
    write_scans,
)
from datamodules.colour_label import threshold_label
from datamodules.errors import ConfigError, DataError, IntegrityError, Problem
from datamodules.files import write_atomic
from datamodules.layout import Layout
from datamodules.page import write_mask_png

Method = Literal["template", "colour"]
Progress = Callable[[int, int, "Labelled"], None]

ANNOTATION_VERSION = 2  # changes whenever a page may be annotated differently
WAITING = ".annotate"
TABLE = "annotations.csv"
COLUMNS = (
    "scan_id", "method", "layout", "row", "lead", "start_s", "stop_s", "x_px", "y_px", "px_per_s",
    "px_per_mv", "time_scale", "amplitude_scale", "skew_deg", "stroke_px", "residual", "gap", "page_gap",
    "resolved", "reason",
)  # fmt: skip
SCANS_PER_PROCESS = 4
TRACE_COLOUR = (0, 150, 0)
PAPER_LIGHTNESS = 0.45  # of the ink in an overlay, so that the trace drawn over it shows


@dataclass(frozen=True)
class Labelled:
    """What became of one scan.

    Attributes:
        scan: Its row, with mask, layout and scales found; unchanged where no lead was resolved.
        rows: Of `annotations.csv`, one per stretch of lead.
        problems: Unresolved leads, or why the scan could not be read.
    """

    scan: Scan
    rows: tuple[dict[str, Any], ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Task:
    scan: Scan
    layouts: tuple[Layout, ...]
    method: Method
    overlays: Path | None
    key: str


def annotate_cohort(
    path: Path | str,
    *,
    layout: str | None = None,
    method: Method = "template",
    again: bool = False,
    overlays: Path | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> tuple[Labelled, ...]:
    """Draw the masks of a cohort's scans and enter them into its tables.

    Args:
        path: Folder of the cohort.
        layout: Name of the layout of scans whose row declares none; without it, all known ones are tried.
        method: `template` finds the digital signal on the page, `colour` takes the dark ink of a coloured
            page.
        again: Also scans that have a mask.
        overlays: Folder for one PNG per scan, the mask drawn over the page.
        workers: Processes; None takes one per core. The result does not depend on it.
        on_progress: Called with (done, total, scan) after each scan.

    Returns:
        What became of each scan without mask, in the order of the table.

    Raises:
        ConfigError: `LAYOUT_UNKNOWN`.
        DataError: If the tables cannot be read.
        IntegrityError: `PATH_ESCAPE`.
    """
    cohort = Cohort.open(path)
    tasks = _tasks(cohort, layout, method, again, overlays)
    labelled: list[Labelled] = []
    for one in _label_all(cohort, tasks, workers):
        labelled.append(one)
        if on_progress:
            on_progress(len(labelled), len(tasks), one)
    _enter(cohort, tasks, labelled)
    return tuple(labelled)


def overlay(ink: npt.NDArray[np.uint8], annotation: Annotation) -> npt.NDArray[np.uint8]:
    """Draw a mask over its page.

    Args:
        ink: (H, W) uint8 page, 255 = ink.
        annotation: What was found on it.

    Returns:
        (H, W, 3) uint8 RGB: the page pale, resolved traces green with name and gap, at 0 mV of their first
        sample a blue tick; unresolved leads in red where they would lie.
    """
    picture = _with_mask(ink, annotation.mask)
    for lead in annotation.leads:
        _name(picture, lead)
    return picture


def _tasks(
    cohort: Cohort, layout: str | None, method: Method, again: bool, overlays: Path | None
) -> list[_Task]:
    known = cohort.layouts
    wanted = {scan.layout for scan in cohort.scans if scan.layout} | ({layout} if layout else set())
    unknown = [
        Problem("LAYOUT_UNKNOWN", "layout", name, ", ".join(known), "add layouts/NAME.yaml to the cohort")
        for name in sorted(wanted - known.keys())
    ]
    if unknown:
        raise ConfigError(unknown)
    tasks = []
    for scan in cohort.scans:
        if scan.mask and not again:
            continue
        name = scan.layout or layout
        layouts = (known[name],) if name else tuple(known.values())
        tasks.append(_Task(scan, layouts, method, overlays, _key(cohort, scan, layouts, method, overlays)))
    return tasks


def _key(cohort: Cohort, scan: Scan, layouts: Sequence[Layout], method: Method, overlays: Path | None) -> str:
    """Hash of everything a scan's annotation depends on; files by size and time, nothing is read."""
    stats = []
    for relative in (scan.image, f"{scan.signal}.hea", f"{scan.signal}.dat"):
        file = inside(cohort.root, relative, scan.scan_id)
        stats.append((file.stat().st_size, file.stat().st_mtime_ns) if file.is_file() else None)
    parts = (ANNOTATION_VERSION, method, scan.page, scan.px_per_s, scan.px_per_mv, layouts, stats, overlays)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _label_all(cohort: Cohort, tasks: list[_Task], workers: int | None) -> Iterator[Labelled]:
    # Processes get the folder once, and single rows, not 20,000 of them each time.
    folder = dataclasses.replace(cohort, scans=())
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(tasks) // SCANS_PER_PROCESS))
    if workers <= 1:
        yield from (_label(folder, task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")  # never fork: the caller may hold threads
    with ProcessPoolExecutor(workers, context, _start_worker, (folder,)) as pool:
        pending = [pool.submit(_label_in_worker, task) for task in tasks]
        try:
            for future in pending:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


_folder: Cohort


def _start_worker(folder: Cohort) -> None:
    global _folder
    cv2.setNumThreads(1)  # the processes are the parallelism
    _folder = folder


def _label_in_worker(task: _Task) -> Labelled:
    return _label(_folder, task)


def _label(cohort: Cohort, task: _Task) -> Labelled:
    """Annotate one scan, or take what waits from an earlier run."""
    done = _read_waiting(cohort, task)
    if done is not None:
        return done
    try:
        find = _by_colour if task.method == "colour" else _by_template
        labelled, mask, geometry = find(cohort, task)
    except IntegrityError as error:
        return Labelled(task.scan, (), error.problems)
    except DataError as error:
        row = _row(task, None, resolved=0, reason=error.problems[0].code)
        return Labelled(task.scan, (row,), error.problems)
    is_found = bool(mask.any())
    waiting = {
        "key": task.key,
        "scan": vars(labelled.scan),
        "rows": labelled.rows,
        "problems": [vars(problem) for problem in labelled.problems],
        "is_found": is_found,
        "geometry": geometry,
    }
    if is_found:
        write_mask_png(_waiting(cohort, task.scan, "png"), mask)
    # The JSON comes last: with it, the result is whole.
    write_atomic(_waiting(cohort, task.scan, "json"), json.dumps(waiting).encode())
    return labelled


def _waiting(cohort: Cohort, scan: Scan, suffix: str) -> Path:
    """File that holds a result until all scans are through."""
    return cohort.root / WAITING / f"{scan.scan_id}.{suffix}"


def _read_waiting(cohort: Cohort, task: _Task) -> Labelled | None:
    waiting = _load_waiting(cohort, task)
    if waiting is None:
        return None
    problems = tuple(Problem(**problem) for problem in waiting["problems"])
    return Labelled(Scan(**waiting["scan"]), tuple(waiting["rows"]), problems)


def _load_waiting(cohort: Cohort, task: _Task) -> dict[str, Any] | None:
    file = _waiting(cohort, task.scan, "json")
    if not file.is_file():
        return None
    waiting: dict[str, Any] = json.loads(file.read_bytes())
    return waiting if waiting["key"] == task.key else None


def _by_template(cohort: Cohort, task: _Task) -> tuple[Labelled, npt.NDArray[np.uint8], str | None]:
    scan = task.scan
    if scan.px_per_s is None or scan.px_per_mv is None:
        wanted = "px_per_s and px_per_mv, right to 3 %"
        remedy = "measure the grid and write both into scans.csv, or into the defaults of cohort.yaml"
        raise DataError(Problem("SCALE_UNKNOWN", scan.scan_id, "no scale declared", wanted, remedy))
    ink = cohort.load_image(scan)
    recording = cohort.load_signal(scan)
    found = annotate_page(ink, recording, task.layouts, scan.px_per_s, scan.px_per_mv)
    if task.overlays is not None:
        _write_png(task.overlays / f"{scan.scan_id}.png", overlay(ink, found))
    rows = tuple(_template_row(task, found, lead) for lead in found.leads)
    labelled = Labelled(_with_findings(scan, found), rows, tuple(_problems(scan, found)))
    return labelled, found.mask, found.geometry.to_json() if found.geometry else None


def _by_colour(cohort: Cohort, task: _Task) -> tuple[Labelled, npt.NDArray[np.uint8], str | None]:
    scan = task.scan
    page = cohort.load_page(scan)
    if page.rgb is None:
        remedy = "inkbeat cohort annotate --method template"
        raise DataError(Problem("PAGE_WITHOUT_COLOUR", scan.scan_id, "a grey page", "a coloured one", remedy))
    mask = threshold_label(page.rgb)
    if not mask.any():
        got = "no dark trace"
        raise DataError(Problem("NO_WAVEFORM", scan.scan_id, got, "ink darker than the grid in every colour"))
    if task.overlays is not None:
        _write_png(task.overlays / f"{scan.scan_id}.png", _with_mask(page.ink, mask))
    row = _row(task, scan.layout, resolved=1, reason="")
    return Labelled(dataclasses.replace(scan, mask=f"masks/{scan.scan_id}.png"), (row,), ()), mask, None


def _with_findings(scan: Scan, found: Annotation) -> Scan:
    if found.geometry is None:
        return scan
    return dataclasses.replace(
        scan,
        mask=f"masks/{scan.scan_id}.png",
        layout=found.layout.name,
        px_per_s=round(found.geometry.scan_px_per_s, 4),
        px_per_mv=round(found.geometry.scan_px_per_mv, 4),
    )


def _problems(scan: Scan, found: Annotation) -> Iterator[Problem]:
    if found.geometry is None:
        reasons = collections.Counter(lead.reason for lead in found.leads)
        got = f"no lead of the signal resolved ({', '.join(reasons)})"
        remedy = "check that the signal belongs to this page, its layout and its scale"
        yield Problem("SCAN_UNRESOLVED", scan.scan_id, got, "a page that shows its signal", remedy)
        return
    for lead in found.unresolved:
        where = f"{lead.segment.lead} in row {lead.segment.row}, {lead.segment.start_s:g} s"
        got = f"{where}: {lead.reason}, gap {lead.gap:.2f}"
        yield Problem("LEAD_UNRESOLVED", scan.scan_id, got, "a unique match", "look at the overlay")


def _template_row(task: _Task, found: Annotation, lead: LeadMatch) -> dict[str, Any]:
    geometry = found.geometry
    return _row(
        task,
        found.layout.name,
        row=lead.segment.row,
        lead=lead.segment.lead,
        start_s=lead.segment.start_s,
        stop_s=lead.segment.stop_s,
        x_px=_rounded(lead.x_px, 2),
        y_px=_rounded(lead.y_px, 2),
        px_per_s=_rounded(geometry.scan_px_per_s, 4) if geometry else "",
        px_per_mv=_rounded(geometry.scan_px_per_mv, 4) if geometry else "",
        time_scale=_rounded(found.time_scale, 5),
        amplitude_scale=_rounded(found.amplitude_scale, 5),
        skew_deg=_rounded(math.degrees(math.asin(geometry.affine[1][0])), 4) if geometry else "",
        stroke_px=_rounded(found.stroke_px, 2),
        residual=_rounded(lead.residual, 4),
        gap=_rounded(lead.gap, 4),
        page_gap=_rounded(found.page_gap, 4),
        resolved=int(lead.is_resolved),
        reason=lead.reason,
    )


def _row(task: _Task, layout: str | None, **cells: Any) -> dict[str, Any]:
    known = {"scan_id": task.scan.scan_id, "method": task.method, "layout": layout or "", **cells}
    return {column: known.get(column, "") for column in COLUMNS}


def _rounded(value: float, digits: int) -> float | str:
    return round(value, digits) if math.isfinite(value) else ""


def _enter(cohort: Cohort, tasks: Sequence[_Task], labelled: Sequence[Labelled]) -> None:
    """Put what waits into its place, then write the tables that name it."""
    root = cohort.root
    manifest = read_manifest(root)
    written: dict[str, str] = {}
    for task, one in zip(tasks, labelled, strict=True):
        waiting = _load_waiting(cohort, task)
        if waiting is None or not waiting["is_found"] or one.scan.mask is None:
            continue
        files = {one.scan.mask: _waiting(cohort, task.scan, "png").read_bytes()}
        if waiting["geometry"]:
            files[geometry_path(task.scan.scan_id)] = waiting["geometry"].encode()
        for relative, content in files.items():
            write_atomic(inside(root, relative, task.scan.scan_id), content)
            written[relative] = hashlib.sha256(content).hexdigest()
    new = {one.scan.scan_id: one.scan for one in labelled}
    write_manifest_rows(root, manifest | written)
    _write_table(root, labelled)
    write_scans(root, [new.get(scan.scan_id, scan) for scan in cohort.scans])
    shutil.rmtree(root / WAITING, ignore_errors=True)


def _write_table(root: Path, labelled: Sequence[Labelled]) -> None:
    """Write `annotations.csv`; rows of other scans stay."""
    ours = {one.scan.scan_id for one in labelled}
    rows: list[dict[str, Any]] = []
    if (root / TABLE).is_file():
        with (root / TABLE).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("scan_id") not in ours]
    rows += [row for one in labelled for row in one.rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(root / TABLE, text.getvalue().encode())


def _with_mask(ink: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    pale = 255 - (ink * PAPER_LIGHTNESS).astype(np.uint8)
    picture = np.repeat(pale[..., None], 3, axis=2)
    picture[mask > 0] = TRACE_COLOUR
    return picture


def _name(picture: npt.NDArray[np.uint8], lead: LeadMatch) -> None:
    if not math.isfinite(lead.x_px):
        return
    x, y = round(lead.x_px), round(lead.y_px)
    colour = (30, 60, 220) if lead.is_resolved else (220, 0, 0)
    text = lead.segment.lead + ("" if lead.is_resolved else f" {lead.reason}")
    cv2.line(picture, (x, y - 12), (x, y + 12), colour, 1)
    cv2.putText(picture, text, (x + 3, y - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)


def _write_png(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    encoded, content = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise ValueError(f"got {rgb.shape} {rgb.dtype}, wanted an RGB picture")
    write_atomic(path, content.tobytes())


def exit_code(labelled: Sequence[Labelled]) -> int:
    """Judge a run: 0 when every lead is resolved, 4 if a file is not the one recorded, else 3.

    Args:
        labelled: What `annotate_cohort` returned.
    """
    problems = [problem for one in labelled for problem in one.problems]
    if any(problem.code in ("SHA256_MISMATCH", "PATH_ESCAPE") for problem in problems):
        return IntegrityError.exit_code
    return DataError.exit_code if problems else 0
