"""The process that a cluster's worker starts for a cell."""

import os
import signal
import sys

from lightning_app.engines import Job, Slot
from lightning_app.engines.cell_process import CellCommand, stop, threads_wanted, wait
from tests.lightning_app.engines import cluster_work, work
from tests.lightning_app.engines.test_local import starts
from tests.shared import wait_for


def command(function, folder):
    return CellCommand.of(function, Job(folder, "a", 2.0), Slot(0, threads=3))


def test_it_gives_the_exit_code_of_its_work(tmp_path):
    assert wait(command(work.finish, tmp_path).start()) == 0
    assert wait(command(work.fail, tmp_path).start()) == 1
    assert wait(command(work.die_always, tmp_path).start()) == -signal.SIGKILL
    assert starts(tmp_path, "a") == 3


def test_it_has_the_threads_of_its_slot(tmp_path):
    wait(command(cluster_work.finish_slowly, tmp_path).start())
    assert (tmp_path / "a.done").read_text().split()[0] == "3"


def test_lightning_does_not_take_it_for_one_of_slurms_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    wait(command(cluster_work.note_environment, tmp_path).start())
    assert "SLURM_NTASKS" not in (tmp_path / "a.environment").read_text().split()


def test_signals_of_the_group_are_left_to_the_one_that_started_it(tmp_path):
    process = command(cluster_work.until_stopped, tmp_path).start()
    wait_for((tmp_path / "a.ready").exists)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        process.send_signal(number)
    stop(process)
    assert wait(process) == 75
    assert (tmp_path / "a.saved").exists()


def test_it_ends_when_the_one_that_started_it_is_gone(tmp_path):
    process = command(cluster_work.until_stopped, tmp_path).start()
    wait_for((tmp_path / "a.ready").exists)
    process.stdin.close()  # as the system does for a dead process
    assert wait(process) == -signal.SIGKILL


def test_a_users_own_modules_are_found(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text("def work(job, slot):\n    return 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_models

    assert wait(command(my_models.work, tmp_path).start()) == 7
    sys.modules.pop("my_models")


def test_threads_of_a_cluster_cell_follow_the_usual_variable(monkeypatch):
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "8")
    assert threads_wanted() == 8
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_wanted() == 4
