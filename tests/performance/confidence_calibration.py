"""Fit the weights of `lightning_app.digitize.confidence` and check them on other pages.

    python -m tests.performance.confidence_calibration --fit COHORT... --test COHORT... [--limit N]

Every page is read twice: from its drawn mask, and from that mask spoilt as `tests.performance.damaged_maps`
does (seed 1 for the fit, 2 for the test). The cohorts to test on must come from other recordings and seeds.
Prints the weights and, for the pages of the test, how often a lead of a given confidence correlated with the
truth by .95 or more, with a 95 % interval over 1000 bootstrap trials by page.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from datamodules.cohort import Cohort
from tests.performance.digitize_breakdown import PageReading, damaged_map, mask_map, read_pages

GOOD_PCC = 0.95
BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)
RIDGE = 1e-3


def read_twice(folders: list[Path], seed: int, jobs: int, limit: int | None) -> list[PageReading]:
    """Pages that were read, from drawn and from spoilt masks."""
    pages: list[PageReading] = []
    for folder in folders:
        for mapped in (mask_map, partial(damaged_map, seed)):
            pages += read_pages(Cohort.open(folder), mapped, jobs, limit)
    return [page for page in pages if page.leads]


def features_and_truth(pages: list[PageReading]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 7) features of every lead and (n,) 1 where it is good."""
    leads = [lead for page in pages for lead in page.leads]
    return (
        np.array([lead.evidence.features for lead in leads]),
        np.array([lead.pcc >= GOOD_PCC for lead in leads], dtype=np.float64),
    )


def fitted(features: NDArray[np.float64], good: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic weights that never fall with a feature: more evidence never means less confidence."""

    def loss(weights: NDArray[np.float64]) -> float:
        margin = features @ weights
        cross_entropy = np.mean(np.logaddexp(0, margin) - good * margin)
        return float(cross_entropy + RIDGE * np.square(weights[1:]).sum())

    bounds = [(None, None)] + [(0.0, None)] * (features.shape[1] - 1)
    return np.asarray(minimize(loss, np.zeros(features.shape[1]), bounds=bounds).x)


def reliability(pages: list[PageReading], weights: NDArray[np.float64]) -> list[str]:
    """One line per bin of confidence."""
    features, good = features_and_truth(pages)
    confidence = 1 / (1 + np.exp(-features @ weights))
    page_of = np.repeat(np.arange(len(pages)), [len(page.leads) for page in pages])
    rng = np.random.default_rng(0)
    lines = ["confidence    leads   pages   mean confidence   share good   95 % interval"]
    for low, high in pairwise(BINS):
        inside = (confidence >= low) & ((confidence < high) | (high == 1.0))
        if not inside.any():
            continue
        of = np.unique(page_of[inside])
        sums = np.array(
            [[good[inside & (page_of == page)].sum(), (inside & (page_of == page)).sum()] for page in of]
        )
        drawn = sums[rng.integers(len(of), size=(1000, len(of)))].sum(axis=1)
        a, b = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
        lines.append(
            f"{low:.2f} to {high:.2f}  {inside.sum():5}   {len(of):5}   {confidence[inside].mean():15.3f}   "
            f"{good[inside].mean():10.3f}   [{a:.2f}, {b:.2f}]"
        )
    expected = np.array([confidence[page_of == page].mean() for page in range(len(pages))])
    share = np.array([good[page_of == page].mean() for page in range(len(pages))])
    lines += [
        f"{len(pages)} pages: mean confidence {expected.mean():.3f}, mean share of good leads "
        f"{share.mean():.3f}, mean distance of both {np.abs(expected - share).mean():.3f}"
    ]
    return lines


def main() -> None:
    """Fit, print the weights, test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fit", nargs="+", type=Path, required=True)
    parser.add_argument("--test", nargs="+", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only so many scans of each cohort")
    options = parser.parse_args()
    pages = read_twice(options.fit, 1, options.jobs, options.limit)
    features, good = features_and_truth(pages)
    weights = fitted(features, good)
    print(f"fitted on {len(pages)} pages, {len(good)} leads, {good.mean():.1%} good")
    print(f"WEIGHTS = ({', '.join(f'{weight:.2f}' for weight in weights)})", flush=True)
    for line in reliability(read_twice(options.test, 2, options.jobs, options.limit), weights):
        print(line)


if __name__ == "__main__":
    main()
