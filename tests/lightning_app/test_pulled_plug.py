"""The plug is pulled three times, each time on every process of a sweep: the report does not show it."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from lightning_app.cells import Store, verify
from tests.lightning_app.specs_of_tiny import tiny_with
from tests.shared import wait_for

ROOT = Path(__file__).resolve().parents[2]
# Without git: somebody may commit while this runs, and a report names the commit of the cells.
ENVIRONMENT = {**os.environ, "WANDB_MODE": "disabled", "INKBEAT_SAVE_EVERY_S": "0", "GIT_DIR": os.devnull}


def start(sweep: Path, runs: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "lightning_app", "run", str(sweep), "--out", str(runs), "--workers", "2"]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT)


def pull_the_plug(process: subprocess.Popen) -> None:
    everything = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in everything:
        one.kill()
    process.wait()


def said_by_the_cells(store: Store, word: str) -> Callable[[], bool]:
    """Tell whether a cell has come to some stage."""
    return lambda: any(word in path.read_text() for path in store.cells.glob("*/progress.json"))


def one_set_is_tested(store: Store) -> bool:
    return any(store.cells.glob("*/rows/*.parquet"))


def hashes(report: Path) -> dict[str, str]:
    files = [path for path in report.rglob("*") if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(report)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_report_is_that_of_an_undisturbed_run(tmp_path):
    # A cell says at most once a second where it is, so each stage must take longer than that to be seen.
    content = tiny_with(**{"models.0.init_args": {"channels": 2, "sleep_s": 0.7}, "folds.run": [0, 1]})
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(yaml.safe_dump(content), encoding="utf-8")
    whole, parts = Store(tmp_path / "whole" / "tiny"), Store(tmp_path / "parts" / "tiny")
    undisturbed = start(sweep, whole.root.parent)
    assert undisturbed.wait() == 0
    moments = [said_by_the_cells(parts, "pretrain"), said_by_the_cells(parts, "fit")]
    for moment in [*moments, lambda: one_set_is_tested(parts)]:
        process = start(sweep, parts.root.parent)
        wait_for(lambda: moment() or process.poll() is not None)  # noqa: B023 - called within this round
        assert process.poll() is None, "the sweep ended before the plug could be pulled"
        pull_the_plug(process)
        assert "done" not in parts.states(parts.keys_on_disk()).values() or moment not in moments
    last = start(sweep, parts.root.parent)
    assert last.wait() == 0
    assert hashes(parts.root / "report") == hashes(whole.root / "report")
    assert len(hashes(whole.root / "report")) > 5
    assert not verify(parts.root)
