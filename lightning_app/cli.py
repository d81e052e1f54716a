"""The command line. Nothing heavy is imported before a command needs it, so help and plan answer at once.

Exit codes: 0 ok, 1 a cell failed, 2 configuration, 3 data, 4 integrity or security, 75 interrupted and
resumable.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

import click

from datamodules.errors import InkbeatError, Problem

# Where each command lives; a module is imported when its command is run or described.
COMMANDS = {
    "run": "lightning_app.sweep_commands:run",
    "plan": "lightning_app.sweep_commands:plan",
    "status": "lightning_app.sweep_commands:status",
    "verify": "lightning_app.sweep_commands:verify",
    "report": "lightning_app.report_commands:report",
    "models": "lightning_app.model_commands:models",
    "cohort": "lightning_app.cohort_commands:cohort",
    "digitize": "lightning_app.digitize_commands:digitize",
    "reader": "lightning_app.reader_commands:reader",
    "score": "lightning_app.score_commands:score",
    "figure": "lightning_app.figure_commands:figure",
    "wandb": "lightning_app.wandb_commands:wandb_group",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of use."""
        return [name for name, place in COMMANDS.items() if importlib.util.find_spec(place.split(":")[0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inkbeat", prog_name="inkbeat")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Find out which network reads a paper ECG best, and then read it."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a user's own models may lie beside the sweep file
    debug = "--debug" in arguments
    # --debug may stand anywhere: it is added after a failure, at the end of the line.
    arguments = [*["--debug"][: int(debug)], *(argument for argument in arguments if argument != "--debug")]
    try:
        code = cli.main(args=arguments, prog_name="inkbeat", standalone_mode=False)
    except InkbeatError as error:
        _show(debug)
        print_problems(error.problems)
        code = error.exit_code
    except click.exceptions.Abort:
        code = 75
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback unless asked for
        _show(debug)
        code = _unforeseen(error)
    sys.exit(code if isinstance(code, int) else 0)


def _show(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _unforeseen(error: Exception) -> int:
    from lightning_app.cells import disk_problem, is_disk_full

    if isinstance(error, OSError) and is_disk_full(error):
        print_problems([disk_problem(Path(error.filename or "."), error)])
        return 3
    click.echo(f"internal error: {type(error).__name__}: {error}\n  --debug shows where", err=True)
    return 1


def print_problems(problems: Iterable[Problem]) -> None:
    """Print every problem: what was got, what was wanted, what to do."""
    for problem in problems:
        click.echo(_paragraph(problem), err=True)


def _paragraph(problem: Problem) -> str:
    lines = [f"{problem.code}  {problem.where}", f"  got     {problem.got}"]
    if problem.wanted:
        lines.append(f"  wanted  {problem.wanted}")
    if problem.remedy:
        lines.append(f"  remedy  {problem.remedy}")
    return "\n".join(lines)
