"""How far a reading can be trusted, from the page alone.

`lead_confidence` looks at one stretch of trace, `page_confidence` also at the laws that leads keep among
themselves (see `layouts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_app.digitize.results import DigitizeRefusal, SegmentReading
from lightning_app.digitize.trace import Edges

MIN_COVERAGE = 0.5  # of the drawn seconds, over the page
MIN_CHECK = 0.8  # mean of the laws; rendered pages keep them to .83 and more
MIN_EACH_CHECK = 0.5
BEYOND_DOUBT = 0.95


def lead_confidence(edges: Edges, columns: slice, radius_px: float) -> float:
    """Judge one stretch by its ink.

    Args:
        edges: Band of its row.
        columns: Columns it covers.
        radius_px: Radius of the pen.

    Returns:
        0 to 1: share of columns with ink, times its mean probability, less for what of its power lies in
        columns divided with another row, and for a band swollen by something that touches it.
    """
    top, bottom = edges.top[columns], edges.bottom[columns]
    present = np.isfinite(top)
    if not present.any():
        return 0.0
    ink = float(np.mean(np.where(present, np.minimum(edges.ink[columns] / 0.5, 1.0), 0.0)))
    shared = _share_of_power(top, bottom, edges.shared[columns])
    level = np.median((bottom - top)[present])
    swollen = float(np.clip(level / (2 * radius_px) - 1.5, 0.0, 1.0))
    return float(np.clip(ink * (1 - shared) * (1 - 0.5 * swollen), 0.0, 1.0))


def _share_of_power(
    top: NDArray[np.float64], bottom: NDArray[np.float64], shared: NDArray[np.bool_]
) -> float:
    """Share of a stretch's power in columns whose ink was divided with another row."""
    middle = (top + bottom) / 2
    power = np.nan_to_num(np.square(middle - np.nanmedian(middle)))
    return float(power[shared].sum() / (power.sum() + 1e-12))


def page_confidence(segments: Sequence[SegmentReading], checks: Mapping[str, float]) -> float:
    """Judge a page by its leads and by the laws they keep.

    Args:
        segments: What was read.
        checks: From `layouts.page_checks`.

    Returns:
        0 to 1.
    """
    leads = float(np.mean([segment.confidence for segment in segments]))
    laws = float(np.mean([np.clip(value, 0, 1) for value in checks.values()])) if checks else 0.5
    return float(np.clip(leads * laws, 0.0, 1.0))


def refuse_if_doubtful(segments: Sequence[SegmentReading], checks: Mapping[str, float]) -> None:
    """Refuse a page whose leads contradict each other or are mostly missing.

    Raises:
        DigitizeRefusal: `LOW_CONFIDENCE`.
    """
    shown: NDArray[np.float64] = np.array([segment.coverage for segment in segments])
    if shown.mean() < MIN_COVERAGE:
        raise DigitizeRefusal(
            "LOW_CONFIDENCE",
            f"only {shown.mean():.0%} of the traces were found",
            "scan at a higher resolution, or train on pages like this one",
            coverage=float(shown.mean()),
        )
    if checks and not laws_hold(checks):
        worst = min(checks, key=lambda name: checks[name])
        raise DigitizeRefusal(
            "LOW_CONFIDENCE",
            f"the leads contradict each other: {worst} is kept to {checks[worst]:.2f}, wanted 1",
            "check that the page is complete and the layout known; see the mask",
            checks=dict(checks),
        )


def laws_hold(checks: Mapping[str, float]) -> bool:
    """Whether the laws vouch for the reading."""
    values = list(checks.values())
    return float(np.mean(values)) >= MIN_CHECK and min(values) >= MIN_EACH_CHECK


def beyond_doubt(checks: Mapping[str, float]) -> bool:
    """Whether the page has a rhythm strip and all laws are kept nearly to the letter."""
    return any(name.startswith("rhythm") for name in checks) and min(checks.values()) >= BEYOND_DOUBT
