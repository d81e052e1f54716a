"""Building the report of a sweep at the end of a run, and showing where it is."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import click

from lightning_app.cells import RESULT, Store

SOURCES = ".sources.sha256"


def report_on(root: Path, *, rebuild: bool = False) -> Path | None:
    """Build the report of a sweep unless the one there is of the same cells, and print its table.

    Args:
        root: RUNS/<sweep>.
        rebuild: Build it in any case.

    Returns:
        The page; None if no cell is done.
    """
    from lightning_app.report.pages import build_report

    store = Store(root)
    states = store.states(cell["key"] for cell in store.plan()["cells"])
    if "done" not in states.values():
        click.echo("no cell is done, so there is nothing to report")
        return None
    page = root / "report" / "report.html"
    sources = _sources(store, states)
    mark = root / "report" / SOURCES
    if rebuild or not page.is_file() or not mark.is_file() or mark.read_text() != sources:
        build_report(root)
        mark.write_text(sources, encoding="ascii")
    _print_table(root / "report" / "benchmark.csv")
    click.echo(f"report: {page}")
    return page


def _sources(store: Store, states: dict[str, str]) -> str:  # type: ignore[type-arg]
    """Hash what a report is made from: the plan and every result in it, and the code that makes it."""
    digest = hashlib.sha256((store.root / "sweep.json").read_bytes())
    for key, state in states.items():
        path = store.folder(key) / RESULT
        digest.update(f"{key} {state}".encode() + (path.read_bytes() if path.is_file() else b""))
    for path in sorted((Path(__file__).parent / "report").glob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _print_table(path: Path) -> None:
    from lightning_app.sweep_commands import table

    shown = ("model", "test_set", "n_scans", "dice_mean", "dice_ci_low", "dice_ci_high")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: _short(row.get(name, "")) for name in shown} for row in csv.DictReader(file)]
    click.echo(table(rows))


def _short(text: str) -> str:
    try:
        return f"{float(text):.3f}" if "." in text else text
    except ValueError:
        return text
