"""What a rendered scan costs in CPU time, per kind.

    python -m tests.performance.bench_rendering [--scans 40]

Budget: 40 ms for a binary scan with its mask. Filtering the signal and writing the four files come on top and
are shown apart. Process time, least of three passes, one process.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from datamodules.rendering.difficulty import NOMINAL
from datamodules.rendering.make import Kind, ScanTask, as_printed, assign_layouts, draw_scan, write_scan
from tests.datamodules.rendering.recordings import beats

BUDGET_MS = 40.0


def cpu_ms(work: Callable[[ScanTask], object], tasks: list[ScanTask]) -> float:
    """Least mean CPU time of one scan over three passes."""
    passes = []
    for _ in range(3):
        began = time.process_time()
        for task in tasks:
            work(task)
        passes.append((time.process_time() - began) / len(tasks) * 1e3)
    return min(passes)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=40)
    n_scans = parser.parse_args().scans
    recordings = [beats(seed) for seed in range(n_scans)]
    for kind in get_args(Kind):
        tasks = [
            ScanTask(kind, number, 0, layout, recordings[number], NOMINAL)
            for number, layout in enumerate(assign_layouts(kind, n_scans, 0))
        ]
        filtered = cpu_ms(lambda task: as_printed(task.recording, task.layout.duration_s), tasks)
        drawn = cpu_ms(draw_scan, tasks) - filtered
        with tempfile.TemporaryDirectory() as folder:
            whole = cpu_ms(lambda task: write_scan(task, Path(folder)), tasks)
        budget = f"budget {BUDGET_MS:.0f} ms" if kind == "binary" else ""
        print(f"{kind:<7} page and mask {drawn:6.1f} ms {budget}")
        print(f"{kind:<7} with filter and files {whole:6.1f} ms")


if __name__ == "__main__":
    main()
