"""Several runs work on parts of one sweep at the same time, as W&B's agents do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightning_app.cells import Store
from tests.lightning_app.specs_of_tiny import tiny_with

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_parts_at_once_and_nothing_is_left_for_the_whole(tmp_path):
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(yaml.safe_dump(tiny_with(**{"folds.run": [0, 1]})), encoding="utf-8")
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lightning_app", "run", str(sweep), "--out", str(tmp_path / "runs")]

    def start(*part: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, *part], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )

    parts = [start("--model=TinyNet", f"--fold={fold}", "--seed=0") for fold in (0, 1)]
    said = [part.communicate()[0] for part in parts]
    assert [part.returncode for part in parts] == [0, 0]
    assert all("1 cell, 0 done before" in text for text in said)
    store = Store(tmp_path / "runs" / "tiny")
    assert set(store.states(cell["key"] for cell in store.plan()["cells"]).values()) == {"done"}
    assert not (store.root / "report").exists()
    whole = start()
    assert "2 cells, 2 done before" in whole.communicate()[0]
    assert whole.returncode == 0
