"""The page straightened: quarter turns, skew and shear, and the way back to the scan's own pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_app.digitize.grid import Grid

STRAIGHT_DEG = 0.02  # 0.4 px over 1120 px; resampling costs more than it brings


@dataclass(frozen=True)
class Straightening:
    """Affine map from the page as read to the straight page.

    Attributes:
        matrix: (2, 3) float64, page (x, y) to straight (x, y), pixel centres.
        width: Width of the straight page, px.
        height: Height of the straight page, px.
    """

    matrix: NDArray[np.float64]
    width: int
    height: int

    def image(self, page: NDArray[np.generic], paper: float = 0.0) -> NDArray[np.generic]:
        """Resample an image, (H, W) or (H, W, C), onto the straight page."""
        if self.is_identity:
            return page
        size = (self.width, self.height)
        straight = cv2.warpAffine(
            np.ascontiguousarray(page), self.matrix, size, flags=cv2.INTER_LINEAR, borderValue=[paper] * 4
        )
        return np.asarray(straight)

    def forward(self, page: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, 2) points of the page to the straight page."""
        return np.asarray(page @ self.matrix[:, :2].T + self.matrix[:, 2])

    def points(self, straight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, 2) points of the straight page back to the page as read."""
        return np.asarray((straight - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T)

    @property
    def is_identity(self) -> bool:
        """Nothing is to be done."""
        return bool(np.array_equal(self.matrix, np.eye(2, 3)))


def straighten(shape: tuple[int, int], grid: Grid, rows_skew_deg: float) -> Straightening:
    """Plan how to straighten a page so that time runs to the right and voltage straight up.

    Args:
        shape: (H, W) of the page.
        grid: Its line families; each sets the axis it measures, the other follows at a right angle.
        rows_skew_deg: Turn of the traces, used where there is no grid.

    Returns:
        The map; nothing is cut off. Lengths along the two axes keep the page's pixel size.
    """
    turn = np.radians(rows_skew_deg)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    if grid.x is not None:
        axes[0] = grid.x.normal
        axes[1] = (-grid.x.normal[1], grid.x.normal[0])
    if grid.y is not None:
        axes[1] = grid.y.normal
        if grid.x is None:
            axes[0] = (grid.y.normal[1], -grid.y.normal[0])
    height, width = shape
    if np.abs(np.degrees(axes - np.eye(2))).max() < STRAIGHT_DEG:
        return Straightening(np.eye(2, 3), width, height)
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]) @ axes.T
    low = corners.min(axis=0)
    span = np.ceil(corners.max(axis=0) - low).astype(int) + 1
    return Straightening(np.column_stack([axes, -low]), int(span[0]), int(span[1]))
