"""`inkbeat cohort ...`: make, and whatever else a cohort needs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.group()
def cohort() -> None:
    """Make and look after cohorts of scans."""


@cohort.command()
@click.option("--kind", type=click.Choice(["binary", "pseudo", "colour"]), required=True)
@click.option(
    "--signals", default="simulated", show_default=True, help="`simulated` or a folder of WFDB records."
)
@click.option("--scans", type=click.IntRange(1), required=True, help="Number of scans.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the new cohort.")
@click.option(
    "--layout", "layouts", multiple=True, help="Use these layouts in turn instead of the kind's own."
)
@click.option("--workers", type=click.IntRange(1), help="Processes; the result does not depend on it.")
def make(
    kind: Literal["binary", "pseudo", "colour"],
    signals: str,
    scans: int,
    seed: int,
    out: Path,
    layouts: tuple[str, ...],
    workers: int | None,
) -> None:
    """Draw a cohort: pages, masks, the signals as drawn, and where every lead lies."""
    from datamodules.rendering.make import make_cohort

    with click.progressbar(length=scans, label=f"drawing {kind} scans") as bar:
        made = make_cohort(
            kind,
            scans,
            seed,
            signals,
            out,
            workers=workers,
            on_progress=lambda *_: bar.update(1),
            layouts=layouts or None,
        )
    click.echo(made)
