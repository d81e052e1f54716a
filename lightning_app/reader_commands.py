"""`inkbeat reader`: make a reader out of a trained cell, and find out how well a reader reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from datamodules.errors import ConfigError, Problem
from lightning_app.cohort_commands import Counter
from lightning_app.commands import Group


@click.group(cls=Group)
def reader() -> None:
    """Pack a trained network for `inkbeat digitize`, and measure what it reads."""


@reader.command()
@click.argument("sweep", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="NAME.safetensors; the reader that ships is replaced if left out.",
)
@click.option(
    "--px-per-mm",
    nargs=2,
    type=click.FloatRange(min=1, max=20),
    required=True,
    help="Smallest and largest millimetre of the pages it was trained on, in px.",
)
def pack(sweep: Path, out: Path | None, px_per_mm: tuple[float, float]) -> None:
    """Pack the one cell of SWEEP (a folder of runs, or of a cell) into two files."""
    from lightning_app.digitize import reader as readers

    out = out or readers.SHIPPED
    readers.pack(the_cell(sweep), out, (min(px_per_mm), max(px_per_mm)))
    click.echo(f"{out} ({out.stat().st_size / 1e6:.1f} MB) and {out.with_suffix('.json').name}")


@reader.command()
@click.argument("cohort", type=click.Path(path_type=Path))
@click.option(
    "--weights", type=click.Path(path_type=Path), help="A cell or a packed reader, not the shipped."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="CSV with a row per scan.")
@click.option(
    "--leads",
    "leads_out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV with a row per lead: what its confidence follows from, and whether it held.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one a core if left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    cohort: Path,
    weights: Path | None,
    out: Path | None,
    leads_out: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Read every scan of COHORT as an unknown page and compare with its truth."""
    from lightning_app.digitize.reader import SHIPPED
    from lightning_app.prepare import cores
    from lightning_app.reader_check import read_cohort, summary

    with Counter("reading scans") as counter:
        pages, leads = read_cohort(cohort, weights or SHIPPED, workers or cores(), counter.show)
    if out is not None:
        pages.to_csv(out, index=False, float_format="%.5g")
    if leads_out is not None:
        leads.to_csv(leads_out, index=False, float_format="%.5g")
    found = summary(pages)
    click.echo(json.dumps(found, indent=1) if as_json else _as_text(found))


def the_cell(sweep: Path) -> Path:
    """Find the one finished cell below a sweep's folder, or take the folder of a cell.

    Raises:
        ConfigError: `CELL_NOT_ONE`.
    """
    if (sweep / "spec.json").is_file():
        return sweep
    cells = [path.parent for path in sorted(sweep.glob("cells/*/result.json"))]
    if len(cells) != 1:
        raise ConfigError(
            Problem("CELL_NOT_ONE", str(sweep), f"{len(cells)} finished cells", "one", "name a cell's folder")
        )
    return cells[0]


def _as_text(found: dict[str, Any]) -> str:
    lines = [f"{name:28} {value}" for name, value in found.items() if not isinstance(value, dict)]
    for name, values in found.items():
        if isinstance(values, dict):
            lines += [f"{name}:", *(f"  {key:26} {value}" for key, value in values.items())]
    return "\n".join(lines)
