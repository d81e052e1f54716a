"""Reading a class's constructor from its source, checked against Python's own view of it."""

import inspect
import subprocess
import sys

import pytest

from lightning_app.class_paths import UnknownClassError, signature

CLASSES = (
    "models.resunet_cbam.ResUNetCBAM",
    "models.fcn.FCN",
    "models.deeplabv3.DeepLabV3",
    "datamodules.scans.BinaryScans",
    "datamodules.scans.PseudoScans",
    "datamodules.scans.ColourScans",
    "pytorch_lightning.trainer.trainer.Trainer",
)


@pytest.mark.parametrize("class_path", CLASSES)
def test_the_source_tells_what_python_tells(class_path):
    module, _, name = class_path.rpartition(".")
    kind = getattr(__import__(module, fromlist=[name]), name)
    told = signature(class_path)
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            required = parameter.default is parameter.empty
            assert told.arguments[parameter.name].required == required, parameter


def test_options_that_are_passed_on_to_the_base_class_are_known():
    assert {"width", "lr", "threshold"} <= set(signature("models.resunet_cbam.ResUNetCBAM").arguments)


def test_choices_are_found_behind_an_alias_of_another_module():
    choices = signature("models.fcn.FCN").arguments["backbone"].choices
    assert choices == ("resnet18", "resnet34", "resnet50", "resnet101")


def test_a_name_that_a_package_passes_on_is_followed():
    # pytorch_lightning/__init__.py imports Trainer from its module.
    assert "max_epochs" in signature("pytorch_lightning.Trainer").arguments


@pytest.mark.parametrize(
    ("class_path", "near"),
    [
        ("models.fcn.FCNN", "models.fcn.FCN"),
        ("models.fcnn.FCN", "models.fcn"),
        ("modles.fcn.FCN", "models"),
        ("FCN", ""),
        ("models..FCN", ""),
    ],
)
def test_an_unknown_class_is_refused_with_what_may_be_meant(class_path, near):
    with pytest.raises(UnknownClassError) as caught:
        signature(class_path)
    assert near in " ".join(caught.value.near)


def test_a_constructor_that_cannot_be_read_accepts_anything():
    assert signature("torch.Tensor").open


def test_looking_up_classes_imports_nothing_heavy():
    code = (
        "import sys; from lightning_app.class_paths import signature;"
        f"[signature(path) for path in {CLASSES!r}];"
        "assert not {'torch', 'pytorch_lightning', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
