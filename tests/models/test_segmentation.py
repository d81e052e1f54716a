"""The shared LightningModule: optimizer against its paper, epoch loss, stop on NaN."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from models.conformance import toy_batch
from models.losses import dice_loss, focal_loss
from models.segmentation import SegmentationModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's own, from torch 2.13 on
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


class Small(SegmentationModule):
    """A few weights."""

    def build_net(self):
        return nn.Conv2d(1, 1, 3, padding=1)


class Recorder(Small):
    """Remembers every step's loss."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.seen.append(float(loss.detach()))
        return loss


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, **{**quiet, **options})


def loader(n_batches, *, spoil=None):
    batches = [toy_batch(2, 16) for _ in range(n_batches)]
    for index, batch in enumerate(batches):
        batch["image"] = batch["image"] * (index + 1) / n_batches
        if index == spoil:
            batch["image"][0, 0, 0, 0] = math.nan
    return DataLoader(batches, batch_size=None)


def test_adabound_takes_the_published_steps():
    """Luo et al. 2019, algorithm 2 with the bounds and bias correction of its authors' code, in float64."""
    lr, final_lr, gamma, beta1, beta2, eps = 1e-3, 0.1, 1e-3, 0.9, 0.999, 1e-8
    module = Small(lr=lr, final_lr=final_lr, gamma=gamma)
    optimizer = module.configure_optimizers()
    weights = module.net.weight
    rng = np.random.default_rng(0)
    wanted = weights.detach().double().numpy().copy()
    first = second = np.zeros_like(wanted)
    for step in range(1, 31):
        gradient = rng.normal(size=wanted.shape) * 10.0 ** rng.integers(-6, 3)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        lower = final_lr * (1 - 1 / (gamma * step + 1))
        upper = final_lr * (1 + 1 / (gamma * step))
        rate = lr * math.sqrt(1 - beta2**step) / (1 - beta1**step) / (np.sqrt(second) + eps)
        wanted = wanted - np.clip(rate, lower, upper) * first
        weights.grad = torch.from_numpy(gradient).float()
        module.net.bias.grad = torch.zeros_like(module.net.bias)
        optimizer.step()
        np.testing.assert_allclose(weights.detach().numpy(), wanted, rtol=2e-5, atol=2e-6)


def test_bounds_bind_in_that_test():
    """With gradients of 1e-6 to 100, Adam's rate leaves the bounds on both sides, so they are tested."""
    lower = 0.1 * (1 - 1 / (1e-3 * 1 + 1))
    assert 1e-3 / 100 < lower < 1e-3 / 1e-6
    assert lower == pytest.approx(1e-4, rel=0.01)


def test_optimizer_has_the_papers_settings():
    group = Small().configure_optimizers().param_groups[0]
    assert (group["lr"], group["final_lr"], group["gamma"]) == (1e-3, 0.1, 1e-3)
    assert (tuple(group["betas"]), group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0.0)
    assert not group["ams_bound"]


def test_epoch_loss_is_the_mean_of_the_steps():
    module, fit = Recorder(), trainer()
    fit.fit(module, loader(5))
    assert float(fit.callback_metrics["train_loss"]) == pytest.approx(np.mean(module.seen), rel=1e-6)


def test_loss_is_dice_plus_focal():
    module, batch = Small(focal_alpha=0.75), toy_batch(2, 16)
    logits = module(batch["image"])
    wanted = dice_loss(logits, batch["mask"]) + focal_loss(logits, batch["mask"], alpha=0.75)
    torch.testing.assert_close(module.loss(logits, batch["mask"]), wanted)


def test_nan_stops_at_the_end_of_the_epoch_and_names_the_first_step():
    module = Recorder()
    with pytest.raises(
        ValueError, match=r"not finite at step 2 of 5 in epoch 0; wanted a finite loss\. Lower lr"
    ):
        trainer().fit(module, loader(5, spoil=2))
    assert len(module.seen) == 5


def test_weights_are_contiguous_after_training():
    module = Small()
    trainer().fit(module, loader(2))
    assert all(tensor.is_contiguous() for tensor in module.state_dict().values())


def test_probabilities_are_the_sigmoid_of_the_logits():
    module, image = Small(), toy_batch(2, 16)["image"]
    torch.testing.assert_close(module.probabilities(image), 1 / (1 + torch.exp(-module(image))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"lr": -1.0},
        {"gamma": 0.0},
        {"focal_alpha": 1.5},
        {"focal_gamma": -1.0},
        {"threshold": 2.0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"got .*; wanted"):
        Small(**wrong)


def test_base_class_asks_for_a_network():
    with pytest.raises(NotImplementedError, match="build_net"):
        SegmentationModule()
