"""The SLURM engine: the cells of a sweep as job arrays, submitted through submitit.

What came of a cell stands in its folder; whether its job still lives is asked of `squeue`. Nothing depends on
accounting (a job killed without it stays UNKNOWN for ever to submitit). Partition, account, time limit, GPUs
and memory come from SLURM's own variables, which `sbatch` puts above what a script says: `SBATCH_PARTITION`,
`SBATCH_ACCOUNT`, `SBATCH_TIMELIMIT`, `SBATCH_GPUS`, `SBATCH_MEM_PER_NODE` and so on.

A job that nears its time limit or is preempted has its cell make a checkpoint and goes back to the queue.
Jobs outlive a driver that was killed; the next one finds them by their name and follows them. Each submission
has a name of its own, and which cells it is of is written to `slurm/<name>.json` before SLURM hears of it. So
there is no instant at which a kill leaves jobs that nobody knows.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import ConfigError, InkbeatError, Problem
from lightning_app.cells import read_json, write_durably, write_json
from lightning_app.engines import EXIT_INTERRUPTED, GRACE_S, Event, Job, OnEvent, Slot, Work
from lightning_app.engines.cell_process import CellCommand, stop, threads_wanted, wait
from lightning_app.engines.local import KILLED_RETRIES, StopRequests, interrupted

POLL_S = 10.0  # between two questions to squeue, which sites ask people to be sparing with
SETTLE_S = 30.0  # for the exit code to arrive by the network file system, and for a requeue to show
UNREACHABLE_S = 900.0  # without any answer of squeue, the run ends; the jobs go on
ANSWER_S = 60.0
TICK_S = 0.2
TIME_LIMIT_MIN = 240  # unless SBATCH_TIMELIMIT says otherwise; a cell goes on in its next job
SIGNAL_BEFORE_S = 90
MAX_REQUEUES = 1000  # a cell resumes from its checkpoint, so a requeue is never lost time
MAX_ARRAY = 1000  # SLURM's own default is 1001
ENDED_STATES = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}
# How a job without an exit code ended, in terms of exit codes; anything else is a kill from outside.
CODE_OF_STATE = {
    **dict.fromkeys(("CANCELLED", "DEADLINE", "PREEMPTED", "TIMEOUT"), EXIT_INTERRUPTED),
    "OUT_OF_MEMORY": -9,
}


def make_engine(work: Work) -> SlurmEngine:
    """Give the engine.

    Raises:
        ImportError: If submitit is not installed.
        ConfigError: `SLURM_MISSING` if this machine has no SLURM commands.
    """
    import submitit  # noqa: F401 - here, so that a missing package is noticed before any work

    missing = [
        command for command in ("sbatch", "squeue", "scancel", "srun") if shutil.which(command) is None
    ]
    if missing:
        remedy = "run on a login node of the cluster, or use --engine local"
        raise ConfigError(
            Problem("SLURM_MISSING", "slurm", f"no command {', '.join(missing)}", "SLURM's commands", remedy)
        )
    return SlurmEngine(work)


class CellJob:
    """What a SLURM job does: run one cell and leave its exit code. submitit pickles it.

    Args:
        command: The cell.
        folder: Where the exit code goes, as `<job id>.exit`.
    """

    def __init__(self, command: CellCommand, folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the cell and return its exit code."""
        import submitit

        exit_file = self._folder / f"{submitit.JobEnvironment().job_id}.exit"
        exit_file.unlink(missing_ok=True)  # of this job before it was requeued
        self._process = self._command.start()
        code = wait(self._process)
        write_durably(exit_file, str(code).encode())
        return code

    def checkpoint(self) -> Any:
        """Have the cell make its checkpoint; submitit calls this before it requeues the job."""
        import submitit

        if self._process is not None:
            stop(self._process)
        return submitit.helpers.DelayedSubmission(CellJob(self._command, self._folder))


@dataclass
class _Submitted:
    job: Job
    is_started: bool = False
    gone_since: float | None = None


class SlurmEngine:
    """Runs cells as tasks of SLURM job arrays.

    Args:
        work: Module-level function that runs one cell and returns its exit code.
        poll_s: Seconds between two questions to squeue.
        settle_s: Seconds a job must be gone before it counts as ended without an exit code.
    """

    def __init__(self, work: Work, poll_s: float = POLL_S, settle_s: float = SETTLE_S) -> None:
        self._work = work
        self._poll_s = poll_s
        self._settle_s = settle_s
        self._submitted: dict[str, _Submitted] = {}  # by job id
        self._attempts: Counter[str] = Counter()
        self._folder = Path()

    def slots(self, workers: int | None, n_cells: int) -> list[Slot]:
        """Give room for all cells at once, or for `workers`; the queue decides what really runs."""
        return [Slot(index, threads_wanted()) for index in range(workers or max(1, n_cells))]

    def run(self, cells: Sequence[Job], slots: Sequence[Slot], on_event: OnEvent) -> None:
        """Run every cell once; one whose job was killed is submitted once more.

        Raises:
            Interrupted: After SIGTERM or SIGINT, when the jobs have been cancelled; after SIGHUP at once, the
                jobs go on.
            ConfigError: If SLURM refuses the jobs or does not answer any more.
        """
        self._folder = cells[0].sweep_dir / "slurm"
        self._folder.mkdir(parents=True, exist_ok=True)
        with StopRequests(self._cancel) as requests:
            waiting = self._adopt(sorted(cells, key=lambda job: -job.cost))
            answered_at = time.monotonic()
            while (waiting or self._submitted) and not requests.requested:
                if waiting and not self._submitted:
                    self._submit(waiting[:MAX_ARRAY], slots)
                    waiting = waiting[MAX_ARRAY:]
                self._pause(requests)
                states = job_states()
                if states is not None:
                    answered_at = time.monotonic()
                elif time.monotonic() - answered_at > UNREACHABLE_S:
                    raise _unreachable()
                for job_id, job, code in self._ended(states, on_event):
                    if _is_killed(code) and self._attempts[job.key] <= KILLED_RETRIES:
                        on_event(Event("retried", job.key, code))
                        _ask("scancel", job_id)  # or SLURM may yet put it back into the queue
                        self._submit([job], slots)
                    else:
                        on_event(Event("ended", job.key, code))
            if requests.requested:
                self._leave(requests)

    def _adopt(self, cells: list[Job]) -> list[Job]:
        """Follow the jobs of an earlier driver that still live; return the cells that have none."""
        queued = _queued()
        if queued is None:
            raise _unreachable()
        waiting = {job.key: job for job in cells}
        for job_id, (name, state) in queued.items():
            key = self._key_of(job_id, name) if _is_alive(state) else None
            if key in waiting:
                job = waiting.pop(key)
                self._submitted[job_id] = _Submitted(job)
                self._attempts[job.key] += 1
        return list(waiting.values())

    def _key_of(self, job_id: str, name: str) -> str | None:
        """Tell which cell a job is of; None for one that is not of this sweep."""
        try:
            keys = read_json(self._record_of(name))["keys"]
        except (InkbeatError, KeyError):
            return None
        task = int(job_id.partition("_")[2] or 0)
        return str(keys[task]) if task < len(keys) else None

    def _record_of(self, name: str) -> Path:
        return self._folder / f"{Path(name).name}.json"

    def _submit(self, cells: Sequence[Job], slots: Sequence[Slot]) -> None:
        import submitit

        name = f"inkbeat-{cells[0].sweep_dir.name}-{secrets.token_hex(4)}"
        write_json(self._record_of(name), {"keys": [job.key for job in cells]})
        executor = submitit.SlurmExecutor(folder=self._folder, max_num_timeout=MAX_REQUEUES)
        threads = slots[0].threads
        executor.update_parameters(
            job_name=name,
            time=TIME_LIMIT_MIN,
            cpus_per_task=threads,
            array_parallelism=len(slots),
            signal_delay_s=SIGNAL_BEFORE_S,
            stderr_to_stdout=True,
            # From 22.05 on a step does not take this over from its job.
            srun_args=[f"--cpus-per-task={threads}"],
            additional_parameters={"requeue": True},
        )
        commands = [CellJob(CellCommand.of(self._work, job, slots[0]), self._folder) for job in cells]
        with _outside_of_any_job():
            try:
                with executor.batch():  # one array; each task is its own function, as checkpoint() needs it
                    jobs = [executor.submit(command) for command in commands]
            except submitit.core.utils.FailedJobError as error:
                raise _refused(str(error)) from None
        for job, submitted in zip(cells, jobs, strict=True):
            self._submitted[submitted.job_id] = _Submitted(job)
            self._attempts[job.key] += 1

    def _pause(self, requests: StopRequests) -> None:
        until = time.monotonic() + self._poll_s
        while time.monotonic() < until and not requests.requested:
            time.sleep(TICK_S)

    def _ended(
        self, states: Mapping[str, str] | None, on_event: OnEvent
    ) -> Iterator[tuple[str, Job, int | None]]:
        """Give the jobs that have ended, with their cells and exit codes, and forget them."""
        for job_id, submitted in list(self._submitted.items()):
            state = None if states is None else states.get(job_id)
            if state == "RUNNING" and not submitted.is_started:
                submitted.is_started = True
                on_event(Event("started", submitted.job.key))
            if states is None or _is_alive(state):
                submitted.gone_since = None
                continue
            submitted.gone_since = submitted.gone_since or time.monotonic()
            code = self._exit_code(job_id)
            is_settled = time.monotonic() - submitted.gone_since > self._settle_s
            # Preemption stops a cell too, but its job comes back.
            if is_settled or code not in (None, EXIT_INTERRUPTED):
                del self._submitted[job_id]
                yield job_id, submitted.job, CODE_OF_STATE.get(str(state)) if code is None else code

    def _exit_code(self, job_id: str) -> int | None:
        try:
            return int((self._folder / f"{job_id}.exit").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _leave(self, requests: StopRequests) -> None:
        """Stop the jobs, unless only the terminal went away.

        Raises:
            Interrupted: Always.
        """
        import signal

        if requests.signal != signal.SIGHUP:
            self._cancel()
            deadline = time.monotonic() + GRACE_S
            while self._any_alive() and time.monotonic() < deadline:
                time.sleep(self._poll_s)
        raise interrupted(requests.signal)

    def _cancel(self) -> None:
        if self._submitted:
            _ask("scancel", *self._submitted)

    def _any_alive(self) -> bool:
        states = job_states()
        return states is None or any(_is_alive(states.get(job_id)) for job_id in self._submitted)


def job_states() -> dict[str, str] | None:
    """Ask squeue for the states of this user's jobs, by id such as `17` or `17_3`; None without an answer."""
    queued = _queued()
    return None if queued is None else {job_id: state for job_id, (_, state) in queued.items()}


def _queued() -> dict[str, tuple[str, str]] | None:
    """Ask squeue for name and state of this user's jobs, by id; None without an answer."""
    answer = _ask("squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T|%j")
    if answer is None:
        return None
    jobs = (line.strip().split("|", 2) for line in answer.splitlines() if line.count("|") >= 2)
    return {job_id: (name, state) for job_id, state, name in jobs}


def _ask(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWER_S).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _is_alive(state: str | None) -> bool:
    """Tell whether a job waits, runs or is between the two; squeue forgets those that ended long ago."""
    return state is not None and state not in ENDED_STATES


def _is_killed(code: int | None) -> bool:
    return code is None or code < 0


@contextlib.contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Hide the variables of a job this driver may itself run in, which its own jobs would take over."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith("SLURM")}
    inherited.pop("SLURM_CONF", None)
    for name in inherited:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(inherited)


def _refused(message: str) -> ConfigError:
    remedy = "set what the site asks for: SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT, SBATCH_GPUS"
    got = " ".join(message.split()[-40:])
    return ConfigError(Problem("SLURM_REFUSED", "sbatch", got, "jobs that SLURM accepts", remedy))


def _unreachable() -> ConfigError:
    remedy = "when it answers again, run the same command: it finds its jobs"
    return ConfigError(Problem("SLURM_UNREACHABLE", "squeue", "no answer", "the state of the jobs", remedy))
