"""`inkbeat cohort ...`: make, annotate, and whatever else a cohort needs."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Literal

import click

LINE_EVERY_S = 10.0


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


@cohort.command()
@click.argument("path", metavar="COHORT", type=click.Path(path_type=Path))
@click.option("--layout", help="Layout of scans that declare none; without it, all known ones are tried.")
@click.option(
    "--method",
    type=click.Choice(["template", "colour"]),
    default="template",
    show_default=True,
    help="Find the digital signal on the page, or take the dark ink of coloured pages.",
)
@click.option("--again", is_flag=True, help="Also scans that have a mask.")
@click.option("--overlays", type=click.Path(path_type=Path), help="Folder for pictures of mask over page.")
@click.option("--workers", type=click.IntRange(1), help="Processes; the result does not depend on it.")
@click.pass_context
def annotate(
    context: click.Context,
    path: Path,
    layout: str | None,
    method: Literal["template", "colour"],
    again: bool,
    overlays: Path | None,
    workers: int | None,
) -> None:
    """Draw the masks of scans that have only a digital signal.

    Enters masks, geometry and the scales found into the cohort, and every lead into annotations.csv. Ends
    with 3 if a lead stays unresolved.
    """
    from datamodules.annotation.cohorts import annotate_cohort, exit_code
    from lightning_app.cli import print_problems

    with Counter("annotating") as counter:
        labelled = annotate_cohort(
            path,
            layout=layout,
            method=method,
            again=again,
            overlays=overlays,
            workers=workers,
            on_progress=lambda done, total, one: counter.show(
                done, total, ", ".join(f"{problem.where} {problem.code}" for problem in one.problems[:1])
            ),
        )
    print_problems(problem for one in labelled for problem in one.problems)
    whole = sum(not one.problems for one in labelled)
    click.echo(f"{len(labelled)} scans annotated, {whole} of them whole: {path / 'annotations.csv'}")
    context.exit(exit_code(labelled))


class Counter:
    """Shows how many of many are done: a bar on a terminal, elsewhere a line now and then.

    Args:
        what: What is being done.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> Counter:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, transient=True)
        self._is_live = self._bar.console.is_terminal
        self._task = self._bar.add_task(self.what)
        self._told_at = time.monotonic()
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_live:
            self._bar.stop()

    def show(self, done: int, total: int, note: str = "") -> None:
        """Tell how far it is.

        Args:
            done: Finished ones.
            total: All.
            note: Worth a line of its own.
        """
        self._bar.update(self._task, completed=done, total=total)
        if self._is_live:
            if note:
                self._bar.console.print(note, markup=False, highlight=False)
        elif done == total or note or time.monotonic() - self._told_at > LINE_EVERY_S:
            self._told_at = time.monotonic()
            click.echo(f"{self.what}: {done} of {total}" + (f", {note}" if note else ""))
