"""What became of the held-out scans as signals: how many could be read, how well, and the paper's Table 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_app.ceiling import read_known
from lightning_app.evaluate.agreement import bootstrap_mean
from lightning_app.evaluate.scan_columns import DIGITIZED_OK, PARAMETERS, REASON, SOURCES, human_column
from lightning_app.report.table1 import table1
from lightning_app.report.tables import HELD_OUT

STATE = "digitized"
SUMMARY = (
    "model",
    "n_scans",
    "n_patients",
    "n_read",
    "refusals",
    "signal_pcc_mean",
    "signal_pcc_ci_low",
    "signal_pcc_ci_high",
    "coverage_mean",
    "snr_db_median",
    "ceiling_pcc",
)


@dataclass(frozen=True)
class SignalTables:
    """Both tables over all complete models.

    Attributes:
        summary: One row per model, columns `SUMMARY`; a refused page counts as correlation 0.
        table1: The long Table 1, with `model` as first column.
    """

    summary: pd.DataFrame
    table1: pd.DataFrame


def signal_tables(folders: Sequence[Path], rows: pd.DataFrame, models: Sequence[str]) -> SignalTables | None:
    """Compute both tables.

    Args:
        folders: Where the sweep keeps the ceiling of the cohorts it was trained on.
        rows: Per-scan rows of all finished cells.
        models: Models to show, best first.

    Returns:
        The tables, or None where no scan was digitized.
    """
    if STATE not in rows.columns:
        return None
    own = rows[(rows["test_set"] == HELD_OUT) & rows[STATE].fillna("").ne("")]
    own = own[own["model"].isin(models)]
    if own.empty:
        return None
    ceiling = _ceiling(folders, own)
    per_model = {model: _one_row_per_scan(own[own["model"] == model]) for model in models}
    per_model = {model: table for model, table in per_model.items() if len(table)}
    summary = [_summary(model, table, ceiling) for model, table in per_model.items()]
    # All lines in one go: joined tables disagree on the type of a column that one model leaves empty.
    long = [
        {"model": model} | line
        for model, table in per_model.items()
        for line in table1(table, _of(ceiling, table)).to_dict("records")
    ]
    return SignalTables(pd.DataFrame(summary, columns=list(SUMMARY)), pd.DataFrame(long))


def _one_row_per_scan(rows: pd.DataFrame) -> pd.DataFrame:
    """Average the weight seeds of each scan, as the ranking does; the first seed tells what is no number."""
    identity = ["scan_id", "patient_id", "layout"]
    # No reading is no agreement, for each seed: leaving refused pages out would reward refusing.
    counted = rows.assign(counted_pcc=rows["signal_pcc"].fillna(0.0))
    numbers = counted.groupby(identity, sort=True).mean(numeric_only=True)
    words = [STATE, *(name for name in _human_columns(rows) if name.endswith(REASON))]
    return numbers.join(rows.groupby(identity, sort=True)[words].first()).reset_index()


def _human_columns(rows: pd.DataFrame) -> list[str]:
    names = [human_column(parameter, source) for parameter in PARAMETERS for source in SOURCES]
    return [column for name in names for column in (name, name + REASON) if column in rows]


def _summary(model: str, rows: pd.DataFrame, ceiling: pd.DataFrame | None) -> dict[str, Any]:
    pcc = rows["counted_pcc"]
    trials = bootstrap_mean(pcc.to_numpy(), rows["patient_id"].to_numpy())
    best = _of(ceiling, rows)
    snr_db = rows["signal_snr_db"].dropna()
    refused = rows.loc[rows[STATE] != DIGITIZED_OK, STATE].value_counts().sort_index()
    return {
        "model": model,
        "n_scans": len(rows),
        "n_patients": rows["patient_id"].nunique(),
        "n_read": int((rows[STATE] == DIGITIZED_OK).sum()),
        "refusals": ", ".join(f"{code} {n}" for code, n in refused.items()),
        "signal_pcc_mean": float(pcc.mean()),
        "signal_pcc_ci_low": trials.low if trials else math.nan,
        "signal_pcc_ci_high": trials.high if trials else math.nan,
        "coverage_mean": float(rows["signal_coverage"].fillna(0.0).mean()),
        "snr_db_median": float(snr_db.median()) if len(snr_db) else math.nan,
        "ceiling_pcc": float(best["signal_pcc"].fillna(0.0).mean()) if best is not None else math.nan,
    }


def _of(ceiling: pd.DataFrame | None, rows: pd.DataFrame) -> pd.DataFrame | None:
    """Ceiling of exactly the scans of `rows`, or None if one of them has none."""
    if ceiling is None:
        return None
    own = ceiling[ceiling["scan_id"].isin(rows["scan_id"])]
    return own if len(own) == len(rows) else None


def _ceiling(folders: Sequence[Path], rows: pd.DataFrame) -> pd.DataFrame | None:
    """Rows of the drawn masks, as far as the sweep keeps them, with what people marked in the same scans."""
    known = {path.stem: path for folder in folders for path in sorted(folder.glob("*.json"))}
    table = []
    identity = ["scan_id", "patient_id", "layout"]
    for scan_id, patient_id, layout in rows[identity].drop_duplicates().itertuples(index=False):
        values = read_known(known[scan_id]).ceiling if scan_id in known else {}
        if values:
            table.append({"scan_id": scan_id, "patient_id": patient_id, "layout": layout, **values})
    if not table:
        return None
    human = rows.groupby("scan_id")[_human_columns(rows)].first()
    return pd.DataFrame(table).join(human, on="scan_id")
