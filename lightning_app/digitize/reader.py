"""A trained cell as a reader: its network rebuilt from the spec beside its weights."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray

from datamodules.errors import ConfigError, Problem
from models.windows import OVERLAP_PX, predict_page, prepare

WEIGHTS = "model.safetensors"
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def load_reader(weights: Path) -> Predict:
    """Rebuild a trained network.

    Args:
        weights: A cell's folder, or its `model.safetensors` with `spec.json` beside it.

    Returns:
        A function from (H, W) uint8 ink to (H, W) float32 probability.

    Raises:
        ConfigError: `WEIGHTS_MISSING`, `SPEC_MISSING`, `SPEC_INVALID` or `WEIGHTS_MISMATCH`.
    """
    path = weights / WEIGHTS if weights.is_dir() else weights
    if not path.is_file():
        remedy = (
            "give a cell of a finished sweep, for instance runs/quick/cells/KEY (`inkbeat status runs/quick`)"
        )
        raise ConfigError(Problem("WEIGHTS_MISSING", str(path), "no such file", WEIGHTS, remedy))
    spec = _read_spec(path.with_name("spec.json"))
    module = _build(spec["model"], path)
    try:
        module.load_state_dict(safetensors.torch.load_file(path), strict=True)
    except (RuntimeError, safetensors.SafetensorError) as error:
        got = str(error).splitlines()[0]
        raise ConfigError(
            Problem("WEIGHTS_MISMATCH", str(path), got, f"weights of {spec['model']['class_path']}")
        ) from None
    ready = prepare(module)
    overlap_px = spec.get("evaluation", {}).get("overlap_px", OVERLAP_PX)
    return lambda ink: predict_page(ready, np.ascontiguousarray(ink), overlap_px=overlap_px).numpy()


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = json.loads(path.read_text())
        if not isinstance(spec["model"]["class_path"], str):
            raise TypeError("class_path is no text")
    except FileNotFoundError:
        remedy = "keep the spec.json of the cell beside its weights"
        raise ConfigError(Problem("SPEC_MISSING", str(path), "no such file", "spec.json", remedy)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(Problem("SPEC_INVALID", str(path), repr(error), "the spec of a cell")) from None
    return dict(spec)


def _build(component: dict[str, Any], path: Path) -> Any:
    module_name, _, class_name = component["class_path"].rpartition(".")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
        return kind(**component.get("init_args", {}))
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        got = f"{component['class_path']}: {error}"
        raise ConfigError(Problem("SPEC_INVALID", str(path), got, "an importable model class")) from None
