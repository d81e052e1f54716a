"""Reads what a sweep has left behind: its plan, its results, its per-scan rows. Nothing is computed here."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.errors import DataError, Problem
from lightning_app.cells import SPEC, Outcome, Store, read_leniently

NO_FILE = "no file"
LABELS = ("cell", "model", "fold", "seed")
ID_COLUMNS = (*LABELS, "test_set", "scan_id", "patient_id", "layout")


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


def read_results(root: Path, outcomes: Mapping[str, Outcome] | None = None) -> SweepResults:
    """Read a sweep folder.

    Args:
        root: RUNS/<sweep>.
        outcomes: Of all planned cells, for a caller that has read them already.

    Returns:
        Its results, however far it is.

    Raises:
        ConfigError: `NO_SWEEP` if the folder holds no sweep.
        DataError: `NO_RESULTS` if no cell has finished; `ROWS_UNREADABLE` with every damaged table.
    """
    store = Store(root)
    plan = store.plan()
    if outcomes is None:
        outcomes = store.outcomes(cell["key"] for cell in plan["cells"])
    cells = _cells(plan["cells"], outcomes)
    done = cells.loc[cells["state"] == "done", ["key", "model", "fold", "seed"]].to_dict("records")
    if not done:
        raise DataError(_nothing_to_report(root, cells))
    with _no_garbage():
        return SweepResults(
            root=root,
            plan=plan,
            cells=cells,
            rows=_read_tables(store, done, "scans.parquet"),
            thresholds=_read_tables(store, done, "thresholds.parquet"),
            specs=_read_objects(store, done, SPEC),
            environments=_read_objects(store, done, "environment.json"),
        )


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Keep the collector from walking, again and again, over the many small things that are read and kept."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _cells(planned: Iterable[Mapping[str, Any]], outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    records = []
    for cell in planned:
        outcome = outcomes[cell["key"]]
        own = {name: cell[name] for name in ("key", "model", "fold", "seed")}
        records.append({**_scalars(outcome.result), **own, "state": outcome.state})
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
    paths = [store.file(cell["key"], name) for cell in done]
    # One thread: several hold each other up, because decoding a small table is mostly Python.
    tables = [_table(path) for path in paths]
    is_needed = name == "scans.parquet"
    damaged = [
        Problem("ROWS_UNREADABLE", f"{cell['key']}/{name}", table, "a parquet table", "run the cell again")
        for cell, table in zip(done, tables, strict=True)
        if isinstance(table, str) and (is_needed or table != NO_FILE)
    ]
    if damaged:
        raise DataError(damaged)
    found = [(cell, table) for cell, table in zip(done, tables, strict=True) if isinstance(table, pa.Table)]
    if not found:
        return pd.DataFrame(columns=[*ID_COLUMNS])
    rows = pa.concat_tables([table for _, table in found], promote_options="permissive").combine_chunks()
    counts = [table.num_rows for _, table in found]
    return _labelled(rows.to_pandas().reset_index(drop=True), [cell for cell, _ in found], counts)


def _table(path: Path) -> pa.Table | str:
    """Read a table, or say what is wrong with it."""
    try:
        return pq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)
    except FileNotFoundError:
        return NO_FILE
    except (OSError, pa.ArrowException) as error:
        return str(error).splitlines()[0]


def _labelled(rows: pd.DataFrame, cells: Sequence[Mapping[Any, Any]], counts: Sequence[int]) -> pd.DataFrame:
    """Put the plan's names before the rows, in place of what the cells called themselves."""
    labels = pd.DataFrame(cells).rename(columns={"key": "cell"})[[*LABELS]]
    labels = labels.astype({"fold": "int32", "seed": "int64"})
    labels = labels.loc[labels.index.repeat(counts)].reset_index(drop=True)
    rows = rows.drop(columns=[name for name in LABELS if name in rows])
    return pd.concat([labels, rows], axis=1)


def _read_objects(store: Store, done: Sequence[Mapping[Any, Any]], name: str) -> dict[str, Mapping[str, Any]]:
    """Read one JSON file of every finished cell; the rows count, `verify` tells about damaged companions."""
    return {cell["key"]: read_leniently(store.file(cell["key"], name)) for cell in done}
