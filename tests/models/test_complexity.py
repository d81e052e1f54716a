"""Multiply-adds against a count by hand."""

import pytest
import torch
from torch import nn

from models.complexity import macs_per_patch, parameters
from models.resunet_cbam import ResUNetCBAM


def test_count_by_hand():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1, stride=2)
    )
    assert macs_per_patch(net) == 128 * 128 * 8 * 9 + 64 * 64 * 8
    assert parameters(net) == (9 * 8 + 8) + 16 + (8 + 1)


def test_same_count_with_and_without_weights_and_nothing_changes():
    with torch.device("meta"):
        without = macs_per_patch(ResUNetCBAM(width=16))
    module = ResUNetCBAM(width=16).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert macs_per_patch(module) == without == pytest.approx(1.04e9, rel=0.01)
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_frozen_weights_are_no_parameters_and_methods_without_weights_cost_nothing():
    net = nn.Conv2d(1, 1, 1)
    net.bias.requires_grad_(False)
    assert parameters(net) == 1
    assert macs_per_patch(nn.Identity()) == 0
