"""A sweep of the tiny network on the tiny data, as plain values."""

import copy
from typing import Any

TINY: dict[str, Any] = {
    "name": "tiny",
    "models": [{"class_path": "tests.lightning_app.tiny.TinyNet", "init_args": {"channels": 2}}],
    "folds": {"count": 2, "run": [0]},
    "fit_on": {"class_path": "tests.lightning_app.tiny.TinyScans", "init_args": {"steps": 3}},
    "pretrain_on": {
        "class_path": "tests.lightning_app.tiny.TinyScans",
        "init_args": {"steps": 2, "noise": 0.0},
    },
    "test_on": [
        {
            "name": "noisy",
            "class_path": "tests.lightning_app.tiny.TinyScans",
            "init_args": {"scans": 2, "noise": 0.3},
        }
    ],
    "training": {"pretrain_epochs": 1, "epochs": 3},
    "trainer": {"accelerator": "cpu"},
}


def tiny_with(**changes: Any) -> dict[str, Any]:
    """Copy the sweep with dotted keys changed."""
    content = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = content
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[last] = value
    return content
