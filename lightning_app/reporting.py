"""Building the report of a sweep at the end of a run, and showing where it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import click

from lightning_app.cells import Outcome, Store, write_durably

SOURCES = ".made-from"  # hash of the sources, then the summary as printed


def report_on(root: Path, *, rebuild: bool = False, track: bool = False) -> Path | None:
    """Build the report of a sweep unless the one there is of the same cells, and print its table.

    Args:
        root: RUNS/<sweep>.
        rebuild: Build it in any case.
        track: Record a report that was built with W&B, too.

    Returns:
        The page; None if no cell is done.
    """
    store = Store(root)
    outcomes = store.outcomes(cell["key"] for cell in store.plan()["cells"])
    if not any(outcome.state == "done" for outcome in outcomes.values()):
        click.echo("no cell is done, so there is nothing to report")
        return None
    page = root / "report" / "report.html"
    sources = _sources(store, outcomes)
    mark = root / "report" / SOURCES
    if (
        rebuild
        or not page.is_file()
        or not mark.is_file()
        or mark.read_text(encoding="utf-8").split("\n")[0] != sources
    ):
        from lightning_app.report.pages import build_report

        mark.unlink(missing_ok=True)  # so that a kill in the middle leaves no report that passes as whole
        built = build_report(root, outcomes)
        write_durably(mark, f"{sources}\n{built.summary}\n".encode())
        if track:
            from lightning_app.report_tracking import track_report

            track_report(root, built.figures)
    click.echo(mark.read_text(encoding="utf-8").partition("\n")[2].rstrip())
    click.echo(f"report: {page}")
    return page


def _sources(store: Store, outcomes: Mapping[str, Outcome]) -> str:
    """Hash what a report is made from: the plan and every result in it, and the code that makes it."""
    digest = hashlib.sha256((store.root / "sweep.json").read_bytes())
    for key, outcome in outcomes.items():
        digest.update(f"{key} {outcome.state} {json.dumps(outcome.result)}".encode())
    for path in sorted((Path(__file__).parent / "report").glob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
