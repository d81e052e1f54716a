"""A small sweep as plain values, for tests that change one thing at a time."""

from __future__ import annotations

import copy
from typing import Any

SWEEP: dict[str, Any] = {
    "schema_version": 1,
    "name": "tiny",
    "signals": "simulated",
    "cohorts": {
        "binary": {"kind": "binary", "scans": 6, "seed": 0},
        "pseudo": {"kind": "pseudo", "scans": 6, "seed": 1},
        "colour": {"kind": "colour", "scans": 1, "seed": 2},
    },
    "models": [
        {"class_path": "models.resunet_cbam.ResUNetCBAM", "init_args": {"width": 16}},
        {"class_path": "models.fcn.FCN", "init_args": {"backbone": "resnet18"}},
    ],
    "folds": {"count": 3, "run": [0, 1], "seed": 0},
    "seeds": [0],
    "pretrain_on": {
        "class_path": "datamodules.scans.PseudoScans",
        "init_args": {"cohort": "pseudo", "batch_size": 4, "patches_per_scan": 1},
    },
    "fit_on": {
        "class_path": "datamodules.scans.BinaryScans",
        "init_args": {"cohort": "binary", "batch_size": 4, "patches_per_scan": 2},
    },
    "test_on": [
        {
            "name": "colour_grey",
            "class_path": "datamodules.scans.ColourScans",
            "init_args": {"cohort": "colour", "amount": 0.0},
        }
    ],
    "training": {"pretrain_epochs": 1, "epochs": 2, "precision": "32-true"},
    "evaluation": {"threshold": 0.15, "overlap_px": 0},
    "trainer": {},
}


def sweep_with(**changes: Any) -> dict[str, Any]:
    """Copy the sweep with dotted keys changed: `sweep_with(**{"training.epochs": 3})`; None removes a key."""
    content = copy.deepcopy(SWEEP)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = content
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            place[int(last)] = value
        elif value is None:
            del place[last]
        else:
            place[last] = value
    return content
