"""Pages of any resolution, flat or photographed, read flat and at the resolution a network knows.

A network learns strokes and grids of a certain size in pixels. A page far from it is resampled as a whole
before anything else is done, read, and what was read is carried back to the page's own pixels. How large a
millimetre is comes from the grid, else from what the user declares, else from the file's dots per inch, else
from the usual size of a page; it only has to be right to a third here, since the digitizer measures scale for
itself afterwards.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.page import Page
from lightning_app.digitize.grid import Grid, measure_grid, no_finer_than_needed
from lightning_app.digitize.perspective import Perspective, flattened
from lightning_app.digitize.results import Digitized, NumberedRows, Refusal, Scale, SegmentReading
from lightning_app.digitize.scale import SPEEDS_MM_S, Declared, mm_candidates

PAGE_WIDTH_MM = 290.0  # A4 and letter across; ten seconds at 25 mm/s and their margins
MM_PER_INCH = 25.4
# Ten seconds take 250 mm at 25 mm/s and 500 at 50. A grid by which a page is smaller or larger than this was
# misread: every second or third of its lines, or lines between them.
LONGEST_SIDE_MM = (200.0, 800.0)
SCANNER_DPI = (100.0, 1300.0)  # below lie the 72 and 96 that programs write without having measured
MIN_SIDE_PX = 128  # of a page after reduction: smaller ones are not reduced further
MAX_FACTOR = 3.0


@dataclass(frozen=True)
class WorkingPage:
    """A page at the resolution it is read at.

    Attributes:
        page: The page, resampled.
        factor: Its pixels per pixel of the original; 1 if it was left alone.
        shape: (H, W) of the original.
        perspective: From the original to the flat page that was resampled; None if it is flat.
    """

    page: Page
    factor: float
    shape: tuple[int, int]
    perspective: Perspective | None = None

    def declared(self, of_original: Declared) -> dict[str, float | None]:
        """Give what the user said of the original's scale in pixels of the working page."""
        values = asdict(of_original)
        for name in ("px_per_s", "px_per_mv"):
            values[name] = values[name] and values[name] * self.factor
        return values

    def back(self, result: Digitized | Refusal) -> Digitized | Refusal:
        """Carry a reading, or the numbered rows of a refusal, back to the pixels of the original page."""
        if self.factor == 1.0 and self.perspective is None:
            return result
        if isinstance(result, Refusal):
            rows = result.rows and NumberedRows(
                self._paths_back(result.rows.rows), _shrunk(result.rows.scale, self.factor)
            )
            return replace(result, rows=rows)
        return replace(
            result,
            segments=self._paths_back(result.segments),
            mask=self.mask_back(result.mask),
            scale=_shrunk(result.scale, self.factor),
            was_flattened=self.perspective is not None,
        )

    def _paths_back(self, segments: tuple[SegmentReading, ...]) -> tuple[SegmentReading, ...]:
        return tuple(replace(s, path_px=self._points_back(s.path_px)) for s in segments)

    def _points_back(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        # Pixel centres: the middle of the first of two pixels lies a quarter into the one they came from.
        flat = (points + 0.5) / self.factor - 0.5
        return flat if self.perspective is None else self.perspective.points_back(flat)

    def mask_back(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Bring a mask of the working page, (h, w) bool, to the original's pixels."""
        flat_shape = self.shape if self.perspective is None else self.perspective.flat_shape
        if self.factor != 1.0:
            how = cv2.INTER_LINEAR
            mask = cv2.resize(mask.astype(np.float32), flat_shape[::-1], interpolation=how) >= np.float32(0.5)
        return mask if self.perspective is None else self.perspective.mask_back(mask, self.shape)


def to_working_scale(
    page: Page,
    px_per_mm: tuple[float, float] | None,
    declared: Declared,
    perspective: Perspective | None = None,
) -> WorkingPage:
    """Resample a page whose millimetre lies outside what a network knows to the nearest end of that range.

    Args:
        page: The page as read.
        px_per_mm: Smallest and largest millimetre the network knows, in px; None: it takes pages as they are.
        declared: What the user says of the page; asked where there is no grid.
        perspective: How the page leans; it is made flat first.

    Returns:
        The page to read.
    """
    shape = (page.ink.shape[0], page.ink.shape[1])
    flat = page if perspective is None else flattened(page, perspective)
    factor = 1.0 if px_per_mm is None else _factor(flat, px_per_mm, declared)
    return WorkingPage(flat if factor == 1.0 else resampled(flat, factor), factor, shape, perspective)


def _factor(page: Page, px_per_mm: tuple[float, float], declared: Declared) -> float:
    shortest_px = min(page.ink.shape)
    if shortest_px < MIN_SIDE_PX:
        return 1.0
    measured = measured_px_per_mm(page, declared)
    factor = float(np.clip(measured, *px_per_mm)) / measured
    return min(max(factor, MIN_SIDE_PX / shortest_px), MAX_FACTOR) if factor < 1 else min(factor, MAX_FACTOR)


def measured_px_per_mm(page: Page, declared: Declared) -> float:
    """Estimate the pixels of a millimetre of paper, good to a third."""
    width = page.ink.shape[1]
    ink, factor = no_finer_than_needed(every_ink(page))
    grid = measure_grid(ink, np.zeros(ink.shape, dtype=np.bool_))
    shortest_mm, longest_mm = LONGEST_SIDE_MM
    candidates = [
        mm
        for mean in _means(grid)
        if shortest_mm <= max(page.ink.shape) / (mm := mean / factor) <= longest_mm
    ]
    if candidates:
        return min(candidates, key=lambda mm: abs(np.log(width / mm / PAGE_WIDTH_MM)))
    if declared.px_per_s is not None:
        return declared.px_per_s / (declared.mm_per_s or SPEEDS_MM_S[0])
    if page.dpi is not None and SCANNER_DPI[0] <= page.dpi <= SCANNER_DPI[1]:
        return page.dpi / MM_PER_INCH
    return float(max(page.ink.shape)) / PAGE_WIDTH_MM


def every_ink(page: Page) -> NDArray[np.uint8]:
    """(H, W) uint8, 0 = paper: every ink dark, that of a coloured grid included."""
    return page.ink if page.rgb is None else np.asarray(255 - page.rgb.min(axis=2), dtype=np.uint8)


def _means(grid: Grid) -> list[float]:
    return [float(np.sqrt(x * y)) for x, y in mm_candidates(grid)]


def resampled(page: Page, factor: float) -> Page:
    """Scale a page by a factor; a 1-bit page becomes grey."""
    height, width = page.ink.shape
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    ink = np.asarray(cv2.resize(page.ink, size, interpolation=how), dtype=np.uint8)
    rgb = None
    if page.rgb is not None:
        rgb = np.asarray(cv2.resize(page.rgb, size, interpolation=how), dtype=np.uint8)
    return replace(page, ink=ink, rgb=rgb, is_binary=False)


def _shrunk(scale: Scale, factor: float) -> Scale:
    px_per_mm = scale.px_per_mm and (scale.px_per_mm[0] / factor, scale.px_per_mm[1] / factor)
    return replace(
        scale, px_per_s=scale.px_per_s / factor, px_per_mv=scale.px_per_mv / factor, px_per_mm=px_per_mm
    )
