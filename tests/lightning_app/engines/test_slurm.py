"""The SLURM engine: on a real node that is started for the tests, and without one."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.errors import ConfigError
from lightning_app.engines import slurm
from lightning_app.engines.slurm import SlurmEngine, job_states, make_engine
from tests.lightning_app.engines import work
from tests.lightning_app.engines.test_local import jobs_in, starts
from tests.lightning_app.engines.whole_sweep import outcomes_on
from tests.shared import PATIENCE_S, wait_for

SCRIPT = Path(__file__).with_name("slurm_node.sh")


def test_without_slurm_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(ConfigError, match=r"SLURM_MISSING(.|\n)*login node"):
        make_engine(work.finish)


def test_a_requeued_job_counts_as_alive():
    assert slurm._is_alive("PENDING")
    assert slurm._is_alive("REQUEUE_HOLD")
    assert not slurm._is_alive("CANCELLED")
    assert not slurm._is_alive(None)


def test_a_job_that_was_cancelled_in_the_queue_is_not_a_failure():
    assert slurm.CODE_OF_STATE["CANCELLED"] == 75
    assert slurm.CODE_OF_STATE.get("NODE_FAIL") is None


def test_living_jobs_are_told_by_the_name_of_their_submission(tmp_path, monkeypatch):
    (tmp_path / "inkbeat-s-1.json").write_text('{"keys": ["a", "b", "c"]}', encoding="utf-8")
    queue = ["17_0|RUNNING|inkbeat-s-1", "17_1|COMPLETED|inkbeat-s-1", "17_2|PENDING|inkbeat-s-1"]
    of_others = ["18|RUNNING|inkbeat-s-2", "19|RUNNING|my|own", "20_3|RUNNING|inkbeat-s-1"]
    monkeypatch.setattr(slurm, "_ask", lambda *command: "\n".join([*queue, *of_others]))
    engine = SlurmEngine(work.finish)
    engine._folder = tmp_path
    assert [job.key for job in engine._adopt(jobs_in(tmp_path, "abcd"))] == ["b", "d"]
    assert {job_id: one.job.key for job_id, one in engine._submitted.items()} == {"17_0": "a", "17_2": "c"}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True, timeout=280)
    if started.returncode == 3:
        pytest.skip(started.stdout.strip())
    assert started.returncode == 0, started.stdout + started.stderr
    before = os.environ.copy()
    os.environ.update(SLURM_CONF=str(folder / "slurm.conf"), OMP_NUM_THREADS="1")
    yield folder
    subprocess.run(["scancel", "--me"], check=False)
    os.environ.clear()
    os.environ.update(before)
    subprocess.run([SCRIPT, "stop", folder], check=True)


def run(function, jobs, workers=None):
    engine = SlurmEngine(function, poll_s=0.5, settle_s=3.0)
    events = []
    engine.run(jobs, engine.slots(workers, len(jobs)), events.append)
    return [(event.kind, event.key, event.exit_code) for event in events]


def driver(folder, function, *keys):
    module = "tests.lightning_app.engines.cluster_work"
    return subprocess.Popen([sys.executable, "-m", module, "slurm", str(folder), function, *keys])


@pytest.mark.slurm
def test_cells_run_as_an_array_and_a_killed_one_runs_again(node, tmp_path):
    events = run(work.die_once, jobs_in(tmp_path, "abcd"))
    assert sorted(key for kind, key, code in events if (kind, code) == ("ended", 0)) == list("abcd")
    assert [starts(tmp_path, key) for key in "abcd"] == [2, 2, 2, 2]
    assert ("retried", "a", -signal.SIGKILL) in events
    assert len(list((tmp_path / "slurm").glob("*_submission.sh"))) == 5  # the array, and each retry


@pytest.mark.slurm
def test_a_failed_cell_is_not_run_again(node, tmp_path):
    events = run(work.fail, jobs_in(tmp_path, "a"))
    assert events[-1] == ("ended", "a", 1)
    assert starts(tmp_path, "a") == 1


@pytest.mark.slurm
def test_the_time_limit_makes_a_checkpoint_and_the_cell_goes_on_in_the_queue(node, tmp_path):
    process = driver(tmp_path, "stop_then_finish", "a")
    wait_for(lambda: (tmp_path / "a.ready").exists())
    # What SLURM sends 90 s before the limit, and sites before a preemption.
    job_id = next(iter(job for job, state in job_states().items() if state == "RUNNING"))
    subprocess.run(["scancel", "--signal=USR2", job_id], check=True)
    assert process.wait(PATIENCE_S) == 0
    assert (tmp_path / "a.saved").exists()
    assert starts(tmp_path, "a") == 2
    assert (tmp_path / "events").read_text().splitlines()[-1] == "ended a 0"


@pytest.mark.slurm
def test_a_driver_that_is_stopped_cancels_its_jobs_after_their_checkpoints(node, tmp_path):
    process = driver(tmp_path, "until_stopped", *"abc")
    wait_for(lambda: (tmp_path / "a.ready").exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 75
    assert (tmp_path / "a.saved").exists()
    assert starts(tmp_path, "c") == 0
    assert not any(slurm._is_alive(state) for state in job_states().values())


@pytest.mark.slurm
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_new_driver_follows_the_jobs_of_one_that_went_away(node, tmp_path, number):
    process = driver(tmp_path, "finish_slowly", *"abcd")
    wait_for(lambda: (tmp_path / "a.starts").exists())
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == (75 if number == signal.SIGHUP else -signal.SIGKILL)
    assert driver(tmp_path, "finish_slowly", *"abcd").wait(PATIENCE_S) == 0
    assert [starts(tmp_path, key) for key in "abcd"] == [1, 1, 1, 1]
    assert (tmp_path / "events").read_text().count("ended") == 4


@pytest.mark.slurm
def test_jobs_of_a_driver_that_was_killed_before_it_knew_their_ids_are_found(node, tmp_path):
    code = (
        "from tests.lightning_app.engines import cluster_work\n"
        f"cluster_work.submit_and_be_killed({str(tmp_path)!r}, 'finish_slowly', list('abcd'))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert driver(tmp_path, "finish_slowly", *"abcd").wait(PATIENCE_S) == 0
    assert [starts(tmp_path, key) for key in "abcd"] == [1, 1, 1, 1]
    assert len(list((tmp_path / "slurm").glob("inkbeat-*.json"))) == 1  # nothing was submitted anew


@pytest.mark.slurm
def test_what_slurm_refuses_is_told(node, tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    with pytest.raises(ConfigError, match=r"SLURM_REFUSED(.|\n)*invalid partition"):
        run(work.finish, jobs_in(tmp_path, "a"))


@pytest.mark.slurm
@pytest.mark.timeout(900)  # on a busy machine most of it is importing torch, once per cell
def test_a_sweep_comes_out_as_on_the_local_engine(node, tmp_path):
    there = outcomes_on("slurm", tmp_path)
    assert len(there) == 2
    assert there == outcomes_on("local", tmp_path)
