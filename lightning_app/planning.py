"""From a sweep file to the cells and what is known of them, without any heavy import."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from datamodules.errors import ConfigError, DataError, Problem
from datamodules.wording import number_of
from lightning_app.cells import State, Store
from lightning_app.specs import (
    HELD_OUT,
    CohortFolder,
    CohortRecipe,
    PlannedCell,
    Sweep,
    cells,
)
from lightning_app.starts import Start, find_start


@dataclass(frozen=True)
class CohortPlace:
    """A cohort of a sweep: what it contains, by hash, and where it lies or will lie.

    Attributes:
        name: Name in the sweep file.
        content_id: Hash of the content, or of the recipe for a cohort made on the spot.
        path: Its folder.
        recipe: How to make it; None if it was given.
    """

    name: str
    content_id: str
    path: Path
    recipe: CohortRecipe | None


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep and where everything lies.

    Attributes:
        sweep: The checked sweep.
        store: Its folder RUNS/<sweep>.
        cohorts: Its cohorts by name.
        start: Weights its models start from; None: each from its own.
    """

    sweep: Sweep
    store: Store
    cohorts: dict[str, CohortPlace]
    start: Start | None = None

    @cached_property
    def cells(self) -> tuple[PlannedCell, ...]:
        """All cells, models outermost."""
        return cells(self.sweep, _ids(self.cohorts), self.start.sha256 if self.start else None)

    def states(self) -> dict[str, State]:
        """State of every cell by key."""
        return self.store.states(cell.key for cell in self.cells)

    def record(self) -> dict[str, Any]:
        """What sweep.json holds: enough to run, watch and report the cells without the sweep file."""
        test_sets = {HELD_OUT: self.sweep.fit_on, **{test.name: test for test in self.sweep.test_on}}
        return {
            "name": self.sweep.name,
            "sweep": self.sweep.model_dump(mode="json"),
            "cohorts": {
                name: {"id": place.content_id, "path": os.path.relpath(place.path, self.store.root)}
                for name, place in self.cohorts.items()
            },
            "test_sets": {name: component.init_args.get("cohort") for name, component in test_sets.items()},
            "cells": [as_row(cell) for cell in self.cells],
            "start_from": os.path.relpath(self.start.path, self.store.root) if self.start else None,
        }


def _ids(cohorts: dict[str, CohortPlace]) -> dict[str, str]:
    return {name: place.content_id for name, place in cohorts.items()}


def as_row(cell: PlannedCell) -> dict[str, Any]:
    """Describe a cell in one row."""
    return {
        "key": cell.key,
        "model": cell.label,
        "fold": cell.spec.folds.fold,
        "seed": cell.spec.seeds.weights,
    }


def make_plan(sweep: Sweep, runs: Path) -> Plan:
    """Find out what the cohorts of a sweep contain, and so the keys of its cells.

    Args:
        sweep: The checked sweep.
        runs: Folder of all runs.

    Raises:
        ConfigError: If a cohort is missing, damaged or too small, or the signals are; all problems at once.
            Then if the weights to start from are missing or do not fit, see `find_start`.
    """
    problems: list[Problem] = []
    places = {}
    for name, entry in sweep.cohorts.items():
        try:
            if isinstance(entry, CohortFolder):
                places[name] = _given(name, Path(entry.path))
            else:
                places[name] = _made(name, entry, sweep.signals, runs)
        except DataError as error:
            problems += error.problems
    if problems:
        unique = dict.fromkeys(problems)  # every recipe reports the same missing signals
        raise DataError(unique)
    plan = Plan(sweep, Store(runs / sweep.name), places, find_start(sweep, _ids(places)))
    _check_fold_count(plan)
    return plan


def _given(name: str, path: Path) -> CohortPlace:
    from datamodules.cohort import Cohort

    return CohortPlace(name, Cohort.open(path).content_sha256, path.resolve(), None)


def _made(name: str, recipe: CohortRecipe, signals: str, runs: Path) -> CohortPlace:
    from datamodules.rendering.difficulty import DIFFICULTIES
    from datamodules.rendering.recipe import recipe_sha256

    # Only the simulator depends on the seed; a folder of records is read once for all cohorts.
    fingerprint = _fingerprint(signals, recipe.seed if signals == "simulated" else 0)
    difficulty = DIFFICULTIES[recipe.difficulty]
    content_id = recipe_sha256(recipe.kind, recipe.scans, recipe.seed, fingerprint, difficulty=difficulty)
    return CohortPlace(name, content_id, runs / "cohorts" / f"{recipe.kind}-{content_id[:12]}", recipe)


@lru_cache(maxsize=32)
def _fingerprint(signals: str, seed: int) -> str:
    from datamodules.signals import open_signals

    return open_signals(signals, seed).fingerprint()


def _check_fold_count(plan: Plan) -> None:
    """Refuse more folds than the cohort has patients, before any work."""
    place = plan.cohorts.get(str(plan.sweep.fit_on.init_args.get("cohort")))
    if place is None or place.recipe is not None:
        return
    from datamodules.cohort import Cohort

    patients = {scan.patient_id for scan in Cohort.open(place.path).scans}
    if len(patients) < plan.sweep.folds.count:
        got = f"{plan.sweep.folds.count} folds of {number_of(len(patients), 'patient')}"
        raise ConfigError(
            Problem("TOO_MANY_FOLDS", "folds.count", got, f"at most {len(patients)}", "fewer folds")
        )


def count_states(states: dict[str, State]) -> str:
    """Say in words how many cells are in which state.

    Example:
        >>> count_states({"a": "done", "b": "missing", "c": "done"})
        '2 done, 1 missing'
    """
    counts = Counter(states.values())
    order: tuple[State, ...] = ("done", "running", "interrupted", "failed", "missing")
    return ", ".join(f"{counts[state]} {state}" for state in order if counts[state]) or "no cells"
