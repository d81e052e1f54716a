"""W&B runs are read back with W&B's own reader; the service itself is never needed."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from lightning_app.cells import RESULT, Store
from lightning_app.report_tracking import track_report
from lightning_app.tracking import Overlay, RunIdentity, Tracker, offline_runs
from lightning_app.tracking_mode import tracking_mode
from tests.lightning_app.specs_of_tiny import tiny_with
from tests.shared import wait_for

WANDB = Path(sys.executable).with_name("wandb")
IDENTITY = RunIdentity(
    run_id="0123456789abcdef",
    name="resunet_cbam-fold0-seed0",
    sweep="smoke",
    job_type="cell",
    tags=("resunet_cbam", "fold0", "smoke"),
    config={"model": {"width": 16}, "fold": 0},
)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    # The tracker points these at its sweep; monkeypatch puts them back afterwards.
    for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))


def read_back(folder: Path) -> dict:
    command = [str(WANDB), "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    summary = subprocess.run(
        [*command[:3], "--summary", *command[3:]], check=True, capture_output=True, text=True
    )
    records = [json.loads(line) for line in lines]
    return {
        "run": next(r["run"] for r in records if r["type"] == "run"),
        "history": [r["history"]["item"] for r in records if r["type"] == "history"],
        "summary": json.loads(summary.stdout),
    }


def test_a_cell_leaves_one_offline_run_with_everything_in_it(tmp_path):
    page = np.zeros((32, 48), np.uint8)
    page[10, :] = 255
    cell = tmp_path / "cells" / IDENTITY.run_id
    for _ in range(2):  # the second time is a resumed cell
        tracker = Tracker(tmp_path, cell, IDENTITY)
        tracker.finish(
            epochs=[{"epoch": 0, "train_loss": 0.9}, {"epoch": 1, "train_loss": 0.4}],
            tables={"scans": pd.DataFrame({"scan_id": ["a", "b"], "dice": [0.8, 0.9]})},
            overlays=[Overlay("cv best a", page, page > 0, page > 0)],
            summary={"dice_mean": 0.85},
            config={"weights_sha256": "ff" * 32},
        )
    (folder,) = offline_runs(tmp_path)
    assert folder.is_relative_to(cell)
    seen = read_back(folder)
    assert seen["run"]["run_group"] == "smoke"
    assert seen["run"]["job_type"] == "cell"
    assert seen["run"]["tags"] == list(IDENTITY.tags)
    assert seen["summary"]["state"] == "finished"
    assert seen["summary"]["run_id"] == IDENTITY.run_id
    assert seen["summary"]["config"] == {**IDENTITY.config, "weights_sha256": "ff" * 32}
    assert [item["train_loss"] for item in seen["history"][:2]] == [0.9, 0.4]
    result = seen["summary"]["summary"]
    assert result["dice_mean"] == 0.85
    assert (result["scans"]["nrows"], result["scans"]["ncols"]) == (2, 2)
    masks = result["overlays"]["all_masks"][0]
    assert set(masks) == {"prediction", "truth"}
    assert (folder / "files" / masks["prediction"]["path"]).is_file()


def test_a_report_leaves_a_run_of_its_own(tmp_path):
    Store(tmp_path).write_plan({"name": "smoke", "cells": [{"key": "k1"}, {"key": "k2"}]})
    (tmp_path / "report").mkdir()
    pd.DataFrame({"model": ["a", "b"], "dice": [0.8, 0.9]}).to_csv(tmp_path / "report" / "benchmark.csv")
    cv2.imwrite(str(tmp_path / "fig5a.png"), np.zeros((8, 8), np.uint8))
    track_report(tmp_path, [tmp_path / "fig5a.png"])
    (folder,) = offline_runs(tmp_path)
    seen = read_back(folder)
    assert (seen["run"]["job_type"], seen["run"]["run_group"]) == ("report", "smoke")
    assert seen["summary"]["summary"]["benchmark"]["nrows"] == 2
    assert "figures/fig5a" in seen["summary"]["summary"]


@pytest.mark.slow
def test_a_sweep_that_was_killed_and_run_again_has_one_run_per_cell_and_one_of_its_report(tmp_path):
    sweep, store = tmp_path / "tiny.yaml", Store(tmp_path / "runs" / "tiny")
    slow_model = {"channels": 2, "sleep_s": 0.7}
    content = tiny_with(**{"models.0.init_args": slow_model, "folds.run": [0, 1]})
    sweep.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = [sys.executable, "-m", "lightning_app", "run", str(sweep), "--out", str(tmp_path / "runs")]
    environment = {**os.environ, "INKBEAT_SAVE_EVERY_S": "0"}
    first = subprocess.Popen(command, env=environment)
    wait_for(lambda: any("fit" in path.read_text() for path in store.cells.glob("*/progress.json")))
    for process in [*psutil.Process(first.pid).children(recursive=True), first]:
        process.kill()
    first.wait()
    subprocess.run(command, env=environment, check=True)
    keys = [cell["key"] for cell in store.plan()["cells"]]
    (store.folder(keys[0]) / RESULT).unlink()  # this cell is recorded a second time
    subprocess.run(command, env=environment, check=True)
    runs = [read_back(folder) for folder in offline_runs(store.root)]
    cells = {run["summary"]["run_id"]: run for run in runs if run["run"]["job_type"] == "cell"}
    assert sorted(run["run"]["job_type"] for run in runs) == ["cell", "cell", "report"]
    assert set(cells) == set(keys)
    for key, run in cells.items():
        trained = pd.read_csv(store.folder(key) / "metrics.csv").query("stage == 'fit'")
        told = [item for item in run["history"] if "train_loss" in item]
        assert [item["epoch"] for item in told] == trained["epoch"].tolist()
        assert [item["train_loss"] for item in told] == pytest.approx(trained["train_loss"].tolist())


def test_nothing_of_wandb_lands_outside_the_sweep(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    Tracker(tmp_path / "sweep", tmp_path / "sweep" / "cells" / "k", IDENTITY).finish(
        summary={"dice_mean": 1.0}
    )
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "k" * 40}, "online"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
    ],
)
def test_online_only_with_a_key_and_never_a_prompt(environ, mode, tmp_path):
    assert tracking_mode({"NETRC": str(tmp_path / "none"), **environ}) == mode


def test_key_in_netrc_is_found(tmp_path):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password " + "k" * 40)
    (tmp_path / "netrc").chmod(0o600)
    assert tracking_mode({"NETRC": str(tmp_path / "netrc")}) == "online"


@pytest.fixture
def silent_server():
    """Accepts connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    kept = []
    stop = threading.Event()

    def accept():
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                kept.append(server.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    stop.set()
    thread.join()
    for connection in (server, *kept):
        connection.close()


def test_a_silent_service_costs_a_bounded_wait_and_no_result(tmp_path, monkeypatch, silent_server):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    monkeypatch.setattr("lightning_app.tracking.INIT_TIMEOUT_S", 2.0)
    tracker = Tracker(tmp_path, tmp_path / "cell", IDENTITY)
    tracker.epoch({"epoch": 0, "train_loss": 1.0})
    tracker.finish(epochs=[{"epoch": 0, "train_loss": 1.0}], summary={"dice_mean": 0.5})
    (folder,) = offline_runs(tmp_path)
    assert read_back(folder)["summary"]["summary"]["dice_mean"] == 0.5
