"""What must be there before the first cell: cohorts, folds, and an idea of what each model costs.

This runs in a process of its own, because rendering and counting multiply-adds import torch, and the process
that drives a sweep stays light.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from datamodules.errors import ConfigError, InkbeatError, IntegrityError, Problem
from lightning_app.cells import sha256_of
from lightning_app.specs import CohortRecipe, Component, Folds

if TYPE_CHECKING:
    from datamodules.cohort import Cohort

log = logging.getLogger(__name__)

Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Preparation:
    """What a sweep needs.

    Attributes:
        recipes: Content id, folder and recipe of every cohort made on the spot.
        signals: `simulated` or a folder of WFDB records.
        fold_cohort: Folder of the cohort that is cross-validated; None if the sweep does not say.
        apart: Pairs of folders, to train on and to test on, that must have nothing in common.
        folds: How it is divided.
        folds_file: Where the division is written down.
        models: The distinct models of the cells to come.
        workers: Processes for rendering.
    """

    recipes: tuple[tuple[str, Path, CohortRecipe], ...]
    signals: str
    fold_cohort: Path | None
    apart: tuple[tuple[Path, Path], ...]
    folds: Folds
    folds_file: Path
    models: tuple[Component, ...]
    workers: int


def prepare(preparation: Preparation, say: Say) -> dict[str, float]:
    """Make what is missing and check what is there.

    Args:
        preparation: What is needed.
        say: Called with (what, done, total) while scans are drawn.

    Returns:
        Relative cost of every model by its class path and arguments, see `model_id`.

    Raises:
        InkbeatError: If signals cannot be used, a cohort on disk is not what its recipe makes, or training
            and test cohorts share a patient, a page or a signal.
    """
    for content_id, folder, recipe in preparation.recipes:
        _provide(content_id, folder, recipe, preparation, say)
    if preparation.fold_cohort is not None:
        _write_down_folds(preparation.fold_cohort, preparation.folds, preparation.folds_file)
    _check_leakage(preparation)
    looks = {model_id(model): _look_at(model) for model in preparation.models}
    _check_strides([(model.class_path, looks[model_id(model)].stride) for model in preparation.models])
    return {name: look.macs for name, look in looks.items()}


@dataclass(frozen=True)
class _Look:
    """What a model tells without being run: multiply-adds per patch and output stride of its ResNet."""

    macs: float
    stride: int | None


def _check_strides(strides: Sequence[tuple[str, int | None]]) -> None:
    """Refuse to compare ResNets of which some see a coarser grid than others (E10)."""
    finest = min((stride for _, stride in strides if stride is not None), default=None)
    problems = [
        Problem("UNEQUAL_STRIDE", name, f"output stride {stride}", f"{finest}, as the others",
                "dilate the encoder: models.encoders.build_encoder")
        for name, stride in strides if stride not in (None, finest)
    ]  # fmt: skip
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def _check_leakage(preparation: Preparation) -> None:
    """Hold cohorts against each other once a sweep; each cell does so with the scans it uses (E2, E3)."""
    from datamodules.cohort import Cohort
    from datamodules.leakage import check_apart, check_signals_within, identities

    within = [preparation.fold_cohort] if preparation.fold_cohort is not None else []
    folders = dict.fromkeys([*within, *(folder for pair in preparation.apart for folder in pair)])
    scans = {folder: identities(Cohort.open(folder)) for folder in folders}
    for folder in within:
        check_signals_within(scans[folder])
    for train, test in preparation.apart:
        check_apart(scans[train], scans[test], test.name)


def _provide(content_id: str, folder: Path, recipe: CohortRecipe, preparation: Preparation, say: Say) -> None:
    """Make a cohort unless it is there; one process at a time, two sweeps may want the same one."""
    from datamodules.rendering.difficulty import DIFFICULTIES
    from datamodules.rendering.make import SCANS_PER_PROCESS, make_cohort

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():

            def on_progress(done: int, total: int) -> None:
                say(f"drawing {recipe.kind} scans", done, total)

            make_cohort(
                recipe.kind,
                recipe.scans,
                recipe.seed,
                preparation.signals,
                folder,
                workers=min(preparation.workers, -(-recipe.scans // SCANS_PER_PROCESS)),
                on_progress=on_progress,
                difficulty=DIFFICULTIES[recipe.difficulty],
            )
        check_made(folder, content_id)


def check_made(folder: Path, content_id: str) -> None:
    """Make sure that a cohort on disk is what its recipe makes: same recipe, no file edited since.

    Raises:
        IntegrityError: `COHORT_EDITED`.
    """
    from datamodules.cohort import Cohort

    cohort = Cohort.open(folder)
    remedy = f"remove {folder} and run again"
    got = str(cohort.provenance.get("recipe_sha256"))
    if got != content_id:
        raise IntegrityError(
            Problem("COHORT_EDITED", folder.name, f"recipe {got[:12]}", content_id[:12], remedy)
        )
    recorded = folder.with_suffix(".sha256")
    if not recorded.is_file():
        recorded.write_text(cohort.content_sha256, encoding="ascii")
    elif recorded.read_text(encoding="ascii") != cohort.content_sha256:
        got = "content that differs from what was drawn"
        raise IntegrityError(Problem("COHORT_EDITED", folder.name, got, "the scans as drawn", remedy))
    edited = [path for path, expected in _listed(cohort).items() if not _is(folder / path, expected)]
    if edited:
        raise IntegrityError(
            Problem(
                "COHORT_EDITED",
                f"{folder.name}/{path}",
                "another content or none",
                "the file as drawn",
                remedy,
            )
            for path in edited
        )


def _listed(cohort: Cohort) -> dict[str, str]:
    """Every file of a cohort that has a recorded hash."""
    from datamodules.cohort import read_manifest

    return {**read_manifest(cohort.root), **{scan.image: scan.image_sha256 for scan in cohort.scans}}


def _is(path: Path, expected: str) -> bool:
    return path.is_file() and sha256_of(path) == expected


def _write_down_folds(cohort_folder: Path, folds: Folds, path: Path) -> None:
    from datamodules.cohort import Cohort
    from datamodules.folds import make_folds, write_folds

    scans = Cohort.open(cohort_folder).scans
    numbers = make_folds(
        [scan.patient_id for scan in scans], [scan.layout for scan in scans], folds.count, folds.seed
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_folds(path, [scan.scan_id for scan in scans], numbers)


def model_id(model: Component) -> str:
    """Name a model by what it is built from."""
    from lightning_app.specs import canonical_json

    return canonical_json({"class_path": model.class_path, "init_args": model.init_args})


def _look_at(model: Component) -> _Look:
    """Build a model without weights; one that cannot be built fails later, in its cell."""
    import torch

    from lightning_app.train import class_of
    from models.complexity import macs_per_patch
    from models.encoders import output_stride

    # Ready-made weights change neither, and fetching them may take long.
    arguments = {name: value for name, value in model.init_args.items() if name != "encoder_weights"}
    try:
        with torch.device("meta"):
            module = class_of(model.class_path)(**arguments)
            return _Look(float(macs_per_patch(module)), output_stride(module))
    except Exception as error:  # noqa: BLE001 - its cell will tell; here only order and fairness hang on it
        log.info("no look at %s: %s", model.class_path, error)
        return _Look(0.0, None)


def prepare_and_send(preparation: Preparation, connection: Any) -> None:
    """Run `prepare` in a child process and send what it says, returns or raises."""
    try:
        costs = prepare(preparation, lambda *said: connection.send(("said", said)))
        connection.send(("done", costs))
    except InkbeatError as error:
        connection.send(("refused", error))


def distinct(models: Sequence[Component]) -> tuple[Component, ...]:
    """Leave out repetitions."""
    return tuple({model_id(model): model for model in models}.values())


def default_workers(gpus: Sequence[str], cores: int, memory_bytes: int) -> int:
    """Choose how many cells run at a time: one a GPU, else one a core as far as 2 GB each are there."""
    return len(gpus) or max(1, min(cores, memory_bytes // (2 * 1024**3)))


def cores() -> int:
    """Count the processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
