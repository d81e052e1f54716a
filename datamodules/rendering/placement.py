"""Where the rows of a layout lie on a page, and how the page was stretched and turned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from datamodules.geometry import Affine, DrawnSegment, Geometry
from datamodules.layout import Layout


@dataclass(frozen=True)
class Sheet:
    """The ideal page, before stretch and skew; all in px.

    Attributes:
        width: Columns.
        height: Rows.
        left: Column of the first sample.
        top: Upper end of the space for traces.
        bottom: Lower end of that space.
        px_per_s: Along time.
        px_per_mv: Along voltage.
    """

    width: int
    height: int
    left: float
    top: float
    bottom: float
    px_per_s: float
    px_per_mv: float


def place(sheet: Sheet, layout: Layout, affine: Affine, row_jitter_px: np.ndarray) -> Geometry:
    """Put the rows of a layout at even distances into the space for traces.

    Args:
        sheet: The page.
        layout: Which lead is where.
        affine: Ideal to scan.
        row_jitter_px: (n_rows,) shift of each row from its even place.

    Returns:
        The drawn geometry. Rows may be closer than their signals are high: traces then overlap, as on
        real pages.
    """
    spacing = (sheet.bottom - sheet.top) / layout.n_rows
    segments = tuple(
        DrawnSegment(
            lead=segment.lead,
            row=segment.row,
            start_s=segment.start_s,
            stop_s=segment.stop_s,
            x0_px=sheet.left + segment.left_s * sheet.px_per_s,
            y0_px=sheet.top + (segment.row + 0.5) * spacing + float(row_jitter_px[segment.row]),
        )
        for segment in layout.segments
    )
    return Geometry(sheet.width, sheet.height, sheet.px_per_s, sheet.px_per_mv, affine, segments)


def stretch_and_turn(
    sheet: Sheet, stretch_x: float, stretch_y: float, angle_deg: float
) -> tuple[Affine, np.ndarray]:
    """Affine map that stretches the page, then turns it around its middle.

    Args:
        sheet: The page.
        stretch_x: Factor along time.
        stretch_y: Factor along voltage.
        angle_deg: Turn, positive lowers the right side.

    Returns:
        The map of ideal to scan coordinates, and its (2, 2) turn without the stretch.
    """
    angle = math.radians(angle_deg)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.diag([stretch_x, stretch_y])
    centre = np.array([(sheet.width - 1) / 2, (sheet.height - 1) / 2])
    offset = centre - linear @ centre
    (a, b), (c, d) = linear.tolist()
    return ((a, b, float(offset[0])), (c, d, float(offset[1]))), turn
