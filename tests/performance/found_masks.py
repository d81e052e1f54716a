"""Whether found masks train as well as drawn ones do: `python -m tests.performance.found_masks OUT`.

Pages are drawn from one folder of records; a copy loses its masks, has its scales declared up to 3 % wrong
and is annotated. A network learns from either cohort with the same seeds, and is scored against the drawn
masks of pages that were drawn from another folder of records. What is in OUT already is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from datamodules.cohort import Cohort, write_manifest, write_scans
from lightning_app.evaluate.statistics import contrast
from lightning_app.report.results import read_results
from tests.shared import SHARED

SCALE_OFF = 0.03
PAGES, TEST_PAGES, SEED = 24, 24, 0
TEST_SET = "others"
SEEDS = (0, 1, 2, 3, 4)
# It ends at a learning rate of nothing, so that its seeds differ less than the U-Net's, which would hide what
# the masks do; and a core trains it in two minutes.
MODEL = {"class_path": "models.half_unet.HalfUNet", "init_args": {"width": 16, "lr": 2e-3}}
PATCHES = {"batch_size": 4, "patches_per_scan": 4, "patch_px": 256, "reach_px": 192}
EPOCHS = 16


def main() -> None:
    """Make what is missing and print how the two differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--signals", default=str(SHARED / "signals" / "ptbxl"), help="records to train on")
    parser.add_argument("--others", default=str(SHARED / "signals" / "ludb"), help="records to test on")
    options = parser.parse_args()
    _cohorts(options.out, options.signals, options.others)
    print(_masks(options.out / "drawn", options.out / "found"), flush=True)
    _train(options.out)
    print(_difference(options.out))


def _cohorts(out: Path, signals: str, others: str) -> None:
    for name, records, pages in (("drawn", signals, PAGES), ("others", others, TEST_PAGES)):
        if not (out / name).exists():
            made = ("--kind", "binary", "--signals", records, "--scans", str(pages), "--seed", str(SEED))
            _inkbeat("cohort", "make", *made, "--out", str(out / name))
    if not (out / "found").exists():
        _without_masks(out / "drawn", out / "found")
    _inkbeat("cohort", "annotate", str(out / "found"), "--workers", "1")


def _without_masks(drawn: Path, found: Path) -> None:
    """Copy a cohort as a user would have it who knows the grid only roughly."""
    shutil.copytree(drawn, found)
    for folder in ("masks", "geometry"):
        shutil.rmtree(found / folder)
    off = np.random.default_rng(SEED).uniform(1 - SCALE_OFF, 1 + SCALE_OFF, (PAGES, 2)).tolist()
    scans = [
        dataclasses.replace(
            scan, mask=None, px_per_s=(scan.px_per_s or 0.0) * x, px_per_mv=(scan.px_per_mv or 0.0) * y
        )
        for scan, (x, y) in zip(Cohort.open(drawn).scans, off, strict=True)
    ]
    write_scans(found, scans)
    write_manifest(found, scans)


def _masks(drawn: Path, found: Path) -> str:
    """Compare the masks themselves."""
    dice, larger = [], []
    cohort = Cohort.open(found)
    for scan in Cohort.open(drawn).scans:
        true = Cohort.open(drawn).load_mask(scan) > 0
        ours = cohort.load_mask(cohort.scan(scan.scan_id)) > 0
        dice.append(2 * (true & ours).sum() / (true.sum() + ours.sum()))
        larger.append(ours.sum() / true.sum() - 1)
    return (
        f"found masks: Dice {np.mean(dice):.3f}, lowest {min(dice):.3f}; "
        f"{np.mean(larger):+.1%} pixels, {min(larger):+.1%} to {max(larger):+.1%}; n = {len(dice)} pages"
    )


def _train(out: Path) -> None:
    """Run both sweeps, seed by seed, so that what an interrupted run leaves are pairs."""
    for seed in SEEDS:
        for masks in ("drawn", "found"):
            path = out / f"{masks}.yaml"
            path.write_text(yaml.safe_dump(_sweep(out, masks), sort_keys=False), encoding="utf-8")
            _inkbeat("run", str(path), "--out", str(out / "runs"), "--workers", "1", "--seed", str(seed))


def _sweep(out: Path, masks: str) -> dict[str, Any]:
    test = {"class_path": "datamodules.scans.ColourScans", "init_args": {"cohort": "others", "amount": 0.0}}
    return {
        "schema_version": 1,
        "name": masks,
        "cohorts": {"mine": {"path": str(out / masks)}, "others": {"path": str(out / "others")}},
        "models": [MODEL],
        "folds": {"count": 5, "run": [0], "seed": 0},
        "seeds": list(SEEDS),
        "fit_on": {
            "class_path": "datamodules.scans.BinaryScans",
            "init_args": {"cohort": "mine", **PATCHES},
        },
        "test_on": [{"name": TEST_SET, **test}],
        "training": {"pretrain_epochs": 0, "epochs": EPOCHS, "precision": "32-true"},
        "evaluation": {"threshold": 0.15, "overlap_px": 0},
    }


def _difference(out: Path) -> str:
    """Found minus drawn, page by page over the seeds' mean, and seed by seed over the pages' mean."""
    drawn, found = (_dice(out / "runs" / masks) for masks in ("drawn", "found"))
    patients, layouts = drawn.index.get_level_values("patient_id"), drawn.index.get_level_values("layout")
    paired = contrast(found.mean(axis=1), drawn.mean(axis=1), list(patients), list(layouts))
    seeds = pd.DataFrame({"drawn": drawn.mean(), "found": found.mean()})
    seeds["difference"] = seeds["found"] - seeds["drawn"]
    n, spread = len(seeds), float(seeds["difference"].std())
    reach = float(stats.t.ppf(0.975, n - 1)) * spread / n**0.5
    return (
        f"found minus drawn {paired.difference:+.4f}, 95 % interval over patients {paired.low:+.4f} to "
        f"{paired.high:+.4f}, n = {paired.n_scans} pages of {paired.n_patients} patients\n"
        f"over seeds {paired.difference - reach:+.4f} to {paired.difference + reach:+.4f}, n = {n}\n"
        f"{seeds.round(4).to_string()}\n"
        f"SD over seeds: drawn {seeds['drawn'].std():.4f}, found {seeds['found'].std():.4f}, "
        f"difference {spread:.4f}"
    )


def _dice(sweep: Path) -> pd.DataFrame:
    """(pages, seeds) Dice on the test set."""
    rows = read_results(sweep).rows
    return rows[rows["test_set"] == TEST_SET].pivot(
        index=["scan_id", "patient_id", "layout"], columns="seed", values="dice"
    )


def _inkbeat(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "lightning_app", *arguments], check=True)


if __name__ == "__main__":
    main()
