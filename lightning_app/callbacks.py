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
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from datamodules.errors import IntegrityError, Interrupted, Problem
from lightning_app.cells import PROGRESS
from lightning_app.checkpoints import Checkpoints
from lightning_app.engines import EXIT_INTERRUPTED, GRACE_S
from lightning_app.engines.local import die_with_parent

SAVE_EVERY_S = 30.0  # between checkpoints; what a kill can cost at most
SAVING_S = 0.6  # 2 % of that; where saving takes longer it happens less often
PROGRESS_EVERY_S = 1.0

Row = dict[str, float | int | str]


class Stop:
    """A request to stop, by signal; the second signal ends the process at once."""

    def __init__(self) -> None:
        self.requested_at: float | None = None
        self._pass_on: Callable[[int], object] = lambda _number: None

    def pass_on_to(self, kill: Callable[[int], object]) -> None:
        """Have every signal sent on by `kill`, to processes that share the work."""
        self._pass_on = kill

    def listen(self) -> None:
        """Take SIGTERM over (again: Lightning installs handlers of its own when a fit starts)."""
        with suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._pass_on(number)
        if self.requested_at is not None:
            os._exit(EXIT_INTERRUPTED)
        self.requested_at = time.monotonic()

    def check(self, patience_s: float = 0.0) -> None:
        """Raise once a stop was requested more than `patience_s` ago.

        Raises:
            Interrupted: `INTERRUPTED`.
        """
        if self.requested_at is not None and time.monotonic() - self.requested_at >= patience_s:
            self.end()

    def end(self) -> NoReturn:
        """Stop.

        Raises:
            Interrupted: `INTERRUPTED`.
        """
        raise Interrupted(
            Problem("INTERRUPTED", "cell", "a request to stop", "", "run the sweep again to go on")
        )


class KeyedRandomness(pl.Callback):
    """Seeds every generator at the start of an epoch and of a step from (seed, stage, epoch, step).

    Lightning keeps no generator state in its checkpoints. Keyed this way there is nothing to keep: dropout in
    step 7 is the same whether steps 0 to 6 ran in this process or not.

    Args:
        seed: The cell's weight seed.
        stage: Number of the stage.
    """

    def __init__(self, seed: int, stage: int) -> None:
        self._key = (seed, stage)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed Python, numpy and torch for what is drawn before the first step."""
        seed_all(*self._key, trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed Python, numpy and torch for one step."""
        seed_all(*self._key, trainer.current_epoch, batch_idx)


def seed_all(*key: int) -> None:
    """Seed every global generator from a key of non-negative numbers."""
    state = np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(2)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))  # noqa: NPY002 - user code may draw from the legacy generator
    torch.manual_seed(int(state[1]))


class Recorder(Checkpoint):
    """Keeps one row of metrics per epoch and makes the checkpoints, between two steps or two epochs.

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
        self._saving_s = 0.0
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

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save between two steps when it is time, and stop there when asked to.

        The start of a step, not the end of the one before: by then every hook of that one has run.
        """
        stops = _any_process(trainer, self._stop.requested_at is not None)
        if not _resumes_exactly_at(trainer, pl_module, batch_idx):
            # The epoch's end is the next place to save, where that is not too long to wait.
            self._stop.check(patience_s=GRACE_S / 2)
        elif _any_process(trainer, stops or self._is_due()):
            self._save(trainer)
            if stops:
                self._stop.end()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave the step that is only announced out of Lightning's counts, which it would count twice."""
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                counts["ready"] = counts["completed"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and save when it is time."""
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        epoch = trainer.current_epoch
        self._rows.append({"stage": self._stage, "epoch": epoch, "step": trainer.global_step, **values})
        is_last = epoch + 1 == trainer.max_epochs
        stops = _any_process(trainer, self._stop.requested_at is not None)
        if _any_process(trainer, is_last or stops or self._is_due()):
            self._save(trainer)
        if trainer.is_global_zero:
            self._on_rows(self._rows)
        if stops and not is_last:
            self._stop.end()

    def _is_due(self) -> bool:
        pause_s = self._save_every_s * max(1.0, self._saving_s / SAVING_S)
        return time.monotonic() - self._saved_at >= pause_s

    def _save(self, trainer: pl.Trainer) -> None:
        started = time.monotonic()
        if trainer.is_global_zero:
            self._checkpoints.save(lambda path: trainer.save_checkpoint(path, weights_only=False))
        else:  # writes nothing, but the first process waits for all to take part
            trainer.save_checkpoint(self._checkpoints.last, weights_only=False)
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - started


def _any_process(trainer: pl.Trainer, decision: bool) -> bool:
    """Tell whether any of the processes of a training says yes: they have several clocks and must agree."""
    return trainer.strategy.reduce_boolean_decision(decision, all=False)


def _resumes_exactly_at(trainer: pl.Trainer, module: pl.LightningModule, step: int) -> bool:
    """Tell whether nothing is lost when a training is left before this step of an epoch and taken up again.

    The module must keep what it sums up over an epoch in its checkpoint and say so, the loader must be able
    to begin at a step, and neither gradients nor values for Lightning's own means may have been gathered.
    """
    gathered: Any = trainer.fit_loop.epoch_loop._results
    return (
        getattr(module, "resumes_within_epoch", False)
        and hasattr(trainer.train_dataloader, "load_state_dict")
        and step % trainer.accumulate_grad_batches == 0
        and all(result.has_reset for result in gathered.values() if result.meta.on_epoch)
    )


class Watch(pl.Callback):
    """Writes `progress.json` for the live view, and sees to it that requests to stop arrive.

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

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """End with the cell's process where this is one of several that it started."""
        if trainer.strategy.launcher is not None:
            die_with_parent()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and take the signal back from Lightning, which has just installed its own."""
        self._stop.listen()
        self._started_at = time.monotonic()
        self._steps_before = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Say how far it is."""
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
