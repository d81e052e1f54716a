"""What holds for every process of the suite, set before anything reads it."""

import os

# One test process per core already runs; more threads in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
from hypothesis import HealthCheck, settings

cv2.setNumThreads(1)

# How long an example takes tells how busy the machine is, nothing else.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
