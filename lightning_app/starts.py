"""Weights that a sweep starts from: found, checked against the sweep, and put into its networks.

A start names a finished cell (its folder or its `model.safetensors`) or a packed reader (`NAME.safetensors`).
What it was trained on is in the file beside it; a sweep that would test on a cohort its start has seen is
refused, since its scores would be those of memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import ConfigError, IntegrityError, Problem
from lightning_app.cells import WEIGHTS, read_json, sha256_of
from lightning_app.specs import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        path: Their file.
        sha256: Its hash, by which the cells of a sweep know it.
    """

    path: Path
    sha256: str


def find_start(sweep: Sweep, cohort_ids: Mapping[str, str]) -> Start | None:
    """Find the weights a sweep starts from and compare what is written beside them with the sweep.

    Args:
        sweep: The checked sweep.
        cohort_ids: Content id of every cohort of the sweep, by its name there.

    Returns:
        The weights; None if every model starts from its own.

    Raises:
        ConfigError: `START_MISSING` without weights or their description; `START_MISMATCH` for a model of
            another class; `START_SAW_TEST` if they were trained on a cohort the sweep tests on.
    """
    if sweep.start_from is None:
        return None
    given = Path(sweep.start_from)
    path = given / WEIGHTS if given.is_dir() else given
    spec = _described(path)
    problems = [*_mismatches(sweep, spec), *_seen(sweep, spec, cohort_ids)]
    if problems:
        raise ConfigError(problems)
    return Start(path.resolve(), sha256_of(path))


def _described(path: Path) -> dict[str, Any]:
    card = path.with_suffix(".json")
    beside = card if card.is_file() else path.with_name("spec.json")
    missing = [file.name for file in (path, beside) if not file.is_file()]
    if missing:
        got, wanted = f"no {' and no '.join(missing)}", f"{WEIGHTS} and its spec.json, or a packed reader"
        remedy = "name a cell of a finished sweep: runs/SWEEP/cells/KEY"
        raise ConfigError(Problem("START_MISSING", f"start_from: {path}", got, wanted, remedy))
    return dict(read_json(beside))


def _mismatches(sweep: Sweep, spec: Mapping[str, Any]) -> Iterable[Problem]:
    trained = spec.get("model", {}).get("class_path")
    for index, entry in enumerate(sweep.models):
        if entry.class_path != trained:
            place, got = f"models.{index}.class_path", entry.class_path
            yield Problem("START_MISMATCH", place, got, f"{trained}, whose weights start_from names")


def _seen(sweep: Sweep, spec: Mapping[str, Any], cohort_ids: Mapping[str, str]) -> Iterable[Problem]:
    """Cohorts that the weights were trained on and the sweep tests on; the held-out fold is a test, too."""
    trained_on = {
        (spec.get(stage) or {}).get("init_args", {}).get("cohort") for stage in ("fit_on", "pretrain_on")
    }
    tests = {"fit_on": sweep.fit_on, **{f"test_on {test.name}": test for test in sweep.test_on}}
    for place, component in tests.items():
        name = component.init_args.get("cohort")
        if isinstance(name, str) and cohort_ids.get(name) in trained_on:
            got = f"cohort {name}, on which the weights of start_from were trained"
            yield Problem("START_SAW_TEST", place, got, "scans they have not seen", "take another cohort")


def load_start(module: Any, start: Path, sha256: str) -> None:
    """Put the weights a sweep starts from into a network.

    Args:
        module: Of the class they were trained as.
        start: Their file.
        sha256: Its hash when the sweep was planned.

    Raises:
        IntegrityError: `START_CHANGED` if the file is gone or another one now.
        ConfigError: `START_MISMATCH` if the network has other layers.
    """
    import safetensors.torch

    content = start.read_bytes() if start.is_file() else b""
    got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        remedy = "put the weights back that the sweep began with, or run it under another name"
        raise IntegrityError(Problem("START_CHANGED", str(start), got[:12], sha256[:12], remedy))
    try:
        module.load_state_dict(safetensors.torch.load(content), strict=True)
    except RuntimeError as error:
        wanted = "the layers of start_from, and so its init_args"
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ConfigError(Problem("START_MISMATCH", str(start), first, wanted)) from None
