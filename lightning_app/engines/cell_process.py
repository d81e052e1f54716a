"""A cell's process started by a command line, for workers on other machines.

The local engine forks cells from a warm process. A Ray or SLURM worker has none, so it starts an interpreter
and hands the cell over as JSON: fresh process per cell, and the exit code says how it ended.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning_app.engines import GRACE_S, Job, Slot, Work

CELL_PROCESS_VARIABLE = "INKBEAT_CELL_PROCESS"  # tells a cell that its output belongs into its log
DEFAULT_THREADS = 4
TICK_S = 0.2
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class CellCommand:
    """A cell as it travels to a worker.

    Attributes:
        work: `module:function` of the function that runs it.
        job: Which cell.
        slot: What it may use.
        import_path: Where the driver finds modules, a user's own included.
        directory: Working directory of the driver.
    """

    work: str
    job: Job
    slot: Slot
    import_path: tuple[str, ...]
    directory: str

    @classmethod
    def of(cls, work: Work, job: Job, slot: Slot) -> CellCommand:
        """Describe a cell that this process wants to have run."""
        name = f"{work.__module__}:{work.__qualname__}"
        return cls(name, job, slot, tuple(path for path in sys.path if path), str(Path.cwd()))

    def start(self) -> subprocess.Popen[bytes]:
        """Start the cell on this machine; it ends when the process that started it does."""
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.slot.threads))
        environment = {
            **os.environ,
            **threads,
            CELL_PROCESS_VARIABLE: "1",
            "PYTHONPATH": os.pathsep.join(self.import_path),
        }
        # Lightning takes it as a sign that SLURM starts one process per device; a cell starts its own.
        environment.pop("SLURM_NTASKS", None)
        job = {**asdict(self.job), "sweep_dir": str(self.job.sweep_dir)}
        content = json.dumps({"work": self.work, "job": job, "slot": asdict(self.slot)})
        return subprocess.Popen(
            [sys.executable, "-m", __name__, content],
            stdin=subprocess.PIPE,
            env=environment,
            cwd=self.directory,
        )


def wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a cell's process and return its exit code.

    A signal handler that runs meanwhile may call `stop` on the same process: nothing here blocks.
    """
    while process.poll() is None:
        time.sleep(TICK_S)
    if process.stdin is not None:
        process.stdin.close()
    code: int = process.returncode
    return code


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a cell to make its checkpoint and end; end it if it takes longer than it may."""
    process.terminate()
    deadline = time.monotonic() + GRACE_S
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(TICK_S)
    if process.poll() is None:
        process.kill()


def threads_wanted() -> int:
    """CPU threads of a cell on a cluster: OMP_NUM_THREADS if set, else 4."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else DEFAULT_THREADS


def main(content: str) -> int:
    """Run the cell described by `content` in this process and return its exit code."""
    # A terminal sends Ctrl-C to a whole group, SLURM its warning to every process of a step: the one that
    # started this process decides, and sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    # Ray's workers may block signals, and that is inherited.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_starter, name="end-with-starter", daemon=True).start()
    values = json.loads(content)
    module, _, function = values["work"].partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    job = Job(**{**values["job"], "sweep_dir": Path(values["job"]["sweep_dir"])})
    return work(job, Slot(**values["slot"]))


def _end_with_starter() -> None:
    """Kill this process once the pipe from the one that started it closes, however that one ended."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
