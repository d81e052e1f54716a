"""Checks that every architecture must pass; run them on your own with one line in your tests.

    from models.conformance import check_segmenter
    def test_my_net(): check_segmenter(MyNet, width=16)

Each check is a function of a class and its constructor arguments that raises AssertionError with what was
got and what was wanted. They take seconds with a small variant of the architecture.
"""

import ast
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from models.segmentation import SegmentationModule
from models.windows import predict_page

Segmenter = type[SegmentationModule]
SIZE_PX = 64
STEPS = 6
FORBIDDEN_IMPORTS = ("datamodules", "lightning_app")


def toy_batch(patches: int = 4, size_px: int = SIZE_PX) -> dict[str, Tensor]:
    """Horizontal strokes under speckle: {"image", "mask"}, both (patches, 1, size_px, size_px) float32."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(patches, 1, size_px, size_px)
    for patch in range(patches):
        row = int(torch.randint(0, size_px - 3, (), generator=generator))
        mask[patch, :, row : row + 3] = 1.0
    speckle = (torch.rand(mask.shape, generator=generator) < 0.02).float()
    return {"image": torch.maximum(mask, speckle), "mask": mask}


def build(cls: Segmenter, seed: int, init_args: dict[str, Any]) -> SegmentationModule:
    """The model that a weight seed gives; the caller's random state stays untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(**init_args)


def check_logits(cls: Segmenter, **init_args: Any) -> None:
    """The network gives finite float32 logits in the input's shape, not probabilities."""
    module, image = build(cls, 0, init_args), toy_batch()["image"]
    with torch.no_grad():
        logits = module(image)
    _require(logits.shape == image.shape, f"logits {tuple(logits.shape)}", f"{tuple(image.shape)}")
    _require(logits.dtype == torch.float32, f"logits of {logits.dtype}", "float32")
    _require(bool(logits.isfinite().all()), "logits that are not finite", "finite ones")
    if not cls.needs_training:
        return
    # A sigmoid at the end keeps every value in 0..1, whatever the weights; a random net's logits leave it.
    outside = bool(((logits < 0) | (logits > 1)).any())
    for seed in (1, 2):
        with torch.no_grad():
            logits = build(cls, seed, init_args)(image)
        outside = outside or bool(((logits < 0) | (logits > 1)).any())
    _require(outside, "outputs within 0..1 for three seeds", "logits: leave the sigmoid to the loss")


def check_probabilities(cls: Segmenter, **init_args: Any) -> None:
    """`probabilities` gives float32 in 0..1 in the input's shape."""
    module, image = build(cls, 0, init_args).eval(), toy_batch()["image"]
    with torch.no_grad():
        probability = module.probabilities(image)
    _require(probability.shape == image.shape, f"shape {tuple(probability.shape)}", f"{tuple(image.shape)}")
    low, high = float(probability.min()), float(probability.max())
    _require(low >= 0.0 and high <= 1.0, f"probabilities in {low}..{high}", "0..1")


def check_every_parameter_learns(cls: Segmenter, **init_args: Any) -> None:
    """One backward pass reaches every parameter: no dead layer."""
    module, batch = build(cls, 0, init_args).train(), toy_batch()
    module.loss(module(batch["image"]), batch["mask"]).backward()
    dead = [
        name
        for name, weights in module.named_parameters()
        if weights.requires_grad and (weights.grad is None or not bool(weights.grad.any()))
    ]
    _require(
        not dead, f"no gradient in {', '.join(dead)}", "one in every parameter; remove or connect the layer"
    )


def check_seeds(cls: Segmenter, **init_args: Any) -> None:
    """One seed gives the same weights twice, another seed gives others."""
    first, again, other = (build(cls, seed, init_args).state_dict() for seed in (0, 0, 1))
    _require(_equal(first, again), "two models of one seed with different weights", "the same weights")
    _require(not cls.needs_training or not _equal(first, other), "the same weights for two seeds", "others")


def check_hparams_rebuild(cls: Segmenter, **init_args: Any) -> None:
    """`hparams` are plain values, hold what was given, and rebuild the model."""
    module = build(cls, 0, init_args)
    hparams = dict(module.hparams)
    odd = {name: value for name, value in hparams.items() if not _is_plain(value)}
    _require(not odd, f"hparams {odd}", "numbers, strings, booleans, None and lists of them")
    lost = {name: value for name, value in init_args.items() if hparams.get(name, ...) != value}
    _require(not lost, f"hparams without {lost}", "every constructor argument kept")
    rebuilt = build(cls, 0, hparams)
    _require(_equal(module.state_dict(), rebuilt.state_dict()), "another model from hparams", "the same one")


def check_unknown_argument_is_refused(cls: Segmenter, **init_args: Any) -> None:
    """A misspelt argument is a TypeError, not a silent default."""
    try:
        cls(**{**init_args, "no_such_argument": 1})
    except TypeError:
        return
    raise AssertionError("got no_such_argument accepted; wanted a TypeError")


def check_odd_pages(cls: Segmenter, **init_args: Any) -> None:
    """Pages of any size, smaller than a window included, give one probability per pixel."""
    module = build(cls, 0, init_args)
    for shape in ((1, 1), (50, 131), (129, 200)):
        page = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        probability = predict_page(module, page)
        _require(
            tuple(probability.shape) == shape, f"{tuple(probability.shape)} for a page of {shape}", f"{shape}"
        )
        inside = bool(((probability >= 0) & (probability <= 1)).all())
        _require(inside, f"probabilities outside 0..1 or NaN for a page of {shape}", "0..1")


def check_training_reduces_loss(cls: Segmenter, **init_args: Any) -> None:
    """A few steps on one toy batch reduce the loss on it; the very first may overshoot."""
    module, batch = build(cls, 0, init_args).train(), toy_batch()
    optimizer = module.configure_optimizers()
    if optimizer is None:
        raise AssertionError("got no optimizer; wanted one, or needs_training = False")
    losses = []
    with torch.random.fork_rng(devices=[]):
        for _ in range(STEPS + 1):
            torch.manual_seed(0)  # the same dropout each time, so that steps can be compared
            loss = module.loss(module(batch["image"]), batch["mask"])
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    _require(min(losses[1:]) < losses[0], f"losses {losses}", f"one below the first in {STEPS} steps")


def check_weights_round_trip(cls: Segmenter, **init_args: Any) -> None:
    """`state_dict` goes through safetensors and makes another seed's model give the same output."""
    module, twin = build(cls, 0, init_args).eval(), build(cls, 1, init_args).eval()
    state = module.state_dict()
    if not state:
        return
    twin.load_state_dict(load_safetensors(save_safetensors(state)))
    image = toy_batch()["image"]
    with torch.no_grad():
        _require(torch.equal(module(image), twin(image)), "another output after the round trip", "the same")


def check_imports(cls: Segmenter, **_: Any) -> None:
    """The architecture's file imports neither data nor application: it must work without both."""
    source = Path(inspect.getfile(cls)).read_text(encoding="utf-8")
    found = sorted(_imported_packages(source) & set(FORBIDDEN_IMPORTS))
    _require(
        not found, f"an import of {', '.join(found)}", "none; models know nothing of data or application"
    )


def check_documented(cls: Segmenter, **_: Any) -> None:
    """The class says what it is, and its module is the model card."""
    _require(bool(cls.__doc__), f"no docstring on {cls.__name__}", "one with its arguments")
    card = sys.modules[cls.__module__].__doc__
    _require(
        bool(card), f"no docstring on {cls.__module__}", "a model card: paper, what differs, cost, command"
    )


ALWAYS: tuple[Callable[..., None], ...] = (
    check_logits,
    check_probabilities,
    check_seeds,
    check_hparams_rebuild,
    check_unknown_argument_is_refused,
    check_odd_pages,
    check_weights_round_trip,
    check_imports,
    check_documented,
)
WHEN_TRAINED: tuple[Callable[..., None], ...] = (check_every_parameter_learns, check_training_reduces_loss)


def checks_for(cls: Segmenter) -> tuple[Callable[..., None], ...]:
    """The checks that apply to a class: all, or those that need no training."""
    return ALWAYS + WHEN_TRAINED if cls.needs_training else ALWAYS


def check_segmenter(cls: Segmenter, **init_args: Any) -> None:
    """Run every check on a class, as scikit-learn's `check_estimator` does.

    Args:
        cls: a subclass of `SegmentationModule`.
        **init_args: constructor arguments of a small variant.

    Raises:
        AssertionError: with every check that failed, not just the first.
    """
    failures = []
    for check in checks_for(cls):
        try:
            check(cls, **init_args)
        except AssertionError as failure:
            failures.append(f"{check.__name__}: {failure}")
    if failures:
        raise AssertionError(f"{cls.__name__} fails {len(failures)} checks\n" + "\n".join(failures))


def _require(holds: bool, got: str, wanted: str) -> None:
    if not holds:
        raise AssertionError(f"got {got}; wanted {wanted}")


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _imported_packages(source: str) -> set[str]:
    """Top-level packages that a source file imports, anywhere in it."""
    packages: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            packages.add(node.module.split(".")[0])
    return packages
