"""A small picture of a layout, to see at a glance which lead is printed where and when."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.layout import Layout, Segment

WIDTH_PX = 640
ROW_PX = 56
MARGIN_PX = 24
BEAT_S = 0.8
INK = (40, 40, 40)
RULE = (225, 170, 170)


def draw_layout(layout: Layout) -> npt.NDArray[np.uint8]:
    """Draw a layout: a row per line, a beat every 0.8 s, lead names where they start.

    Args:
        layout: What to draw.

    Returns:
        (H, W, 3) uint8 RGB, 640 px wide.
    """
    height = 2 * MARGIN_PX + layout.n_rows * ROW_PX
    picture = np.full((height, WIDTH_PX, 3), 255, np.uint8)
    px_per_s = (WIDTH_PX - 2 * MARGIN_PX) / layout.duration_s
    for segment in layout.segments:
        _draw_segment(picture, segment, px_per_s)
    title = f"{layout.name}, {layout.duration_s:g} s"
    _write(picture, title, (MARGIN_PX, 16))
    return picture


def _draw_segment(picture: npt.NDArray[np.uint8], segment: Segment, px_per_s: float) -> None:
    left, right = (MARGIN_PX + time_s * px_per_s for time_s in (segment.start_s, segment.stop_s))
    base = MARGIN_PX + (segment.row + 0.65) * ROW_PX
    x = np.arange(round(left), round(right))
    # Seconds of the record, not of the segment: leads of a column beat together.
    time_s = (x - MARGIN_PX) / px_per_s % BEAT_S - 0.3
    beat = np.exp(-((time_s / 0.02) ** 2)) + 0.2 * np.exp(-(((time_s - 0.25) / 0.06) ** 2))
    y = base - 0.4 * ROW_PX * beat
    cv2.line(picture, (round(left), round(base) - 20), (round(left), round(base) + 8), RULE, 1)
    cv2.polylines(picture, [np.stack([x, np.rint(y)], axis=1).astype(np.int32)], False, INK, 1, cv2.LINE_AA)
    _write(picture, segment.lead, (round(left) + 3, round(base) + 16))


def _write(picture: npt.NDArray[np.uint8], text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
