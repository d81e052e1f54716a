"""The LightningModule around every network: loss, optimizer, epoch bookkeeping.

A new architecture is one file with one subclass of `SegmentationModule` that overrides `build_net`.
"""

from typing import Any, TypedDict

import pytorch_lightning as pl
import torch
from pytorch_optimizer import AdaBound
from torch import Tensor, nn

from models.initialisation import initialise
from models.losses import FOCAL_ALPHA, FOCAL_GAMMA, dice_loss, focal_loss

INK_THRESHOLD = 0.15  # Li et al. 2020, section 2.3; a pixel of exactly this value counts as waveform


class TrainingOptions(TypedDict, total=False):
    """What every architecture accepts besides its own options; see `SegmentationModule`."""

    lr: float
    final_lr: float
    gamma: float
    focal_alpha: float
    focal_gamma: float
    threshold: float


class SegmentationModule(pl.LightningModule):
    """Waveform against paper for (B, 1, H, W) patches, trained as in Li et al. 2020.

    Batches are `{"image": (B, 1, H, W) float32, 0 = paper, 1 = ink; "mask": same shape, 0 or 1}`.
    All constructor arguments are plain values, kept in `hparams`; `type(m)(**m.hparams)` rebuilds the model.

    Args:
        lr: first learning rate of AdaBound (Li et al. 2020, section 2.3).
        final_lr: learning rate of the SGD that AdaBound ends as (Luo et al. 2019, default; PROTOCOL R23).
        gamma: speed at which AdaBound's bounds close, per step (same source).
        focal_alpha: weight of waveform pixels in the focal loss (PROTOCOL R21).
        focal_gamma: exponent of the focal loss.
        threshold: probability from which on a pixel counts as waveform.
    """

    needs_training = True  # False: a method without weights; it is tested, never fitted
    resumes_within_epoch = True  # what is summed up over an epoch is part of the checkpoint, see below
    whole_page = False  # True: a method that sees a page at once; it is never given windows of one
    window_px = 128  # side of the windows a page is predicted in; Li et al. 2020, section 2.3

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        focal_alpha: float = FOCAL_ALPHA,
        focal_gamma: float = FOCAL_GAMMA,
        threshold: float = INK_THRESHOLD,
    ) -> None:
        super().__init__()
        _require(
            lr > 0 and final_lr > 0 and gamma > 0,
            f"lr {lr}, final_lr {final_lr}, gamma {gamma}",
            "all above 0",
        )
        _require(0 <= focal_alpha <= 1, f"focal_alpha {focal_alpha}", "0 to 1")
        _require(focal_gamma >= 0, f"focal_gamma {focal_gamma}", "0 or more")
        _require(0 <= threshold <= 1, f"threshold {threshold}", "0 to 1")
        self.save_hyperparameters()
        self.net = self.build_net()
        self.initialise()
        self._start_sums()

    def build_net(self) -> nn.Module:
        """Make the network from `self.hparams`: (B, 1, H, W) float32 to logits (B, 1, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must override build_net()")

    def initialise(self) -> None:
        """Draw the first weights. Override only to keep weights that `build_net` loaded."""
        initialise(self.net)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of images (B, 1, H, W) float32, 0 = paper, 1 = ink."""
        logits: Tensor = self.net(images)
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """Probability of waveform, (B, 1, H, W) float32 in [0, 1], in the module's present mode."""
        logits: Tensor = self(images)
        return logits.float().sigmoid()

    def maps(self, images: Tensor) -> Tensor:
        """All the module says of its images, (B, C, H, W) float32; the first map is `probabilities`.

        Override where a network says more than that; what more there is belongs into the docstring.
        """
        return self.probabilities(images)

    def loss(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Dice plus focal loss, 1 : 1 (Li et al. 2020, section 2.3): scalar float32."""
        focal = focal_loss(logits, mask, gamma=self.hparams["focal_gamma"], alpha=self.hparams["focal_alpha"])
        return dice_loss(logits, mask) + focal

    def batch_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Loss of one batch, scalar float32. Override to learn from more than the mask."""
        return self.loss(self(batch["image"]), batch["mask"])

    def on_fit_start(self) -> None:
        """Lay the weights out channels-last while training: 8 to 25 % less time per step on a CPU."""
        self.to(memory_format=torch.channels_last)

    def on_fit_end(self) -> None:
        """Back to the usual layout, which safetensors demands."""
        self.to(memory_format=torch.contiguous_format)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums."""
        self._start_sums()

    def _start_sums(self) -> None:
        """Make the sums on the device, where they stay until the epoch ends."""
        self._loss_sum = torch.zeros((), device=self.device)
        self._first_bad_step = torch.full((), -1, dtype=torch.long, device=self.device)
        self._steps = 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the epoch's sums, so that a training may be left and taken up between any two steps.

        A subclass that sums up more over an epoch adds it here and in `on_load_checkpoint`.
        """
        checkpoint["epoch_sums"] = (self._loss_sum, self._first_bad_step, self._steps)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the epoch's sums up again."""
        loss_sum, first_bad_step, self._steps = checkpoint["epoch_sums"]
        self._loss_sum, self._first_bad_step = loss_sum.to(self.device), first_bad_step.to(self.device)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch. Nothing here reads a value back from the device, so the GPU never waits."""
        loss = self.batch_loss(batch)
        seen = loss.detach()
        self._loss_sum += seen
        # Where no step was bad so far (-1) and this one is not finite, note its index.
        self._first_bad_step.masked_fill_((self._first_bad_step < 0) & ~seen.isfinite(), batch_idx)
        self._steps += 1
        return loss

    def on_train_epoch_end(self) -> None:
        """Log `train_loss`, the mean over the epoch's steps, and stop if it is not a number.

        Raises:
            ValueError: a step's loss was NaN or infinite; names the first such step, which can be
                replayed because every draw is keyed to seed, epoch and step.
        """
        bad_step = int(self._first_bad_step)
        if bad_step >= 0:
            raise ValueError(
                f"the loss was not finite at step {bad_step} of {self._steps} in epoch {self.current_epoch}; "
                f"wanted a finite loss. Lower lr (now {self.hparams['lr']:g}) or train with precision 32-true"
            )
        self.log("train_loss", self._loss_sum / self._steps)

    def configure_optimizers(self) -> torch.optim.Optimizer | None:
        """AdaBound (Luo et al. 2019), no weight decay, no schedule (PROTOCOL R23); None without weights."""
        if not self.needs_training:
            return None
        options: dict[str, Any] = {name: self.hparams[name] for name in ("lr", "final_lr", "gamma")}
        return AdaBound(self.parameters(), betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **options)


def _require(holds: bool, got: str, wanted: str) -> None:
    if not holds:
        raise ValueError(f"got {got}; wanted {wanted}")
