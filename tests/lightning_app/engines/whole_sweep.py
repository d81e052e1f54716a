"""A small sweep by the command line, on any engine."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from lightning_app.cells import Store
from lightning_app.engines import Job
from tests.lightning_app.cell_runs import outcome
from tests.lightning_app.specs_of_tiny import tiny_with

ROOT = Path(__file__).resolve().parents[3]


def outcomes_on(engine: str, folder: Path) -> dict[str, dict[str, str]]:
    """Run two tiny cells and give the hashes of what each left, by key."""
    sweep = folder / "tiny.yaml"
    sweep.write_text(yaml.safe_dump(tiny_with(**{"folds.run": [0, 1]})), encoding="utf-8")
    command = [sys.executable, "-m", "lightning_app", "run", str(sweep), "--out", str(folder / engine)]
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--engine", engine, "--workers", "2", "--set", "trainer.accelerator=cpu"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,  # a SLURM cell imports torch anew, which takes a minute on a busy machine
    )
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(folder / engine / "tiny")
    for key in store.keys_on_disk():
        assert "Traceback" not in (store.folder(key) / "log.txt").read_text()
    return {key: outcome(Job(store.root, key)) for key in sorted(store.keys_on_disk())}
