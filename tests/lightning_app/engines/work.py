"""Work that engine tests start in child processes; importable there by name."""

import os
import signal
import sys
import time
from pathlib import Path

from lightning_app.engines import Job, Slot


def _started(job: Job) -> int:
    """Note a start and tell how often this cell was started before."""
    path = job.sweep_dir / f"{job.key}.starts"
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(path.read_text().splitlines())


def finish(job: Job, slot: Slot) -> int:
    _started(job)
    time.sleep(0.05)
    (job.sweep_dir / f"{job.key}.done").write_text(f"{slot.index} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
    return 0


def sleep_600_ms(job: Job, slot: Slot) -> int:
    """Sleep; the first cell is killed half-way through its first try."""
    if _started(job) == 1 and job.key == "k00":
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.6)
    return 0


def die_once(job: Job, slot: Slot) -> int:
    if _started(job) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def die_always(job: Job, slot: Slot) -> int:
    _started(job)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def fail(job: Job, slot: Slot) -> int:
    _started(job)
    return 1


def stop_politely(job: Job, slot: Slot) -> int:
    """Run until SIGTERM, then end as an interrupted cell does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    _started(job)
    (job.sweep_dir / f"{job.key}.ready").touch()
    time.sleep(60)
    return 0


def run_engine(folder: str, work: str, keys: list[str]) -> None:
    """Drive an engine from a process of its own; its exit code is that of a run."""
    from datamodules.errors import Interrupted
    from lightning_app.engines.local import LocalEngine

    jobs = [Job(Path(folder), key) for key in keys]
    engine = LocalEngine(globals()[work], preload=[])
    try:
        engine.run(jobs, [Slot(0), Slot(1)], lambda event: None)
    except Interrupted as stopped:
        sys.exit(stopped.exit_code)


if __name__ == "__main__":
    run_engine(sys.argv[1], sys.argv[2], sys.argv[3:])
