"""What evaluating costs: one full page, and the table of a very large sweep, in CPU seconds.

    python -m tests.performance.bench_evaluation

Budgets: all metrics of a noisy 886x1120 page 0.3 s; the benchmark table of 10,000 cells 10 s.
"""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from lightning_app.evaluate.segmentation import scan_metrics
from lightning_app.report.analysis_plan import load_analysis_plan
from lightning_app.report.tables import benchmark_table

MODELS, FOLDS, SCANS = 2000, 5, 20


def best_cpu_seconds(action: Callable[[], object], repeats: int = 3) -> float:
    """Least CPU time of a few calls."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        action()
        taken.append(time.process_time() - started)
    return min(taken)


def noisy_page() -> tuple[np.ndarray, np.ndarray]:
    """Four waves on a page and a prediction one pixel off, with a hundredth of all pixels wrong."""
    truth = np.zeros((886, 1120), bool)
    x = np.arange(1120)
    for row in range(4):
        y = (150 + 190 * row + 30 * np.sin(x / 20)).astype(int)
        for thickness in range(3):
            truth[y + thickness, x] = True
    wrong = np.random.default_rng(0).random(truth.shape) < 0.01
    return np.roll(truth, 1, axis=0) | wrong, truth


def large_sweep() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and cells of 2000 invented models on five folds of twenty scans."""
    names = [f"m{i:04d}" for i in range(MODELS)]
    scan = np.tile(np.arange(SCANS), MODELS)
    dice = np.random.default_rng(0).random(len(scan))
    rows = pd.DataFrame(
        {"model": np.repeat(names, SCANS), "fold": scan % FOLDS, "seed": 0, "test_set": "cv",
         "layout": "four", "scan_id": [f"s{i:02d}" for i in scan], "patient_id": [f"p{i:02d}" for i in scan],
         "dice": dice, "precision": dice, "tp": 1.0, "fp": 1.0, "fn": 1.0}
    )  # fmt: skip
    fold = np.tile(np.arange(FOLDS), MODELS)
    columns = {"model": np.repeat(names, FOLDS), "fold": fold, "seed": 0, "state": "done", "params": 1.0}
    return rows, pd.DataFrame(columns)


def main() -> None:
    """Print both against their budgets."""
    prediction, truth = noisy_page()
    rows, cells = large_sweep()
    plan = load_analysis_plan()
    for name, budget_s, action in (
        ("metrics of a noisy page", 0.3, lambda: scan_metrics(prediction, truth)),
        ("benchmark table of 10,000 cells", 10.0, lambda: benchmark_table(rows, cells, plan)),
    ):
        taken_s = best_cpu_seconds(action)
        print(f"{name:40} {taken_s:6.2f} s   budget {budget_s:4.1f} s   {taken_s / budget_s:5.2f}")


if __name__ == "__main__":
    main()
