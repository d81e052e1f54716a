"""Weights are written as the same bytes whenever they are written."""

import safetensors.torch
import torch

from lightning_app.train import with_sorted_metadata

STATE = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
ABOUT = {"class_path": "models.fcn.FCN", "threshold": "0.15", "init_args": '{"a": "ö"}', "fit_key": "0"}


def test_the_order_of_metadata_is_always_the_same():
    # safetensors orders them by a hash with another seed at every call, in one process or in many.
    metadata = dict(zip("abcdef", "123456", strict=True))
    contents = {safetensors.torch.save(STATE, metadata=metadata) for _ in range(8)}
    assert len(contents) > 1
    assert len({with_sorted_metadata(content) for content in contents}) == 1


def test_nothing_else_changes(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_sorted_metadata(safetensors.torch.save(STATE, metadata=ABOUT)))
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == ABOUT
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {  # noqa: SIM118 - not a dict
            name: tensor.tolist() for name, tensor in STATE.items()
        }
