"""The default engine: one fresh process per cell on this machine.

Processes come from a forkserver that has torch and Lightning imported already, so a cell starts in
hundredths of a second instead of ten seconds, and still every cell has a process of its own: nothing leaks
from one to the next and a crash takes only itself down. (pebble does this too, under a licence that this
project does not ship.)

Rules learned by measuring: the end of a process is judged by its exit code, never by a pipe; the preloading
process never touches CUDA; a driver that dies takes its cells with it, and the lock on each cell holds
against double runs in any case.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import FrameType
from typing import Any

from datamodules.errors import Interrupted, Problem
from lightning_app.engines import EXIT_INTERRUPTED, GRACE_S, Event, Job, OnEvent, Slot, Work
from lightning_app.tracking_mode import SLOW_IMPORTS, tracking_mode

PRELOAD = ("pytorch_lightning", "lightning_app.train")
TICK_S = 0.2
KILLED_RETRIES = 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def warm_up(threads: int, preload: Sequence[str] | None = None) -> ForkServerContext:
    """Start the forkserver, which imports in the background while the sweep is being planned.

    Args:
        threads: Threads of a cell's process; the numeric libraries read it once, when imported.
        preload: Modules that cells find imported; by default those of training and, unless it is off, W&B.
    """
    context = multiprocessing.get_context("forkserver")
    tracking = () if tracking_mode() == "disabled" else SLOW_IMPORTS
    context.set_forkserver_preload(list((*PRELOAD, *tracking) if preload is None else preload))
    variables = {
        name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    with _environment(variables):
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass
class _Running:
    job: Job
    slot: Slot
    process: ForkServerProcess
    attempt: int


class LocalEngine:
    """Runs cells in processes of this machine.

    Args:
        work: Module-level function that runs one cell and returns its exit code.
        preload: Modules imported once, before any cell.
    """

    def __init__(self, work: Work, preload: Sequence[str] | None = None) -> None:
        self._work = work
        self._preload = preload
        self._running: dict[int, _Running] = {}

    def run(self, cells: Sequence[Job], slots: Sequence[Slot], on_event: OnEvent) -> None:
        """Run every cell once; a process that was killed from outside is started once more.

        Raises:
            Interrupted: After SIGTERM, SIGINT or SIGHUP, when the cells have stopped.
        """
        context = warm_up(slots[0].threads, self._preload)
        waiting = sorted(cells, key=lambda job: -job.cost)
        attempts: dict[str, int] = {}
        free = list(slots)
        with StopRequests(self._kill_all) as stop:
            while waiting or self._running:
                while waiting and free and not stop.requested:
                    job = waiting.pop(0)
                    attempts[job.key] = attempts.get(job.key, 0) + 1
                    self._start(context, job, free.pop(0), attempts[job.key])
                    on_event(Event("started", job.key))
                for ended in self._wait():
                    free.insert(0, ended.slot)
                    if self._is_to_be_retried(ended) and not stop.requested:
                        waiting.insert(0, ended.job)
                        on_event(Event("retried", ended.job.key, ended.process.exitcode))
                    else:
                        on_event(Event("ended", ended.job.key, ended.process.exitcode))
                if stop.requested:
                    self._stop_all()
                    break
        if stop.requested:
            raise interrupted(stop.signal)

    def _start(self, context: ForkServerContext, job: Job, slot: Slot, attempt: int) -> None:
        # Not a daemon: a cell may have helper processes of its own.
        process = context.Process(target=_child, args=(self._work, job, slot), name=job.key, daemon=False)
        process.start()
        self._running[process.sentinel] = _Running(job, slot, process, attempt)

    def _wait(self) -> list[_Running]:
        ready = connection.wait(list(self._running), timeout=TICK_S)
        ended = [self._running.pop(sentinel) for sentinel in ready if isinstance(sentinel, int)]
        for running in ended:
            running.process.join()
        return ended

    def _is_to_be_retried(self, ended: _Running) -> bool:
        code = ended.process.exitcode
        # 255 is what the forkserver says of a child whose end it could not see.
        killed = code is None or code < 0 or code == 255
        return killed and ended.attempt <= KILLED_RETRIES

    def _stop_all(self) -> None:
        for running in self._running.values():
            running.process.terminate()
        deadline = time.monotonic() + GRACE_S
        while self._running and time.monotonic() < deadline:
            self._wait()
        self._kill_all()

    def _kill_all(self) -> None:
        for running in self._running.values():
            running.process.kill()


class StopRequests:
    """Notes the first signal to stop (every engine uses it); at the second one everything ends at once.

    Args:
        kill: Called before the process ends at the second signal.
    """

    def __init__(self, kill: Any) -> None:
        self._kill = kill
        self._before: dict[int, Any] = {}
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """True from the first signal on."""
        return self.signal is not None

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():
            # One that was switched off before, as nohup does, stays so.
            heard = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            self._kill()
            os._exit(EXIT_INTERRUPTED)
        self.signal = number


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Turn a signal to stop into `Interrupted`, where no engine runs and nothing has to be saved."""

    def handle(number: int, _frame: FrameType | None) -> None:
        raise interrupted(number)

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def interrupted(number: int | None) -> Interrupted:
    """Say that a run was stopped by a signal and can be resumed."""
    remedy = "run the same command to go on"
    return Interrupted(Problem("INTERRUPTED", f"signal {number}", "a request to stop", "", remedy))


def _child(work: Work, job: Job, slot: Slot) -> None:
    """Entry of a cell's process."""
    # The terminal sends Ctrl-C to every process of the group; the driver alone decides and sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    die_with_parent()
    if slot.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.device
    sys.exit(work(job, slot))


def die_with_parent() -> None:
    """End this process when the one that started it ends, however it ends: its pipe to us closes then."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
