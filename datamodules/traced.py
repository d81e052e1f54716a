"""Scans whose patches also tell how high each trace runs, for networks trained on the lines themselves.

Masks come from files; heights follow from a scan's signal and geometry, which rendered and annotated cohorts
have. A page without them, or bent more than its geometry says (`geometry_off_px` in `cohort.yaml`), gives
patches without heights, which train the mask alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.cohort import Cohort, Scan
from datamodules.layout import LEADS
from datamodules.page_store import PageStore
from datamodules.patches import Int64Array
from datamodules.scans import Batch, BinaryScans

HALVES = 2  # heights per column
FINE = 16  # points per half column over which a line is averaged, at least

LINES = ("heights", "begins", "stops", "is_traced")  # what a batch holds besides image and mask

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Traces:
    """Lines of the stretches of leads on a page or patch.

    Attributes:
        heights: (r, 2 W) y in px in the halves of the columns, NaN where a line is not.
        begins: (r, 2) x, y in px of the first point of each.
        stops: (r, 2) of the last.
        is_known: Whether these are the lines of the page; without, there are none.
    """

    heights: Floats
    begins: Floats
    stops: Floats
    is_known: bool


class TracedScans(BinaryScans):
    """Scans of one fold, with the heights of the traces on each patch.

    Batch contract: as for every `ScanDataModule`, and of up to R stretches of leads

    - "heights": (B, R, 2 P) float32, y in px in the left and right half of every column of the patch, NaN
      where there is none;
    - "begins", "stops": (B, R, 2) float32, x and y in px of the first and last point, NaN where there is none
      on the patch;
    - "is_traced": (B,) bool, whether all of these are known.
    """

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Cut the patches, and the lines that lie on them."""
        patches = [
            cut(self._traces[page], (int(corner[0]), int(corner[1])), self._patch_px)
            for page, corner in zip(batch["pages"].tolist(), batch["corners"].tolist(), strict=True)
        ]
        return super().on_before_batch_transfer(batch, dataloader_idx) | stacked(patches)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Bring image and mask to 0..1; lines stay pixels."""
        # In float32 whatever the precision: 16 bits hold no height to a tenth of a pixel.
        lines = {name: batch[name] for name in LINES}
        return super().on_after_batch_transfer(batch, dataloader_idx) | lines

    def teardown(self, stage: str) -> None:
        """Let go of pages and lines after training."""
        super().teardown(stage)
        if stage == "fit":
            self._traces: dict[int, Traces] = {}

    def _load_pages(self) -> tuple[PageStore, Int64Array]:
        store, pages = super()._load_pages()
        self._traces = {
            int(page): traces_of(self.cohort, scan) for page, scan in zip(pages, self._train, strict=True)
        }
        return store, pages


def traces_of(cohort: Cohort, scan: Scan) -> Traces:
    """Lines of every stretch of lead of a scan.

    Args:
        cohort: The scan's cohort.
        scan: One of its scans.

    Returns:
        Its lines; not known for a scan without geometry or signal, or that its geometry does not describe.
    """
    geometry = cohort.load_geometry(scan)
    bent = cohort.provenance.get("geometry_off_px", {})
    if geometry is None or scan.signal is None or scan.scan_id in bent:
        nothing = np.empty((0, 2), dtype=np.float32)
        return Traces(np.empty((0, 0), dtype=np.float32), nothing, nothing, is_known=False)
    signal = cohort.load_signal(scan)
    lines = [
        geometry.polyline(segment, signal.mv[LEADS.index(segment.lead)], signal.rate_hz)
        for segment in geometry.segments
    ]
    return Traces(
        np.stack([mean_heights(line, geometry.width) for line in lines]),
        np.stack([line[0] for line in lines]).astype(np.float32),
        np.stack([line[-1] for line in lines]).astype(np.float32),
        is_known=True,
    )


def mean_heights(line: NDArray[np.float64], width: int) -> Floats:
    """Mean height of a line in the halves of the columns it crosses.

    Args:
        line: (n, 2) points x, y in px, evenly spaced in time; y is NaN in gaps.
        width: Columns of the scan; column c reaches from c - 0.5 to c + 0.5.

    Returns:
        (2 width,) float32, NaN where the line is not, or for less than half of the time it would take.
    """
    heights = np.full(HALVES * width, np.nan, dtype=np.float32)
    if len(line) < 2:
        return heights
    per_half = HALVES * abs(line[-1, 0] - line[0, 0]) / (len(line) - 1)  # half columns per sample
    steps = max(1, int(np.ceil(FINE * per_half)))
    at = np.arange((len(line) - 1) * steps + 1) / steps
    x, y = (np.interp(at, np.arange(len(line)), axis) for axis in line.T)
    half = np.floor((x + 0.5) * HALVES).astype(np.intp)
    seen = np.isfinite(y) & (half >= 0) & (half < len(heights))
    count = np.bincount(half[seen], minlength=len(heights))
    total = np.bincount(half[seen], y[seen], minlength=len(heights))
    enough = count >= steps / per_half / 2
    heights[enough] = total[enough] / count[enough]
    return heights


def cut(traces: Traces, corner: tuple[int, int], size_px: int) -> Traces:
    """Lines on a patch.

    Args:
        traces: Lines on the page.
        corner: Upper left pixel of the patch, (row, column).
        size_px: Its side.

    Returns:
        Those stretches that are on it, in its own pixels; NaN above, below and beside it.
    """
    row, column = corner
    piece = traces.heights[:, HALVES * column : HALVES * (column + size_px)] - row
    piece = np.pad(piece, ((0, 0), (0, HALVES * size_px - piece.shape[1])), constant_values=np.nan)
    with np.errstate(invalid="ignore"):
        piece[(piece < 0) | (piece > size_px - 1)] = np.nan
    on_it = np.isfinite(piece).any(axis=1)
    begins, stops = (
        _within(points[on_it] - np.array([column, row], dtype=np.float32), size_px)
        for points in (traces.begins, traces.stops)
    )
    return Traces(piece[on_it], begins, stops, traces.is_known)


def _within(points: Floats, size_px: int) -> Floats:
    """(r, 2) points, NaN for those that lie beside a patch."""
    with np.errstate(invalid="ignore"):
        is_on = ((points >= 0) & (points <= size_px - 1)).all(axis=1, keepdims=True)
    return np.where(is_on, points, np.float32(np.nan))


def stacked(patches: Sequence[Traces]) -> Batch:
    """Bring patches to the batch contract, filled up with NaN to the most lines any of them has."""
    most = max(1, *(len(patch.heights) for patch in patches))

    def filled(of_patches: Iterable[Floats]) -> Tensor:
        padded = [np.pad(one, ((0, most - len(one)), (0, 0)), constant_values=np.nan) for one in of_patches]
        return torch.from_numpy(np.stack(padded))

    return {
        "heights": filled(patch.heights for patch in patches),
        "begins": filled(patch.begins for patch in patches),
        "stops": filled(patch.stops for patch in patches),
        "is_traced": torch.tensor([patch.is_known for patch in patches]),
    }
