"""Holds the scans a network is about to learn from against all it will be tested on (checks E1 to E3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from datamodules.cohort import Scan
from datamodules.leakage import check_disjoint

log = logging.getLogger(__name__)

TestScans = Callable[[], Mapping[str, Sequence[Scan]]]


class NoLeakage(pl.Callback):
    """Stops a training before its first step when it shares a patient or a page with a test set.

    What counts are the scans that the datamodule says it trains on after its own set-up, whatever the sweep
    file promised.

    Args:
        stage: For the message.
        test_scans: Gives the scans of every test set by its name.
    """

    def __init__(self, stage: str, test_scans: TestScans) -> None:
        self._stage = stage
        self._test_scans = test_scans

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare.

        Raises:
            IntegrityError: With every patient and page on both sides.
        """
        check_training(self._stage, trainer.datamodule, self._test_scans)  # type: ignore[attr-defined]


def check_training(stage: str, datamodule: Any, test_scans: TestScans) -> None:
    """Hold what a datamodule trains on, after its set-up, against every test set.

    Args:
        stage: For the message.
        datamodule: What a network learns from; one without `train_scans()` cannot be checked, and the log
            says so.
        test_scans: Gives the scans of every test set by its name.

    Raises:
        IntegrityError: With every patient and page on both sides.
    """
    tell = getattr(datamodule, "train_scans", None)
    if tell is None:
        kind = type(datamodule).__name__
        log.warning("%s has no train_scans(): nobody can tell whether it trains on test scans", kind)
        return
    train = tell()
    for name, scans in test_scans().items():
        check_disjoint(train, scans, f"{stage} and test set {name}")
