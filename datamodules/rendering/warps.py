"""Pages that are turned, seen in perspective and bent: the map of their points and of their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.geometry import Affine

Points = npt.NDArray[np.float64]

NODE_PX = 16  # bends are followed at this distance, exact to a hundredth of a pixel
ITERATIONS = 6


@dataclass(frozen=True)
class Wave:
    """One wave of a bent page: points move by height_px * sin(kx * x + ky * y + phase)."""

    height_px: tuple[float, float]
    per_px: tuple[float, float]
    phase: float


@dataclass(frozen=True)
class Warp:
    """How the ideal page lies on the scan.

    Attributes:
        homography: (3, 3) ideal to flat scan.
        waves: What bends the flat scan.
    """

    homography: npt.NDArray[np.float64]
    waves: tuple[Wave, ...]

    def to_scan(self, points: npt.ArrayLike) -> Points:
        """Map ideal points to the scan.

        Args:
            points: (n, 2) x and y in px.

        Returns:
            (n, 2) px.
        """
        flat = _projected(np.asarray(points, dtype=np.float64), self.homography)
        bent = flat
        for _ in range(ITERATIONS if self.waves else 0):
            bent = flat - self._bend(bent)
        return bent

    def to_ideal(self, points: npt.ArrayLike) -> Points:
        """Map scan points to the ideal page; the inverse of `to_scan`."""
        there = np.asarray(points, dtype=np.float64)
        return _projected(
            there + self._bend(there), np.asarray(np.linalg.inv(self.homography), dtype=np.float64)
        )

    def pixel_map(self, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        """For every pixel of the scan its place on the ideal page, as `cv2.remap` wants it.

        Args:
            shape: (H, W) of the scan.

        Returns:
            (H, W, 2) float32 x and y.
        """
        n_rows, n_columns = (-(-size // NODE_PX) + 2 for size in shape)
        # Node 0 lies before the page: cv2.resize repeats what lies beyond the outer nodes.
        x, y = ((np.arange(n) - 0.5) * NODE_PX - 0.5 for n in (n_columns, n_rows))
        nodes = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        coarse = self.to_ideal(nodes).reshape(n_rows, n_columns, 2).astype(np.float32)
        fine = cv2.resize(coarse, (n_columns * NODE_PX, n_rows * NODE_PX), interpolation=cv2.INTER_LINEAR)
        inside = fine[NODE_PX : NODE_PX + shape[0], NODE_PX : NODE_PX + shape[1]]
        return np.ascontiguousarray(inside, dtype=np.float32)

    def lay(self, layer: npt.NDArray[np.uint8], border: int) -> npt.NDArray[np.uint8]:
        """Move pixels of the ideal page to the scan; `border` is OpenCV's kind of continuation."""
        where = self.pixel_map((layer.shape[0], layer.shape[1]))
        x, y = where[..., 0], where[..., 1]
        moved = cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=border)
        return np.asarray(moved, dtype=np.uint8)

    def best_affine(self, points: npt.ArrayLike) -> tuple[Affine, float]:
        """Fit an affine map by least squares.

        Args:
            points: (n >= 3, 2) ideal points.

        Returns:
            The map, and the largest distance in px by which it misses one of the points.
        """
        ideal = np.asarray(points, dtype=np.float64)
        wanted = self.to_scan(ideal)
        design = np.column_stack([ideal, np.ones(len(ideal))])
        solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
        error_px = float(np.hypot(*(design @ solution - wanted).T).max())
        (a, d), (b, e), (c, f) = solution.tolist()
        return ((a, b, c), (d, e, f)), error_px

    def _bend(self, points: Points) -> Points:
        moved = np.zeros_like(points)
        for wave in self.waves:
            height = np.sin(points @ np.array(wave.per_px) + wave.phase)
            moved += height[:, None] * np.array(wave.height_px)
        return moved


def turned(
    shape: tuple[int, int], angle_deg: float, corners: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Turn a page around its middle and move its corners.

    Args:
        shape: (H, W).
        angle_deg: Turn; positive lowers the right side.
        corners: (4, 2) shift of upper left, upper right, lower right, lower left, px.

    Returns:
        (3, 3) homography.
    """
    height, width = shape
    angle = math.radians(angle_deg)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    flat = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    there = (flat - centre) @ turn.T + centre + corners
    matrix = cv2.getPerspectiveTransform(flat.astype(np.float32), there.astype(np.float32))
    return np.asarray(matrix, dtype=np.float64)


def _projected(points: Points, homography: npt.NDArray[np.float64]) -> Points:
    mapped = points @ homography[:, :2].T + homography[:, 2]
    return np.asarray(mapped[:, :2] / mapped[:, 2:])
