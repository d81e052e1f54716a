"""Drawing along any path, exact to a fraction of a pixel: traces on pages that are turned and bent.

`strokes` follows a trace column by column, which fails where a turned page leans a steep stroke back. Here
every pixel near a path knows its distance to it, from which mask and ink of any width follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

STEP_PX = 0.75  # samples closer than that are one step of the pen
LONGEST_PX = 1.0


@dataclass(frozen=True)
class Footprint:
    """Pixels near a path, once for every step of the path that they are near to.

    Attributes:
        shape: (H, W) of the page.
        pixel: (k,) place in the flattened page.
        distance_px: (k,) from the pixel's centre to the step.
        step: (k,) number of the step.
        middle: (n, 2) x and y of the steps' middles, px.
        steepness: (n,) |dy| over the length of each step, 0 to 1.
    """

    shape: tuple[int, int]
    pixel: npt.NDArray[np.intp]
    distance_px: npt.NDArray[np.float32]
    step: npt.NDArray[np.intp]
    middle: npt.NDArray[np.float64]
    steepness: npt.NDArray[np.float64]

    def mask(self, width_px: float) -> npt.NDArray[np.uint8]:
        """Every pixel whose centre a round pen of that width, at least 1, covers: (H, W) 0/1."""
        mask = np.zeros(self.shape, dtype=np.uint8)
        mask.reshape(-1)[self.pixel[self.distance_px <= max(width_px, 1.0) / 2]] = 1
        return mask

    def ink(
        self, width_px: npt.NDArray[np.float64], strength: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.uint8]:
        """Darkness with soft edges; width and strength change from step to step.

        Args:
            width_px: (n,) stroke width.
            strength: (n,) 0 to 1.

        Returns:
            (H, W) uint8, 255 = full ink.
        """
        cover = (width_px / 2 + 0.5).astype(np.float32)[self.step] - self.distance_px
        dose = np.clip(cover, 0.0, 1.0) * (strength * 255.0).astype(np.float32)[self.step]
        canvas = np.zeros(self.shape, dtype=np.uint8)
        np.maximum.at(canvas.reshape(-1), self.pixel, dose.astype(np.uint8))
        return canvas


def footprint(shape: tuple[int, int], paths: list[Points], widest_px: float) -> Footprint:
    """Find the pixels near paths.

    Args:
        shape: (H, W) of the page.
        paths: Each (n >= 2, 2) x and y in px.
        widest_px: Widest stroke that will be drawn.

    Returns:
        The pixels within half of that and the soft edge.
    """
    even = [_even_steps(path) for path in paths]
    start = np.concatenate([path[:-1] for path in even])
    stop = np.concatenate([path[1:] for path in even])
    middle = (start + stop) / 2
    limit = widest_px / 2 + 0.5
    reach = int(np.ceil(limit + LONGEST_PX / 2))
    side = np.arange(-reach, reach + 1)
    offset_y, offset_x = (part.ravel() for part in np.meshgrid(side, side, indexing="ij"))
    base = np.rint(middle).astype(np.intp)
    column, row = base[:, :1] + offset_x, base[:, 1:] + offset_y
    along = (stop - start).astype(np.float32)
    length = np.hypot(along[:, 0], along[:, 1])
    gap_x = (column - start[:, :1]).astype(np.float32)
    gap_y = (row - start[:, 1:]).astype(np.float32)
    square = np.maximum(length**2, np.float32(1e-12))
    share = np.clip((gap_x * along[:, :1] + gap_y * along[:, 1:]) / square[:, None], 0.0, 1.0)
    gap_x -= share * along[:, :1]
    gap_y -= share * along[:, 1:]
    distance = np.hypot(gap_x, gap_y)
    near = (distance <= limit) & (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    step, _ = np.nonzero(near)
    return Footprint(
        shape,
        (row * shape[1] + column)[near],
        distance[near],
        step,
        middle,
        np.abs(along[:, 1]).astype(np.float64) / np.maximum(length, 1e-6),
    )


def _even_steps(path: Points) -> Points:
    """Join samples that lie closer than a step, but keep every turning point; cut long steps up."""
    length = np.hypot(*np.diff(path, axis=0).T)
    place = np.floor(np.concatenate([[0.0], np.cumsum(length)]) / STEP_PX)
    keep = np.diff(place, prepend=-1.0) > 0
    rise = np.diff(path[:, 1])
    keep[1:-1] |= rise[:-1] * rise[1:] < 0
    keep[-1] = True
    kept = path[keep]
    length = np.hypot(*np.diff(kept, axis=0).T)
    pieces = np.maximum(np.ceil(length / LONGEST_PX), 1.0).astype(np.intp)
    owner = np.repeat(np.arange(pieces.size), pieces)
    part = np.arange(owner.size) - (np.cumsum(pieces) - pieces)[owner]
    share = (part / pieces[owner])[:, None]
    between = kept[:-1][owner] * (1.0 - share) + kept[1:][owner] * share
    return np.concatenate([between, kept[-1:]])
