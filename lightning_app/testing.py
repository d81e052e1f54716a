"""A trained model against whole pages: stitched prediction, per-scan numbers, masks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from datamodules.labels import labels_hidden
from datamodules.page import write_mask_png
from lightning_app.evaluate.scan_columns import METRICS_VERSION
from lightning_app.evaluate.segmentation import scan_metrics, threshold_curve
from lightning_app.reading import Read
from lightning_app.specs import Evaluation
from models.windows import predict_maps, prepare, to_mask


def score_pages(
    module: Any,
    datamodule: Any,
    evaluation: Evaluation,
    device: torch.device,
    predictions: Path,
    between: Callable[[int, int, float, float], None],
    read: Read | None = None,
    precision: str = "32-true",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict every test page of a datamodule and score it.

    Args:
        module: The trained model.
        datamodule: Has `test_scans()`, `page(scan)` uint8 (H, W) and `mask(scan)` uint8 (H, W).
        evaluation: Threshold and window overlap.
        device: Where the model computes.
        predictions: Folder for one 1-bit PNG per scan.
        between: Called after each page with its number, the number of pages, its Dice and the seconds its
            prediction took.
        read: Digitizes a scan from its maps, (C, H, W) with the probability first, and scores the signal;
            what it returns joins the row.
        precision: As the model was trained; `bf16-mixed` predicts in bfloat16, too.

    Returns:
        One row per scan: ids, layout, version of the metrics and every metric; and one row per scan and
        threshold: pixel counts.

    Raises:
        IntegrityError: `LEAK_LABEL` if a page is made with its own truth.
    """
    datamodule.setup("test")
    scans = datamodule.test_scans()
    ready = prepare(module.to(device))
    predictions.mkdir(parents=True, exist_ok=True)
    rows, counts = [], []
    for number, scan in enumerate(scans, start=1):
        began = time.monotonic()
        with labels_hidden():  # a page or a prediction made with its own truth is a leak (E5)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                maps = predict_maps(ready, datamodule.page(scan), overlap_px=evaluation.overlap_px)
            probability = maps[0]
            predicted = to_mask(probability, evaluation.threshold).numpy()
        predict_s = time.monotonic() - began
        truth = np.asarray(datamodule.mask(scan)) > 0
        metrics = scan_metrics(predicted, truth, scan.px_per_mv)
        counts += threshold_curve(probability.numpy(), truth).rows(scan_id=scan.scan_id)
        write_mask_png(predictions / f"{scan.scan_id}.png", predicted)
        identity = {"scan_id": scan.scan_id, "patient_id": scan.patient_id, "layout": scan.layout}
        # As text: a number would be averaged like a metric.
        signal = read(scan, maps.numpy()) if read else {}
        rows.append({**identity, "metrics_version": str(METRICS_VERSION), **metrics, **signal})
        between(number, len(scans), metrics["dice"], predict_s)
    return pd.DataFrame(rows), pd.DataFrame(counts)


def accelerator_device(trainer_arguments: dict[str, Any]) -> torch.device:
    """Give the device a Trainer with these arguments computes on; its first, if it has several."""
    wanted = trainer_arguments.get("accelerator", "auto")
    if wanted in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if wanted in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    return torch.device("cpu")
