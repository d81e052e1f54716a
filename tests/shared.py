"""What tests of several folders use: where real recordings lie, and waiting for something to happen."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

# The real recordings are never part of the project.
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PATIENCE_S = 240.0  # below pytest's time limit; only a hang takes so long, however busy the machine is

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data with real recordings is absent")


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
