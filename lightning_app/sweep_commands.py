"""`inkbeat plan | run | status | verify`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datamodules.errors import ConfigError, IntegrityError, Problem
from datamodules.wording import number_of
from lightning_app.commands import Command

if TYPE_CHECKING:
    from lightning_app.planning import Plan

sweep_argument = click.argument("sweep", type=click.Path(path_type=Path))
runs_argument = click.argument("runs", type=click.Path(path_type=Path), default=Path("runs"))
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of all runs; the sweep gets a folder of its name in it.",
)
set_option = click.option(
    "--set",
    "overrides",
    metavar="A.B=VALUE",
    multiple=True,
    help="Change a value of the sweep file, e.g. --set training.epochs=3 --set models.0.init_args.width=16.",
)


def _plan(sweep: Path, out: Path, overrides: tuple[str, ...]) -> Plan:
    from lightning_app.planning import make_plan
    from lightning_app.specs import load_sweep

    return make_plan(load_sweep(sweep, overrides), out)


@click.command(cls=Command)
@sweep_argument
@out_option
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(sweep: Path, out: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show the cells of a sweep file, how far each is, and what all of them cost."""
    from lightning_app.costs import estimate, in_words
    from lightning_app.planning import as_row, count_states

    planned = _plan(sweep, out, overrides)
    states = planned.states()
    rows = [{**as_row(cell), "state": states[cell.key]} for cell in planned.cells]
    cost = estimate(planned, {key for key, state in states.items() if state != "done"})
    if as_json:
        click.echo(json.dumps({"cells": rows, "cost": cost}, indent=1, ensure_ascii=False))
        return
    click.echo(table(rows))
    click.echo(f"{number_of(len(rows), 'cell')}: {count_states(states)}")
    click.echo(in_words(cost))


@click.command(cls=Command)
@sweep_argument
@out_option
@set_option
@click.option("--engine", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True)
@click.option(
    "--workers", type=click.IntRange(1), help="Cells at a time; by default one a GPU or one a core."
)
@click.option("--model", "models", multiple=True, help="Only cells of this model, by its name in the report.")
@click.option("--fold", "folds", type=int, multiple=True, help="Only cells of this fold.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Only cells of this seed.")
def run(
    sweep: Path,
    out: Path,
    overrides: tuple[str, ...],
    engine: Any,
    workers: int | None,
    models: tuple[str, ...],
    folds: tuple[int, ...],
    seeds: tuple[int, ...],
) -> None:
    """Run a sweep file and report on it; the same command goes on where it was stopped.

    With --model, --fold or --seed only that part is run, as one of several runs that work on the sweep, and
    the report is left to `inkbeat report`.
    """
    planned = _plan(sweep, out, overrides)
    from lightning_app.engines.local import signals_interrupt
    from lightning_app.reporting import report_on
    from lightning_app.runner import run_sweep

    only = part_of(planned, models, folds, seeds) if models or folds or seeds else None
    with signals_interrupt():
        code = run_sweep(planned, engine=engine, workers=workers, only=only)
        if only is None:
            report_on(planned.store.root, track=True)
    raise SystemExit(code)


def part_of(
    plan: Plan, models: Collection[str], folds: Collection[int], seeds: Collection[int]
) -> frozenset[str]:
    """Choose cells of a plan; an empty collection leaves everything in.

    Returns:
        Their keys.

    Raises:
        ConfigError: `NO_SUCH_CELL` if a name or number occurs in no cell.
    """
    from lightning_app.planning import as_row

    rows = [as_row(cell) for cell in plan.cells]
    asked = {"model": models, "fold": folds, "seed": seeds}
    problems = [
        Problem("NO_SUCH_CELL", f"--{what}", repr(value), f"one of {', '.join(map(str, known))}")
        for what, values in asked.items()
        for known in [list(dict.fromkeys(row[what] for row in rows))]
        for value in values
        if value not in known
    ]
    if problems:
        raise ConfigError(problems)
    return frozenset(
        row["key"] for row in rows if all(row[what] in values for what, values in asked.items() if values)
    )


@click.command(cls=Command)
@runs_argument
@click.option("--watch", "is_watching", is_flag=True, help="Follow it until nothing runs any more.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(runs: Path, is_watching: bool, as_json: bool) -> None:
    """Show how far the sweep in RUNS/<sweep>, or every sweep below RUNS, is."""
    from lightning_app.progress import Board, watch

    boards = [Board(store, store.plan()["cells"], {}) for store in stores_below(runs)]
    for board in boards:
        board.refresh()
    if as_json:
        rows = {
            board.store.root.name: [{**cell, "state": board.states[cell["key"]]} for cell in board.cells]
            for board in boards
        }
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    elif is_watching:
        for board in boards:
            watch(board)
    else:
        for board in boards:
            _print_board(board)


def stores_below(runs: Path) -> list[Any]:
    """Find the sweeps in a folder: the folder itself, or those one level below."""
    from lightning_app.cells import Store

    if (runs / "sweep.json").is_file():
        return [Store(runs)]
    stores = [Store(path.parent) for path in sorted(runs.glob("*/sweep.json"))]
    if not stores:
        Store(runs).plan()  # says what is missing
    return stores


def _print_board(board: Any) -> None:
    from rich.console import Console

    from lightning_app.progress import board_table

    click.echo(board.store.root.name)
    Console(highlight=False).print(board_table(board))
    for key in board.keys("failed"):
        error = board.result(key).get("error", {})
        click.echo(f"failed {board.name(key)}: {str(error.get('message', '')).splitlines()[:1]}")


@click.command(cls=Command)
@runs_argument
def verify(runs: Path) -> None:
    """Check that no result below RUNS was changed after it was written."""
    from lightning_app.cells import verify as verify_results

    problems = verify_results(runs)
    if problems:
        raise IntegrityError(problems)
    click.echo("every result is as its cell wrote it")


def table(rows: list[dict[str, Any]]) -> str:
    """Lay rows out in aligned columns; quick for ten thousand of them."""
    if not rows:
        return ""
    names = list(rows[0])
    texts = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(text[column]) for text in texts) for column in range(len(names))]
    pattern = "  ".join(f"{{:{width}}}" for width in widths)
    return "\n".join(pattern.format(*text).rstrip() for text in texts)
