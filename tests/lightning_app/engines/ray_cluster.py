"""A Ray cluster of two simulated machines, and a sweep during which one of them goes away.

Run as a program, because a cluster leaves threads and handlers in its process:
`python -m tests.lightning_app.engines.ray_cluster FOLDER KEY...`
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lightning_app.engines import Job


def run(folder: Path, keys: list[str]) -> None:
    """Run the cells; take the second machine away once both work on one."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    from lightning_app.engines.ray import make_engine
    from tests.lightning_app.engines import cluster_work

    # Ray takes 127.0.0.1 for "the address others see"; this one stays on the loopback device.
    machine = {"node_ip_address": "127.0.0.2", "num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    second = cluster.add_node(**machine)
    os.environ["RAY_ADDRESS"] = cluster.address
    threading.Thread(target=_take_away, args=(cluster, second, folder, keys), daemon=True).start()
    engine = make_engine(cluster_work.outlast_a_loss)
    slots = engine.slots(None, len(keys))
    with (folder / "events").open("a", buffering=1) as log:
        print("slots", len(slots), slots[0].threads, file=log)
        jobs = [Job(folder, key) for key in keys]
        engine.run(jobs, slots, lambda event: print(event.kind, event.key, event.exit_code, file=log))
    cluster.shutdown()


def _take_away(cluster: Any, machine: Any, folder: Path, keys: list[str]) -> None:
    while not all((folder / f"{key}.starts").exists() for key in keys[:2]):
        time.sleep(0.05)
    cluster.remove_node(machine, allow_graceful=False)
    (folder / "taken-away").touch()


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
