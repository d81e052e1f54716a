"""What a sweep costs besides its cells: planning, starting, a kill, finding that everything is done.

    python -m tests.performance.bench_sweeps

Budgets: plan of 10,000 cells 1 s; start of a cell 0.1 s after the first; 20 cells of 0.6 s on 2 slots with
one worker killed 7 s; second run of a finished 45-cell sweep 3 s.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lightning_app.cells import RESULT, SPEC, result_of, write_json
from lightning_app.engines import Job, Slot
from lightning_app.engines.local import PRELOAD, LocalEngine, warm_up
from lightning_app.evaluate.segmentation import METRICS_VERSION, scan_metrics
from lightning_app.planning import make_plan
from lightning_app.specs import PlannedCell, check_sweep
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


def finished_sweep(folder: Path) -> float:
    """`inkbeat run` of 45 cells that are all done, report included in the check."""
    content = {**TINY, "seeds": list(range(9)), "folds": {"count": 5}}
    runs = folder / "runs"
    plan = make_plan(check_sweep(content), runs)
    for cell in plan.cells:
        path = plan.store.folder(cell.key)
        path.mkdir(parents=True)
        write_json(path / SPEC, cell.spec.model_dump(mode="json"))
        _write_rows(path, cell)
        write_json(
            path / RESULT, result_of(path, cell.key, "done", [SPEC, "scans.parquet"], dice={"cv": 0.5})
        )
    sweep = folder / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "lightning_app", "run", str(sweep), "--out", str(runs)]
    environment = {**os.environ, "WANDB_MODE": "disabled"}

    def run() -> None:
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    run()  # builds the report
    return seconds(run)


def _write_rows(folder: Path, cell: PlannedCell) -> None:
    truth = np.eye(48, dtype=bool)
    scans = [f"f{cell.spec.folds.fold}-{number}" for number in range(4)]
    named = {
        "fold": cell.spec.folds.fold,
        "seed": cell.spec.seeds.weights,
        "test_set": "cv",
        "layout": "four_line",
    }
    rows = [
        {**named, "scan_id": scan, "patient_id": scan, "metrics_version": str(METRICS_VERSION)}
        | scan_metrics(np.roll(truth, number, axis=0), truth)
        for number, scan in enumerate(scans)
    ]
    pd.DataFrame(rows).to_parquet(folder / "scans.parquet", index=False)


def main() -> None:
    """Print every figure beside its budget."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row("plan of 10,000 cells", seconds(lambda: plan_of(2000, folder / "none", folds=5)), 1.0)
        row("start of a cell after the first", start_of_a_cell(folder), 0.1)
        row("20 cells of 0.6 s, 2 slots, one killed", twenty_cells(folder), 7.0)
        row("second run of a finished 45-cell sweep", finished_sweep(folder), 3.0)


if __name__ == "__main__":
    main()
