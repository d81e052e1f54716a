"""What a sweep will cost, from counts alone: patches, windows, multiply-adds. Imports nothing heavy.

Multiply-adds of a network come from a cell of the plan that has finished, else from `model_costs.json`, which
`inkbeat models SWEEP... --json` writes for the sweeps that ship; a network in neither is unknown, and the
plan says so.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lightning_app.cells import Store
from lightning_app.class_paths import UnknownClassError, signature
from lightning_app.planning import Plan
from lightning_app.specs import PATCH_PX, CohortFolder, Component, canonical_json

TABLE = Path(__file__).with_name("model_costs.json")
MODULE = "models.segmentation.SegmentationModule"  # its own arguments change the learning, not the size
PAGE_PX = (886, 1120)  # Li et al. 2020, section 2.1; pages of other kinds are taken to be as large
FLOP_PER_MAC = 2
BACKWARD = 2  # a backward pass costs two forward ones: gradients of inputs and of weights
MOST_CELLS_READ = 50  # of each sweep: a rate is known well from so many
SUMS = ("train_flop", "train_s", "test_flop", "predict_s")  # what a cell's timing.json tells of its rate


@dataclass(frozen=True)
class Cost:
    """Floating point operations of a cell or of many.

    Attributes:
        train: Of forward and backward passes.
        test: Of forward passes over the windows of all test pages.
    """

    train: float = 0.0
    test: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.train + other.train, self.test + other.test)

    @property
    def flop(self) -> float:
        """All of it."""
        return self.train + self.test


@dataclass(frozen=True)
class Rate:
    """How fast a kind of machine works.

    Attributes:
        machine: Name of the GPU or processor.
        train: FLOP/s of one cell while it trains.
        test: FLOP/s of one cell while it predicts pages.
        at_a_time: Cells side by side.
        is_measured: Whether finished cells told it, or it is assumed.
    """

    machine: str
    train: float
    test: float
    at_a_time: int = 1
    is_measured: bool = False

    def hours(self, cost: Cost) -> float:
        """Tell how long a cost takes."""
        return (cost.train / self.train + cost.test / self.test) / self.at_a_time / 3600


# What convolutions of these networks may reach in float32 where nothing was measured yet: a third of such a
# GPU's peak; and what single cores of an AMD EPYC without 512-bit instructions reached, see docs/sweeps.md.
ASSUMED = (
    Rate("one GPU of the H100 class", 20e12, 20e12),
    Rate("2 CPU cores", 60e9, 80e9, at_a_time=2),
)


def cost_of(macs: float, patches: float, windows: float) -> Cost:
    """Count the operations of one cell.

    Args:
        macs: Multiply-adds of one patch, forward.
        patches: Patches trained on, all epochs together.
        windows: Windows predicted.

    Example:
        >>> cost_of(1e9, 100, 10)
        Cost(train=600000000000.0, test=20000000000.0)
    """
    return Cost(FLOP_PER_MAC * macs * patches * (1 + BACKWARD), FLOP_PER_MAC * macs * windows)


def windows_per_page(overlap_px: int) -> int:
    """Count the windows of a page, as `models.windows.window_starts` places them.

    Example:
        >>> windows_per_page(64)
        221
    """
    step = PATCH_PX - overlap_px
    return math.prod(1 + math.ceil((side - PATCH_PX) / step) for side in PAGE_PX)


def network(model: Component) -> str:
    """Name what a network's size depends on: class and arguments, without those of training and start."""
    free = {*_training_arguments(), "encoder_weights", "ends_weight", "weight_decay"}
    arguments = {name: value for name, value in model.init_args.items() if name not in free}
    return canonical_json([model.class_path, arguments])


@cache
def _training_arguments() -> frozenset[str]:
    try:
        return frozenset(signature(MODULE).arguments)
    except UnknownClassError:
        return frozenset()


def macs_by_network(plan: Plan) -> dict[str, float]:
    """Collect what is known of the multiply-adds per patch, by `network`."""
    known = dict(_tabulated())
    present = plan.store.keys_on_disk()
    finished = {network(cell.spec.model): cell.key for cell in plan.cells if cell.key in present}
    for name, key in finished.items():
        macs = (plan.store.result(key) or {}).get("macs")
        if isinstance(macs, int | float):
            known[name] = float(macs)
    return known


@cache
def _tabulated() -> dict[str, float]:
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["models"]
    return {
        network(Component(class_path=row["class_path"], init_args=row["init_args"])): row["macs_per_patch"]
        for row in rows
    }


def patches_and_windows(plan: Plan) -> tuple[float, float] | None:
    """Count a cell's patches of 128 px and windows, the mean over folds; None if data does not tell."""
    sweep = plan.sweep
    held_out = 1 / sweep.folds.count
    patches = _patches(plan, sweep.fit_on, 1 - held_out, sweep.training.epochs)
    if sweep.pretrain_on is not None:
        is_same = _cohort(sweep.pretrain_on) == _cohort(sweep.fit_on)
        share = 1 - held_out if is_same else 1.0
        patches += _patches(plan, sweep.pretrain_on, share, sweep.training.pretrain_epochs)
    pages = _scans(plan, sweep.fit_on) * held_out + sum(_scans(plan, test) for test in sweep.test_on)
    windows = pages * windows_per_page(sweep.evaluation.overlap_px)
    return (patches, windows) if math.isfinite(patches + windows) else None


def _patches(plan: Plan, component: Component, share: float, epochs: int) -> float:
    from datamodules.patches import PATCHES_PER_SCAN

    per_scan = component.init_args.get("patches_per_scan", PATCHES_PER_SCAN)
    area = (float(str(component.init_args.get("patch_px", PATCH_PX))) / PATCH_PX) ** 2
    return _scans(plan, component) * share * float(str(per_scan)) * area * epochs


def _cohort(component: Component) -> str:
    return str(component.init_args.get("cohort"))


def _scans(plan: Plan, component: Component) -> float:
    """Count the scans of a data set's cohort; NaN for data without one."""
    entry = plan.sweep.cohorts.get(_cohort(component))
    if entry is None:
        return math.nan
    if not isinstance(entry, CohortFolder):
        return entry.scans
    from datamodules.cohort import Cohort

    return len(Cohort.open(entry.path).scans)


def measured_rates(runs: Path) -> list[Rate]:
    """Learn from the finished cells of all sweeps how fast they were, machine by machine.

    Args:
        runs: Folder of all runs.
    """
    sums: dict[tuple[str, int], Counter[str]] = {}
    for told in _timings(runs):
        own = sums.setdefault((str(told["machine"]), int(told["at_a_time"])), Counter())
        own.update({name: told[name] for name in SUMS})
    return [
        Rate(
            machine, own["train_flop"] / own["train_s"], own["test_flop"] / own["predict_s"], at_a_time, True
        )
        for (machine, at_a_time), own in sorted(sums.items())
    ]


def _timings(runs: Path) -> Iterator[dict[str, Any]]:
    for folder in sorted(runs.glob("*/cells")):
        store = Store(folder.parent)
        for key in sorted(store.keys_on_disk())[:MOST_CELLS_READ]:
            told = store.timing(key)
            if {"machine", "at_a_time"} <= set(told) and all(told.get(name) for name in SUMS):
                yield told


def estimate(plan: Plan, todo: Collection[str]) -> dict[str, Any]:
    """Put together what a plan costs, as plain values.

    Args:
        plan: The planned cells.
        todo: Keys of the cells that are not done.

    Returns:
        `flop` of all cells and `flop_left` of those to do; `unknown`, the models whose cost is in neither;
        `hours_left`: machine, hours and whether the rate was measured.
    """
    known, counts = macs_by_network(plan), patches_and_windows(plan)
    costs: dict[str, Cost] = {}
    unknown: dict[str, None] = {}
    for cell in plan.cells:
        macs = known.get(network(cell.spec.model))
        if macs is None or counts is None:
            unknown[cell.label] = None
        else:
            costs[cell.key] = cost_of(macs, *counts)
    left = sum((cost for key, cost in costs.items() if key in todo), Cost())
    rates = [*measured_rates(plan.store.root.parent), *ASSUMED]
    return {
        "flop": sum(cost.flop for cost in costs.values()),
        "flop_left": left.flop,
        "unknown": list(unknown),
        "hours_left": [
            {"machine": rate.machine, "hours": round(rate.hours(left), 3), "measured": rate.is_measured}
            for rate in rates
        ],
    }


def in_words(estimated: dict[str, Any]) -> str:
    """Say an estimate in a few lines.

    Args:
        estimated: As `estimate` gives it.

    Example:
        >>> print(in_words({"flop": 3e15, "flop_left": 1e15, "unknown": ["mine"],
        ...                 "hours_left": [{"machine": "2 CPU cores", "hours": 2.31, "measured": False}]}))
        estimated cost: 3e+15 floating point operations, 1e+15 of them left
          2 CPU cores, assumed: 2.3 h
          not counted, because their size is not known before a first cell: mine
    """
    left = (
        f", {estimated['flop_left']:.2g} of them left" if estimated["flop_left"] < estimated["flop"] else ""
    )
    lines = [f"estimated cost: {estimated['flop']:.2g} floating point operations{left}"]
    for row in estimated["hours_left"] if estimated["flop_left"] else ():
        source = "as measured here" if row["measured"] else "assumed"
        lines.append(f"  {row['machine']}, {source}: {_hours(row['hours'])}")
    if estimated["unknown"]:
        names = ", ".join(estimated["unknown"])
        lines.append(f"  not counted, because their size is not known before a first cell: {names}")
    return "\n".join(lines)


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
