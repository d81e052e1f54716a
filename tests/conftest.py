"""What holds for every process of the suite, set before anything reads it."""

import os

# One test process per core already runs; more threads in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# W&B has tests of its own; everything else is quicker without.
os.environ["WANDB_MODE"] = "disabled"

import cv2
from hypothesis import HealthCheck, settings

cv2.setNumThreads(1)

# How long an example takes tells how busy the machine is, nothing else.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

# The longest tests, a minute and more each; begun first, they do not keep one process busy at the end alone.
LONGEST = ("test_commands_of_the_readme_run_one_after_the_other", "test_the_documented_sweep_runs")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.originalname not in LONGEST if hasattr(item, "originalname") else True)
