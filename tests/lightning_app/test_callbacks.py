"""A training may be left between any two steps and taken up again as if nothing had been."""

import logging

import pytest
import pytorch_lightning as pl
import torch

from datamodules.errors import Interrupted
from lightning_app.callbacks import KeyedRandomness, Recorder, Stop, seed_all
from lightning_app.checkpoints import Checkpoints
from tests.lightning_app.tiny import TinyNet, TinyScans

EPOCHS, STEPS = 3, 3
ALL_STEPS = [(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)]


class Crash(Exception):
    """Stands for a kill: nothing is saved after it."""


class Disturbance(pl.Callback):
    """Asks for a stop while one step runs, as a signal does, or crashes there."""

    def __init__(self, stop, stop_in, crash_in):
        self.stop, self.stop_in, self.crash_in = stop, stop_in, crash_in

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.crash_in:
            raise Crash
        if (trainer.current_epoch, batch_idx) == self.stop_in:
            self.stop.requested_at = 0.0


class Averaging(TinyNet):
    """Changes its weights after each step, in the last hook there is."""

    def on_train_batch_end(self, *_):
        with torch.no_grad():
            for weight in self.net.parameters():
                weight.mul_(0.99)


class Logging(TinyNet):
    """Has Lightning form the mean over an epoch, whose sum is in no checkpoint."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("mean_loss", loss, on_step=False, on_epoch=True)
        return loss


class Silent(TinyNet):
    """Does not say that it can be taken up inside an epoch."""

    resumes_within_epoch = False


def train(folder, stop_in=None, crash_in=None, model=TinyNet, save_every_s=1e9, **trainer_options):
    """Train, or go on from the newest checkpoint; None if it did not reach the end."""
    seed_all(0)
    stop, rows, checkpoints = Stop(), [], Checkpoints(folder)
    recorder = Recorder("fit", rows, checkpoints, "key", stop, lambda _: None, save_every_s)
    module = model()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        callbacks=[KeyedRandomness(0, 1), Disturbance(stop, stop_in, crash_in), recorder],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **trainer_options,
    )
    try:
        trainer.fit(
            module,
            datamodule=TinyScans(steps=STEPS),
            ckpt_path=checkpoints.newest_intact(),
            weights_only=True,
        )
    except (Interrupted, Crash):
        return None
    # Lightning's counts too: the last checkpoint is one of the files whose hashes a cell records.
    return {**module.state_dict(), "rows": rows, "loops": trainer.fit_loop.state_dict()}


def saved_step(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["global_step"]


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        for name, value in first.items()
    )


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("pytorch_lightning"), "level", logging.ERROR)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("at", ALL_STEPS[:-1])
def test_a_stop_in_any_step_changes_nothing(undisturbed, tmp_path, at):
    assert train(tmp_path, stop_in=at) is None
    assert saved_step(tmp_path) == 1 + ALL_STEPS.index(at), "the running step is kept, and no other begun"
    assert same(train(tmp_path), undisturbed)


def test_a_stop_in_every_step_changes_nothing(undisturbed, tmp_path):
    for at in ALL_STEPS[:-1]:
        assert train(tmp_path, stop_in=at) is None
    assert same(train(tmp_path), undisturbed)


def test_a_crash_costs_no_more_than_what_came_after_the_last_checkpoint(undisturbed, tmp_path):
    for at in ALL_STEPS:
        assert train(tmp_path, crash_in=at, save_every_s=0) is None
        assert saved_step(tmp_path) == ALL_STEPS.index(at)
    assert same(train(tmp_path), undisturbed)


def test_without_a_signal_nothing_is_saved_before_it_is_time(tmp_path):
    assert train(tmp_path, crash_in=(1, 1)) is None
    assert not (tmp_path / "last.ckpt").exists()


def test_what_the_module_does_after_a_step_belongs_to_the_step(tmp_path):
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        folder.mkdir()
    assert train(tmp_path / "parts", stop_in=(1, 0), model=Averaging) is None
    assert same(train(tmp_path / "parts", model=Averaging), train(tmp_path / "whole", model=Averaging))


@pytest.mark.parametrize("model", [Logging, Silent])
def test_a_module_that_cannot_be_left_inside_an_epoch_goes_back_to_its_start(tmp_path, model):
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        folder.mkdir()
    assert train(tmp_path / "parts", stop_in=(1, 1), save_every_s=0, model=model) is None
    assert saved_step(tmp_path / "parts") == STEPS
    assert same(train(tmp_path / "parts", model=model), train(tmp_path / "whole", model=model))


def test_gathered_gradients_are_not_lost(tmp_path):
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        folder.mkdir()
    gather = {"accumulate_grad_batches": 2}
    assert train(tmp_path / "parts", crash_in=(1, 1), save_every_s=0, **gather) is None
    assert saved_step(tmp_path / "parts") == 2, "steps 0 and 1, then 2 alone; none between"
    assert same(train(tmp_path / "parts", **gather), train(tmp_path / "whole", **gather))
