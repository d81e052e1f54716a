"""The Ray engine: its arithmetic and its absence; with mark `ray`, real clusters."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from datamodules.errors import ConfigError
from lightning_app.engines import Slot, ray
from lightning_app.runner import _engine
from tests.lightning_app.engines.test_local import starts
from tests.lightning_app.engines.whole_sweep import outcomes_on
from tests.shared import PATIENCE_S, wait_for


def test_without_ray_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"ENGINE_MISSING(.|\n)*make setup-ray"):
        _engine("ray")


@pytest.mark.parametrize(
    ("nodes", "workers", "cells", "slots", "threads"),
    [
        ([{"CPU": 2.0}], None, 45, 2, 1),
        ([{"CPU": 16.0, "GPU": 2.0}], None, 45, 2, 4),  # a cell per GPU
        ([{"CPU": 16.0, "GPU": 2.0}], 8, 45, 8, 2),  # four cells share one
        ([{"CPU": 8.0}, {"CPU": 8.0}], None, 3, 3, 4),
        ([{"CPU": 1.0}] * 8, 2, 45, 2, 1),  # no machine has room for more threads
        ([{}], None, 45, 1, 1),
    ],
)
def test_slots_follow_the_cluster(monkeypatch, nodes, workers, cells, slots, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert ray.slots_of(nodes, workers, cells) == [Slot(index, threads) for index in range(slots)]


def test_slots_never_ask_for_more_gpu_than_there_is():
    for n_gpus in range(1, 9):
        for n_slots in range(1, 40):
            per_gpu = round(1 / ray.gpu_share(n_slots, n_gpus))
            assert n_slots <= per_gpu * n_gpus


def driver(folder, function, *keys):
    module = "tests.lightning_app.engines.cluster_work"
    return subprocess.Popen([sys.executable, "-m", module, "ray", str(folder), function, *keys])


def events(folder: Path) -> list[str]:
    return (folder / "events").read_text().splitlines()


@pytest.mark.ray
def test_a_machine_that_goes_away_costs_no_cell(tmp_path):
    keys = [f"k{number}" for number in range(8)]
    module = "tests.lightning_app.engines.ray_cluster"
    subprocess.run([sys.executable, "-m", module, str(tmp_path), *keys], check=True, timeout=200)
    assert events(tmp_path)[0] == "slots 2 1"
    assert sorted(line for line in events(tmp_path) if line.startswith("ended")) == [
        f"ended {key} 0" for key in keys
    ]
    assert all((tmp_path / f"{key}.done").exists() for key in keys)
    assert sum(starts(tmp_path, key) for key in keys) == len(keys) + 1  # what ran there was started again


@pytest.mark.ray
def test_killed_workers_and_killed_cells_are_started_again(tmp_path):
    assert driver(tmp_path, "kill_starter_once", "a").wait(PATIENCE_S) == 0
    assert events(tmp_path)[-1] == "ended a 0"
    assert starts(tmp_path, "a") == 2


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_cells_save_and_leaves_nothing_running(tmp_path, number):
    process = driver(tmp_path, "until_stopped", *"abcd")
    wait_for(lambda: (tmp_path / "a.ready").exists())
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 75
    assert (tmp_path / "a.saved").exists()
    wait_for(lambda: not any(child.is_running() for child in family))


@pytest.mark.ray
def test_cells_end_with_a_killed_driver(tmp_path):
    process = driver(tmp_path, "until_stopped", "a")
    wait_for(lambda: (tmp_path / "a.ready").exists())
    cell = int((tmp_path / "a.starts").read_text())
    process.kill()
    process.wait()
    wait_for(lambda: not psutil.pid_exists(cell))


@pytest.mark.ray
@pytest.mark.timeout(900)  # on a busy machine most of it is importing torch, once per cell
def test_a_sweep_comes_out_as_on_the_local_engine(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    there = outcomes_on("ray", tmp_path)
    assert len(there) == 2
    assert there == outcomes_on("local", tmp_path)
