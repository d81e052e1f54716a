"""`inkbeat figure`: the figures of Li et al. 2020, in our own design and from our own pages (R35)."""

from __future__ import annotations

from pathlib import Path

import click

from datamodules.errors import ConfigError, Problem
from lightning_app.commands import Command

OF_SWEEP = ("4", "5a", "5b")
DRAWN = ("1", "2", "3", "s1", "s2", "s3")


@click.command(cls=Command)
@click.argument("number", type=click.Choice([*DRAWN, *OF_SWEEP], case_sensitive=False))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the pictures."
)
@click.option("--runs", type=click.Path(path_type=Path), help="RUNS/<sweep>, for figures 4, 5a and 5b.")
@click.option("--signals", default="simulated", show_default=True, help="`simulated`, or a folder of WFDB.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Other seed, other pages.")
def figure(number: str, out: Path, runs: Path | None, signals: str, seed: int) -> None:
    """Draw figure NUMBER of the paper.

    1 pipelines, 2 classes of noise, 3 network, 4 scan, truth and prediction, 5a cross-validation, 5b other
    pages, s1 layouts, s2 pseudo scans, s3 colour pages.
    """
    if number in OF_SWEEP:
        from lightning_app.report.pages import draw_from_sweep

        if runs is None:
            remedy = f"inkbeat figure {number} --runs runs/quick --out {out}"
            raise ConfigError(Problem("RUNS_MISSING", f"figure {number}", "no --runs", "a sweep", remedy))
        out.mkdir(parents=True, exist_ok=True)
        paths = draw_from_sweep(runs, f"fig{number}", out)
    else:
        from lightning_app.report.paper_figures import draw_paper_figure

        out.mkdir(parents=True, exist_ok=True)
        paths = [draw_paper_figure(number, out, signals, seed)]
    for path in paths:
        click.echo(path)
