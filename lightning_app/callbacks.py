"""What a cell adds to Lightning's loop: keyed randomness, records, checkpoints, progress, stopping."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from datamodules.errors import IntegrityError, Interrupted, Problem
from lightning_app.cells import PROGRESS
from lightning_app.checkpoints import Checkpoints
from lightning_app.engines import EXIT_INTERRUPTED, GRACE_S

SAVE_EVERY_S = 30.0  # between checkpoints; what a kill can cost at most, plus one epoch
PROGRESS_EVERY_S = 1.0

Row = dict[str, float | int | str]


class Stop:
    """A request to stop, by signal; the second signal ends the process at once."""

    def __init__(self) -> None:
        self.requested_at: float | None = None

    def listen(self) -> None:
        """Take SIGTERM over (again: Lightning installs handlers of its own when a fit starts)."""
        with suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested_at is not None:
            os._exit(EXIT_INTERRUPTED)
        self.requested_at = time.monotonic()

    def check(self, patience_s: float = 0.0) -> None:
        """Raise once a stop was requested more than `patience_s` ago.

        Raises:
            Interrupted: `INTERRUPTED`.
        """
        if self.requested_at is not None and time.monotonic() - self.requested_at >= patience_s:
            raise Interrupted(
                Problem("INTERRUPTED", "cell", "a request to stop", "", "run the sweep again to go on")
            )


class KeyedRandomness(pl.Callback):
    """Seeds every generator at the start of an epoch from (seed, stage, epoch).

    Lightning keeps no generator state in its checkpoints. Keyed this way there is nothing to keep: dropout in
    epoch 7 is the same whether epochs 0 to 6 ran in this process or not.

    Args:
        seed: The cell's weight seed.
        stage: Number of the stage.
    """

    def __init__(self, seed: int, stage: int) -> None:
        self._key = (seed, stage)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed Python, numpy and torch."""
        seed_all(*self._key, trainer.current_epoch)


def seed_all(*key: int) -> None:
    """Seed every global generator from a key of non-negative numbers."""
    state = np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(2)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))  # noqa: NPY002 - user code may draw from the legacy generator
    torch.manual_seed(int(state[1]))


class EpochRecorder(Checkpoint):
    """Keeps one row of metrics per epoch, inside the checkpoint and as a CSV file derived from it.

    The rows travel in the checkpoint, so weights and log can never disagree: after a kill the log goes back
    to the epoch the weights go back to.

    Args:
        stage: Name of the stage in the rows.
        rows: Rows of the stages before; extended in place.
        checkpoints: Where checkpoints go.
        fit_key: What the weights depend on, recorded and checked on load.
        stop: The cell's stop request.
        on_rows: Called with all rows after each epoch.
        save_every_s: Least time between two checkpoints, but for the last epoch.
    """

    def __init__(
        self,
        stage: str,
        rows: list[Row],
        checkpoints: Checkpoints,
        fit_key: str,
        stop: Stop,
        on_rows: Callable[[list[Row]], None],
        save_every_s: float = SAVE_EVERY_S,
    ) -> None:
        self._stage = stage
        self._rows = rows
        self._checkpoints = checkpoints
        self._fit_key = fit_key
        self._stop = stop
        self._on_rows = on_rows
        self._save_every_s = save_every_s
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Rows and identity, plain values."""
        return {"fit_key": self._fit_key, "stage": self._stage, "rows": list(self._rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of a checkpoint.

        Raises:
            IntegrityError: `CKPT_FOREIGN` if it belongs to another specification or stage.
        """
        got, wanted = (state_dict["fit_key"], state_dict["stage"]), (self._fit_key, self._stage)
        if got != wanted:
            raise IntegrityError(
                Problem(
                    "CKPT_FOREIGN", "last.ckpt", " ".join(got), " ".join(wanted), "remove the cell's folder"
                )
            )
        self._rows[:] = state_dict["rows"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and save when it is time."""
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        epoch = trainer.current_epoch
        self._rows.append({"stage": self._stage, "epoch": epoch, "step": trainer.global_step, **values})
        is_last = epoch + 1 == trainer.max_epochs
        waited_s = time.monotonic() - self._saved_at
        is_due = is_last or waited_s >= self._save_every_s or self._stop.requested_at is not None
        # Several devices have several clocks and must decide alike: saving is done together.
        if trainer.strategy.reduce_boolean_decision(is_due, all=False):
            self._save(trainer)
        if trainer.is_global_zero:
            self._on_rows(self._rows)
        if not is_last:
            self._stop.check()

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            self._checkpoints.save(lambda path: trainer.save_checkpoint(path, weights_only=False))
        else:  # writes nothing, but the first process waits for all to take part
            trainer.save_checkpoint(self._checkpoints.last, weights_only=False)


class Watch(pl.Callback):
    """Writes `progress.json` for the live view and notices requests to stop between two batches.

    Args:
        report: Takes the progress of the stage.
        stage: Name of the stage.
        stop: The cell's stop request.
    """

    def __init__(self, report: ProgressFile, stage: str, stop: Stop) -> None:
        self._report = report
        self._stage = stage
        self._stop = stop
        self._started_at = 0.0
        self._steps_before = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and take the signal back from Lightning, which has just installed its own."""
        self._stop.listen()
        self._started_at = time.monotonic()
        self._steps_before = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Say how far it is, and stop where an epoch would take too long to wait for."""
        self._stop.check(patience_s=GRACE_S / 2)
        if trainer.is_global_zero and self._report.is_due():
            self._report.write(self._stage, **self._progress(trainer))

    def _progress(self, trainer: pl.Trainer) -> dict[str, Any]:
        steps, total = trainer.global_step, trainer.estimated_stepping_batches
        spent_s = time.monotonic() - self._started_at
        left_s = spent_s / max(1, steps - self._steps_before) * (total - steps)
        return {
            "epoch": trainer.current_epoch,
            "epochs": trainer.max_epochs,
            "step": steps,
            "steps": int(total),
            "left_s": round(left_s, 1),
        }


class ProgressFile:
    """The small file through which a running cell tells how far it is.

    Args:
        folder: The cell's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS
        self._written_at = 0.0
        self._kept: dict[str, Any] = {}

    def is_due(self) -> bool:
        """Tell whether the last writing is long enough ago."""
        return time.monotonic() - self._written_at >= PROGRESS_EVERY_S

    def keep(self, **values: Any) -> None:
        """Add values that every later writing repeats, for instance the last loss."""
        self._kept.update(values)

    def write(self, stage: str, **values: Any) -> None:
        """Replace the file; a full disk must not stop a training because of it."""
        self._written_at = time.monotonic()
        temporary = self._path.with_suffix(".tmp")
        with suppress(OSError):
            temporary.write_text(json.dumps({"stage": stage, **self._kept, **values}), encoding="utf-8")
            temporary.replace(self._path)
