"""What a cohort made on the spot is made from, as a hash: `plan` names cohorts by it without drawing a page.

Apart from `make`, because the drawing libraries take longer to import than a plan may take.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from datamodules.rendering.difficulty import NOMINAL, RENDER_VERSION, Difficulty
from datamodules.rendering.variety import VARIETIES

Kind = Literal["binary", "pseudo", "colour", "varied", "plotted", "faxed"]
PLOTTED_VERSION = 1  # as RENDER_VERSION, for the pages of kind `plotted`

# Parts of the patients each kind draws from: pre-training, training and the independent test never share
# a patient, whatever the seeds (PROTOCOL R6).
SHARES: dict[Kind, tuple[float, float]] = {
    "binary": (0.0, 0.6),
    "pseudo": (0.6, 0.75),
    "colour": (0.75, 1.0),
    "varied": (0.0, 0.5),
    "faxed": (0.5, 0.75),
    "plotted": (0.75, 1.0),
}


def recipe_sha256(
    kind: Kind,
    scans: int,
    seed: int,
    signals_fingerprint: str,
    *,
    layouts: Sequence[str] | None = None,
    share: tuple[float, float] | None = None,
    difficulty: Difficulty = NOMINAL,
) -> str:
    """Hash of everything a cohort is made from, without making it.

    Args:
        kind: As in `make_cohort`.
        scans: As in `make_cohort`.
        seed: As in `make_cohort`.
        signals_fingerprint: `SignalSource.fingerprint()` of the source opened with the same seed.
        layouts: As in `make_cohort`.
        share: As in `make_cohort`.
        difficulty: As in `make_cohort`.

    Returns:
        SHA-256 in hex; `cohort.yaml` of the made cohort says the same.
    """
    recipe = recipe_of(kind, scans, seed, signals_fingerprint, layouts, share or SHARES[kind], difficulty)
    return sha256_of_recipe(recipe)


def recipe_of(
    kind: Kind,
    scans: int,
    seed: int,
    signals_fingerprint: str,
    layouts: Sequence[str] | None,
    share: tuple[float, float],
    difficulty: Difficulty,
) -> dict[str, Any]:
    """Collect everything a cohort is made from; arguments as in `make_cohort`."""
    recipe: dict[str, Any] = {
        "kind": kind,
        "scans": scans,
        "seed": seed,
        "signals_fingerprint": signals_fingerprint,
        "layouts": None if layouts is None else list(layouts),
        "share": list(share),
        "difficulty": difficulty.name,
        "render_version": RENDER_VERSION,
    }
    if kind in VARIETIES:
        recipe["variety"] = VARIETIES[kind].name
    if kind == "plotted":
        recipe["plotted_version"] = PLOTTED_VERSION
    return recipe


def sha256_of_recipe(recipe: dict[str, Any]) -> str:
    """Hash a recipe, hexadecimal."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
