"""Writes a sweep folder as cells leave it, with invented scores and pages drawn in milliseconds."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from datamodules.cohort import Scan, write_cohort
from datamodules.page import write_binary_tiff, write_mask_png
from lightning_app.evaluate.scan_columns import METRICS_VERSION
from lightning_app.evaluate.segmentation import scan_metrics, threshold_curve
from lightning_app.scan_tables import parquet_bytes

UNET, FCN, DEEPLAB = "models.resunet_cbam.ResUNetCBAM", "models.fcn.FCN", "models.deeplabv3.DeepLabV3"
COLOUR_SETS = {"colour_grey": 0.0, "colour_sp02": 0.02, "colour_sp10": 0.10}


@dataclass(frozen=True)
class Model:
    """A model with an invented quality: how far and how often its strokes go astray."""

    name: str
    class_path: str
    blur_px: int
    params: int
    backbone: str | None = None


MODELS = (
    Model("ResUNetCBAM", UNET, 0, 36_300_000),
    Model("FCN-resnet18", FCN, 2, 11_800_000),
    Model("DeepLabV3-resnet18", DEEPLAB, 3, 15_900_000),
)


@dataclass(frozen=True)
class Folder:
    """A sweep on disk.

    Attributes:
        root: RUNS/<sweep>.
        keys: (model, fold, seed) -> cell key.
    """

    root: Path
    keys: dict = field(default_factory=dict)


def page(scan, shape=(220, 280)):
    """A small page with two waves: (ink, truth)."""
    rng = np.random.default_rng(scan)
    truth = np.zeros(shape, np.uint8)
    x = np.arange(10, shape[1] - 10)
    for row in range(2):
        y = 70 + 90 * row + 12 * np.sin(x / 11 + rng.uniform(0, 6)) - 40 * np.exp(-(((x % 61) - 30) ** 2) / 6)
        cv2.polylines(truth, [np.stack([x, y], 1).round().astype(np.int32)], False, 1, 2)
    ink = np.maximum(truth * 255, (rng.random(shape) < 0.06).astype(np.uint8) * 255)
    ink[:, ::10] = 255
    return ink, truth


def prediction_of(model, scan, amount=0.0):
    """What a model of that quality would say."""
    rng = np.random.default_rng([scan, model.blur_px, int(amount * 100)])
    _, truth = page(scan)
    predicted = truth.copy()
    if model.blur_px:
        predicted = cv2.dilate(truth, np.ones((model.blur_px, model.blur_px), np.uint8))
    gap = rng.integers(20, 220)
    predicted[:, gap : gap + rng.integers(4, 25)] = 0
    speckle = rng.random(truth.shape) < 0.002 + amount / 20 + 0.002 * model.blur_px
    return predicted | speckle.astype(np.uint8)


def leave_out_drawing(monkeypatch):
    """Have reports written with empty charts and pictures, which take most of a report's time."""

    def save_figure(_, stem):
        stem.with_suffix(".svg").write_text("<svg></svg>")
        stem.with_suffix(".png").write_bytes(b"")

    monkeypatch.setattr("lightning_app.report.figures.save_figure", save_figure)
    monkeypatch.setattr("lightning_app.report.figures.save_picture", lambda _, path: path.write_bytes(b""))


def write_sweep(
    root, models=MODELS, *, folds=5, run=None, seeds=(0,), scans=15, colour=True, done=None, thresholds=True
):
    """Write a sweep.

    Args:
        root: Folder RUNS/<sweep>.
        models: Invented models.
        folds: Folds of the cross-validation.
        run: Folds that are planned; all by default.
        seeds: Weight seeds.
        scans: Scans of the cohort, one patient each.
        colour: Whether there are further test sets.
        done: Predicate (model name, fold, seed) -> "done" | "failed" | "missing".
        thresholds: Whether cells keep threshold curves.
    """
    state_of = done or (lambda *_: "done")
    folder = Folder(root)
    test_on = (
        [
            {
                "name": n,
                "class_path": "datamodules.scans.ColourScans",
                "init_args": {"cohort": "c", "amount": a},
            }
            for n, a in COLOUR_SETS.items()
        ]
        if colour
        else []
    )
    for model in models:
        for fold in run or range(folds):
            for seed in seeds:
                arguments = {"width": 16} if model.backbone is None else {"backbone": model.backbone}
                spec = {
                    "model": {"class_path": model.class_path, "init_args": arguments},
                    "folds": {"count": folds, "fold": fold, "seed": 0},
                    "seeds": {"weights": seed, "patches": seed},
                    "training": {"pretrain_epochs": 1, "epochs": 3, "precision": "32-true"},
                    "evaluation": {"threshold": 0.15, "overlap_px": 64},
                    "test_on": test_on,
                    "label": model.name,
                }
                key = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]
                folder.keys[model.name, fold, seed] = key
                state = state_of(model.name, fold, seed)
                if state != "missing":
                    _write_cell(root / "cells" / key, key, spec, model, state, scans, thresholds)
    plan = {
        "schema_version": 1,
        "name": root.name,
        "sweep": {
            "signals": "simulated",
            "cohorts": {"binary": {"kind": "binary", "scans": scans, "seed": 0}},
        },
        "cohorts": {"binary": {"id": "ab" * 32, "path": "../cohorts/binary"}},
        "test_sets": {"cv": "binary", **dict.fromkeys(COLOUR_SETS, "colour")},
        "cells": [{"key": k, "model": m, "fold": f, "seed": s} for (m, f, s), k in folder.keys.items()],
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "sweep.json").write_text(json.dumps(plan))
    if not (root.parent / "cohorts" / "binary").exists():
        write_pages(root.parent / "cohorts" / "binary", scans)
    return folder


def write_pages(root, scans=15):
    """Write the cohort whose scans the cells have scored."""
    rows = []
    for scan in range(scans):
        name, (ink, truth) = f"scan-{scan:04d}", page(scan * 10)
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
        write_binary_tiff(root / "images" / f"{name}.tif", ink > 0)
        write_mask_png(root / "masks" / f"{name}.png", truth > 0)
        digest = hashlib.sha256((root / "images" / f"{name}.tif").read_bytes()).hexdigest()
        rows.append(
            Scan(name, f"patient-{scan:04d}", f"images/{name}.tif", digest, None, "3x4", f"masks/{name}.png")
        )
    write_cohort(root, "toy", rows, licence="none", provenance="drawn by a test", defaults={})


def _write_cell(cell, key, spec, model, state, scans, thresholds):
    cell.mkdir(parents=True)
    (cell / "spec.json").write_text(json.dumps(spec))
    if state == "failed":
        error = {
            "type": "RuntimeError",
            "message": "loss is NaN",
            "traceback": "Traceback <most recent call>: loss",
        }
        result = {"schema_version": 1, "key": key, "state": "failed", "error": error}
        (cell / "result.json").write_text(json.dumps(result))
        return
    fold, seed, count = spec["folds"]["fold"], spec["seeds"]["weights"], spec["folds"]["count"]
    jobs = [("cv", scan, 0.0) for scan in range(scans) if scan % count == fold]
    jobs += [
        (test["name"], 1000 + scan, test["init_args"]["amount"])
        for test in spec["test_on"]
        for scan in range(6)
    ]
    rows, curves = [], []
    for test_set, scan, amount in jobs:
        predicted, (_, truth) = prediction_of(model, scan * 10 + seed, amount), page(scan * 10 + seed)
        ids = {"test_set": test_set, "scan_id": f"scan-{scan:04d}", "patient_id": f"patient-{scan:04d}"}
        layout = "six_line" if scan % 7 == 6 else "four_line"
        ids["metrics_version"] = str(METRICS_VERSION)
        rows.append({**ids, "layout": layout, **scan_metrics(predicted, truth, 40.0)})
        out = cell / "predictions" / test_set / f"scan-{scan:04d}.png"
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(predicted.astype(bool)).save(out)
        if test_set == "cv":
            blurred = np.clip(cv2.GaussianBlur(predicted.astype(np.float32), (0, 0), 0.8), 0, 1)
            probability = np.where(predicted > 0, 0.16 + 0.84 * blurred, 0.14 * blurred).astype(np.float32)
            curves += threshold_curve(probability, truth).rows(**ids)
    labels = {"cell": key, "model": model.name, "fold": fold, "seed": seed}
    (cell / "scans.parquet").write_bytes(parquet_bytes(pd.DataFrame(rows).assign(**labels)))
    if thresholds:
        (cell / "thresholds.parquet").write_bytes(parquet_bytes(pd.DataFrame(curves).assign(**labels)))
    environment = {
        "python": "3.11.9",
        "system": "Linux x86_64",
        "processor": "Test CPU",
        "device": "cpu",
        "packages": {"torch": "2.13.0"},
        "commit": "0" * 40,
    }
    (cell / "environment.json").write_text(json.dumps(environment))
    result = {
        "schema_version": 1,
        "key": key,
        "state": "done",
        "params": model.params,
        "macs": model.params * 70,
        "seconds": 90.0,
        "train_s": 100.0 + model.params / 1e6 + fold,
        "result_sha256": hashlib.sha256(key.encode()).hexdigest(),
    }
    (cell / "result.json").write_text(json.dumps(result))
