"""Running cells in tests as the engine does: each in a fresh process of a warm forkserver."""

import hashlib
import os
import random
import signal
from pathlib import Path

from lightning_app.cells import SPEC, Store, write_json
from lightning_app.engines import Job, Slot
from lightning_app.engines.local import warm_up
from lightning_app.planning import make_plan
from lightning_app.specs import check_sweep
from lightning_app.train import SAVE_EVERY_VARIABLE

COMPARED = ("model.safetensors", "metrics.csv", "scans.parquet")


def planned_jobs(content: dict, runs: Path) -> list[Job]:
    """Write down the plan of a sweep without cohorts, as a run does, and give its jobs."""
    plan = make_plan(check_sweep(content), runs)
    plan.store.write_plan(plan.record())
    for cell in plan.cells:
        folder = plan.store.folder(cell.key)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SPEC, cell.spec.model_dump(mode="json"))
    return [Job(plan.store.root, cell.key) for cell in plan.cells]


def work(job: Job, slot: Slot) -> None:
    """Run a cell with a checkpoint after every epoch, W&B off."""
    os.environ[SAVE_EVERY_VARIABLE] = "0"
    os.environ["WANDB_MODE"] = "disabled"
    from lightning_app.train import run_cell

    raise SystemExit(run_cell(job, slot))


def start(job: Job):
    process = warm_up(1).Process(target=work, args=(job, Slot(0)), daemon=False)
    process.start()
    return process


def run(job: Job) -> int:
    process = start(job)
    process.join()
    return process.exitcode


def run_with_kills(job: Job, kills: int, longest_s: float, rng: random.Random) -> int:
    """Run a cell, killing it up to `kills` times at random instants; count the kills that hit."""
    hit = 0
    for _ in range(kills):
        process = start(job)
        process.join(rng.uniform(0, longest_s))
        process.kill()
        process.join()
        hit += process.exitcode == -signal.SIGKILL
        if Store(job.sweep_dir).state(job.key) == "done":
            break
    if Store(job.sweep_dir).state(job.key) != "done":
        assert run(job) == 0
    return hit


def outcome(job: Job) -> dict[str, str]:
    """Hash everything a cell leaves that must not depend on interruptions."""
    folder = Store(job.sweep_dir).folder(job.key)
    paths = [folder / name for name in COMPARED] + sorted(folder.glob("predictions/*/*.png"))
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    }
