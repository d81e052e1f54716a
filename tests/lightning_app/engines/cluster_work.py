"""Work and drivers for the engines whose workers are other processes or machines."""

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lightning_app.engines import Job, Slot
from tests.lightning_app.engines.work import _started
from tests.shared import wait_for


def finish_slowly(job: Job, slot: Slot) -> int:
    """Take as long as a worker needs to be taken away meanwhile; done already, do nothing, as a real cell."""
    if (job.sweep_dir / f"{job.key}.done").exists():
        return 0
    _started(job)
    time.sleep(1.5)
    used = os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES")
    (job.sweep_dir / f"{job.key}.done").write_text(f"{used[0]} {used[1]}")
    return 0


def outlast_a_loss(job: Job, slot: Slot) -> int:
    """Run until a machine has been taken away, and then as long as it needs to take its cells with it."""
    _started(job)
    lost = job.sweep_dir / "taken-away"
    if not lost.exists():
        wait_for(lost.exists)
        time.sleep(10)
    (job.sweep_dir / f"{job.key}.done").touch()
    return 0


def note_environment(job: Job, slot: Slot) -> int:
    """Write down which variables a cell sees."""
    (job.sweep_dir / f"{job.key}.environment").write_text("\n".join(os.environ))
    return 0


def kill_starter_once(job: Job, slot: Slot) -> int:
    """Kill the worker that started this cell, as the system does when memory runs out."""
    if _started(job) == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return 0


def stop_then_finish(job: Job, slot: Slot) -> int:
    """Run until SIGTERM and end as an interrupted cell does; finish at the second start."""
    if _started(job) == 1:
        return _until_stopped(job)
    (job.sweep_dir / f"{job.key}.done").touch()
    return 0


def until_stopped(job: Job, slot: Slot) -> int:
    """Run until SIGTERM, then take a while for the checkpoint."""
    _started(job)
    return _until_stopped(job)


def _until_stopped(job: Job) -> int:
    def handle(*_) -> None:
        time.sleep(0.5)
        (job.sweep_dir / f"{job.key}.saved").touch()
        sys.exit(75)

    signal.signal(signal.SIGTERM, handle)
    (job.sweep_dir / f"{job.key}.ready").touch()
    time.sleep(60)
    return 0


def drive(engine_name: str, folder: str, work: str, keys: list[str]) -> None:
    """Drive an engine from a process of its own, quicker to notice things than a real one."""
    from datamodules.errors import InkbeatError

    module = importlib.import_module(f"lightning_app.engines.{engine_name}")
    function = getattr(sys.modules["tests.lightning_app.engines.cluster_work"], work)
    engine = module.make_engine(function)
    if engine_name == "slurm":
        engine = module.SlurmEngine(function, poll_s=0.5, settle_s=3.0)
    try:
        slots = engine.slots(None, len(keys))
        jobs = [Job(Path(folder), key) for key in keys]
        with Path(folder, "events").open("a", buffering=1) as file:
            engine.run(jobs, slots, lambda event: print(event.kind, event.key, event.exit_code, file=file))
    except InkbeatError as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)


def submit_and_be_killed(folder: str, work: str, keys: list[str]) -> None:
    """Drive SLURM until the jobs are in its queue, and be killed before anything else is noted."""
    import submitit

    batch = submitit.SlurmExecutor.batch

    @contextlib.contextmanager
    def and_kill(self: submitit.SlurmExecutor) -> Iterator[None]:
        with batch(self):
            yield
        os.kill(os.getpid(), signal.SIGKILL)

    submitit.SlurmExecutor.batch = and_kill
    drive("slurm", folder, work, keys)


if __name__ == "__main__":
    # By its own name, not as __main__: a worker imports the work by that name.
    from tests.lightning_app.engines import cluster_work

    cluster_work.drive(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
