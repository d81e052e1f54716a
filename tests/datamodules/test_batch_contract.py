"""What datamodules hand over and models take, held for every datamodule in `datamodules/`."""

import importlib
import inspect
import pkgutil
import typing

import numpy as np
import pytest
import torch

import datamodules
from datamodules.errors import ConfigError
from datamodules.patches import PATCH_PX, window_starts
from datamodules.scans import ScanDataModule
from models import windows
from models.fcn import FCN
from tests.datamodules.tiny_cohort import write_tiny_cohort


def every_datamodule():
    for info in pkgutil.walk_packages(datamodules.__path__, "datamodules."):
        importlib.import_module(info.name)
    found, todo = [], [ScanDataModule]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if cls.__module__.startswith("datamodules."):
            found.append(cls)
    return sorted(found, key=lambda cls: cls.__qualname__)


CLASSES = every_datamodule()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_cohort(tmp_path_factory.mktemp("cohort"), n_scans=10, colour=True)


@pytest.fixture
def batch(cls, folder):
    module = cls(str(folder))
    try:
        module.setup("fit")
    except ConfigError as error:
        if [problem.code for problem in error.problems] != ["TEST_ONLY"]:
            raise
        pytest.skip("for testing only")
    coordinates = next(iter(module.train_dataloader()))
    return module.on_after_batch_transfer(module.on_before_batch_transfer(coordinates, 0), 0)


def test_the_search_finds_the_three_kinds():
    assert {"BinaryScans", "PseudoScans", "ColourScans"} <= {cls.__qualname__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_training_batches_keep_the_contract(batch):
    assert {"image", "mask"} <= set(batch)
    n = len(batch["image"])
    assert 1 <= n <= 64
    for patches in (batch["image"], batch["mask"]):
        assert patches.shape == (n, 1, PATCH_PX, PATCH_PX)
        assert patches.dtype == torch.float32
        assert patches.is_contiguous()
    assert batch["image"].min() == 0.0
    assert batch["image"].max() <= 1.0
    assert set(batch["mask"].unique().tolist()) == {0.0, 1.0}
    assert batch["image"].median() < 0.5, "0 is paper, and most of a page is paper"
    traced = batch["image"][batch["mask"] == 1]
    assert traced.mean() > 0.5, "1 is ink, and the trace is drawn in ink"


@pytest.mark.parametrize("cls", CLASSES)
def test_a_model_takes_the_training_batches(batch):
    module = FCN()
    loss = module.loss(module(batch["image"][:4]), batch["mask"][:4])
    assert torch.isfinite(loss)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_test_side_gives_whole_pages_of_ink_and_masks(cls, folder):
    module = cls(str(folder))
    module.setup("test")
    assert module.test_scans() != []
    for scan in module.test_scans()[:2]:
        page, mask = module.page(scan), module.mask(scan)
        assert page.dtype == mask.dtype == np.uint8
        assert page.ndim == 2
        assert page.shape == mask.shape
        assert set(np.unique(mask)) == {0, 1}
        assert np.median(page) < 128, "0 is paper"
        assert page[mask == 1].mean() > 128, "255 is ink"


@pytest.mark.parametrize("cls", CLASSES)
def test_arguments_are_plain_and_have_defaults_after_the_cohort(cls):
    first, *others = inspect.signature(cls).parameters.values()
    assert first.name == "cohort"
    types = typing.get_type_hints(cls.__init__)
    for parameter in (first, *others):
        plain = set(typing.get_args(types[parameter.name])) or {types[parameter.name]}
        assert plain <= {str, int, float, bool, type(None)}, parameter
    assert all(parameter.default is not parameter.empty for parameter in others)


@pytest.mark.parametrize("length_px", [1, 100, 128, 129, 192, 886, 1120])
@pytest.mark.parametrize(("size_px", "overlap_px"), [(128, 64), (64, 0), (96, 17)])
def test_models_and_datamodules_place_the_same_windows(length_px, size_px, overlap_px):
    ours = window_starts(length_px, size_px, overlap_px)
    assert ours.tolist() == list(windows.window_starts(length_px, size_px, overlap_px))
