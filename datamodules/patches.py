"""Where patches and windows lie on a page: pure draws of coordinates, no pixels.

Training patches follow R22 (a square around a waveform point, moved by up to 128 px per axis), windows
follow R26 (a regular grid at 64 px overlap whose last window is shifted inside the page). Every draw is
keyed to (seed, epoch, step): a batch never depends on how often a generator was called before, so it is
the same after a kill and a resume, on any worker and on any number of devices.

Points and corners are (row, column) pairs, int64, in pixels; a corner is the upper left pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]

PATCH_PX = 128  # Li et al. 2020, section 2.3: patch side
REACH_PX = 128  # ibid.: patches lie within a 128-pixel range of waveform points
OVERLAP_PX = 64  # ibid.: overlap of the sequential patches at inference
PATCHES_PER_SCAN = 64  # unspecified in the paper; about one page area: 886 * 1120 / 128**2 = 60.6


def rng_for(patch_seed: int, epoch: int, step: int | None = None) -> np.random.Generator:
    """Give the generator of one batch, or of the whole epoch when `step` is None.

    Args:
        patch_seed: Non-negative seed of the patch stream.
        epoch: Epoch counted from 0.
        step: Batch within the epoch counted from 0.

    Returns:
        A counter-based generator; equal keys give equal numbers, different keys independent ones.
    """
    # spawn_key, not a longer entropy list: SeedSequence pads entropy with zeros, so [5] and [5, 0] agree.
    key = (epoch,) if step is None else (epoch, step)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(patch_seed, spawn_key=key)))


def scan_order(n_scans: int, patches_per_scan: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Decide which scan each patch of an epoch comes from.

    Every scan gives the same number of patches (its quota), so that a page with long traces does not
    outvote one with short traces; the order is shuffled.

    Args:
        n_scans: Number of training scans.
        patches_per_scan: Patches each of them gives.
        rng: Generator of the epoch.

    Returns:
        (n_scans * patches_per_scan,) int32 scan indices.
    """
    return rng.permutation(np.repeat(np.arange(n_scans, dtype=np.int32), patches_per_scan))


def batch_bounds(n_patches: int, batch_size: int) -> Int64Array:
    """Cut an epoch into batches without dropping a patch and without a tiny last batch.

    The batches are as few as `batch_size` allows and differ by one patch at most: a last batch of a
    single patch would stop networks that normalize over a 1x1 map.

    Args:
        n_patches: Patches of the epoch.
        batch_size: Most patches a batch may have.

    Returns:
        (n_batches + 1,) int64; batch i holds patches bounds[i] to bounds[i + 1].
    """
    n_batches = -(-n_patches // batch_size)
    return np.arange(n_batches + 1, dtype=np.int64) * n_patches // max(n_batches, 1)


def draw_patch_corners(
    points: Int64Array,
    shapes: Int64Array,
    rng: np.random.Generator,
    *,
    size_px: int = PATCH_PX,
    reach_px: int = REACH_PX,
) -> Int64Array:
    """Move a patch around each waveform point and keep it on its page (R22).

    The offset of the patch centre is uniform in -reach_px..reach_px per axis.

    Args:
        points: (n, 2) waveform pixels.
        shapes: (n, 2) height and width of the page each point lies on.
        rng: Generator of the batch.
        size_px: Patch side.
        reach_px: Largest distance of the patch centre from the point, per axis.

    Returns:
        (n, 2) corners; 0 along an axis that is shorter than the patch.
    """
    offsets = rng.integers(-reach_px, reach_px, size=points.shape, endpoint=True)
    highest = np.maximum(shapes - size_px, 0)
    corners: Int64Array = np.clip(points + offsets - size_px // 2, 0, highest)
    return corners


def window_starts(length_px: int, size_px: int = PATCH_PX, overlap_px: int = OVERLAP_PX) -> Int64Array:
    """Place windows along one axis; the last one is shifted inside (R26).

    Args:
        length_px: Length of the axis.
        size_px: Window side.
        overlap_px: Overlap of neighbouring windows.

    Returns:
        (n,) first pixels; [0] when the axis is not longer than a window (the page is padded with paper).

    Raises:
        ValueError: If the overlap is not in 0..size_px - 1.

    Examples:
        >>> window_starts(300).tolist()
        [0, 64, 128, 172]
    """
    if not 0 <= overlap_px < size_px:
        raise ValueError(
            f"overlap_px {overlap_px} not in 0..{size_px - 1}; it must be smaller than the window"
        )
    last = max(length_px - size_px, 0)
    return np.append(np.arange(0, last, size_px - overlap_px, dtype=np.int64), last)


def window_corners(
    height_px: int, width_px: int, size_px: int = PATCH_PX, overlap_px: int = OVERLAP_PX
) -> Int64Array:
    """Place windows over a page, row by row.

    Args:
        height_px: Page height.
        width_px: Page width.
        size_px: Window side.
        overlap_px: Overlap of neighbouring windows.

    Returns:
        (n, 2) corners.
    """
    rows = window_starts(height_px, size_px, overlap_px)
    columns = window_starts(width_px, size_px, overlap_px)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
