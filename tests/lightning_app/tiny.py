"""A network and data so small that a cell takes a second; used by their class paths, as a user's own."""

from types import SimpleNamespace

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from models.segmentation import SegmentationModule

SIDE_PX = 128


class TinyNet(SegmentationModule):
    """Two convolutions, batch norm and dropout: everything that has state or draws numbers."""

    def __init__(self, channels: int = 2, sleep_s: float = 0.0, fail_at: int = -1, **options: float) -> None:
        super().__init__(**options)

    def build_net(self) -> nn.Module:
        channels = self.hparams["channels"]
        return nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, stride=2),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(),
            nn.Dropout(0.3),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, 1, 3, padding=1),
        )

    def training_step(self, batch, batch_idx):
        import time

        if self.global_step == self.hparams["fail_at"]:
            raise ValueError("told to fail here")
        time.sleep(self.hparams["sleep_s"])
        return super().training_step(batch, batch_idx)


class TinyScans(pl.LightningDataModule):
    """Random lines; patches keyed to (seed, epoch, step)."""

    def __init__(
        self,
        scans: int = 4,
        steps: int = 3,
        fold: int = 0,
        folds: int = 2,
        patch_seed: int = 0,
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        self.scans, self.steps, self.fold, self.folds = scans, steps, fold, folds
        self.patch_seed, self.noise = patch_seed, noise

    def _page(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([7, number])
        mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        mask[rng.integers(10, SIDE_PX - 10, 3)] = 1
        noise = rng.random(mask.shape) < self.noise
        return np.where(noise, 255, mask * 255).astype(np.uint8), mask

    def train_dataloader(self):
        return _Batches(self)

    def test_scans(self):
        return [
            SimpleNamespace(
                scan_id=f"scan-{number}",
                patient_id=f"p{number}",
                layout="four_line",
                px_per_mv=10.0,
                px_per_s=100.0,
            )
            for number in range(self.fold, self.scans, self.folds)
        ]

    def page(self, scan):
        return self._page(int(scan.scan_id[5:]))[0]

    def mask(self, scan):
        return self._page(int(scan.scan_id[5:]))[1]


class _Batches:
    def __init__(self, data: TinyScans) -> None:
        self.data, self.epoch = data, 0

    @property
    def sampler(self):
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.data.steps

    def state_dict(self):
        return {}

    def load_state_dict(self, state) -> None:
        pass

    def __iter__(self):
        trainer = self.data.trainer
        first = trainer.fit_loop.epoch_loop.batch_progress.current.ready if trainer else 0
        for step in range(first, len(self)):
            rng = np.random.default_rng([self.data.patch_seed, self.epoch, step])
            train = [n for n in range(self.data.scans) if n % self.data.folds != self.data.fold]
            image, mask = self.data._page(int(rng.choice(train)))
            y, x = rng.integers(0, SIDE_PX - 32, 2)
            patch = (slice(y, y + 32), slice(x, x + 32))
            yield {
                "image": torch.from_numpy(image[patch] / np.float32(255))[None, None],
                "mask": torch.from_numpy(mask[patch].astype(np.float32))[None, None],
            }
