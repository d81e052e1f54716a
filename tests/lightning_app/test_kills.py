"""Cells killed at random instants until they are done anyway: each leaves what an undisturbed one leaves.

    INKBEAT_KILLS=200 pytest -m slow -s tests/lightning_app/test_kills.py

Every second kill comes from outside, at an instant drawn over the whole length of a cell; the others come at
an operation on files drawn among all of a cell's (an open, a rename, a removal), where little else would hit.
"""

import collections
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from lightning_app.cells import Store, is_locked, verify
from lightning_app.engines import Job, Slot
from lightning_app.engines.local import warm_up
from tests.lightning_app import cell_runs
from tests.lightning_app.specs_of_tiny import TINY

KILLS = int(os.environ.get("INKBEAT_KILLS", "20"))
FILE_EVENTS = ("open", "os.rename", "os.remove")


def work(job: Job, die_at: int, count_to: Path | None) -> None:
    """Run a cell whose process dies by its own hand at its `die_at`-th operation on its folder."""
    os.environ["GIT_DIR"] = os.devnull  # the commit may change while this runs
    folder = str(Store(job.sweep_dir).folder(job.key))
    seen = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in FILE_EVENTS and str(arguments[0]).startswith(folder):
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    try:
        cell_runs.work(job, Slot(0))
    finally:
        if count_to is not None:
            count_to.write_text(str(seen))


def start(job: Job, die_at: int = -1, count_to: Path | None = None):
    process = warm_up(1).Process(target=work, args=(job, die_at, count_to), daemon=False)
    process.start()
    return process


def new_cell(folder: Path) -> tuple[Job, Path]:
    (job,) = cell_runs.planned_jobs(TINY, folder)
    return job, Store(job.sweep_dir).folder(job.key)


def whole_outcome(job: Job) -> dict[str, str]:
    """Everything, the result with the hashes of all files included."""
    folder = Store(job.sweep_dir).folder(job.key)
    return {**cell_runs.outcome(job), "result.json": (folder / "result.json").read_text()}


def place_of(folder: Path) -> str:
    """Where a kill found a cell: in the middle of writing a file, else in a stage."""
    half_written = sorted(path.name.split(".")[1] for path in folder.rglob(".*.tmp"))
    if half_written:
        return f"writing {half_written[0]}"
    try:
        return str(json.loads((folder / "progress.json").read_text())["stage"])
    except (OSError, ValueError):
        return "beginning"


def kill_once(job: Job, folder: Path, seconds: float, operations: int, rng: random.Random) -> bool:
    """Start a cell and kill it; False if it came to its end before."""
    if rng.random() < 0.5:
        process = start(job, die_at=rng.randrange(1, operations))
        process.join()
    else:
        process = start(job)
        while not is_locked(folder) and process.is_alive():
            time.sleep(0.005)
        process.join(rng.uniform(0, seconds))
        process.kill()
        process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(24 * 3600)
def test_kills_at_random_instants_change_nothing(tmp_path):
    rng = random.Random(time.time_ns() if KILLS > 20 else 0)
    job, folder = new_cell(tmp_path / "first")
    assert start(job).join() is None
    job, folder = new_cell(tmp_path / "undisturbed")
    started = time.monotonic()
    start(job, count_to=tmp_path / "count").join()
    seconds, operations = time.monotonic() - started, int((tmp_path / "count").read_text())
    expected = whole_outcome(job)
    places = collections.Counter()
    cells = 0
    while places.total() < KILLS:
        cells += 1
        job, folder = new_cell(tmp_path / "killed")
        while kill_once(job, folder, seconds, operations, rng):
            places[place_of(folder)] += 1
        got = whole_outcome(job)
        assert {name for name in expected if got[name] != expected[name]} == set(), (cells, places)
        assert not verify(job.sweep_dir)
        shutil.rmtree(tmp_path / "killed")
        print(f"{places.total()} kills hit {cells} cells, all equal: {dict(places)}", flush=True)
    print(f"harmless kills, 95 % lower bound: {0.05 ** (1 / places.total()):.4f}")
