"""The Ray engine: the cells of a sweep on an existing Ray cluster, or on one of its own on this machine.

Ray Core only, and the store decides what is done: Tune cannot add a model to a finished sweep. `RAY_ADDRESS`
names a cluster to use; its machines see the folder of the runs under the same path and have this project
installed. Without it a cluster of one node is started on the loopback address and ended with the run. (Ray
opens ports on all interfaces all the same; on a machine that others can reach, use a firewall.)

A GPU is divided by asking for 1/K of it per cell. That is bookkeeping only: memory is not divided.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_app.engines import GRACE_S, Event, Job, OnEvent, Slot, Work
from lightning_app.engines.cell_process import CellCommand, stop, threads_wanted, wait
from lightning_app.engines.local import KILLED_RETRIES, StopRequests, interrupted

log = logging.getLogger(__name__)

NODE_LOSS_RETRIES = 3  # by Ray: the worker or its whole machine went away
TICK_S = 0.5


def make_engine(work: Work) -> RayEngine:
    """Give the engine.

    Raises:
        ImportError: If Ray is not installed; it is an extra.
    """
    import ray  # noqa: F401 - here, so that a missing package is noticed before any work

    return RayEngine(work)


class RayEngine:
    """Runs cells as Ray tasks, each of which starts a process for its cell.

    Args:
        work: Module-level function that runs one cell and returns its exit code.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    def slots(self, workers: int | None, n_cells: int) -> list[Slot]:
        """Divide the cluster as it is now into slots.

        Args:
            workers: Cells at a time; None takes one per GPU, else one per core.
            n_cells: Cells of the plan.
        """
        import ray

        _connect()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return slots_of(nodes, workers, n_cells)

    def run(self, cells: Sequence[Job], slots: Sequence[Slot], on_event: OnEvent) -> None:
        """Run every cell once; a cell whose process, worker or machine went away is started again.

        Raises:
            Interrupted: After SIGTERM, SIGINT or SIGHUP, when the cells have stopped.
        """
        import ray

        waiting = sorted(cells, key=lambda job: -job.cost)
        attempts: Counter[str] = Counter()
        running: dict[Any, Job] = {}
        with _cluster(), StopRequests(ray.shutdown) as requests:
            task = _task(slots)
            while (waiting or running) and not requests.requested:
                while waiting and len(running) < len(slots):
                    job = waiting.pop(0)
                    attempts[job.key] += 1
                    running[task.remote(CellCommand.of(self._work, job, slots[0]))] = job
                    on_event(Event("started", job.key))
                for reference in ray.wait(list(running), timeout=TICK_S)[0]:
                    job = running.pop(reference)
                    exit_code = _exit_code(reference, job)
                    killed = exit_code is not None and exit_code < 0
                    if killed and attempts[job.key] <= KILLED_RETRIES:
                        waiting.insert(0, job)
                        on_event(Event("retried", job.key, exit_code))
                    else:
                        on_event(Event("ended", job.key, exit_code))
            if requests.requested:
                _cancel(list(running))
                raise interrupted(requests.signal)


def slots_of(nodes: Sequence[dict[str, float]], workers: int | None, n_cells: int) -> list[Slot]:
    """Divide the machines of a cluster into slots.

    Args:
        nodes: Resources of every machine, as Ray counts them: `{"CPU": 16.0, "GPU": 2.0}`.
        workers: Cells at a time; None takes one per GPU, else one per core.
        n_cells: Cells of the plan.

    Example:
        >>> [slot.threads for slot in slots_of([{"CPU": 16.0, "GPU": 2.0}], None, 45)]
        [4, 4]
    """
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1] or [1]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    n_slots = workers or min(gpus or sum(cpus), max(1, n_cells))
    # A cell lies on one machine, so no machine that takes cells may be too small for it.
    threads = max(1, min(threads_wanted(), sum(cpus) // n_slots, min(cpus)))
    return [Slot(index, threads) for index in range(n_slots)]


def gpu_share(n_slots: int, n_gpus: int) -> float:
    """Tell which part of a GPU a cell asks for.

    Example:
        >>> gpu_share(8, 2), gpu_share(3, 2), gpu_share(1, 2), gpu_share(4, 0)
        (0.25, 0.5, 1.0, 0.0)
    """
    return 1.0 / math.ceil(n_slots / n_gpus) if n_gpus else 0.0


@contextlib.contextmanager
def _cluster() -> Iterator[None]:
    """Be connected, and leave nothing behind."""
    import ray

    _connect()
    try:
        yield
    finally:
        ray.shutdown()


def _connect() -> None:
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        cores = len(os.sched_getaffinity(0))
        ray.init(
            address="local",
            num_cpus=cores,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )


def _task(slots: Sequence[Slot]) -> Any:
    """Give the remote function with what one cell asks the cluster for."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    options = ray.remote(
        num_cpus=slots[0].threads,
        num_gpus=gpu_share(len(slots), gpus),
        max_retries=NODE_LOSS_RETRIES,
    )
    return options(_run_cell)


def _run_cell(command: CellCommand) -> int:
    """Run a cell in a process of its own; this part runs on the worker."""
    process = command.start()
    try:
        return wait(process)
    except KeyboardInterrupt:  # how Ray cancels a task
        stop(process)
        raise


def _exit_code(reference: Any, job: Job) -> int | None:
    """Read how a task ended; None if it was lost more often than Ray starts it again."""
    import ray

    try:
        code: int = ray.get(reference)
    except ray.exceptions.RayError as error:
        log.warning("cell %s: %s", job.key, str(error).strip().splitlines()[-1])
        return None
    return code


def _cancel(references: list[Any]) -> None:
    """Have the running cells make their checkpoints."""
    import ray

    for reference in references:
        ray.cancel(reference)
    if references:
        ray.wait(references, num_returns=len(references), timeout=GRACE_S)
