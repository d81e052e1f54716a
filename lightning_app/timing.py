"""What a cell spent: seconds, patches, pages, memory. Kept apart, because no result may depend on it.

Sums go on over all processes that worked on the cell, so a cell that was killed tells what it really took.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_app.cells import TIMING, read_leniently, write_json
from lightning_app.costs import cost_of, windows_per_page
from lightning_app.specs import PATCH_PX


def add(folder: Path, **amounts: float) -> None:
    """Add to the sums in a cell's timing.json."""
    told = read_leniently(folder / TIMING)
    note(folder, **{name: float(told.get(name, 0.0)) + amount for name, amount in amounts.items()})


def note(folder: Path, **values: float | str) -> None:
    """Replace values in a cell's timing.json."""
    told = read_leniently(folder / TIMING) | values
    write_json(folder / TIMING, {k: round(v, 3) if isinstance(v, float) else v for k, v in told.items()})


def note_peak_memory(folder: Path) -> None:
    """Raise a cell's peak_memory_mb to the most that this process has held at once."""
    told = float(read_leniently(folder / TIMING).get("peak_memory_mb", 0.0))
    note(folder, peak_memory_mb=max(told, _peak_memory_mb()))


def _peak_memory_mb() -> float:
    """Tell the memory of the GPU if this process used one, else its own."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def note_rate(folder: Path, macs: int, overlap_px: int) -> None:
    """Write down how many operations stand against a cell's seconds, for the estimates of later plans.

    Args:
        folder: The cell's folder.
        macs: Multiply-adds of one patch.
        overlap_px: Overlap of the windows that pages were predicted in.
    """
    told = read_leniently(folder / TIMING)
    windows = told.get("predicted_pages", 0) * windows_per_page(overlap_px)
    cost = cost_of(macs, told.get("trained_patches", 0), windows)
    note(folder, train_flop=cost.train, test_flop=cost.test)


class Clock(pl.Callback):
    """Adds what each epoch, or a part of one, took and how many patches it saw to timing.json.

    Args:
        folder: The cell's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = (0.0, 0.0)
        self._patches = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; inside an epoch where a training is taken up there."""
        self._start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again."""
        self._start()

    def _start(self) -> None:
        self._began = (time.monotonic(), time.process_time())
        self._patches = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count this process's patches of 128 px; batches of another form than ours are not counted."""
        if isinstance(batch, dict) and "image" in batch:
            self._patches += batch["image"].numel() / PATCH_PX**2

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch down."""
        self._add(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write down the part of an epoch that was trained before a stop."""
        self._add(trainer)

    def _add(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall_s, cpu_s = time.monotonic() - self._began[0], time.process_time() - self._began[1]
        patches = self._patches * trainer.world_size
        add(self._folder, train_s=wall_s, train_cpu_s=cpu_s, trained_patches=patches)
        note_peak_memory(self._folder)
