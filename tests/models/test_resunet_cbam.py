"""The paper's network: size, parts, ablations."""

import pytest
import torch
from timm.layers.cbam import CbamModule
from torch import nn

from models.complexity import parameters
from models.resunet_cbam import Block, ChannelGate, ResUNetCBAM, SpatialGate, attention


def meta(**options):
    with torch.device("meta"):
        return ResUNetCBAM(**options)


def test_paper_size_has_the_published_number_of_parameters():
    """36.3 M, measured on the network of the paper's supplement, whose spatial gate is off."""
    assert parameters(meta(spatial_gate=False)) == 36_318_209
    # Eight gates of 2 x 7 x 7 weights and a norm of two.
    assert parameters(meta()) == 36_318_209 + 8 * (98 + 2)


def test_layers_are_those_of_the_supplement():
    net = meta(width=64).net
    stem = net.stem[0][0]
    assert (stem.kernel_size, stem.stride, stem.out_channels) == ((7, 7), (1, 1), 64)
    assert [stage.branch[0][0].out_channels for stage in net.down] == [128, 256, 512, 1024]
    assert [stage.branch[0][0].stride for stage in net.down] == [(2, 2)] * 4
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer for layer in convolutions if layer.bias is not None] == [net.head]
    assert {layer.negative_slope for layer in net.modules() if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert not any(isinstance(layer, nn.MaxPool2d | nn.Dropout) for layer in net.modules())
    hidden = [gate.squeeze.out_features for gate in net.modules() if isinstance(gate, ChannelGate)]
    assert hidden == [16, 32, 64, 128, 64, 32, 16, 8]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_attention_equals_timms(layout, training):
    torch.manual_seed(0)
    ours, timms = (
        attention(32, channel_gate=True, spatial_gate=True, reduction=8),
        CbamModule(32, rd_ratio=1 / 8),
    )
    timms.channel.fc1.weight.data = ours[0].squeeze.weight.data[..., None, None]
    timms.channel.fc2.weight.data = ours[0].excite.weight.data[..., None, None]
    timms.spatial.conv.conv.weight.data = ours[1].conv[0].weight.data
    features = torch.randn(3, 32, 12, 10).to(memory_format=layout).requires_grad_()
    twin = features.detach().clone().requires_grad_()
    got, wanted = ours.train(training)(features), timms.train(training)(twin)
    torch.testing.assert_close(got, wanted)
    got.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(features.grad, twin.grad, rtol=1e-4, atol=1e-5)


def test_block_is_branch_plus_shortcut():
    block = Block(16, 32, 2, residual=True, gates=nn.Identity()).eval()
    features = torch.randn(2, 16, 8, 8)
    wanted = nn.functional.leaky_relu(block.branch(features) + block.shortcut(features), 0.2)
    torch.testing.assert_close(block(features), wanted)
    assert block(features).shape == (2, 32, 4, 4)


@pytest.mark.parametrize(
    ("options", "kind", "count"),
    [
        ({}, ChannelGate, 8),
        ({}, SpatialGate, 8),
        ({"channel_gate": False}, ChannelGate, 0),
        ({"spatial_gate": False}, SpatialGate, 0),
        ({"downsample": "maxpool"}, nn.MaxPool2d, 4),
    ],
)
def test_ablations_switch_what_they_name(options, kind, count):
    assert sum(isinstance(layer, kind) for layer in meta(width=16, **options).modules()) == count


@pytest.mark.parametrize(
    "options",
    [
        {"residual": False},
        {"downsample": "maxpool"},
        {"channel_gate": False, "spatial_gate": False},
        {"spatial_gate": False},
    ],
)
def test_ablations_keep_the_output_and_change_the_network(options):
    torch.manual_seed(0)
    image = torch.rand(2, 1, 64, 64)
    ablated = ResUNetCBAM(width=16, **options)
    assert ablated(image).shape == image.shape
    torch.manual_seed(0)
    assert not torch.equal(ablated(image), ResUNetCBAM(width=16)(image))


def test_without_residual_there_is_no_shortcut():
    assert not any("shortcut" in name for name, _ in meta(width=16, residual=False).named_parameters())


@pytest.mark.parametrize(
    "wrong", [{"width": 8}, {"downsample": "pool"}, {"reduction": 0}, {"width": 16, "reduction": 32}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match=r"got .*; wanted"):
        ResUNetCBAM(**wrong)
