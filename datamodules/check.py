"""Look a cohort over before anything is trained on it: `inkbeat cohort check`.

One pass reads every page, mask and signal once and keeps a few hundred bytes of each; what several scans must
not share (a page, a signal, a patient across folds; PROTOCOL E2, E3, F28) is judged on those. All findings
come in one report: problems, which reject a scan, and notes, which do not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.cohort import (
    Cohort,
    Scan,
    inside,
    parse_scans,
    read_description,
    read_manifest,
    write_manifest_rows,
    write_scans,
)
from datamodules.errors import DataError, InkbeatError, IntegrityError, Problem
from datamodules.layout import LEADS, Layout
from datamodules.page import Page, read_image_bytes
from datamodules.signals import MIN_DURATION_S, Recording, signal_problems

INTEGRITY_CODES = {"PATH_ESCAPE", "SHA256_MISMATCH", "SHA256_ABSENT", "PATIENT_IN_TWO_FOLDS"}
SCALE_TOLERANCE = 0.02  # measured against declared
ASPECT_TOLERANCE = 0.15  # real prints differ by 4 % between their axes, a wrong paper speed by 100 %
MIN_INK_SHARE = 0.001  # a trace of one pixel is 1 % of a page
PAGE_BITS = 512
# Share of bits in which two pictures of one page differ at most. Measured on rendered pages: the same page
# turned by 0.4 degrees, shifted, blurred and thresholded anew 0.18 at most, other pages 0.36 at least.
NEAR_PAGE_SHARE = 0.25
SCANS_PER_TASK = 64
# Pages take a megabyte each. By default glibc returns such memory at once and gets it again page by page, a
# fifth of a check's time; every worker keeps a little instead.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": f"{256 << 20}", "MALLOC_MMAP_THRESHOLD_": f"{64 << 20}"}

Progress = Callable[[int, int], None]
FoldOfScan = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class ScanFacts:
    """What a look at one scan left.

    Attributes:
        scan_id: The scan.
        patient_id: Its patient.
        problems: What rejects it.
        notes: What a user may want to know.
        page_sha256: Of the pixels, whatever the file format; empty when unreadable or blank.
        page_bits: 512 bits that hardly change when a page is scanned again; empty like `page_sha256`.
        signal_sha256: Of the microvolts, whatever the file format; empty when there is no sound signal.
    """

    scan_id: str
    patient_id: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    page_sha256: str = ""
    page_bits: bytes = b""
    signal_sha256: str = ""


@dataclass(frozen=True)
class CheckReport:
    """Everything found.

    Attributes:
        n_scans: Sound rows of the table.
        problems: What has to be put right; `where` is a scan id, or a file of the cohort.
        notes: What may stay.
        facts: Of every scan, in the order of the table.
    """

    n_scans: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()
    facts: tuple[ScanFacts, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 without problems, 4 if content or its integrity is in doubt, else 3."""
        if not self.problems:
            return 0
        is_integrity = any(problem.code in INTEGRITY_CODES for problem in self.problems)
        return IntegrityError.exit_code if is_integrity else DataError.exit_code

    @property
    def rejects(self) -> list[dict[str, str]]:
        """One row per problem for a table: id, code, reason, wanted, remedy."""
        return [
            {"id": problem.where, "code": problem.code, "reason": problem.got, "wanted": problem.wanted,
             "remedy": problem.remedy}
            for problem in self.problems
        ]  # fmt: skip


def check_cohort(
    path: Path | str,
    *,
    fold_of_scan: FoldOfScan | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> CheckReport:
    """Look over a whole cohort; nothing is raised, nothing is written.

    Args:
        path: Its folder.
        fold_of_scan: (n_scans,) folds in the order of the table, if there are any to check.
        workers: Processes; None decides by the number of scans. The report does not depend on it.
        on_progress: Called with (done, total) scans.

    Returns:
        All findings. If a path leaves the folder, that is the only finding, and no file was read.
    """
    root = Path(path)
    problems: list[Problem] = []
    defaults, scans = _tables(root, problems)
    if any(problem.code == "PATH_ESCAPE" for problem in problems) or not scans:
        escapes = [problem for problem in problems if problem.code == "PATH_ESCAPE"]
        return CheckReport(len(scans), tuple(escapes or problems))
    cohort = Cohort(root, root.name, "", {}, defaults, scans)
    layouts = _layouts(cohort, problems)
    problems += _default_scale_problems(defaults)
    facts = []
    for fact in _facts_of_all(cohort, layouts, workers):
        facts.append(fact)
        if on_progress:
            on_progress(len(facts), len(scans))
    problems += [problem for fact in facts for problem in fact.problems]
    problems += page_problems(facts) + shared_signal_problems(facts)
    if fold_of_scan is not None:
        problems += fold_problems(scans, fold_of_scan)
    notes = [note for fact in facts for note in fact.notes]
    return CheckReport(len(scans), tuple(problems), tuple(notes), tuple(facts))


def check_scan(cohort: Cohort, scan: Scan, layouts: dict[str, Layout]) -> ScanFacts:
    """Read everything of one scan.

    Args:
        cohort: The cohort.
        scan: One of its scans.
        layouts: Known layouts by name.

    Returns:
        What was found.
    """
    problems: list[Problem] = []
    notes: list[Problem] = []
    layout = layouts.get(scan.layout)
    if scan.layout and layout is None:
        known = ", ".join(layouts)
        problems.append(Problem("LAYOUT_UNKNOWN", scan.scan_id, scan.layout, known, "add layouts/NAME.yaml"))
    elif not scan.layout:
        notes.append(
            Problem("LAYOUT_ABSENT", scan.scan_id, "no layout", "", "inkbeat cohort annotate finds it")
        )
    if not scan.image_sha256:
        remedy = "inkbeat cohort check --fix-hashes"
        problems.append(Problem("SHA256_ABSENT", scan.scan_id, "no image_sha256", "the image's hash", remedy))
    page = _attempt(problems, lambda: cohort.load_page(scan))
    facts = ScanFacts(scan.scan_id, scan.patient_id)
    if page is not None:
        facts = _page_facts(facts, page, problems, notes)
        _check_mask(cohort, scan, page, problems, notes)
        _check_scale(cohort, scan, page, layout, problems)
    recording = _attempt(problems, lambda: cohort.load_signal(scan)) if scan.signal else None
    if recording is not None:
        facts = dataclasses.replace(facts, signal_sha256=_check_signal(recording, layout, problems))
    elif not scan.signal:
        notes.append(Problem("SIGNAL_ABSENT", scan.scan_id, "no digital truth"))
    marks = _attempt(problems, lambda: cohort.load_marks(scan)) if recording is not None else None
    if marks:
        notes.append(Problem("HUMAN_ANNOTATION", scan.scan_id, f"waves marked in {len(marks)} leads"))
    named = tuple(_under_id(problem, scan.scan_id) for problem in problems)
    return dataclasses.replace(facts, problems=named, notes=tuple(notes))


def page_problems(facts: Sequence[ScanFacts]) -> list[Problem]:
    """Find pages that occur twice.

    Args:
        facts: Of all scans.

    Returns:
        `PAGE_TWICE` for equal pixels under two ids, `PAGE_NEARLY_TWICE` for pictures of one page under two
        patients; the later scan is named.
    """
    problems = []
    for first, second in _pairs(facts, lambda fact: fact.page_sha256):
        whose = "the same patient" if first.patient_id == second.patient_id else "another patient"
        got = f"the page of {first.scan_id}, of {whose}"
        problems.append(
            Problem("PAGE_TWICE", second.scan_id, got, "each page once", "take one of the two out")
        )
    for first, second in _near_pairs(facts):
        got = f"nearly the page of {first.scan_id}, of another patient"
        remedy = "look at both; take one out, or give them one patient_id"
        problems.append(
            Problem("PAGE_NEARLY_TWICE", second.scan_id, got, "each page under one patient", remedy)
        )
    return problems


def shared_signal_problems(facts: Sequence[ScanFacts]) -> list[Problem]:
    """Find signals that two patients share.

    Args:
        facts: Of all scans.

    Returns:
        `SIGNAL_OF_TWO_PATIENTS`; the later scan is named. Scans of one patient may share a signal.
    """
    return [
        Problem(
            "SIGNAL_OF_TWO_PATIENTS",
            second.scan_id,
            f"the signal of {first.scan_id}, patient {first.patient_id}",
            "each signal under one patient",
            "correct the signal, or give both scans one patient_id",
        )
        for first, second in _pairs(facts, lambda fact: fact.signal_sha256)
        if first.patient_id != second.patient_id
    ]


def shared_between(ours: Sequence[ScanFacts], theirs: Sequence[ScanFacts], name: str) -> list[Problem]:
    """Find what two cohorts share that must be disjoint, such as training and test cohorts (E3).

    Args:
        ours: Facts of one cohort.
        theirs: Facts of the other.
        name: What to call the other.

    Returns:
        `SHARED_PATIENT`, `SHARED_SIGNAL` and `SHARED_PAGE`, at most one of each per scan of ours.
    """
    problems = []
    kinds = (("PATIENT", "patient_id"), ("SIGNAL", "signal_sha256"), ("PAGE", "page_sha256"))
    for kind, field in kinds:
        of_theirs = {getattr(fact, field): fact.scan_id for fact in theirs if getattr(fact, field)}
        for fact in ours:
            if getattr(fact, field) in of_theirs:
                got = f"the {kind.lower()} of {of_theirs[getattr(fact, field)]} of {name}"
                remedy = "take it out of one of the two cohorts"
                problems.append(Problem(f"SHARED_{kind}", fact.scan_id, got, "cohorts apart", remedy))
    return problems


def fold_problems(scans: Sequence[Scan], fold_of_scan: FoldOfScan) -> list[Problem]:
    """Find patients that lie in several folds.

    Args:
        scans: All scans.
        fold_of_scan: (n_scans,) fold of each.

    Returns:
        `PATIENT_IN_TWO_FOLDS`, one problem a patient.
    """
    folds: dict[str, set[int]] = {}
    for scan, fold in zip(scans, fold_of_scan.tolist(), strict=True):
        folds.setdefault(scan.patient_id, set()).add(fold)
    return [
        Problem(
            "PATIENT_IN_TWO_FOLDS", patient, f"folds {sorted(of_patient)}", "one fold", "make the folds again"
        )
        for patient, of_patient in folds.items()
        if len(of_patient) > 1
    ]


def fix_hashes(path: Path | str) -> list[str]:
    """Write the hashes that are missing; recorded ones stay, right or wrong.

    Args:
        path: Folder of the cohort; its table may lack the column `image_sha256`.

    Returns:
        Files whose hash was written: images into `scans.csv`, others into `manifest.csv`.

    Raises:
        DataError: If the tables or an image cannot be read; nothing is written then.
        IntegrityError: `PATH_ESCAPE`.
    """
    root = Path(path)
    problems: list[Problem] = []
    _, scans = _tables(root, problems, needs_hashes=False)
    escapes = [problem for problem in problems if problem.code == "PATH_ESCAPE"]
    if escapes:
        raise IntegrityError(escapes)
    new_scans = []
    for scan in scans:
        try:
            new_scans.append(_with_sha256(root, scan))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    listed = read_manifest(root)
    cohort = Cohort(root, root.name, "", {}, {}, tuple(new_scans))
    paths = {path for scan in new_scans for path in cohort.files_of(scan)}
    added = {path: hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths - listed.keys()}
    images = [new.image for old, new in zip(scans, new_scans, strict=True) if old != new]
    if images:
        write_scans(root, new_scans)
    if added or not listed:
        write_manifest_rows(root, listed | added)
    return images + sorted(added)


def page_bits(ink: npt.NDArray[np.uint8]) -> bytes:
    """Describe a page in 512 bits that survive another scan of it, but not another trace.

    The page is shrunk to 64x64, its local mean along columns is taken off, and the signs of 16x32 low
    frequencies are kept, none of them constant along a row as grid lines are.

    Args:
        ink: (H, W) uint8.

    Returns:
        64 bytes.
    """
    tiny = cv2.resize(_halved(ink), (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    spectrum = cv2.dct(tiny - cv2.blur(tiny, (1, 15)))
    return np.packbits(spectrum[2:18, 1:33] > 0).tobytes()


def _halved(ink: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Average squares of 2x2 px while the page stays large: OpenCV is ten times as fast at that."""
    while min(ink.shape) >= 4 * 64:
        height, width = ink.shape[0] // 2, ink.shape[1] // 2
        half = cv2.resize(ink[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        ink = np.asarray(half, dtype=np.uint8)
    return ink


def _tables(
    root: Path, problems: list[Problem], *, needs_hashes: bool = True
) -> tuple[dict[str, float], tuple[Scan, ...]]:
    """Read both tables, the sound rows of `scans.csv` even if others are not."""
    description = _attempt(problems, lambda: read_description(root)) or {}
    defaults = {key: float(value) for key, value in description.get("defaults", {}).items()}
    parsed = _attempt(problems, lambda: parse_scans(root, defaults, needs_hashes=needs_hashes))
    if parsed is None:
        return defaults, ()
    scans, row_problems = parsed
    problems += row_problems
    return defaults, scans


def _attempt(problems: list[Problem], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except InkbeatError as error:
        problems.extend(error.problems)
    except OSError as error:  # a stale mount, a file without permission (F25)
        problems.append(
            Problem("FILE_UNREADABLE", str(error.filename), str(error.strerror), "a readable file")
        )
    return None


def _layouts(cohort: Cohort, problems: list[Problem]) -> dict[str, Layout]:
    return _attempt(problems, lambda: cohort.layouts) or {}


def _default_scale_problems(defaults: dict[str, float]) -> list[Problem]:
    """Compare pixels per millimetre along both axes, as declared (F20)."""
    if len(defaults) < 4:
        return []
    across = defaults["px_per_s"] / defaults["mm_per_s"]
    down = defaults["px_per_mv"] / defaults["mm_per_mv"]
    if abs(across / down - 1) <= ASPECT_TOLERANCE:
        return []
    got = f"{across:.2f} px/mm across and {down:.2f} px/mm down"
    remedy = "measure a grid square in both directions and correct mm_per_s or px_per_s"
    return [Problem("SCALE_CONFLICT", "cohort.yaml", got, "one scale within 15 %", remedy)]


def _facts_of_all(cohort: Cohort, layouts: dict[str, Layout], workers: int | None) -> Iterator[ScanFacts]:
    scans = cohort.scans
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(scans) // (8 * SCANS_PER_TASK)))
    if workers <= 1:
        yield from (check_scan(cohort, scan, layouts) for scan in scans)
        return
    # Workers get the folder and single rows, not 20,000 of them each time.
    empty = dataclasses.replace(cohort, scans=())
    parts = [scans[start : start + SCANS_PER_TASK] for start in range(0, len(scans), SCANS_PER_TASK)]
    context = multiprocessing.get_context("spawn")  # never fork: the caller may hold threads
    with (
        _environment(KEEP_MEMORY),
        ProcessPoolExecutor(workers, context, _start_worker, (empty, layouts)) as pool,
    ):
        for part in pool.map(_facts_of_part, parts):
            yield from part


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started meanwhile; those a user set stay."""
    ours = variables.keys() - os.environ.keys()
    os.environ.update({name: variables[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


_worker: tuple[Cohort, dict[str, Layout]]


def _start_worker(cohort: Cohort, layouts: dict[str, Layout]) -> None:
    global _worker
    cv2.setNumThreads(1)
    _worker = (cohort, layouts)


def _facts_of_part(scans: Sequence[Scan]) -> list[ScanFacts]:
    cohort, layouts = _worker
    return [check_scan(cohort, scan, layouts) for scan in scans]


def _page_facts(facts: ScanFacts, page: Page, problems: list[Problem], notes: list[Problem]) -> ScanFacts:
    if page.was_inverted:
        notes.append(Problem("PAGE_INVERTED", facts.scan_id, "white on black", "", "read as black on white"))
    dark = np.packbits(page.ink if page.is_binary else page.ink > 64)
    if np.bitwise_count(dark).sum() < MIN_INK_SHARE * page.ink.size:
        got = "hardly any ink"
        problems.append(Problem("NO_WAVEFORM", facts.scan_id, got, "a page with a trace", "scan it again"))
        return facts
    sha256 = hashlib.sha256(f"{page.ink.shape}".encode())
    sha256.update((dark if page.is_binary else np.ascontiguousarray(page.ink)).data)
    return dataclasses.replace(facts, page_sha256=sha256.hexdigest(), page_bits=page_bits(page.ink))


def _under_id(problem: Problem, scan_id: str) -> Problem:
    """Name the scan instead of the file, so that rejects can be joined with the table."""
    if problem.where == scan_id:
        return problem
    return dataclasses.replace(problem, where=scan_id, got=f"{problem.where}: {problem.got}")


def _check_mask(
    cohort: Cohort, scan: Scan, page: Page, problems: list[Problem], notes: list[Problem]
) -> None:
    if scan.mask is None:
        notes.append(Problem("MASK_ABSENT", scan.scan_id, "no mask", "", "inkbeat cohort annotate makes it"))
        return
    mask = _attempt(problems, lambda: cohort.load_mask(scan))
    if mask is None:
        return
    remedy = "inkbeat cohort annotate"
    if mask.shape != page.ink.shape:
        wanted = f"the page's {page.ink.shape}"
        problems.append(Problem("MASK_SIZE", scan.scan_id, f"mask of {mask.shape}", wanted, remedy))
    elif not mask.any():
        problems.append(Problem("MASK_EMPTY", scan.scan_id, "no waveform", "a mask of the trace", remedy))


def _check_scale(
    cohort: Cohort, scan: Scan, page: Page, layout: Layout | None, problems: list[Problem]
) -> None:
    """Compare the declared scale with where leads were drawn or found, and with the page's width (F20)."""
    geometry = _attempt(problems, lambda: cohort.load_geometry(scan))
    width_px = page.ink.shape[1]
    if geometry is not None:
        axes = (
            ("px_per_s", scan.px_per_s, geometry.scan_px_per_s),
            ("px_per_mv", scan.px_per_mv, geometry.scan_px_per_mv),
        )
        for name, declared, found in axes:
            if declared is not None and abs(declared / found - 1) > SCALE_TOLERANCE:
                got, wanted = f"{name} {declared:g} declared", f"{found:.2f} as in its geometry"
                problems.append(Problem("SCALE_CONFLICT", scan.scan_id, got, wanted, "correct scans.csv"))
        if (geometry.width, geometry.height) != (width_px, page.ink.shape[0]):
            got = f"geometry of {geometry.width} x {geometry.height}"
            wanted = f"the page's {width_px} x {page.ink.shape[0]}"
            problems.append(Problem("GEOMETRY_SIZE", scan.scan_id, got, wanted, "annotate again"))
    if layout and scan.px_per_s and layout.duration_s * scan.px_per_s > 1.1 * width_px:
        got = f"{layout.duration_s:g} s at {scan.px_per_s:g} px/s on {width_px} px"
        remedy = "correct px_per_s or the layout"
        problems.append(Problem("SCALE_CONFLICT", scan.scan_id, got, "a layout that fits the page", remedy))


def _check_signal(recording: Recording, layout: Layout | None, problems: list[Problem]) -> str:
    """Judge the seconds that are printed; returns the hash of the signal if it is sound."""
    mv = recording.mv
    if np.isnan(mv).any() and layout is not None:
        mv = np.where(np.isnan(mv) & ~_printed(recording, layout), np.float32(0), mv)
    duration_s = layout.duration_s if layout else MIN_DURATION_S
    found = signal_problems(mv, recording.rate_hz, recording.record_id, duration_s)
    problems += found
    return "" if found else signal_sha256(recording)


def signal_sha256(recording: Recording) -> str:
    """Hash the microvolts of a signal, so that it is known again in any file and under any name.

    Args:
        recording: The signal.
    """
    mv = recording.mv if np.isfinite(recording.mv).all() else np.nan_to_num(recording.mv)
    microvolts = np.rint(mv * 1000).astype("<i4")
    sha256 = hashlib.sha256(f"{recording.rate_hz:g} {microvolts.shape}".encode())
    sha256.update(np.ascontiguousarray(microvolts).data)
    return sha256.hexdigest()


def _printed(recording: Recording, layout: Layout) -> npt.NDArray[np.bool_]:
    """Which samples a layout shows; a hospital's export may hold only those."""
    printed = np.zeros(recording.mv.shape, dtype=np.bool_)
    for segment in layout.segments:
        start, stop = (round(time_s * recording.rate_hz) for time_s in (segment.start_s, segment.stop_s))
        printed[LEADS.index(segment.lead), start:stop] = True
    return printed


def _pairs(
    facts: Iterable[ScanFacts], key: Callable[[ScanFacts], str]
) -> Iterator[tuple[ScanFacts, ScanFacts]]:
    """Yield every scan after the first of its kind, with the first."""
    first: dict[str, ScanFacts] = {}
    for fact in facts:
        value = key(fact)
        if value and first.setdefault(value, fact) is not fact:
            yield first[value], fact


def _near_pairs(facts: Sequence[ScanFacts]) -> Iterator[tuple[ScanFacts, ScanFacts]]:
    """Yield pairs of pages of different patients that differ in few bits, equal pages apart.

    All pairs are compared, by a product of matrices of +1 and -1: 20,000 scans take seconds and 100 MB.
    """
    seen = [fact for fact in facts if fact.page_bits]
    if len(seen) < 2:
        return
    packed = np.frombuffer(b"".join(fact.page_bits for fact in seen), np.uint8).reshape(len(seen), -1)
    signs = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    _, patient = np.unique([fact.patient_id for fact in seen], return_inverse=True)
    least = PAGE_BITS * (1 - 2 * NEAR_PAGE_SHARE)
    for start in range(0, len(seen), 1000):
        agreement = signs[start:] @ signs[start : start + 1000].T
        later, earlier = (start + index for index in np.nonzero(agreement >= least))
        is_pair = (later > earlier) & (patient[later] != patient[earlier])
        for second, first in zip(later[is_pair], earlier[is_pair], strict=True):
            if seen[first].page_sha256 != seen[second].page_sha256:
                yield seen[first], seen[second]


def _with_sha256(root: Path, scan: Scan) -> Scan:
    if scan.image_sha256:
        return scan
    content = read_image_bytes(inside(root, scan.image, scan.scan_id), where=scan.scan_id)
    return dataclasses.replace(scan, image_sha256=hashlib.sha256(content).hexdigest())
