"""What a sweep costs besides its cells: planning, starting, a kill, finding that everything is done.

    python -m tests.performance.bench_sweeps

Budgets: plan of 10,000 cells 1 s; start of a cell 0.1 s after the first; 20 cells of 0.6 s on 2 slots with
one worker killed 7 s; second run of a finished 45-cell sweep 3 s; report of 10,000 cells 10 s; the W&B run
of a cell 2 % of it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lightning_app.cells import RESULT, SPEC, result_of
from lightning_app.engines import Job, Slot
from lightning_app.engines.local import PRELOAD, LocalEngine, warm_up
from lightning_app.evaluate.segmentation import METRICS_VERSION, scan_metrics
from lightning_app.planning import make_plan
from lightning_app.specs import PlannedCell, check_sweep
from lightning_app.tracking import Overlay, RunIdentity, Tracker
from tests.lightning_app.engines import work
from tests.lightning_app.specs_of_tiny import TINY


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def row(name: str, value_s: float, budget_s: float) -> None:
    """Print one line of the table."""
    print(f"{name:52} {value_s:7.2f} s   budget {budget_s:4.1f} s   {value_s / budget_s:5.2f}")


def plan_of(n_seeds: int, runs: Path, *, folds: int) -> None:
    """Plan a sweep as the command does, keys and states."""
    content = {**TINY, "seeds": list(range(n_seeds)), "folds": {"count": folds}}
    plan = make_plan(check_sweep(content), runs)
    assert len(plan.states()) == n_seeds * folds


def twenty_cells(folder: Path) -> float:
    """20 cells of 0.6 s on two slots, one of them killed half-way."""
    jobs = [Job(folder, f"k{number:02d}") for number in range(20)]
    return seconds(
        lambda: LocalEngine(work.sleep_600_ms, []).run(jobs, [Slot(0), Slot(1)], lambda event: None)
    )


def start_of_a_cell(folder: Path) -> float:
    """Start and end of a process that has torch and Lightning imported, when another was there before."""
    context = warm_up(1, PRELOAD)

    def once() -> None:
        process = context.Process(target=work.finish, args=(Job(folder, "first"), Slot(0)))
        process.start()
        process.join()

    once()
    return min(seconds(once) for _ in range(5)) - 0.05  # what the cell itself sleeps


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


def finished_sweep(folder: Path) -> float:
    """`inkbeat run` of 45 cells that are all done, report included in the check."""
    runs = folder / "runs"
    sweep = folder / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(finished(runs, n_seeds=9)))
    command = [sys.executable, "-m", "lightning_app", "run", str(sweep), "--out", str(runs)]
    environment = {**os.environ, "WANDB_MODE": "disabled"}

    def run() -> None:
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    run()  # builds the report
    return seconds(run)


def report_of_ten_thousand(folder: Path) -> float:
    """`inkbeat report` of 10,000 finished cells, imports included."""
    finished(folder / "many", n_seeds=2000)
    command = [sys.executable, "-m", "lightning_app", "report", str(folder / "many" / "tiny")]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def recording_of_a_cell(folder: Path) -> float:
    """The offline W&B run of a cell of 100 epochs and 200 rows, with three pages."""
    page = np.zeros((1120, 886), np.uint8)
    page[100] = 255
    identity = RunIdentity("k", "k", "bench", "cell")
    pages = [Overlay(word, page, page > 0, page > 0) for word in ("worst", "median", "best")]
    rows = pd.concat([_rows_of(0)] * 50)
    tracker = Tracker(folder, folder / "cells" / "k", identity, "offline")
    epochs = [{"epoch": float(number), "train_loss": 0.1} for number in range(100)]
    return seconds(lambda: tracker.finish(epochs, {"scans": rows}, pages, summary={"dice": 0.5}))


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
    table = pa.Table.from_pandas(rows.assign(seed=seed, dice=dice), preserve_index=False)
    pq.write_table(table, path)


def main() -> None:
    """Print every figure beside its budget."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row("plan of 10,000 cells", seconds(lambda: plan_of(2000, folder / "none", folds=5)), 1.0)
        row("start of a cell after the first", start_of_a_cell(folder), 0.1)
        row("20 cells of 0.6 s, 2 slots, one killed", twenty_cells(folder), 7.0)
        row("second run of a finished 45-cell sweep", finished_sweep(folder), 3.0)
        row("report of 10,000 cells", report_of_ten_thousand(folder), 10.0)
        row("a cell's W&B run, offline (2 % of a cell of 100 s)", recording_of_a_cell(folder), 2.0)


if __name__ == "__main__":
    main()
