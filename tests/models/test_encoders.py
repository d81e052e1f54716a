"""The comparators: same stride, same stem, same first weights at every depth."""

import pytest
import torch
from torch import nn

from models.complexity import parameters
from models.deeplabv3 import DeepLabV3
from models.encoders import BACKBONES
from models.fcn import FCN
from models.resunet_cbam import ResUNetCBAM

# torchvision: fcn_resnet50 32.9 M, deeplabv3_resnet101 58.6 M, with 3 input channels and other classes.
MILLIONS = {
    (FCN, "resnet18"): 11.8,
    (FCN, "resnet34"): 21.9,
    (FCN, "resnet50"): 32.9,
    (FCN, "resnet101"): 51.9,
    (DeepLabV3, "resnet18"): 15.9,
    (DeepLabV3, "resnet34"): 26.0,
    (DeepLabV3, "resnet50"): 39.6,
    (DeepLabV3, "resnet101"): 58.6,
}


@pytest.mark.parametrize(("cls", "backbone"), MILLIONS)
def test_every_depth_sees_the_same_grid(cls, backbone):
    with torch.device("meta"):
        module = cls(backbone=backbone).eval()
        features = module.net.encoder(torch.zeros(1, 1, 128, 128))[-1]
        assert features.shape[-2:] == (16, 16)
        assert module(torch.zeros(1, 1, 128, 128)).shape == (1, 1, 128, 128)
    assert parameters(module) / 1e6 == pytest.approx(MILLIONS[cls, backbone], abs=0.05)
    assert module.net.encoder.conv1.in_channels == 1


def test_all_backbones_of_the_paper_are_there():
    assert BACKBONES == ("resnet18", "resnet34", "resnet50", "resnet101")


@pytest.mark.parametrize(
    "make", [FCN, DeepLabV3, lambda: ResUNetCBAM(width=16)], ids=["fcn", "deeplabv3", "resunet"]
)
def test_first_weights_follow_one_rule(make):
    """He: the standard deviation of a convolution is sqrt(2 / (inputs x kernel area))."""
    torch.manual_seed(0)
    for name, layer in make().named_modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            wanted = (2 / (layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1])) ** 0.5
            assert float(layer.weight.detach().std()) == pytest.approx(wanted, rel=0.05), name
        if isinstance(layer, nn.BatchNorm2d):
            assert bool((layer.weight == 1).all())
            assert bool((layer.bias == 0).all())


@pytest.mark.parametrize("cls", [FCN, DeepLabV3])
@pytest.mark.parametrize("wrong", [{"backbone": "resnet19"}, {"encoder_weights": "somebody's"}])
def test_unknown_encoder_is_refused(cls, wrong):
    with pytest.raises(ValueError, match=r"got .*; wanted"):
        cls(**wrong)


def test_misspelt_option_is_a_type_error():
    with pytest.raises(TypeError, match="bacbone"):
        FCN(bacbone="resnet18")


@pytest.mark.parametrize("cls", [FCN, DeepLabV3])
def test_loaded_encoder_keeps_its_weights(cls, monkeypatch):
    """`encoder_weights` keeps the encoder and draws the rest; nothing is fetched here."""
    import segmentation_models_pytorch as smp

    original = smp.encoders.get_encoder

    def loaded(*args, weights=None, **kwargs):
        encoder = original(*args, weights=None, **kwargs)
        with torch.no_grad():
            encoder.conv1.weight.fill_(0.5)
        return encoder

    monkeypatch.setattr(smp.encoders, "get_encoder", loaded)
    monkeypatch.setattr("segmentation_models_pytorch.decoders.deeplabv3.model.get_encoder", loaded)
    assert bool((cls(encoder_weights="imagenet").net.encoder.conv1.weight == 0.5).all())
    assert not bool((cls().net.encoder.conv1.weight == 0.5).any())


def test_deeplab_needs_two_patches_to_train():
    """The documented trap, so that nobody learns it from a crash in an epoch's last batch."""
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        DeepLabV3().train()(torch.zeros(1, 1, 64, 64))
