"""What happens to a page of another type before a network sees it: grey, pepper and salt, binarizing.

Li et al. 2020 turn coloured pages grey and add pepper-and-salt noise (R33); the discussion's "simply
binarizing" is the second arm. Nothing here binarizes unless it says so. This is the one module that knows
albumentations.

Pages are ink: uint8 (H, W), 0 = paper, 255 = ink.
"""

from __future__ import annotations

import hashlib
import os
from types import ModuleType

import cv2
import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]

NOISE_AMOUNTS = (0.0, 0.01, 0.02, 0.05, 0.10)  # R33: share of pixels replaced
SALT_SHARE = 0.5


def _albumentations() -> ModuleType:
    # Imported on first use: it costs seconds, and training on 1-bit pages never needs it.
    # It asks the network for news at import unless told not to.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    module: ModuleType = albumentations
    return module


def grey_ink(rgb: UInt8Array) -> UInt8Array:
    """Turn a coloured page into grey ink by its luma (Rec. 601), without binarizing.

    Args:
        rgb: (H, W, 3) uint8 as scanned, 255 = white.

    Returns:
        (H, W) uint8, 0 = white paper, 255 = black ink.
    """
    to_grey = _albumentations().ToGray(num_output_channels=1, method="weighted_average", p=1.0)
    luma: UInt8Array = np.squeeze(to_grey(image=rgb)["image"])
    return 255 - luma


def pepper_and_salt(ink: UInt8Array, amount: float, seed: int, scan_id: str) -> UInt8Array:
    """Replace a share of the pixels, half of them by black, half by white.

    The noise is keyed to (seed, scan_id): it is the same in any order, for any set of scans and after any
    resume.

    Args:
        ink: (H, W) uint8 page.
        amount: Share of the pixels in 0..1, met exactly (rounded down to whole pixels).
        seed: Noise seed.
        scan_id: Scan the page belongs to.

    Returns:
        (H, W) uint8 new page.
    """
    noise = _albumentations().SaltAndPepper(
        amount=(amount, amount), salt_vs_pepper=(SALT_SHARE, SALT_SHARE), p=1.0
    )
    noise.set_random_seed(_noise_key(seed, scan_id))
    # Salt is white, and white is 0 on the ink scale.
    noisy: UInt8Array = 255 - noise(image=255 - ink)["image"]
    return noisy


def binarize(ink: UInt8Array) -> UInt8Array:
    """Split a page at Otsu's threshold.

    Args:
        ink: (H, W) uint8 page.

    Returns:
        (H, W) uint8, 0 or 255.
    """
    _, split = cv2.threshold(ink, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    binary: UInt8Array = split.astype(np.uint8, copy=False)
    return binary


def _noise_key(seed: int, scan_id: str) -> int:
    digest = hashlib.sha256(f"pepper_and_salt\n{seed}\n{scan_id}".encode()).digest()
    return int.from_bytes(digest[:8], "little")
