"""`inkbeat wandb ...`: send offline runs, push the dashboard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from datamodules.errors import ConfigError, Problem
from datamodules.wording import number_of
from lightning_app.commands import Group


@click.group("wandb", cls=Group)
def wandb_group() -> None:
    """Send what was recorded offline to W&B."""


@wandb_group.command("sync")
@click.argument("runs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--dry-run", is_flag=True, help="List the runs and send nothing.")
def sync(runs: Path, dry_run: bool) -> None:
    """Send every offline run below RUNS; a run that was sent before is not sent twice."""
    from lightning_app.tracking import offline_runs

    folders = offline_runs(runs)
    if not folders:
        raise ConfigError(Problem("NO_OFFLINE_RUNS", str(runs), "no offline run below it", "a sweep folder"))
    if dry_run:
        for folder in folders:
            click.echo(folder.relative_to(runs))
        return
    _require_key()
    failed = [folder for folder in folders if _send(folder) != 0]
    click.echo(f"sent {len(folders) - len(failed)} of {number_of(len(folders), 'run')}")
    if failed:
        raise SystemExit(1)


@wandb_group.command("dashboard")
@click.argument("sweep")
@click.option("--entity", required=True, help="W&B user or team.")
@click.option("--project", default="inkbeat", show_default=True)
def dashboard(sweep: str, entity: str, project: str) -> None:
    """Create the workspace of the sweep named SWEEP and print its address."""
    from lightning_app.dashboard import workspace

    _require_key()
    saved = workspace(entity, project, sweep).save()
    click.echo(saved.url)


def _send(folder: Path) -> int:
    # The command beside this interpreter: the environment's own, whatever PATH says.
    command = [str(Path(sys.executable).with_name("wandb")), "sync", str(folder)]
    return subprocess.run(command, check=False).returncode


def _require_key() -> None:
    from lightning_app.tracking_mode import tracking_mode

    environ = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    if tracking_mode(environ) != "online":
        raise ConfigError(
            Problem(
                "NO_WANDB_KEY",
                "WANDB_API_KEY",
                "no key",
                "a W&B key",
                "set WANDB_API_KEY or run: wandb login",
            )
        )
