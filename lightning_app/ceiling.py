"""What a sweep keeps of a scan that no model has a say in: `RUNS/<sweep>/ceiling/<cohort>/<scan>.json`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_app.cells import write_durably

Values = dict[str, float]


@dataclass(frozen=True)
class Known:
    """What is known of a scan without any model.

    Attributes:
        true: Parameters of the true signal, as `parameter_row` names them.
        ceiling: The row that reading the drawn mask gives.
    """

    true: Values
    ceiling: dict[str, Any]


def read_known(path: Path) -> Known:
    """Read what a sweep keeps of one scan.

    Args:
        path: A file of `RUNS/<sweep>/ceiling/<cohort>/`.

    Returns:
        The parameters of its true signal and its ceiling.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Known(_with_nan(fields["true"]), _with_nan(fields["ceiling"]))


def write_known(path: Path, known: Known) -> None:
    """Keep it; two cells may come here at once, and both write the same.

    Args:
        path: Where `read_known` will look; its folder exists.
        known: What was worked out.
    """
    fields = {"true": _without_nan(known.true), "ceiling": _without_nan(known.ceiling)}
    write_durably(path, json.dumps(fields, indent=1).encode())


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def _with_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in values.items()}
