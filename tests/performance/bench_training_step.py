"""A Lightning training step against a bare loop, same model and data, as a ratio in one run.

    python -m tests.performance.bench_training_step [--threads 1] [--steps 12] [--rounds 3] [--batch 16]

Both run forward, loss, backward and AdaBound on the same batch in channels-last memory. The routes take turns
and the least time of each counts, so that other load on the machine hits both alike. Budget: 1.05.
"""

import argparse
import logging
import time
import warnings

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from models.conformance import toy_batch
from models.resunet_cbam import ResUNetCBAM
from models.segmentation import SegmentationModule


class StepClock(pl.Callback):
    """CPU seconds between the ends of the first and the last step of an epoch."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Note the time after each step."""
        now = time.process_time()
        if trainer.global_step == 1:
            self.first = now
        self.last = now


def fresh(width: int) -> SegmentationModule:
    """The same weights every time."""
    torch.manual_seed(0)
    return ResUNetCBAM(width=width)


def lightning_seconds(module: SegmentationModule, batch: dict[str, Tensor], steps: int) -> float:
    """Seconds per step under the trainer; the first step, which allocates, is left out."""
    clock = StepClock()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(module, DataLoader([batch] * (steps + 1), batch_size=None))
    return (clock.last - clock.first) / steps


def bare_seconds(module: SegmentationModule, batch: dict[str, Tensor], steps: int) -> float:
    """Seconds per step in a loop; the first step, which allocates, is left out."""
    module.train().to(memory_format=torch.channels_last)
    optimizer = module.configure_optimizers()
    if optimizer is None:
        raise ValueError("got a module without training; wanted one with an optimizer")
    began = 0.0
    for step in range(steps + 1):
        optimizer.zero_grad()
        module.loss(module(batch["image"]), batch["mask"]).backward()
        optimizer.step()
        if step == 0:
            began = time.process_time()
    return (time.process_time() - began) / steps


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description="Lightning's step against a bare loop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    batch = toy_batch(options.batch, 128)
    lightning, bare = float("inf"), float("inf")
    for _ in range(options.rounds):
        bare = min(bare, bare_seconds(fresh(16), batch, options.steps))
        lightning = min(lightning, lightning_seconds(fresh(16), batch, options.steps))
    print(
        f"training step ResUNetCBAM-16 batch {options.batch}: "
        f"lightning {lightning:.3f} s, bare {bare:.3f} s, ratio {lightning / bare:.3f} (budget 1.05)"
    )


if __name__ == "__main__":
    main()
