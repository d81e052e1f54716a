"""Every architecture in models/ keeps the contract, and the checks catch what breaks it."""

import importlib
import inspect
import pkgutil
import sys
import types

import pytest
import torch
from torch import nn

import models
from models import conformance
from models.conformance import check_segmenter, checks_for
from models.resunet_cbam import ResUNetCBAM
from models.segmentation import SegmentationModule

# Small variants keep the suite fast; a class without an entry is tested with its defaults.
SMALL = {"ResUNetCBAM": {"width": 16}, "HalfUNet": {"width": 16}, "LineUNet": {"width": 16}}


def architectures():
    """Every subclass of SegmentationModule defined in a file of models/."""
    found = []
    for file in pkgutil.walk_packages(models.__path__, "models."):
        module = importlib.import_module(file.name)
        found += [
            cls
            for _, cls in inspect.getmembers(module, inspect.isclass)
            if issubclass(cls, SegmentationModule)
            and cls is not SegmentationModule
            and cls.__module__ == file.name
        ]
    return found


CASES = [
    pytest.param(cls, check, id=f"{cls.__name__}-{check.__name__}")
    for cls in architectures()
    for check in checks_for(cls)
]


@pytest.mark.parametrize(("cls", "check"), CASES)
def test_architecture_keeps_the_contract(cls, check):
    check(cls, **SMALL.get(cls.__name__, {}))


def test_the_three_families_of_the_paper_are_found():
    assert {"ResUNetCBAM", "FCN", "DeepLabV3"} <= {cls.__name__ for cls in architectures()}


class Tiny(SegmentationModule):
    """Two convolutions: enough to be right or wrong in every way."""

    def __init__(self, channels: int = 4, **training):
        super().__init__(**training)

    def build_net(self):
        channels = self.hparams["channels"]
        return nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(channels, 1, 1))


class SigmoidOutput(Tiny):
    """Gives probabilities where logits are wanted."""

    def forward(self, images):
        return super().forward(images).sigmoid()


class DeadLayer(Tiny):
    """Has a layer that nothing uses."""

    def build_net(self):
        net = super().build_net()
        net[0].unused = nn.Conv2d(1, 1, 1)
        return net


class HalfSize(Tiny):
    """Forgets to upsample."""

    def forward(self, images):
        return super().forward(images)[..., ::2, ::2]


class FrozenSeed(Tiny):
    """Draws the same weights whatever the seed."""

    def initialise(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            super().initialise()


class Unseeded(Tiny):
    """Draws other weights every time."""

    def initialise(self):
        with torch.random.fork_rng(devices=[]):
            torch.seed()
            super().initialise()


class HoldsAnObject(Tiny):
    """Keeps a live object among its settings."""

    def __init__(self, channels: int = 4, device_hint: object = torch.device("cpu"), **training):
        super().__init__(channels=channels, **training)


class SwallowsTypos(Tiny):
    """Accepts any argument."""

    def __init__(self, channels: int = 4, **anything):
        anything.pop("no_such_argument", None)
        super().__init__(channels=channels)


class ClimbsTheLoss(Tiny):
    """Steps up the gradient."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, maximize=True)


class Undocumented(Tiny):
    pass


Undocumented.__doc__ = None


class FullyConvolutionalSizes(Tiny):
    """Works at one size only."""

    def forward(self, images):
        return super().forward(images) + torch.zeros(1, 1, conformance.SIZE_PX, conformance.SIZE_PX)


class ForgetsItsHead(Tiny):
    """Keeps a weight outside its state."""

    def __init__(self, channels: int = 4, **training):
        super().__init__(**training)
        self.bias = [torch.randn(())]

    def forward(self, images):
        return super().forward(images) + self.bias[0]


class ProbabilitiesAreLogits(Tiny):
    """Hands logits out as probabilities."""

    def probabilities(self, images):
        return self(images)


FAULTS = [
    (SigmoidOutput, "check_logits"),
    (HalfSize, "check_logits"),
    (ProbabilitiesAreLogits, "check_probabilities"),
    (DeadLayer, "check_every_parameter_learns"),
    (FrozenSeed, "check_seeds"),
    (Unseeded, "check_seeds"),
    (HoldsAnObject, "check_hparams_rebuild"),
    (SwallowsTypos, "check_unknown_argument_is_refused"),
    (ClimbsTheLoss, "check_training_reduces_loss"),
    (ForgetsItsHead, "check_weights_round_trip"),
    (Undocumented, "check_documented"),
]


def test_a_right_model_passes_every_check():
    check_segmenter(Tiny, channels=8)


@pytest.mark.parametrize(("cls", "name"), FAULTS, ids=[cls.__name__ for cls, _ in FAULTS])
def test_planted_fault_fails_its_check(cls, name):
    with pytest.raises(AssertionError, match="got"):
        getattr(conformance, name)(cls)


def test_only_the_broken_check_fails():
    with pytest.raises(AssertionError) as failure:
        check_segmenter(DeadLayer)
    assert "fails 1 checks" in str(failure.value)
    assert "check_every_parameter_learns: got no gradient in net.0.unused.weight" in str(failure.value)


def test_model_that_works_at_one_size_only_is_caught():
    with pytest.raises((AssertionError, RuntimeError)):
        conformance.check_odd_pages(FullyConvolutionalSizes)


@pytest.mark.parametrize(
    "line", ["import datamodules.scans", "from lightning_app import cli", "def f():\n    import datamodules"]
)
def test_import_of_data_or_application_is_caught(tmp_path, monkeypatch, line):
    file = tmp_path / "planted.py"
    file.write_text(f"if False:\n    {line.replace(chr(10), chr(10) + '    ')}\nclass Planted: pass\n")
    planted = types.ModuleType("planted")
    planted.__file__ = str(file)
    exec(compile(file.read_text(), file, "exec"), planted.__dict__)
    monkeypatch.setitem(sys.modules, "planted", planted)
    with pytest.raises(AssertionError, match="import of"):
        conformance.check_imports(planted.Planted)


def test_model_card_is_wanted(monkeypatch):
    monkeypatch.setattr(sys.modules[ResUNetCBAM.__module__], "__doc__", None)
    with pytest.raises(AssertionError, match="model card"):
        conformance.check_documented(ResUNetCBAM)


class WithoutWeights(SegmentationModule):
    """A method without weights: ink is waveform."""

    needs_training = False

    def build_net(self):
        return nn.Identity()

    def forward(self, images):
        return (images - 0.5) * 20


def test_method_without_weights_is_allowed():
    check_segmenter(WithoutWeights)
    assert WithoutWeights().configure_optimizers() is None
