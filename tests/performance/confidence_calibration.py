"""Fit the weights of `lightning_app.digitize.confidence` and check them on other pages.

    python -m tests.performance.confidence_calibration --fit LEADS.csv... --test LEADS.csv...

LEADS.csv are from `inkbeat reader check COHORT --leads LEADS.csv`; those to test on must come from other
recordings and seeds. Prints the weights and, for the pages of the test, how often a lead of a given
confidence correlated with the truth by .95 or more, with a 95 % interval over 1000 bootstrap trials by page.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from lightning_app.digitize.results import Evidence

GOOD_PCC = 0.95
BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)
RIDGE = 1e-3
EVIDENCE = ("ink", "own", "slim", "laws", "ends", "size_px", "start_ms")


def read_leads(paths: list[Path]) -> pd.DataFrame:
    """Leads of several cohorts; scans of two cohorts never share a name afterwards."""
    frames = [pd.read_csv(path) for path in paths]
    for number, frame in enumerate(frames):
        frame["scan_id"] = f"{number} " + frame["scan_id"].astype(str)
    return pd.concat(frames, ignore_index=True)


def features_and_truth(leads: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 8) features of every lead and (n,) 1 where it is good."""
    features = [Evidence(*values).features for values in leads[list(EVIDENCE)].itertuples(index=False)]
    return np.array(features), (leads["pcc"] >= GOOD_PCC).to_numpy(np.float64)


def fitted(features: NDArray[np.float64], good: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic weights that never fall with a feature: more evidence never means less confidence."""

    def loss(weights: NDArray[np.float64]) -> float:
        margin = features @ weights
        cross_entropy = np.mean(np.logaddexp(0, margin) - good * margin)
        return float(cross_entropy + RIDGE * np.square(weights[1:]).sum())

    bounds = [(None, None)] + [(0.0, None)] * (features.shape[1] - 1)
    return np.asarray(minimize(loss, np.zeros(features.shape[1]), bounds=bounds).x)


def reliability(leads: pd.DataFrame, weights: NDArray[np.float64]) -> list[str]:
    """One line per bin of confidence."""
    features, good = features_and_truth(leads)
    confidence = 1 / (1 + np.exp(-features @ weights))
    page_of, scans = pd.factorize(leads["scan_id"])
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
    expected = np.array([confidence[page_of == page].mean() for page in range(len(scans))])
    share = np.array([good[page_of == page].mean() for page in range(len(scans))])
    lines += [
        f"{len(scans)} pages: mean confidence {expected.mean():.3f}, mean share of good leads "
        f"{share.mean():.3f}, mean distance of both {np.abs(expected - share).mean():.3f}"
    ]
    return lines


def main() -> None:
    """Fit, print the weights, test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fit", nargs="+", type=Path, required=True)
    parser.add_argument("--test", nargs="+", type=Path, required=True)
    options = parser.parse_args()
    leads = read_leads(options.fit)
    features, good = features_and_truth(leads)
    weights = fitted(features, good)
    print(f"fitted on {leads['scan_id'].nunique()} pages, {len(good)} leads, {good.mean():.1%} good")
    print(f"WEIGHTS = ({', '.join(f'{weight:.2f}' for weight in weights)})", flush=True)
    for line in reliability(read_leads(options.test), weights):
        print(line)


if __name__ == "__main__":
    main()
