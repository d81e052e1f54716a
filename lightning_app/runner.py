"""Runs a sweep: what is missing is made, what is missing runs, what came of it is reported."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from datamodules.errors import ConfigError, InkbeatError, Interrupted, Problem
from datamodules.wording import number_of
from lightning_app.cells import (
    LOCK_PATIENCE_S,
    RESULT,
    RUN_LOCK,
    SPEC,
    CellLock,
    Store,
    disk_problem,
    result_of,
    write_json,
)
from lightning_app.engines import (
    EXIT_BUSY,
    EXIT_DATA,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Engine,
    Event,
    Job,
    Slot,
)
from lightning_app.engines.local import LocalEngine, warm_up
from lightning_app.planning import Plan, as_row
from lightning_app.prepare import (
    Preparation,
    cores,
    default_workers,
    distinct,
    model_id,
    prepare_and_send,
)
from lightning_app.progress import Board, View, duration
from lightning_app.specs import Component, PlannedCell

EngineName = Literal["local", "ray", "slurm"]
TAIL_LINES = 5


def run_sweep(
    plan: Plan,
    *,
    engine: EngineName = "local",
    workers: int | None = None,
    only: Collection[str] | None = None,
) -> int:
    """Run every cell of a plan that is not done.

    Args:
        plan: The cells and where they lie.
        engine: Where they run.
        workers: Cells at a time; None takes one per GPU, else one per core.
        only: Keys of the cells to run. Several such runs may work on one sweep; each cell has its lock.

    Returns:
        0 if every cell is done, 3 if there was no room for some, 1 if others failed.

    Raises:
        ConfigError: If the engine is missing, the folder cannot be written or another run works on the sweep.
        Interrupted: If stopped from outside.
    """
    runs_on, divide = _engine(engine)  # first: a missing one is noticed before any work
    _require_writable(plan.store.root)
    with _only_run(plan.store.root) if only is None else contextlib.nullcontext():
        plan.store.write_plan(plan.record())
        cells = [cell for cell in plan.cells if only is None or cell.key in only]
        states = plan.store.states(cell.key for cell in cells)
        todo = [cell for cell in cells if states[cell.key] != "done"]
        # From the whole plan, so that a part of it runs with as many threads.
        slots = divide(workers, len(plan.cells)) if todo else []
        board = Board(plan.store, [as_row(cell) for cell in cells], states, len(slots))
        for key, state in states.items():
            if state != "done":
                board.states[key] = "missing"
        with View(board) as view:
            before = len(cells) - len(todo)
            view.say(f"{plan.sweep.name}: {number_of(len(cells), 'cell')}, {before} done before")
            if todo:
                warm_up(slots[0].threads)
                costs = _prepare(plan, view, min(len(slots), cores()))
                _write_specs(plan, todo)
                jobs = _jobs(plan, todo, costs)
                runs_on.run(jobs, slots, lambda event: _note(board, view, event))
            view.say(f"{board.counts()} in {duration(_seconds(board))}")
        return _exit_code(board)


def _exit_code(board: Board) -> int:
    if EXIT_DATA in board.exit_codes.values():
        return EXIT_DATA
    return EXIT_FAILED if board.keys("failed") or board.keys("interrupted") else EXIT_DONE


def _seconds(board: Board) -> float:
    import time

    return time.monotonic() - board.started_at


def _require_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(disk_problem(root, error)) from None


@contextlib.contextmanager
def _only_run(root: Path) -> Iterator[None]:
    """Hold the right to drive this sweep."""
    lock = FileLock(root / RUN_LOCK)
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S)
    except Timeout:
        remedy = f"follow it with: inkbeat status {root} --watch"
        raise ConfigError(Problem("SWEEP_BUSY", root.name, "another run works on it", "", remedy)) from None
    try:
        yield
    finally:
        lock.release()


def make_slots(workers: int | None, n_cells: int) -> list[Slot]:
    """Divide the machine into slots.

    The number of threads of a cell depends on the plan and the machine, not on how many cells are left to
    run: sums in another order differ in the last bit, and a resumed sweep must not.

    Args:
        workers: Cells at a time; None decides.
        n_cells: Cells of the plan.
    """
    gpus = visible_gpus()
    n_slots = workers or min(default_workers(gpus, cores(), _memory_bytes()), max(1, n_cells))
    threads = max(1, cores() // n_slots)
    return [Slot(index, threads, gpus[index % len(gpus)] if gpus else None) for index in range(n_slots)]


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def visible_gpus() -> list[str]:
    """List the ids of the GPUs this process may use, without touching CUDA."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [part.strip() for part in chosen.split(",") if part.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return found.split()


def _engine(name: EngineName) -> tuple[Engine, Callable[[int | None, int], list[Slot]]]:
    """Give an engine and how it divides what it has into slots, from workers asked for and cells planned."""
    if name == "local":
        return LocalEngine(run_one), make_slots
    import importlib

    module = f"lightning_app.engines.{name}"
    try:
        engine: Any = importlib.import_module(module).make_engine(run_one)
    except ImportError as error:
        remedy = f"install the extra: make setup-{name}, or use --engine local"
        raise ConfigError(
            Problem("ENGINE_MISSING", name, str(error), "the engine's package", remedy)
        ) from None
    return engine, engine.slots


def run_one(job: Job, slot: Slot) -> int:
    """Run one cell; what every engine starts."""
    from lightning_app.train import run_cell

    return run_cell(job, slot)


def _jobs(plan: Plan, todo: Sequence[PlannedCell], costs: dict[str, float]) -> list[Job]:
    root = plan.store.root.resolve()
    donors = _donors(plan)
    return [
        Job(root, cell.key, costs.get(model_id(cell.spec.model), 0.0), donors.get(cell.spec.fit_key))
        for cell in todo
    ]


def _donors(plan: Plan) -> dict[str, str]:
    """Find finished cells of earlier plans by what their weights depend on."""
    donors = {}
    for key in sorted(plan.store.keys_on_disk() - {cell.key for cell in plan.cells}):
        with contextlib.suppress(InkbeatError):
            result = plan.store.result(key)
            if result is not None and result["state"] == "done":
                donors[str(result.get("fit_key"))] = key
    return donors


def _write_specs(plan: Plan, cells: Sequence[PlannedCell]) -> None:
    for cell in cells:
        folder = plan.store.folder(cell.key)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SPEC).is_file():
            write_json(folder / SPEC, cell.spec.model_dump(mode="json"))


def _prepare(plan: Plan, view: View, workers: int) -> dict[str, float]:
    """Have cohorts and folds made in another process, and the cost of each model estimated."""
    fold_cohort = plan.cohorts.get(str(plan.sweep.fit_on.init_args.get("cohort")))
    preparation = Preparation(
        recipes=tuple(
            (place.content_id, place.path.resolve(), place.recipe)
            for place in plan.cohorts.values()
            if place.recipe is not None
        ),
        signals=plan.sweep.signals,
        fold_cohort=fold_cohort.path.resolve() if fold_cohort else None,
        apart=_apart(plan),
        folds=plan.sweep.folds,
        folds_file=plan.store.root.resolve() / "folds.json",
        models=distinct([cell.spec.model for cell in plan.cells]),
        workers=workers,
    )
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(
        target=prepare_and_send, args=(preparation, theirs), name="prepare"
    )
    process.start()
    theirs.close()
    try:
        return _listen(ours, view)
    finally:
        process.terminate()
        process.join()


def _apart(plan: Plan) -> tuple[tuple[Path, Path], ...]:
    """Which cohorts must be disjoint; one in both roles (a held-out fold) is left to the cells."""

    def folders(*components: Component | None) -> dict[Path, None]:
        names = [str(one.init_args.get("cohort")) for one in components if one is not None]
        return dict.fromkeys(plan.cohorts[name].path.resolve() for name in names if name in plan.cohorts)

    sweep = plan.sweep
    tests = folders(sweep.fit_on, *sweep.test_on)
    return tuple(
        (train, test) for train in folders(sweep.fit_on, sweep.pretrain_on) for test in tests if train != test
    )


def _listen(connection: Any, view: View) -> dict[str, float]:
    while True:
        try:
            kind, content = connection.recv()
        except EOFError:
            raise Interrupted(
                Problem("PREPARE_ENDED", "preparation", "the process ended", "", "run the same command again")
            ) from None
        if kind == "refused":
            raise content
        if kind == "done":
            costs: dict[str, float] = content
            return costs
        what, done, total = content
        if done == total or done % -(-total // 4) == 0:
            view.say(f"  {what}: {done} of {total}")


def _note(board: Board, view: View, event: Event) -> None:
    """Take an engine's report; the folder decides what a process left."""
    name = board.name(event.key)
    if event.kind == "started":
        board.states[event.key] = "running"
        view.say(f"started {name}")
        return
    if event.kind == "retried":
        board.states[event.key] = "missing"
        view.say(f"{name} was killed ({_end(event.exit_code)}); it goes on from its last checkpoint")
        return
    board.exit_codes[event.key] = event.exit_code
    state = board.store.state(event.key)
    if state not in ("done", "failed") and event.exit_code not in (EXIT_BUSY, EXIT_INTERRUPTED, EXIT_DATA):
        _record_death(board.store, event)
        state = "failed"
    board.states[event.key] = state
    view.say(f"{state} {name}{_outcome(board, event, state)}")


def _outcome(board: Board, event: Event, state: str) -> str:
    if state == "done":
        result = board.result(event.key)
        dices = ", ".join(
            f"{name} {value:.3f}" for name, value in result["dice"].items() if value is not None
        )
        return f": Dice {dices} ({duration(board.store.seconds(event.key) or 0.0)})"
    if event.exit_code == EXIT_BUSY:
        return ": another process works on this cell"
    if state == "failed":
        message = str(board.result(event.key).get("error", {}).get("message", ""))
        return f": {message.splitlines()[0] if message else ''} (cells/{event.key}/log.txt)"
    return f": {_tail(board.store.folder(event.key) / 'log.txt')}"


def _tail(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-1]
    except (OSError, IndexError):
        return "no log"


def _end(exit_code: int | None) -> str:
    if exit_code is None:
        return "its worker"
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def _record_death(store: Store, event: Event) -> None:
    """Write the result of a cell whose process could not: a crash, or a kill that came twice."""
    folder = store.folder(event.key)
    lock = CellLock(folder)
    if not lock.acquire():
        return
    try:
        message = f"the process ended with {_end(event.exit_code)} and left no result"
        if event.exit_code == -9:
            message += "; if nobody killed it, memory ran out: fewer --workers or a smaller batch_size"
        tail = "\n".join(_last_lines(folder / "log.txt"))
        error = {"type": "ProcessEnded", "message": message, "traceback": tail}
        write_json(folder / RESULT, result_of(folder, event.key, "failed", [SPEC], error=error))
    finally:
        lock.release()


def _last_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []
