"""A cohort on disk in milliseconds: small pages of different sizes with a wavy trace, two scans a patient."""

import hashlib
from pathlib import Path

import numpy as np

from datamodules.cohort import Scan, write_scans
from datamodules.page import write_binary_tiff, write_colour_png, write_mask_png


def write_tiny_cohort(root, n_scans, *, colour=False, empty_masks=(), no_masks=()) -> Path:
    """Write a cohort of binary or coloured pages and give its folder.

    Args:
        root: Folder to write to.
        n_scans: Number of scans.
        colour: Write RGB pages instead of 1-bit ones.
        empty_masks: Numbers of the scans whose mask holds no waveform.
        no_masks: Numbers of the scans without mask.
    """
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "cohort.yaml").write_text(
        "schema_version: 1\nname: tiny\nlicence: CC0\nprovenance: {text: drawn}\n"
    )
    rng = np.random.default_rng(7)
    scans = []
    for i in range(n_scans):
        mask = _wave(150 + 10 * i, 200 + 7 * i)
        if i in empty_masks:
            mask[:] = False
        image = f"images/{i}.{'png' if colour else 'tif'}"
        if colour:
            paper = rng.integers(170, 256, (*mask.shape, 3))
            write_colour_png(
                root / image, np.where(mask[..., None], rng.integers(0, 60, 3), paper).astype(np.uint8)
            )
        else:
            write_binary_tiff(root / image, mask | (rng.random(mask.shape) < 0.1))
        has_mask = i not in no_masks
        if has_mask:
            write_mask_png(root / f"masks/{i}.png", mask)
        scans.append(
            Scan(
                scan_id=f"s{i}",
                patient_id=f"p{i // 2}",
                image=image,
                image_sha256=hashlib.sha256((root / image).read_bytes()).hexdigest(),
                signal=None,
                layout="four_line",
                mask=f"masks/{i}.png" if has_mask else None,
            )
        )
    write_scans(root, scans)
    return root


def _wave(height, width):
    mask = np.zeros((height, width), dtype=bool)
    x = np.arange(20, width - 20)
    y = np.round(height / 2 + 15 * np.sin(x / 9)).astype(int)
    for thickness in range(3):
        mask[y + thickness, x] = True
    return mask
