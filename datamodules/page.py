"""The one place that reads and writes pages.

In memory a page is ink: uint8, 0 = paper, 255 = ink, whatever the file's photometric interpretation.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from datamodules.files import write_atomic


def write_binary_tiff(path: Path, ink: npt.NDArray[np.bool_]) -> None:
    """Write a 1-bit page as the scanners of the paper do: TIFF, CCITT Group 4.

    Args:
        path: File to write.
        ink: (H, W) bool, True = ink.

    The bytes depend on the pixels alone. Pillow writes it, since tifffile has no Group-4 encoder.
    """
    write_atomic(path, _encoded(Image.fromarray(~_as_bool(ink)), "TIFF", compression="group4"))


def write_mask_png(path: Path, mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> None:
    """Write a mask as 1-bit PNG, 1 (white) = waveform.

    Args:
        path: File to write.
        mask: (H, W) bool or 0/1.
    """
    write_atomic(path, _encoded(Image.fromarray(_as_bool(mask)), "PNG"))


def write_colour_png(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write a colour page as PNG.

    Args:
        path: File to write.
        rgb: (H, W, 3) uint8, white = paper.
    """
    # Level 3: half the time of the default for 3 % more bytes on a gridded page.
    write_atomic(path, _encoded(Image.fromarray(rgb), "PNG", compress_level=3))


def _as_bool(pixels: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    if pixels.ndim != 2:
        raise ValueError(f"got shape {pixels.shape}, wanted (H, W)")
    return np.ascontiguousarray(pixels, dtype=np.bool_)


def _encoded(image: Image.Image, kind: str, **options: int | str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
