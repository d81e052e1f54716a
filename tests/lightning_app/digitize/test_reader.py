"""A packed reader: two files that predict what the cell predicted, and notice when they were changed."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from datamodules.errors import ConfigError, IntegrityError
from lightning_app.digitize.reader import load_reader, pack
from lightning_app.reader_commands import reader, the_cell
from models.half_unet import HalfUNet

SPEC = {
    "model": {"class_path": "models.half_unet.HalfUNet", "init_args": {"width": 16}},
    "evaluation": {"threshold": 0.15, "overlap_px": 32},
    "fit_on": {"class_path": "datamodules.scans.BinaryScans", "init_args": {"cohort": "abc"}},
    "training": {"epochs": 1},
    "folds": {"count": 5, "fold": 0, "seed": 0},
    "seeds": {"weights": 0, "patches": 0},
}


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "cells" / "key"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(SPEC))
    (folder / "result.json").write_text("{}")
    safetensors.torch.save_file(HalfUNet(width=16).state_dict(), folder / "model.safetensors")
    return folder


def test_a_packed_reader_predicts_as_its_cell(cell, tmp_path):
    pack(cell, tmp_path / "mine.safetensors", (3.0, 6.0))
    ink = (np.random.default_rng(0).random((270, 300)) > 0.9).astype(np.uint8) * 255
    packed, own = load_reader(tmp_path / "mine.safetensors"), load_reader(cell)
    assert packed.px_per_mm == (3.0, 6.0)
    assert own.px_per_mm is None
    assert np.abs(packed.predict(ink) - own.predict(ink)).max() < 1e-2
    assert (tmp_path / "mine.safetensors").stat().st_size < 0.6 * (cell / "model.safetensors").stat().st_size


def test_packing_twice_gives_the_same_bytes(cell, tmp_path):
    for name in ("a", "b"):
        pack(cell, tmp_path / f"{name}.safetensors", (3.0, 6.0))
    for end in ("safetensors", "json"):
        assert (tmp_path / f"a.{end}").read_bytes() == (tmp_path / f"b.{end}").read_bytes()


def test_changed_weights_are_refused(cell, tmp_path):
    path = tmp_path / "mine.safetensors"
    pack(cell, path, (3.0, 6.0))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="WEIGHTS_HASH"):
        load_reader(path)


def test_pack_finds_the_one_cell_of_a_sweep(cell, tmp_path):
    runs = cell.parents[1]
    assert the_cell(runs) == the_cell(cell) == cell
    with pytest.raises(ConfigError, match="CELL_NOT_ONE"):
        the_cell(tmp_path)
    done = CliRunner().invoke(
        reader,
        ["pack", str(runs), "--out", str(tmp_path / "r.safetensors"), "--px-per-mm", "3", "6"],
        standalone_mode=False,
    )
    assert done.exception is None, done.output
    assert load_reader(tmp_path / "r.safetensors").px_per_mm == (3.0, 6.0)
