"""Labels of coloured pages by colour thresholding (Li et al. 2020, section 3.3; PROTOCOL R7).

Ink is dark in every colour channel, a coloured grid is bright in at least one. The brightest channel of a
pixel therefore tells ink from grid, and the threshold is found from the page's own histogram.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

# A line of text falls into letters; a stretch of trace hangs together.
NARROWEST_TRACE = 0.06  # of the page's width
PAPER_BAND = 0.25  # of the way from paper to black; what is lighter is paper or its noise


def threshold_label(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Label the traces of a page whose grid is coloured and whose ink is dark.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (H, W) uint8, 1 = trace. Text and frames that touch a trace stay in; a page without dark ink gives
        zeros. The error against the drawn mask is measured for every rendered page.
    """
    red, green, blue = cv2.split(rgb)
    value = np.asarray(cv2.max(cv2.max(red, green), blue), dtype=np.uint8)
    ink = value <= ink_threshold(value)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink.view(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_WIDTH] >= NARROWEST_TRACE * rgb.shape[1]
    keep[0] = False
    return np.asarray(keep[labels] if count > 1 else np.zeros_like(ink)).view(np.uint8)


def ink_threshold(value: npt.NDArray[np.uint8]) -> int:
    """Level between ink and grid: half-way from the paper to the darkest ink.

    Args:
        value: (H, W) uint8, brightest channel of each pixel.

    Returns:
        Pixels up to this level are ink.
    """
    histogram = np.bincount(value.ravel(), minlength=256)
    paper = int(np.searchsorted(np.cumsum(histogram), value.size / 2))
    # Ink covers a few percent of a page: its darkest thousandth is the inside of a stroke.
    darkest = int(np.searchsorted(np.cumsum(histogram), value.size / 1000))
    if paper - darkest < PAPER_BAND * 255:
        return -1
    return (paper + darkest) // 2
