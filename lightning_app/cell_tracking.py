"""What a cell tells W&B: who it is, its epochs, and at the end its rows and three of its pages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from datamodules.cohort import Cohort
from datamodules.errors import InkbeatError
from lightning_app.cells import Store, sha256_of
from lightning_app.specs import HELD_OUT, CellSpec
from lightning_app.tracking import Overlay, RunIdentity, Tracker

log = logging.getLogger(__name__)


class CellTracking:
    """The W&B run of one cell; nothing here may fail a cell.

    Args:
        sweep_dir: RUNS/<sweep>.
        folder: The cell's folder.
        sweep: Name of the sweep.
        label: What the model is called.
        spec: The cell's specification.
    """

    def __init__(self, sweep_dir: Path, folder: Path, sweep: str, label: str, spec: CellSpec) -> None:
        fold, seed = spec.folds.fold, spec.seeds.weights
        identity = RunIdentity(
            run_id=spec.key,
            name=f"{label}-fold{fold}-seed{seed}",
            sweep=sweep,
            job_type="cell",
            tags=(label, f"fold{fold}", sweep),
            config=spec.model_dump(mode="json"),
        )
        self._sweep_dir = sweep_dir
        self._folder = folder
        self._tracker = Tracker(sweep_dir, folder, identity)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Send one epoch, where the run is online."""
        self._tracker.epoch(_values(row))

    def finish(
        self, rows: Sequence[Mapping[str, Any]], scans: pd.DataFrame, summary: Mapping[str, Any]
    ) -> None:
        """Write the run's end: epochs, per-scan table, best, median and worst page, weights' hash."""
        if self._tracker.mode == "disabled":
            return
        flat = {name: value for name, value in summary.items() if not isinstance(value, Mapping)}
        flat |= {f"dice_mean/{name}": value for name, value in summary["dice"].items() if value is not None}
        flat["parameters"] = flat.pop("params")
        self._tracker.finish(
            epochs=[_values(row) for row in rows],
            tables={"scans": scans},
            overlays=self._overlays(scans),
            summary=flat,
            config={"weights_sha256": sha256_of(self._folder / "model.safetensors")},
        )

    def _overlays(self, scans: pd.DataFrame) -> list[Overlay]:
        held_out = scans[scans["test_set"] == HELD_OUT].sort_values("dice")
        if held_out.empty:
            return []
        places = {"worst": 0, "median": len(held_out) // 2, "best": len(held_out) - 1}
        try:
            cohort = self._cohort()
            if cohort is None:
                return []
            return [self._overlay(cohort, word, held_out.iloc[place]) for word, place in places.items()]
        except (InkbeatError, OSError) as error:
            log.warning("no overlays for W&B: %s", error)
            return []

    def _cohort(self) -> Cohort | None:
        plan = Store(self._sweep_dir).plan()
        name = plan["test_sets"].get(HELD_OUT)
        return None if name is None else Cohort.open(self._sweep_dir / plan["cohorts"][name]["path"])

    def _overlay(self, cohort: Cohort, word: str, row: Any) -> Overlay:
        scan = cohort.scan(row["scan_id"])
        path = self._folder / "predictions" / HELD_OUT / f"{scan.scan_id}.png"
        return Overlay(
            caption=f"{HELD_OUT} {word} {scan.scan_id} dice {row['dice']:.3f}",
            ink=cohort.load_image(scan),
            prediction=np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) > 0,
            truth=cohort.load_mask(scan) > 0,
        )


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    """Name an epoch's numbers; those of the pre-training do not share the axis of the training."""
    stage = row["stage"]
    prefix = "" if stage == "fit" else f"{stage}/"
    return {f"{prefix}{name}": value for name, value in row.items() if name != "stage"}
