"""Cohorts made on the spot: pages, masks, truth and geometry in one folder, equal bit for bit for a recipe.

Every scan draws from its own generator, keyed to (seed, kind, number), so that neither the number of
processes nor the order in which they finish changes a pixel.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np

from datamodules.cohort import Scan, write_cohort
from datamodules.colour_label import threshold_label
from datamodules.errors import ConfigError, Problem
from datamodules.files import write_atomic
from datamodules.layout import LEADS, Layout, load_layout
from datamodules.page import write_binary_tiff, write_colour_png, write_jpeg, write_mask_png
from datamodules.rendering import binary, colour, pseudo, varied
from datamodules.rendering.difficulty import NOMINAL, Difficulty
from datamodules.rendering.pages import RenderedPage
from datamodules.rendering.recipe import SHARES, Kind, recipe_of, sha256_of_recipe
from datamodules.rendering.variety import VARIETIES
from datamodules.signals import Recording, cart_filter, choose_records, open_signals
from datamodules.wave_marks import cut_marks, write_marks
from datamodules.wfdb_files import write_record

PAPER_LAYOUTS = {"four_line": 81, "six_line": 14, "seven_line": 1}  # Li et al. 2020, section 2.1
COLOUR_LAYOUTS = ("3x4+1", "3x4", "6x2", "12x1", "3x4+3", "6x2+1")
PLOTTED_LAYOUTS = ("3x4+1", "3x4+3", "6x2", "12x1", "3x4", "6x2+1", "four_line", "six_line")
SCANS_PER_PROCESS = 64  # below that, starting another process takes longer than it saves
EXACT_PX = 0.5  # a geometry that misses its traces by more is named in `cohort.yaml`

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ScanTask:
    """One scan to draw, with everything a process needs for it."""

    kind: Kind
    number: int
    seed: int
    layout: Layout
    recording: Recording
    difficulty: Difficulty

    @property
    def scan_id(self) -> str:
        """Name of the scan and of its files."""
        return f"{self.kind}-{self.number:05d}"


@dataclass(frozen=True)
class WrittenScan:
    """A written scan.

    Attributes:
        scan: Its row of `scans.csv`.
        label_dice: Of the threshold label of a coloured page.
        off_px: Error of the geometry.
        look: What the page looks like.
    """

    scan: Scan
    label_dice: float | None
    off_px: float
    look: str


def make_cohort(
    kind: Kind,
    scans: int,
    seed: int,
    signals: str | Path,
    out: Path,
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
    layouts: Sequence[str] | None = None,
    share: tuple[float, float] | None = None,
    difficulty: Difficulty = NOMINAL,
) -> Path:
    """Render a cohort into a new folder.

    Args:
        kind: `binary` as the paper's 96 scans, `pseudo` as its 24 for pre-training, `colour` as its 282 of
            another type, `varied` of every look and `faxed` mostly of 1 bit and noisy, for training a
            reader, `plotted` by another renderer, for validating it.
        scans: Number of scans.
        seed: Other seeds, other recordings and pages.
        signals: `simulated` or a folder of WFDB records.
        out: The cohort's folder; must not exist, or be empty.
        workers: Processes; None decides by the number of scans. The result does not depend on it.
        on_progress: Called with (done, total) after each scan.
        layouts: Layouts in turn, instead of the kind's own mixture.
        share: Part of the patients to draw from, instead of the kind's own (`SHARES`).
        difficulty: Noise of binary pages.

    Returns:
        `out`. It appears complete or not at all.

    Raises:
        ConfigError: For a wrong kind, count or layout, and if `out` is taken.
        DataError: If the signals are too few or cannot be read.
    """
    _check(kind, scans, workers, out)
    chosen_layouts = assign_layouts(kind, scans, seed, layouts)
    source = open_signals(signals, seed)
    share = share or SHARES[kind]
    n_recordings = -(-scans // pseudo.VARIANTS_PER_SIGNAL) if kind == "pseudo" else scans
    recordings, rejects = choose_records(source, n_recordings, seed, share, at_least=1)
    tasks = [
        ScanTask(
            kind, number, seed, layout, recordings[_recording_of(kind, number) % len(recordings)], difficulty
        )
        for number, layout in enumerate(chosen_layouts)
    ]
    building = out.parent / f".{out.name}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        written: list[WrittenScan] = []
        for one in _draw_all(tasks, building, workers):
            written.append(one)
            if on_progress:
                on_progress(len(written), scans)
        recipe = recipe_of(kind, scans, seed, source.fingerprint(), layouts, share, difficulty)
        write_cohort(
            building,
            f"{kind}-{scans}-seed{seed}",
            [one.scan for one in written],
            licence="Pages: Apache-2.0. The licence of the signals holds for the signals.",
            provenance=_provenance(recipe, tasks, rejects, written),
            defaults={}
            if kind in ("plotted", *VARIETIES)
            else _nominal_scale(difficulty if kind == "binary" else NOMINAL),
        )
        building.replace(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def assign_layouts(kind: Kind, scans: int, seed: int, layouts: Sequence[str] | None = None) -> list[Layout]:
    """Layout of every scan.

    Args:
        kind: Binary cohorts follow the paper's 81 : 14 : 1, exactly so at 96 scans, in shuffled order; on
            pages of a variety each is drawn, and some are called `random` and have no file.
        scans: Number of scans.
        seed: For the order.
        layouts: These in turn instead.

    Returns:
        One layout a scan.

    Raises:
        ConfigError: For an unknown layout.
    """
    if layouts is None and kind in VARIETIES:
        rng = np.random.default_rng([seed, 0x1B])
        return [varied.draw_layout(rng, VARIETIES[kind]) for _ in range(scans)]
    if layouts is None and kind == "binary":
        total = sum(PAPER_LAYOUTS.values())
        # At least one six-line page where five others remain, so that small cohorts have two layouts.
        n_six = max(round(scans * PAPER_LAYOUTS["six_line"] / total), int(scans >= 6))
        n_seven = round(scans * PAPER_LAYOUTS["seven_line"] / total)
        names = ["four_line"] * (scans - n_six - n_seven) + ["six_line"] * n_six + ["seven_line"] * n_seven
        names = [names[place] for place in np.random.default_rng([seed, 0x1A]).permutation(scans)]
    else:
        own = {"colour": COLOUR_LAYOUTS, "plotted": PLOTTED_LAYOUTS}
        turn = layouts or own.get(kind, ("four_line",))
        names = [turn[number % len(turn)] for number in range(scans)]
    known = {name: load_layout(name) for name in dict.fromkeys(names)}
    return [known[name] for name in names]


def draw_scan(task: ScanTask) -> tuple[RenderedPage, Recording]:
    """Draw one scan.

    Args:
        task: What to draw.

    Returns:
        The page, and the recording exactly as drawn: band-filtered, in whole microvolts, as long as the
        layout.
    """
    cv2.setNumThreads(1)  # the processes are the parallelism
    rng = np.random.default_rng([task.seed, get_args(Kind).index(task.kind), task.number])
    drawn = as_printed(task.recording, task.layout.duration_s)
    if task.kind == "binary":
        return binary.render(drawn, task.layout, rng, task.difficulty), drawn
    if task.kind == "colour":
        return colour.render(drawn, task.layout, rng), drawn
    if task.kind in VARIETIES:
        return varied.render(drawn, task.layout, rng, VARIETIES[task.kind]), drawn
    if task.kind == "plotted":
        from datamodules.rendering import plotted  # matplotlib takes longer to import than the rest

        return plotted.render(drawn, task.layout, rng), drawn
    signal_number, place = divmod(task.number, pseudo.VARIANTS_PER_SIGNAL)
    return pseudo.render(drawn, task.layout, rng, pseudo.variants(signal_number)[place]), drawn


def as_printed(recording: Recording, duration_s: float) -> Recording:
    """Filter a recording as a cart does and cut it to what a page shows.

    Args:
        recording: As recorded.
        duration_s: Seconds shown, from the start.

    Returns:
        mV in whole microvolts, so that the stored truth is what was drawn to the last bit; marks as far as
        they lie in those seconds.
    """
    filtered = cart_filter(recording.mv, recording.rate_hz)[:, : round(duration_s * recording.rate_hz)]
    shown_mv = (np.rint(filtered * 1000.0) / 1000.0).astype(np.float32)
    return replace(recording, mv=shown_mv, marks=cut_marks(recording.marks, duration_s))


def _recording_of(kind: Kind, number: int) -> int:
    return number // pseudo.VARIANTS_PER_SIGNAL if kind == "pseudo" else number


def _check(kind: str, scans: int, workers: int | None, out: Path) -> None:
    problems = []
    if kind not in get_args(Kind):
        problems.append(Problem("KIND_UNKNOWN", "kind", repr(kind), f"one of {', '.join(get_args(Kind))}"))
    if scans < 1:
        problems.append(Problem("SCANS_TOO_FEW", "scans", str(scans), "at least 1"))
    if workers is not None and workers < 1:
        problems.append(Problem("WORKERS_TOO_FEW", "workers", str(workers), "at least 1"))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        problems.append(
            Problem(
                "OUT_EXISTS", str(out), "something there already", "a new folder", "move it or name another"
            )
        )
    if problems:
        raise ConfigError(problems)


def _draw_all(tasks: list[ScanTask], folder: Path, workers: int | None) -> Iterator[WrittenScan]:
    """Draw and write all scans, here or in several processes; they come in order."""
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(tasks) // SCANS_PER_PROCESS))
    if workers == 1:
        yield from (write_scan(task, folder) for task in tasks)
        return
    # Never fork: the caller may hold threads (torch, OpenCV) that a forked child would miss.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        pending = [pool.submit(write_scan, task, folder) for task in tasks]
        try:
            for future in pending:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_scan(task: ScanTask, folder: Path) -> WrittenScan:
    """Draw a scan and write its files.

    Args:
        task: What to draw.
        folder: The cohort under construction.

    Returns:
        Its row, and how good a threshold label would have been.
    """
    page, drawn = draw_scan(task)
    suffix = "tif" if page.is_binary else "png" if page.jpeg_quality is None else "jpg"
    paths = {
        "image": f"images/{task.scan_id}.{suffix}",
        "signal": f"signals/{task.scan_id}",
        "mask": f"masks/{task.scan_id}.png",
    }
    image = folder / paths["image"]
    label_dice = None
    if page.is_binary:
        write_binary_tiff(image, page.image > 0)
    elif page.jpeg_quality is not None:
        write_jpeg(image, page.image, page.jpeg_quality)
    else:
        write_colour_png(image, page.image)
    if task.kind == "colour":
        label = threshold_label(page.image)
        write_mask_png(folder / "masks" / f"{task.scan_id}-threshold.png", label)
        label_dice = 2.0 * float((label & page.mask).sum()) / float(label.sum() + page.mask.sum())
    write_mask_png(folder / paths["mask"], page.mask)
    comments = (f"patient: {drawn.patient_id}", f"record: {drawn.record_id}")
    write_record(folder / paths["signal"], LEADS, drawn.mv, drawn.rate_hz, comments)
    write_marks(folder / paths["signal"], drawn.marks, drawn.rate_hz)
    write_atomic(folder / "geometry" / f"{task.scan_id}.json", page.geometry.to_json().encode())
    scan = Scan(
        scan_id=task.scan_id,
        patient_id=drawn.patient_id,
        image=paths["image"],
        image_sha256=hashlib.sha256(image.read_bytes()).hexdigest(),
        signal=paths["signal"],
        layout=_declared_layout(task, page),
        mask=paths["mask"],
        px_per_s=round(page.geometry.scan_px_per_s, 4),
        px_per_mv=round(page.geometry.scan_px_per_mv, 4),
    )
    return WrittenScan(scan, label_dice, page.off_px, page.grid)


def _declared_layout(task: ScanTask, page: RenderedPage) -> str:
    """Name of the layout; pages of a variety declare none if they show less of it, spaced or a random one."""
    shown_s = max(segment.stop_s for segment in page.geometry.segments)
    is_whole = task.layout.name in varied.SHIPPED and shown_s == task.layout.duration_s
    is_whole = is_whole and task.layout.space_s == 0
    return task.layout.name if is_whole or task.kind not in VARIETIES else ""


def _nominal_scale(difficulty: Difficulty) -> dict[str, float]:
    return {
        "px_per_s": difficulty.nominal_px_per_mm * difficulty.mm_per_s,
        "px_per_mv": difficulty.nominal_px_per_mm * difficulty.mm_per_mv,
        "mm_per_s": difficulty.mm_per_s,
        "mm_per_mv": difficulty.mm_per_mv,
    }


def _provenance(
    recipe: dict[str, Any], tasks: list[ScanTask], rejects: Sequence[Problem], written: list[WrittenScan]
) -> dict[str, Any]:
    """Where a cohort comes from, for `cohort.yaml`."""
    provenance: dict[str, Any] = {
        "text": "Rendered by Inkbeat from digital signals; no patient's paper was scanned.",
        "recipe": recipe,
        "recipe_sha256": sha256_of_recipe(recipe),
        "recordings": len({task.recording.record_id for task in tasks}),
        "records_rejected": [str(problem) for problem in rejects],
    }
    annotated = sum(bool(task.recording.marks) for task in tasks)
    if annotated:
        provenance["scans_with_human_annotation"] = annotated
    label_dice = [one.label_dice for one in written if one.label_dice is not None]
    if label_dice:
        # How well colour thresholding (R7) would have labelled these pages.
        mean, lowest = float(np.mean(label_dice)), min(label_dice)
        provenance["threshold_label_dice"] = {"mean": round(mean, 4), "lowest": round(lowest, 4)}
    bent = {one.scan.scan_id: round(one.off_px, 2) for one in written if one.off_px > EXACT_PX}
    if bent:
        # Where the affine map of the geometry misses the drawn traces; masks are exact everywhere.
        provenance["geometry_off_px"] = bent
    if recipe["kind"] == "plotted":
        provenance["looks"] = {one.scan.scan_id: one.look for one in written}
    return provenance
