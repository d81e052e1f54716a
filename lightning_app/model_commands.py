"""`inkbeat models`: every architecture with its size and cost."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from lightning_app.commands import Command


@click.command(cls=Command)
@click.argument("sweeps", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(sweeps: tuple[Path, ...], as_json: bool) -> None:
    """List every architecture, or the networks of SWEEPS, with parameters and multiply-adds per patch."""
    from lightning_app.sweep_commands import table

    rows = [describe(kind, arguments) for kind, arguments in networks_of(sweeps) or architectures()]
    if as_json:
        click.echo(json.dumps({"models": rows}, indent=1))
        return
    for row in rows:
        row["parameters"] = f"{row['parameters'] / 1e6:.2f} M"
        row["macs_per_patch"] = f"{row['macs_per_patch'] / 1e9:.2f} G"
        row["init_args"] = json.dumps(row["init_args"])
    click.echo(table(rows))


def networks_of(sweeps: Iterable[Path]) -> list[tuple[Any, dict[str, Any]]]:
    """Find the distinct networks of sweep files: class and the arguments its size depends on."""
    from lightning_app.costs import network
    from lightning_app.specs import load_sweep
    from lightning_app.train import class_of

    names = {network(entry) for path in sweeps for entry in load_sweep(path).models}
    return [(class_of(class_path), arguments) for class_path, arguments in map(json.loads, sorted(names))]


def architectures() -> list[tuple[Any, dict[str, Any]]]:
    """Find every concrete SegmentationModule below `models`, with each of its backbones."""
    import models as package
    from models.segmentation import SegmentationModule

    found = []
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"models.{info.name}")
        kinds: list[Any] = [kind for _, kind in inspect.getmembers(module, inspect.isclass)]
        for kind in kinds:
            is_own = kind.__module__ == module.__name__ and issubclass(kind, SegmentationModule)
            if is_own and kind.build_net is not SegmentationModule.build_net:
                found += [(kind, arguments) for arguments in _variants(kind)]
    return found


def _variants(kind: type[Any]) -> list[dict[str, Any]]:
    """Give the argument sets worth a row: the default, or one per backbone, or the small width too."""
    from lightning_app.class_paths import signature

    known = signature(f"{kind.__module__}.{kind.__name__}").arguments
    backbone = known.get("backbone")
    if backbone is not None and backbone.choices:
        return [{"backbone": choice} for choice in backbone.choices]
    return [{}, {"width": 16}] if "width" in known else [{}]


def describe(kind: type[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Count one architecture.

    Args:
        kind: The class.
        arguments: What it is built with.
    """
    import torch

    from models.complexity import macs_per_patch, parameters

    with torch.device("meta"):
        module = kind(**arguments)
    return {
        "class_path": f"{kind.__module__}.{kind.__name__}",
        "init_args": arguments,
        "parameters": parameters(module),
        "macs_per_patch": macs_per_patch(module),
    }
