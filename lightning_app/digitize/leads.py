"""Stretches of leads on a page that has been followed, read off in millivolts at `RATE_HZ`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from datamodules.layout import Layout, Segment
from lightning_app.digitize import confidence
from lightning_app.digitize.followed import Followed
from lightning_app.digitize.layouts import Hypothesis
from lightning_app.digitize.results import RATE_HZ, NumberedRows, Scale, SegmentReading
from lightning_app.digitize.scale import DURATION_S

MAX_GAP_S = 0.020  # R28: shorter gaps are interpolated
ISOELECTRIC_SHARE = 0.3
START_BY_ROWS_MS = 10.0  # error on rendered pages (docs/reader.md)


@dataclass(frozen=True)
class Calibrated:
    """Scale of a page, where it begins and how surely, how its leads lie, share of rows that begin there."""

    scale: Scale
    start_px: float
    chosen: Hypothesis
    ends: float
    start_ms: float = START_BY_ROWS_MS


def read_lead(
    page: Followed, calibrated: Calibrated, segment: Segment, laws: float, turns: int
) -> SegmentReading:
    """Read one stretch of one lead.

    Args:
        page: The page's traces.
        calibrated: Its scale, start and layout.
        segment: Which stretch of that layout.
        laws: How well the page keeps the laws of leads, from `confidence.laws_kept`.
        turns: Quarter turns by which `page` is turned against the page as it was read.

    Returns:
        Its samples, where it lies on the page as read, and how sure it is.
    """
    scale, start_px, chosen = calibrated.scale, calibrated.start_px, calibrated.chosen
    row, from_s, to_s = chosen.as_it_lies(segment)
    first = int(np.clip(np.ceil(page.row_to_x(row, start_px + from_s * scale.px_per_s)), 0, page.width - 1))
    stop = int(np.ceil(page.row_to_x(row, start_px + to_s * scale.px_per_s)))
    stop = int(np.clip(stop, first + 1, page.width))
    points, gaps_px = page.line(row, first, stop, MAX_GAP_S * scale.px_per_s)
    sample = np.arange(round((to_s - from_s) * RATE_HZ))
    # On a page that stands on its head the leftmost sample is the last one, and that is where the row begins.
    u = start_px + (from_s + sample / RATE_HZ) * scale.px_per_s
    up_px = -_sampled(page.to_straight(points), gaps_px, u)
    left_px = start_px + (from_s - segment.start_s) * scale.px_per_s
    gaps_s = [((a - left_px) / scale.px_per_s, (b - left_px) / scale.px_per_s) for a, b in gaps_px]
    if chosen.upside_down:
        up_px = -up_px[::-1]
        gaps_s = [
            (segment.start_s + segment.stop_s - b, segment.start_s + segment.stop_s - a)
            for a, b in reversed(gaps_s)
        ]
    mv = (up_px - isoelectric(up_px)) / scale.px_per_mv
    evidence = confidence.gather(
        page.edges[row],
        slice(first, stop),
        page.radius_px,
        up_px,
        laws,
        calibrated.ends,
        calibrated.start_ms,
    )
    return SegmentReading(
        lead=segment.lead,
        row=segment.row,
        start_s=segment.start_s,
        stop_s=segment.stop_s,
        mv=mv.astype(np.float32),
        coverage=float(np.isfinite(mv).mean()),
        confidence=confidence.probability(evidence),
        gaps_s=tuple(gaps_s),
        path_px=_as_read(page.to_page(points), page.levelled.shape[0], turns),
        evidence=evidence,
    )


def numbered_rows(page: Followed, scale: Scale, start_px: float, turns: int) -> NumberedRows:
    """Read every row as one lead that has a number for a name.

    Args:
        page: The page's traces.
        scale: Its scale.
        start_px: Straight column where its record begins.
        turns: As for `read_lead`.
    """
    layout = Layout("unknown", DURATION_S, tuple((f"row {n + 1}",) for n in range(len(page.edges))))
    calibrated = Calibrated(scale, start_px, Hypothesis(layout, False, {}, 0.0), 0.0)
    rows = tuple(
        read_lead(page, calibrated, segment, confidence.laws_kept({}), turns) for segment in layout.segments
    )
    return NumberedRows(rows, scale)


def rows_at(page: Followed, u_px: NDArray[np.float64], px_per_s: float) -> list[NDArray[np.float64]]:
    """Heights of all rows at the same columns.

    Args:
        page: The page's traces.
        u_px: (m,) straight columns.
        px_per_s: Its scale, which tells what counts as a gap.

    Returns:
        Per row (m,) px above v = 0; NaN in gaps.
    """
    rows = []
    for row in range(len(page.edges)):
        points, gaps = page.line(row, 0, page.width, MAX_GAP_S * px_per_s)
        rows.append(-_sampled(page.to_straight(points), gaps, u_px))
    return rows


def isoelectric(height: NDArray[np.float64]) -> float:
    """Level at which a lead rests: the middle of the shortest interval with three tenths of its samples.

    Args:
        height: (n,) samples in any unit, NaN in gaps.
    """
    finite = np.sort(height[np.isfinite(height)])
    if len(finite) == 0:
        return 0.0
    n = max(1, round(ISOELECTRIC_SHARE * len(finite)))
    spans = finite[n - 1 :] - finite[: len(finite) - n + 1]
    at = int(spans.argmin())
    return float(np.mean(finite[at : at + n]))


def _sampled(
    points: NDArray[np.float64], gaps: list[tuple[float, float]], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """PCHIP through straight points (u, v); NaN in the gaps and more than a pixel beyond the ends."""
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 2:
        return np.full(len(at), np.nan)
    # On a turned page a steep stroke leans back by a fraction of a pixel; time does not.
    u, first = np.unique(np.maximum.accumulate(points[:, 0]), return_index=True)
    inside = np.clip(at, u[0], u[-1])
    values = np.asarray(PchipInterpolator(u, points[first, 1])(inside))
    values[np.abs(at - inside) > 1.0] = np.nan
    for begin, end in gaps:
        values[(at > begin) & (at < end)] = np.nan
    return values


def _as_read(points: NDArray[np.float64], height: int, turns: int) -> NDArray[np.float64]:
    """Undo the quarter turn: points of the upright page of this height, on the page as it was read."""
    if turns == 0:
        return points
    # np.rot90 by one puts the page's (x, y) at (y, W - 1 - x), and W is the upright page's height.
    return np.column_stack([height - 1 - points[:, 1], points[:, 0]])
