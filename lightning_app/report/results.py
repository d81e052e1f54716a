"""Reads what a sweep has left behind: its plan, its results, its per-scan rows. Nothing is computed here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.errors import DataError, Problem
from lightning_app.cells import Store

READERS = 4  # threads; opening ten thousand small files is waiting, not computing
ID_COLUMNS = ("cell", "model", "fold", "seed", "test_set", "scan_id", "patient_id", "layout")


@dataclass(frozen=True)
class SweepResults:
    """Everything the report is made from.

    Attributes:
        root: RUNS/<sweep>.
        plan: Content of sweep.json.
        cells: One row per planned cell: `key, model, fold, seed, state`, and what its result says.
        rows: One row per finished cell, test set and scan; `model` is the label of the current plan.
        thresholds: Pixel counts per cell, test set, scan and threshold; empty where none were kept.
        specs: Specification of each finished cell, by key.
        environments: Environment of each finished cell, by key.
    """

    root: Path
    plan: Mapping[str, Any]
    cells: pd.DataFrame
    rows: pd.DataFrame
    thresholds: pd.DataFrame
    specs: Mapping[str, Mapping[str, Any]]
    environments: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Name of the sweep."""
        return str(self.plan.get("name", self.root.name))

    @property
    def models(self) -> list[str]:
        """Labels in the order of the sweep file."""
        return list(dict.fromkeys(self.cells["model"]))


def read_results(root: Path) -> SweepResults:
    """Read a sweep folder.

    Args:
        root: RUNS/<sweep>.

    Returns:
        Its results, however far it is.

    Raises:
        ConfigError: `NO_SWEEP` if the folder holds no sweep.
        DataError: `NO_RESULTS` if no cell has finished; `ROWS_UNREADABLE` with every damaged table.
    """
    store = Store(root)
    plan = store.plan()
    cells = _cells(store, plan["cells"])
    done = cells.loc[cells["state"] == "done", ["key", "model", "fold", "seed"]].to_dict("records")
    if not done:
        raise DataError(_nothing_to_report(root, cells))
    return SweepResults(
        root=root,
        plan=plan,
        cells=cells,
        rows=_read_tables(store, done, "scans.parquet"),
        thresholds=_read_tables(store, done, "thresholds.parquet"),
        specs={cell["key"]: _json(store.folder(cell["key"]) / "spec.json") for cell in done},
        environments={cell["key"]: _json(store.folder(cell["key"]) / "environment.json") for cell in done},
    )


def _cells(store: Store, planned: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    planned = list(planned)
    states = store.states(cell["key"] for cell in planned)
    records = []
    for cell in planned:
        state = states[cell["key"]]
        result = store.result(cell["key"]) if state in ("done", "failed") else None
        own = {name: cell[name] for name in ("key", "model", "fold", "seed")}
        records.append({**_scalars(result or {}), **own, "state": state})
    return pd.DataFrame(records)


def _scalars(result: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a result one level deep, keeping plain values."""
    flat: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping) and name != "artefacts":
            flat |= {inner: v for inner, v in value.items() if isinstance(v, str | int | float)}
        elif isinstance(value, str | int | float):
            flat[name] = value
    return flat


def _nothing_to_report(root: Path, cells: pd.DataFrame) -> Problem:
    states = ", ".join(f"{n} {state}" for state, n in cells["state"].value_counts().sort_index().items())
    return Problem(
        "NO_RESULTS",
        root.name,
        f"no finished cell ({states})",
        "at least one",
        "run the sweep first; failed cells say why in their result.json and log.txt",
    )


def _read_tables(store: Store, done: list[dict[Any, Any]], name: str) -> pd.DataFrame:
    """Read one table of every finished cell and label its rows as the current plan does."""
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(lambda cell: _table(store.folder(cell["key"]) / name), done))
    damaged = [
        Problem("ROWS_UNREADABLE", f"{cell['key']}/{name}", table, "a parquet table", "run the cell again")
        for cell, table in zip(done, tables, strict=True)
        if isinstance(table, str)
    ]
    if damaged:
        raise DataError(damaged)
    labelled = [
        _label(table, cell) for cell, table in zip(done, tables, strict=True) if isinstance(table, pa.Table)
    ]
    if not labelled:
        return pd.DataFrame(columns=[*ID_COLUMNS])
    rows: pd.DataFrame = pa.concat_tables(labelled, promote_options="permissive").to_pandas()
    return rows


def _table(path: Path) -> pa.Table | str | None:
    """The table; None if the file is absent and may be; what is wrong with it otherwise."""
    try:
        return pq.ParquetFile(path).read(use_threads=False)
    except FileNotFoundError:
        return "no file" if path.name == "scans.parquet" else None
    except (OSError, pa.ArrowException) as error:
        return str(error).splitlines()[0]


def _label(table: pa.Table, cell: Mapping[str, Any]) -> pa.Table:
    kept = [name for name in table.column_names if name not in ("cell", "model", "fold", "seed")]
    table = table.select(kept)
    n = table.num_rows
    labels = {
        "cell": pa.array([cell["key"]] * n, pa.string()),
        "model": pa.array([cell["model"]] * n, pa.string()),
        "fold": pa.array([cell["fold"]] * n, pa.int32()),
        "seed": pa.array([cell["seed"]] * n, pa.int64()),
    }
    for position, (name, column) in enumerate(labels.items()):
        table = table.add_column(position, name, column)
    return table


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}  # the table counts; `inkbeat verify` tells about damaged companions
    return value if isinstance(value, dict) else {}
