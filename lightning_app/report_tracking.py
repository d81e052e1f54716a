"""The last W&B run of a sweep: its report's table and figures, beside the runs of the cells."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lightning_app.cells import Store
from lightning_app.tracking import RunIdentity, Tracker


def track_report(root: Path, figures: Sequence[Path]) -> None:
    """Record the report of a sweep; nothing here may fail a run.

    Args:
        root: RUNS/<sweep>, its report built.
        figures: PNG files.
    """
    plan = Store(root).plan()
    keys = [cell["key"] for cell in plan["cells"]]
    identity = RunIdentity(
        run_id=hashlib.sha256(" ".join(["report", *keys]).encode()).hexdigest()[:16],
        name=f"report-{plan['name']}",
        sweep=plan["name"],
        job_type="report",
        tags=("report", plan["name"]),
        config={"cells": keys},
    )
    benchmark = pd.read_csv(root / "report" / "benchmark.csv")
    Tracker(root, root, identity).finish(tables={"benchmark": benchmark}, figures=figures)
