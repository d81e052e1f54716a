"""The local engine, with work that takes no time: order, slots, kills, stops, and dying with the driver."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from datamodules.errors import Interrupted
from lightning_app.engines import Job, Slot
from lightning_app.engines.local import STOP_SIGNALS, LocalEngine, StopRequests, signals_interrupt
from tests.lightning_app.engines import work
from tests.shared import PATIENCE_S, wait_for

SLOTS = [Slot(0), Slot(1)]


@pytest.fixture(autouse=True)
def signals_are_heard():
    """A shell without job control switches SIGINT off for what it starts in the background, nohup SIGHUP."""
    heard = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(function, jobs, slots=SLOTS):
    events = []
    LocalEngine(function).run(jobs, slots, events.append)
    return [(event.kind, event.key, event.exit_code) for event in events]


def jobs_in(folder, keys, cost=lambda key: 1.0):
    return [Job(folder, key, cost(key)) for key in keys]


def starts(folder, key):
    path = folder / f"{key}.starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_every_cell_runs_once_in_a_process_of_its_own(tmp_path):
    keys = list("abcde")
    events = run(work.finish, jobs_in(tmp_path, keys))
    assert sorted(key for kind, key, code in events if (kind, code) == ("ended", 0)) == keys
    pids = {(tmp_path / f"{key}.starts").read_text() for key in keys}
    assert len(pids) == len(keys)


def test_longest_cells_start_first(tmp_path):
    events = run(work.finish, jobs_in(tmp_path, "abc", {"a": 1.0, "b": 3.0, "c": 2.0}.get), [Slot(0)])
    assert [key for kind, key, _ in events if kind == "started"] == ["b", "c", "a"]


def test_slots_share_the_devices(tmp_path):
    run(work.finish, jobs_in(tmp_path, "ab"), [Slot(0, device="3"), Slot(1, device="5")])
    used = {(tmp_path / f"{key}.done").read_text() for key in "ab"}
    assert used == {"0 3", "1 5"}


def test_a_killed_worker_is_started_again_once(tmp_path):
    events = run(work.die_once, jobs_in(tmp_path, "ab"))
    assert ("retried", "a", -signal.SIGKILL) in events
    assert ("ended", "a", 0) in events
    assert starts(tmp_path, "a") == 2


def test_a_worker_that_dies_twice_is_given_up_and_the_others_go_on(tmp_path):
    events = run(work.die_always, jobs_in(tmp_path, "a"))
    assert events[-1] == ("ended", "a", -signal.SIGKILL)
    assert starts(tmp_path, "a") == 2


def test_a_failing_cell_is_not_retried(tmp_path):
    events = run(work.fail, jobs_in(tmp_path, "ab"))
    assert {("ended", "a", 1), ("ended", "b", 1)} <= set(events)
    assert starts(tmp_path, "a") == 1


def driver(folder, function, *keys):
    command = [sys.executable, "-m", "tests.lightning_app.engines.work", str(folder), function, *keys]
    return subprocess.Popen(command)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_cells_and_ends_resumable(tmp_path, number):
    process = driver(tmp_path, "stop_politely", "a", "b", "c")
    wait_for(lambda: (tmp_path / "a.ready").exists() and (tmp_path / "b.ready").exists())
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 75
    assert starts(tmp_path, "c") == 0


def test_cells_die_with_a_killed_driver(tmp_path):
    process = driver(tmp_path, "stop_politely", "a", "b")
    wait_for(lambda: (tmp_path / "a.ready").exists() and (tmp_path / "b.ready").exists())
    cells = [int((tmp_path / f"{key}.starts").read_text()) for key in "ab"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in cells))


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_outside_the_engine_is_an_interruption(number):
    with pytest.raises(Interrupted), signals_interrupt():
        signal.raise_signal(number)


def test_a_signal_that_was_switched_off_stays_so(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals_interrupt(), StopRequests(lambda: None) as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
