"""`inkbeat cohort ...`: make, annotate, and whatever else a cohort needs."""

from __future__ import annotations

import collections
import csv
import io
import time
from pathlib import Path
from types import TracebackType
from typing import Literal

import click

from datamodules.wording import number_of
from lightning_app.commands import Group

LINE_EVERY_S = 10.0


@click.group(cls=Group)
def cohort() -> None:
    """Make and look after cohorts of scans."""


@cohort.command()
@click.option(
    "--kind", type=click.Choice(["binary", "pseudo", "colour", "varied", "plotted", "faxed"]), required=True
)
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
    kind: Literal["binary", "pseudo", "colour", "varied", "plotted", "faxed"],
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
    click.echo(
        f"{number_of(len(labelled), 'scan')} annotated, {whole} of them whole: {path / 'annotations.csv'}"
    )
    context.exit(exit_code(labelled))


@cohort.command()
@click.argument("path", metavar="COHORT", type=click.Path(path_type=Path))
@click.option("--fix-hashes", is_flag=True, help="First write the hashes that are missing.")
@click.option("--rejects", type=click.Path(path_type=Path), help="Also write all problems to this CSV file.")
@click.option("--workers", type=click.IntRange(1), help="Processes; the result does not depend on it.")
@click.pass_context
def check(
    context: click.Context, path: Path, fix_hashes: bool, rejects: Path | None, workers: int | None
) -> None:
    """Look over a cohort: tables, hashes, duplicates, pages, signals, scales, masks, patients.

    Every problem is listed with its code, reason and remedy. Ends with 3 for data that cannot be used, with
    4 when content or integrity is in doubt.
    """
    from datamodules import check as checking
    from lightning_app.cli import print_problems

    if fix_hashes:
        click.echo(f"hashes written: {len(checking.fix_hashes(path))}")
    with Counter("checking") as counter:
        report = checking.check_cohort(path, workers=workers, on_progress=counter.show)
    print_problems(report.problems)
    if rejects is not None:
        _write_rejects(rejects, report.rejects)
    for code, count in sorted(collections.Counter(note.code for note in report.notes).items()):
        click.echo(f"note: {code} {count}x")
    refused = {problem.where for problem in report.problems}
    click.echo(
        f"{number_of(report.n_scans, 'scan')}, {number_of(len(report.problems), 'problem')}; "
        f"scans or files concerned: {len(refused)}"
    )
    context.exit(report.exit_code)


def _write_rejects(path: Path, rows: list[dict[str, str]]) -> None:
    from datamodules.files import write_atomic

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("id", "code", "reason", "wanted", "remedy"), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # A spreadsheet would run a cell that starts like a formula.
        writer.writerow({key: f"'{value}" if value[:1] in "=+-@" else value for key, value in row.items()})
    write_atomic(path, text.getvalue().encode())


@cohort.command("import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the new cohort.")
@click.option("--layout", default="", help="Layout of all scans, if they share one.")
@click.option("--px-per-s", type=click.FloatRange(0, min_open=True), help="Pixels per second of all scans.")
@click.option("--px-per-mv", type=click.FloatRange(0, min_open=True), help="Pixels per millivolt.")
@click.pass_context
def import_(
    context: click.Context,
    folder: Path,
    out: Path,
    layout: str,
    px_per_s: float | None,
    px_per_mv: float | None,
) -> None:
    """Make a cohort of a folder of scans with equally named WFDB records.

    Ends with 3 if files had to be left out; they are listed.
    """
    from datamodules.importing import import_folder
    from datamodules.layout import load_layout
    from lightning_app.cli import print_problems

    if layout:
        layout = load_layout(layout).name
    with Counter("importing") as counter:
        imported = import_folder(
            folder, out, layout=layout, px_per_s=px_per_s, px_per_mv=px_per_mv, on_progress=counter.show
        )
    print_problems(imported.problems)
    click.echo(
        f"{number_of(len(imported.scans), 'scan')} imported, "
        f"{number_of(len(imported.problems), 'problem')}: {out}"
    )
    context.exit(3 if imported.problems else 0)


@cohort.command()
@click.argument("names", metavar="[LAYOUT]...", nargs=-1)
@click.option("--draw", type=click.Path(path_type=Path), help="Folder for a picture of each.")
def layouts(names: tuple[str, ...], draw: Path | None) -> None:
    """List the layouts that ship, or check and show those named; a LAYOUT is a name or a YAML file."""
    from datamodules.layout import known_layouts, load_layout

    shown = [load_layout(name) for name in names] or list(known_layouts().values())
    for layout in shown:
        rows = " | ".join(" ".join(row) for row in layout.rows)
        click.echo(f"{layout.name:12} {layout.duration_s:g} s  {rows}")
        if draw is not None:
            from datamodules.layout_preview import draw_layout
            from datamodules.page import write_colour_png

            picture = draw / f"{layout.name}.png"
            write_colour_png(picture, draw_layout(layout))
            click.echo(f"{'':12} {picture}")


@cohort.command()
@click.argument("source", type=click.Choice(["ptb-xl", "ludb"]))
@click.option("--records", type=click.IntRange(1), required=True, help="Number of records and patients.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; by default data/SOURCE.")
@click.option("--server", default="https://physionet.org/files/", show_default=True)
def fetch(source: str, records: int, out: Path | None, server: str) -> None:
    """Fetch recordings from PhysioNet, each of another patient, and verify them; continues by itself."""
    from datamodules import fetching

    out = out or Path("data") / source
    with Counter(f"fetching {source}") as counter:
        fetching.fetch(source, records, out, server=server, on_progress=counter.show)
    click.echo(f"{number_of(records, 'record')}: {out}")
    click.echo(fetching.SOURCES[source].credit)


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
