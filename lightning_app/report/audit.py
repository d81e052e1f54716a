"""Holds finished tables against the rows they claim to be made from, by another route, before they are shown.

Each check stands for one of the common errors of the field (PROTOCOL 2.5, numbers in the codes): scores at
another threshold than the fixed one (E4), a mean that is really a pool of pixels (E7), scans that vanished
(E8), a bootstrap's SD under the name of the data's (E11), layouts seen only in a mixture (E12), an interval
without n (E13), numbers of several or unknown versions of the metrics (E14). The tables come from `tables`;
nothing of it is used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from datamodules.errors import IntegrityError, Problem
from lightning_app.evaluate.scan_columns import METRICS_VERSION

TOLERANCE = 1e-9
# Columns of intervals, and the counts that must stand beside them.
INTERVALS = (
    ("dice_ci_low", "dice_ci_high", "n_scans", "n_patients"),
    ("ci_low", "ci_high", "n_scans", "n_patients"),
    ("signal_pcc_ci_low", "signal_pcc_ci_high", "n_scans", "n_patients"),
    ("low", "high", "n", "n_patients"),
)


def audit_rows(rows: pd.DataFrame, thresholds: pd.DataFrame, fixed: Mapping[str, float]) -> None:
    """Refuse rows that were not scored as their specification says, before anything is computed from them.

    Args:
        rows: All per-scan rows.
        thresholds: Pixel counts per cell, test set, scan and threshold; may lack cells.
        fixed: Threshold of each cell by its specification.

    Raises:
        IntegrityError: With every disagreement.
    """
    problems = [*_versions(rows), *_tuned(rows, thresholds, fixed)]
    if problems:
        raise IntegrityError(problems)


def audit(
    rows: pd.DataFrame, benchmark: pd.DataFrame, by_layout: pd.DataFrame, contrasts: pd.DataFrame
) -> None:
    """Refuse tables that do not say what their columns are called.

    Args:
        rows: All per-scan rows.
        benchmark: One row per model and test set.
        by_layout: One row per model, test set and layout.
        contrasts: One row per model against the reference and test set.

    Raises:
        IntegrityError: With every disagreement.
    """
    problems: list[Problem] = []
    for name, table, keys in (
        ("benchmark", benchmark, ["test_set", "model"]),
        ("layouts", by_layout, ["test_set", "model", "layout"]),
    ):
        problems += _against_rows(name, table, rows, keys)
    problems += _layouts(benchmark, by_layout)
    for name, table in {"benchmark": benchmark, "layouts": by_layout, "contrasts": contrasts}.items():
        problems += _intervals(name, table)
    if problems:
        raise IntegrityError(problems)


def audit_signals(summary: pd.DataFrame, table1: pd.DataFrame) -> None:
    """Refuse intervals of the signal tables that do not say what they rest on.

    Args:
        summary: One row per model.
        table1: The long Table 1, all models.

    Raises:
        IntegrityError: With every such interval.
    """
    problems = [*_intervals("signals", summary), *_intervals("table1", table1)]
    if problems:
        raise IntegrityError(problems)


def _versions(rows: pd.DataFrame) -> Iterator[Problem]:
    """E14: every row says with which version of the metrics it was scored, and it is this one."""
    if "metrics_version" not in rows:
        yield _problem("E14_METRICS_UNVERSIONED", "rows", "no column metrics_version", str(METRICS_VERSION))
        return
    versions = rows["metrics_version"].fillna("none")
    for version, part in rows[versions != str(METRICS_VERSION)].groupby(versions):
        cells = ", ".join(sorted(part["cell"].unique())[:3])
        yield _problem("E14_METRICS_VERSION", f"cells {cells}", f"version {version}", str(METRICS_VERSION))


def _tuned(rows: pd.DataFrame, thresholds: pd.DataFrame, fixed: Mapping[str, float]) -> Iterator[Problem]:
    """E4: the counts behind a score are those at the threshold that was fixed before, for every scan."""
    for threshold in sorted(set(fixed.values()))[1:]:
        yield _problem("E4_SEVERAL_THRESHOLDS", "cells", f"{threshold:g}", f"{min(fixed.values()):g} in all")
    if thresholds.empty or not {"tp", "fp", "fn"} <= set(rows):
        return
    at_fixed = thresholds[thresholds["threshold"] == thresholds["cell"].map(fixed)]
    both = rows.merge(at_fixed, on=["cell", "test_set", "scan_id"], suffixes=("", "_fixed"))
    differs = pd.concat([both[name] != both[f"{name}_fixed"] for name in ("tp", "fp", "fn")], axis=1).any(
        axis=1
    )
    for row in both[differs].to_dict("records"):
        where = f"{row['model']}, fold {row['fold']}, {row['test_set']}, scan {row['scan_id']}"
        yield _problem(
            "E4_THRESHOLD_TUNED",
            where,
            f"{row['tp']:g} true pixels",
            f"{row['tp_fixed']:g}, as at {row['threshold']:g}",
        )


def _against_rows(name: str, table: pd.DataFrame, rows: pd.DataFrame, keys: list[str]) -> Iterator[Problem]:
    """E7, E8, E11: mean, SD and counts again from the rows, each scan once."""
    by_scan = rows.groupby([*keys, "scan_id"])["dice"].mean()  # NaN where a scan has no value
    again = by_scan.groupby(level=keys).agg(["mean", "std", "count", "size"])
    again["patients"] = rows.dropna(subset=["dice"]).groupby(keys)["patient_id"].nunique()
    again["patients"] = again["patients"].fillna(0)
    both = table.merge(again.add_prefix("again_").reset_index(), on=keys, how="outer", indicator="found_in")
    for row in both.to_dict("records"):
        where = f"{name}, {', '.join(str(row[key]) for key in keys)}"
        if row["found_in"] == "both":
            yield from _row_problems(where, row)
        else:
            yield _problem("E8_ROWS_LEFT_OUT", where, "a row on one side only", "one in rows and table")


def _row_problems(where: str, row: Mapping[Any, Any]) -> Iterator[Problem]:
    if not _same(row["dice_mean"], row["again_mean"]):
        wanted = f"{row['again_mean']:.6f}, the mean over scans"
        yield _problem("E7_NOT_THE_MEAN_OVER_SCANS", where, f"{row['dice_mean']:.6f}", wanted)
    if not _same(row["dice_sd"], row["again_std"]):
        wanted = f"{row['again_std']:.6f}, that of the data"
        yield _problem("E11_NOT_THE_SD_OF_THE_DATA", where, f"{row['dice_sd']:.6f}", wanted)
    counts = [int(row[name]) for name in ("n_scans", "n_patients", "n_missing")]
    n = int(row["again_count"])
    wanted_counts = [n, int(row["again_patients"]), int(row["again_size"]) - n]
    if counts != wanted_counts:
        words = "{} scans of {} patients, {} without value"
        yield _problem("E8_SCANS_VANISHED", where, words.format(*counts), words.format(*wanted_counts))


def _layouts(benchmark: pd.DataFrame, by_layout: pd.DataFrame) -> Iterator[Problem]:
    """E12: whatever is shown as a mixture is shown apart, too, down to the last scan."""
    names = ["n_scans", "n_missing"]
    apart = by_layout.groupby(["test_set", "model"])[names].sum() if len(by_layout) else by_layout
    for row in benchmark.to_dict("records"):
        key = (row["test_set"], row["model"])
        n = int(apart.loc[key].sum()) if key in apart.index else 0
        if n != row["n_scans"] + row["n_missing"]:
            wanted = f"{row['n_scans'] + row['n_missing']}, as in the mixture"
            yield _problem("E12_LAYOUTS_MIXED", f"layouts, {', '.join(key)}", f"{n} scans by layout", wanted)


def _intervals(name: str, table: pd.DataFrame) -> Iterator[Problem]:
    """E13: no interval without the scans and the patients it rests on."""
    for low, high, *counts in INTERVALS:
        if low not in table:
            continue
        with_interval = table[table[low].notna() | table[high].notna()]
        for count in counts:
            lacking = with_interval[~(with_interval[count] >= 2)] if count in table else with_interval
            for row in lacking.to_dict("records"):
                about = [str(row[key]) for key in ("test_set", "model", "quantity", "layout") if key in row]
                got = f"{count} {row.get(count, 'absent')}"
                yield _problem("E13_INTERVAL_WITHOUT_N", ", ".join([name, *about]), got, "2 or more")


def _same(ours: float, theirs: float) -> bool:
    return bool(np.isclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _problem(code: str, where: str, got: str, wanted: str) -> Problem:
    remedies = {
        "E14": "run these cells again: the metrics have changed since",
        "E4_": "run these cells again with the threshold of the sweep file",
    }
    remedy = remedies.get(code[:3], "a fault of the report, not of your data: please tell us")
    return Problem(code, where, got, wanted, remedy)
