"""What tests of several folders use: real recordings, the command line, waiting for something to happen."""

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_app.cli import main

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


def inkbeat(*arguments: object) -> tuple[int, str, str]:
    """Run a command in this process, which has everything imported: exit code, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code, out.getvalue(), err.getvalue()
