"""How far a page may lean in front of a camera: a cohort's scans photographed at an angle and read.

    python -m tests.performance.digitize_photographed COHORT [--scans 20] [--shares 0 0.01 0.02] [--as-is]

Every corner of a page is moved at random by up to a share of the page's width, the light falls off to one
side, the lens blurs by 0.7 px, and the picture becomes a JPEG of quality 85. `--as-is` leaves out that the
page is made flat before it is read.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from datamodules.cohort import Cohort
from datamodules.page import Page
from datamodules.signals import RATE_HZ, resampled
from lightning_app.digitize.reader import load_reader
from lightning_app.digitize.results import Digitized
from lightning_app.evaluate.agreement import bootstrap_mean
from lightning_app.reader_check import signal_numbers

TABLE_SHARE = 0.06  # of the page's width, seen around it
JPEG_QUALITY = 85
LENS_SIGMA_PX = 0.7


def photographed(page: Page, share: float, seed: int) -> Page:
    """Photograph a page whose corners move by up to `share` of its width."""
    rng = np.random.default_rng(seed)
    rgb = page.rgb if page.rgb is not None else np.repeat((255 - page.ink)[..., None], 3, axis=2)
    rim = round(TABLE_SHARE * rgb.shape[1])
    wide = cv2.copyMakeBorder(rgb, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=(235, 235, 232))
    height, width = wide.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.uniform(-share, share, (4, 2)).astype(np.float32) * width
    matrix = cv2.getPerspectiveTransform(corners, moved)
    seen = cv2.warpPerspective(wide, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE).astype(
        np.float32
    )
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    seen *= (1 - 0.25 * x * rng.random() - 0.2 * y * rng.random())[..., None]
    seen = cv2.GaussianBlur(seen, (0, 0), LENS_SIGMA_PX)
    _, stored = cv2.imencode(
        ".jpg", seen[..., ::-1].astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    picture = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)[..., ::-1].copy()
    ink = 255 - np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    return replace(page, ink=ink, rgb=picture, is_binary=False)


def main() -> None:
    """Read and print one line per share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--scans", type=int, default=20)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.01, 0.02, 0.04])
    parser.add_argument("--as-is", action="store_true")
    options = parser.parse_args()
    reader = replace(load_reader(), is_network=not options.as_is)
    cohort = Cohort.open(options.cohort)
    scans = cohort.scans[: options.scans]
    for share in options.shares:
        found: list[float] = []
        patients: list[str] = []
        for seed, scan in enumerate(scans):
            assert scan.layout is not None
            result, _ = reader.read(photographed(cohort.load_page(scan), share, seed))
            if isinstance(result, Digitized):
                true_mv = resampled(cohort.load_signal(scan), RATE_HZ).mv
                found.append(signal_numbers(result, true_mv, cohort.layouts[scan.layout])["pcc"])
                patients.append(scan.patient_id)
        estimate = bootstrap_mean(found, patients)
        interval = (
            f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate else "of too few"
        )
        wrong = sum(not pcc >= 0.8 for pcc in found)
        print(
            f"corners up to {share:.1%}: {len(found)} of {len(scans)} read, PCC {interval},"
            f" median {np.median(found) if found else np.nan:.3f}, under .8: {wrong}",
            flush=True,
        )


if __name__ == "__main__":
    main()
