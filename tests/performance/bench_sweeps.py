"""What a sweep costs besides its cells: planning, starting, a kill, finding that everything is done.

    python -m tests.performance.bench_sweeps

Budgets: plan of 10,000 cells 1 s; start of a cell 0.1 s after the first; 20 cells of 0.6 s on 2 slots with
one worker killed 7 s; second run of a finished 45-cell sweep 3 s; report of 10,000 cells 10 s; the W&B run
of a cell 2 % of it. Every figure is the least of a few runs; on a busy machine look at the processor time.
That of a cell's own process, which is a child of the forkserver, is not in it.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from lightning_app.cells import RESULT, SPEC, result_of
from lightning_app.engines import Event, Job, Slot
from lightning_app.engines.local import LocalEngine, warm_up
from lightning_app.evaluate.scan_columns import METRICS_VERSION
from lightning_app.evaluate.segmentation import scan_metrics
from lightning_app.planning import make_plan
from lightning_app.scan_tables import parquet_bytes
from lightning_app.specs import PlannedCell, check_sweep
from lightning_app.tracking import Overlay, RunIdentity, Tracker
from lightning_app.tracking_mode import SLOW_IMPORTS
from tests.lightning_app.engines import work
from tests.lightning_app.specs_of_tiny import TINY


class Spent(NamedTuple):
    """What one call took: other work on the machine makes `wall_s` longer, `cpu_s` much less so."""

    wall_s: float
    cpu_s: float


def spent(action: Callable[[], object]) -> Spent:
    """Wall time of one call, and its processor time with that of the processes it started."""
    started, before = time.perf_counter(), os.times()
    action()
    after = os.times()
    return Spent(time.perf_counter() - started, sum(after[:4]) - sum(before[:4]))


def row(name: str, measure: Callable[[], Spent], budget_s: float, *, times: int = 3) -> None:
    """Measure, and print the least of a few times: what it takes when least is in its way."""
    runs = [measure() for _ in range(times)]
    wall_s, cpu_s = (min(values) for values in zip(*runs, strict=True))
    load = os.getloadavg()[0]
    print(f"{name:46} budget {budget_s:4.1f} s   wall {wall_s:6.2f} s   CPU {cpu_s:6.2f} s   load {load:.1f}")


def plan_of(n_seeds: int, runs: Path, *, folds: int) -> None:
    """Plan a sweep as the command does, keys and states."""
    content = {**TINY, "seeds": list(range(n_seeds)), "folds": {"count": folds}}
    plan = make_plan(check_sweep(content), runs)
    assert len(plan.states()) == n_seeds * folds


def twenty_cells() -> Spent:
    """20 cells of 0.6 s on two slots, one of them killed half-way."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [Job(Path(folder), f"k{number:02d}") for number in range(20)]
        events: list[Event] = []
        taken = spent(lambda: LocalEngine(work.sleep_600_ms, []).run(jobs, [Slot(0), Slot(1)], events.append))
    assert [event.exit_code for event in events if event.kind == "ended"] == [0] * 20
    return taken


def start_of_a_cell(folder: Path) -> Spent:
    """Start and end of a process that has torch and Lightning imported, when another was there before."""
    context = warm_up(1)

    def once() -> None:
        process = context.Process(target=work.finish, args=(Job(folder, "first"), Slot(0)))
        process.start()
        process.join()
        assert process.exitcode == 0

    once()
    taken = spent(once)
    return taken._replace(wall_s=taken.wall_s - 0.05)  # what the cell itself sleeps


def finished(runs: Path, *, n_seeds: int) -> dict[str, Any]:
    """Write the cells of a sweep as if they had been run; give its content."""
    content = {**TINY, "seeds": list(range(n_seeds)), "folds": {"count": 5}}
    plan = make_plan(check_sweep(content), runs)
    plan.store.write_plan(plan.record())
    tables = [_rows_of(fold) for fold in range(5)]
    for cell in plan.cells:
        path = plan.store.folder(cell.key)
        path.mkdir(parents=True)
        (path / SPEC).write_text(cell.spec.model_dump_json())
        _write_rows(path / "scans.parquet", cell, tables[cell.spec.folds.fold])
        result = result_of(path, cell.key, "done", [SPEC, "scans.parquet"], dice={"cv": 0.5})
        (path / RESULT).write_text(json.dumps(result))
    return content


def finished_sweep(folder: Path) -> Callable[[], Spent]:
    """`inkbeat run` of 45 cells that are all done, report included in the check."""
    runs = folder / "runs"
    sweep = folder / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(finished(runs, n_seeds=9)))
    command = [sys.executable, "-m", "lightning_app", "run", str(sweep), "--out", str(runs)]
    environment = {**os.environ, "WANDB_MODE": "disabled"}

    def run() -> None:
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    run()  # builds the report
    return lambda: spent(run)


def report_of_ten_thousand(folder: Path) -> Callable[[], Spent]:
    """`inkbeat report` of 10,000 finished cells, imports included."""
    finished(folder / "many", n_seeds=2000)
    command = [sys.executable, "-m", "lightning_app", "report", str(folder / "many" / "tiny")]
    return lambda: spent(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def recording_of_a_cell(folder: Path) -> Spent:
    """The offline W&B run of a cell of 100 epochs and 200 rows, with three noisy pages.

    W&B is imported before, as a sweep does once for all cells; its service is waited for, so that it counts.
    """
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    page = (np.random.default_rng(0).random((1120, 886)) < 0.1).astype(np.uint8) * 255
    trace = np.zeros(page.shape, bool)
    trace[100:103] = True
    identity = RunIdentity("k", "k", "bench", "cell")
    pages = [Overlay(word, page, trace, trace) for word in ("worst", "median", "best")]
    rows = pd.concat([_rows_of(0)] * 50)
    tracker = Tracker(folder, folder / "cells" / "k", identity, "offline")
    epochs = [{"epoch": float(number), "train_loss": 0.1} for number in range(100)]

    def record() -> None:
        tracker.finish(epochs, {"scans": rows}, pages, summary={"dice": 0.5})
        sys.modules["wandb"].teardown()

    return spent(record)


def _rows_of(fold: int) -> pd.DataFrame:
    truth = np.eye(48, dtype=bool)
    scans = [f"f{fold}-{number}" for number in range(4)]
    named = {"fold": fold, "test_set": "cv", "layout": "four_line", "metrics_version": str(METRICS_VERSION)}
    return pd.DataFrame(
        {**named, "scan_id": scan, "patient_id": scan} | scan_metrics(np.roll(truth, number, axis=0), truth)
        for number, scan in enumerate(scans)
    )


def _write_rows(path: Path, cell: PlannedCell, rows: pd.DataFrame) -> None:
    seed = cell.spec.seeds.weights
    dice = rows["dice"] * (1 - seed / 1e5)  # seeds that agree to the last digit are taken for copies
    path.write_bytes(parquet_bytes(rows.assign(seed=seed, dice=dice)))


def main() -> None:
    """Print every figure beside its budget."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row("plan of 10,000 cells", lambda: spent(lambda: plan_of(2000, folder / "none", folds=5)), 1.0)
        row("start of a cell after the first", lambda: start_of_a_cell(folder), 0.1, times=5)
        row("20 cells of 0.6 s, 2 slots, one killed", twenty_cells, 7.0)
        row("second run of a finished 45-cell sweep", finished_sweep(folder), 3.0)
        row("a cell's W&B run, offline (2 % of 100 s)", lambda: recording_of_a_cell(folder), 2.0)
        row("report of 10,000 cells", report_of_ten_thousand(folder), 10.0)


if __name__ == "__main__":
    main()
