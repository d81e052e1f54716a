"""Engines start one process per cell and report that it ended; what came of it stands in its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_DATA = 3  # no room or no right to write; the last good state is kept
EXIT_BUSY = 5  # another process holds the cell's lock
EXIT_INTERRUPTED = 75

GRACE_S = 30.0  # what a cell has for its checkpoint after a request to stop


@dataclass(frozen=True)
class Job:
    """A cell that is to be run.

    Attributes:
        sweep_dir: RUNS/<sweep>.
        key: The cell's key; its folder holds spec.json already.
        cost: Estimated relative duration; the longest start first.
        donor: Key of a finished cell whose weights are the same by specification, if there is one.
    """

    sweep_dir: Path
    key: str
    cost: float = 1.0
    donor: str | None = None


@dataclass(frozen=True)
class Slot:
    """Room for one cell at a time.

    Attributes:
        index: Number of the slot.
        threads: CPU threads of the cell's process.
        device: Id of the GPU it sees, None for a CPU.
    """

    index: int
    threads: int = 1
    device: str | None = None


@dataclass(frozen=True)
class Event:
    """What an engine reports.

    Attributes:
        kind: A process started, ended, or was killed from outside and will be started once more.
        key: Key of its cell.
        exit_code: Of an ended process; negative is the signal that killed it.
    """

    kind: Literal["started", "ended", "retried"]
    key: str
    exit_code: int | None = None


Work = Callable[[Job, Slot], int]
OnEvent = Callable[[Event], None]


class Engine(Protocol):
    """The seam between a sweep and whatever runs its cells."""

    def run(self, cells: Sequence[Job], slots: Sequence[Slot], on_event: OnEvent) -> None:
        """Run every cell once, longest first.

        Raises:
            Interrupted: If asked to stop from outside; cells that ran have made their checkpoints.
        """
