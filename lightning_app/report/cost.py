"""What quality cost: RUNS/<sweep>/cost/, apart from the report, because seconds differ from run to run.

The report is the same bytes however often a sweep was stopped; this folder is not, and nothing in the report
is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_app.cells import Store, write_durably

QUALITY = ("dice_mean", "dice_ci_low", "dice_ci_high", "n_scans", "n_patients", "params", "macs")
SUMMED = ("train_s", "trained_patches", "predict_s", "predicted_pages")
AXES = {
    "train_s": "training of a cell, s",
    "page_s": "prediction of a page, s",
    "peak_memory_mb": "peak memory, MB",
}


def cost_table(
    held_out: pd.DataFrame, cells: pd.DataFrame, timings: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Put what each complete model spent beside its quality.

    Args:
        held_out: Rows of the benchmark table in cross-validation, complete models only, best first.
        cells: All planned cells: `key, model, state`.
        timings: What each finished cell told, by key; see `timing.py`. May lack cells.

    Returns:
        One row per model: `model, dice_mean, dice_ci_low, dice_ci_high, n_scans, n_patients, params, macs`;
        `n_cells` behind the next ones; `train_s` (mean of a cell, pre-training included), `patches_per_s`
        (trained), `pages_per_s` (predicted, stitching included, scoring not), `peak_memory_mb` (the largest),
        `cell_s` (mean; the last process only), `machine`. Empty where no cell told.
    """
    told = pd.DataFrame.from_dict({key: dict(values) for key, values in timings.items()}, orient="index")
    told = told.reindex(columns=[*SUMMED, "peak_memory_mb", "seconds", "machine"])
    own = cells.loc[cells["state"] == "done", ["key", "model"]].merge(told, left_on="key", right_index=True)
    by_model = own.groupby("model")
    sums = by_model[list(SUMMED)].sum(min_count=1)
    spent = pd.DataFrame(
        {
            "n_cells": by_model["seconds"].count(),
            "train_s": by_model["train_s"].mean(),
            "patches_per_s": sums["trained_patches"] / sums["train_s"],
            "pages_per_s": sums["predicted_pages"] / sums["predict_s"],
            "peak_memory_mb": by_model["peak_memory_mb"].max(),
            "cell_s": by_model["seconds"].mean(),
            "machine": by_model["machine"].agg(lambda names: "; ".join(sorted(set(names.dropna())))),
        }
    )
    return held_out[["model", *QUALITY]].join(spent, on="model").reset_index(drop=True)


def write_cost(store: Store, table: pd.DataFrame, colours: Mapping[str, str]) -> Path:
    """Write RUNS/<sweep>/cost/: cost.csv, cost.md, and quality_against_cost.png and .svg.

    Args:
        store: The sweep.
        table: As `cost_table` makes it.
        colours: By model.

    Returns:
        The folder.
    """
    folder = store.root / "cost"
    folder.mkdir(exist_ok=True)
    write_durably(folder / "cost.csv", table.to_csv(index=False, float_format="%.6g").encode())
    write_durably(folder / "cost.md", to_markdown(table).encode())
    drawn = table.assign(page_s=1 / table["pages_per_s"])
    axes = {name: label for name, label in AXES.items() if len(drawn) and (drawn[name] > 0).all()}
    if axes:
        from lightning_app.report import figures

        figures.save_figure(figures.cost_figure(drawn, axes, colours), folder / "quality_against_cost")
    return folder


HEADER = (
    *("model", "Dice, mean [95 %]", "parameters", "MACs a patch", "training of a cell"),
    *("patches/s", "pages/s", "peak memory", "cells"),
)
NOTE = (
    "Training: wall seconds of all epochs, pre-training included. Patches/s: while training. Pages/s: "
    "prediction with stitching, without scoring or digitizing. Peak memory: of the cell's process, or of its "
    "GPU. Other work on the machine makes seconds longer."
)


def to_markdown(table: pd.DataFrame) -> str:
    """Write the table for people."""
    lines = [HEADER, ("---",) * len(HEADER), *(_line(row) for row in table.to_dict("records"))]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    machines = "; ".join(sorted(set(table["machine"].dropna()) - {""}))
    return f"{text}\n\nOn {machines or 'an unknown machine'}, best model first. {NOTE}\n"


def _line(row: Mapping[Any, Any]) -> tuple[str, ...]:
    interval = (
        f" [{row['dice_ci_low']:.3f}, {row['dice_ci_high']:.3f}]" if pd.notna(row["dice_ci_low"]) else ""
    )
    return (
        str(row["model"]),
        f"{row['dice_mean']:.3f}{interval}, n = {row['n_scans']:.0f}",
        _text(row["params"], 1e6, " M"),
        _text(row["macs"], 1e9, " G"),
        _text(row["train_s"], 1, " s"),
        _text(row["patches_per_s"]),
        _text(row["pages_per_s"]),
        _text(row["peak_memory_mb"], 1, " MB"),
        _text(row["n_cells"]),
    )


def _text(value: float, unit: float = 1, name: str = "") -> str:
    return f"{value / unit:.3g}{name}" if pd.notna(value) else "–"
