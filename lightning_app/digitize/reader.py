"""A reader: a trained network, what it needs to know of a page, and the weights that ship with Inkbeat.

Weights come in two forms. A cell of a sweep is `model.safetensors` with its `spec.json`. A packed reader is
`NAME.safetensors` with `NAME.json`, which also says for what resolution it was trained and what its hash is;
the one in `lightning_app/weights` is used where no other is named.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray

from datamodules.errors import ConfigError, IntegrityError, Problem
from datamodules.files import write_atomic
from datamodules.layout import Layout
from datamodules.page import Page
from lightning_app.cells import WEIGHTS
from lightning_app.digitize.heights import probability_of
from lightning_app.digitize.perspective import measure_perspective
from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.results import Digitized, Refusal
from lightning_app.digitize.rows import WAVEFORM
from lightning_app.digitize.scale import Declared
from lightning_app.digitize.working_scale import every_ink, to_working_scale
from models.windows import OVERLAP_PX, predict_maps, prepare

SHIPPED = Path(__file__).parents[1] / "weights" / "reader.safetensors"
SCHEMA_VERSION = 1
CARD = (
    "model",
    "evaluation",
    "pretrain_on",
    "fit_on",
    "training",
    "folds",
    "seeds",
    "start_from",
)  # of a cell's spec
NOTHING_DECLARED = Declared()
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Reader:
    """A network ready to read pages.

    Attributes:
        predict: From (H, W) uint8 ink to what a network says of it, as for `digitize_page`.
        px_per_mm: Smallest and largest millimetre it was trained for, in px; None: it does not say, and
            pages are read as they are.
        is_network: Whether it can be asked again about the page turned; a drawn mask knows one way up.
    """

    predict: Predict
    px_per_mm: tuple[float, float] | None = None
    is_network: bool = True

    def read(
        self, page: Page, declared: Declared = NOTHING_DECLARED, layout: Layout | None = None
    ) -> tuple[Digitized | Refusal, NDArray[np.bool_]]:
        """Read a page of any resolution.

        Args:
            page: The page.
            declared: What the user says of its scale, in the page's own pixels.
            layout: Its layout; None: recognised among the known ones.

        Returns:
            The reading or a refusal, in the page's own pixels, and the waveform found, (H, W) bool.
        """
        # A drawn mask is one of the page as it is.
        perspective = measure_perspective(every_ink(page)) if self.is_network else None
        working = to_working_scale(page, self.px_per_mm, declared, perspective)
        maps = self.predict(working.page.ink)
        result = digitize_page(
            working.page,
            maps,
            layout=layout,
            predict=self.predict if self.is_network else None,
            **working.declared(declared),
        )
        mask = result.mask if isinstance(result, Digitized) else probability_of(maps) >= np.float32(WAVEFORM)
        return working.back(result), working.mask_back(mask)


def load_reader(weights: Path = SHIPPED) -> Reader:
    """Rebuild a trained network.

    Args:
        weights: A cell's folder, its `model.safetensors` with `spec.json` beside it, or a packed reader's
            `NAME.safetensors` with `NAME.json` beside it.

    Returns:
        The reader.

    Raises:
        ConfigError: `WEIGHTS_MISSING`, `SPEC_MISSING`, `SPEC_INVALID` or `WEIGHTS_MISMATCH`.
        IntegrityError: `WEIGHTS_HASH` if a packed reader's weights are not those it was packed with.
    """
    path = weights / WEIGHTS if weights.is_dir() else weights
    if not path.is_file():
        remedy = (
            "give a cell of a finished sweep, for instance runs/quick/cells/KEY (`inkbeat status runs/quick`)"
        )
        raise ConfigError(Problem("WEIGHTS_MISSING", str(path), "no such file", WEIGHTS, remedy))
    card = path.with_suffix(".json")
    spec = _read_spec(card if card.is_file() else path.with_name("spec.json"))
    content = path.read_bytes()
    _check_hash(path, content, spec.get("sha256"))
    module = _build(spec["model"], path)
    try:
        module.load_state_dict(safetensors.torch.load(content), strict=True)
    except (RuntimeError, safetensors.SafetensorError) as error:
        got = str(error).splitlines()[0]
        raise ConfigError(
            Problem("WEIGHTS_MISMATCH", str(path), got, f"weights of {spec['model']['class_path']}")
        ) from None
    ready = prepare(module)
    overlap_px = spec.get("evaluation", {}).get("overlap_px", OVERLAP_PX)
    known = spec.get("px_per_mm")
    return Reader(
        lambda ink: predict_maps(ready, np.ascontiguousarray(ink), overlap_px=overlap_px).numpy(),
        (float(known[0]), float(known[1])) if known else None,
    )


def pack(cell: Path, out: Path, px_per_mm: tuple[float, float]) -> None:
    """Turn a trained cell into a reader of two files that depend on nothing else.

    Weights of convolutions are stored in half precision, which a probability does not notice.

    Args:
        cell: Folder of a finished cell.
        out: `NAME.safetensors`; `NAME.json` is written beside it.
        px_per_mm: Smallest and largest millimetre of the pages it was trained on, in px.

    Raises:
        ConfigError: As for `load_reader`.
    """
    load_reader(cell)  # nothing is packed that cannot be read
    spec = _read_spec(cell / "spec.json")
    state = {
        # Vectors stay as they are: variances of a batch norm can be smaller than half precision resolves.
        name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in safetensors.torch.load_file(cell / WEIGHTS).items()
    }
    content = safetensors.torch.save(state)
    card = {
        "schema_version": SCHEMA_VERSION,
        "sha256": hashlib.sha256(content).hexdigest(),
        "px_per_mm": list(px_per_mm),
        **{name: spec[name] for name in CARD if name in spec},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, content)
    write_atomic(out.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())


def _check_hash(path: Path, content: bytes, expected: str | None) -> None:
    got = hashlib.sha256(content).hexdigest()
    if expected is not None and got != expected:
        remedy = "install Inkbeat again, or pack the reader again"
        raise IntegrityError(Problem("WEIGHTS_HASH", str(path), got[:12], expected[:12], remedy))


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
