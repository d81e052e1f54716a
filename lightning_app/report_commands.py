"""`inkbeat report`: build the report of a sweep again."""

from __future__ import annotations

from pathlib import Path

import click

from lightning_app.commands import Command


@click.command(cls=Command)
@click.argument("runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--list", "is_listing", is_flag=True, help="Only name the reports there are.")
def report(runs: Path, is_listing: bool) -> None:
    """Build the report of the sweep in RUNS/<sweep>, or of every sweep below RUNS."""
    from lightning_app.sweep_commands import stores_below

    stores = stores_below(runs)
    if is_listing:
        for store in stores:
            page = store.root / "report" / "report.html"
            click.echo(f"{store.root.name}  {page if page.is_file() else 'no report yet'}")
        return
    from lightning_app.reporting import report_on

    for store in stores:
        report_on(store.root, rebuild=True)
