"""How far a reading can be trusted, from the page alone.

A lead's confidence stands for the probability that it correlates with the true signal by .95 or more, at zero
lag and over the stretch shown. It grows with six pieces of evidence by a logistic function. That of a page is
the mean of its leads', the share of them expected to correlate so well.

The weights were set by hand from the pages named in docs/digitize.md; they order leads, and are not yet a
calibrated probability. `python -m tests.performance.confidence_calibration` fits them and prints how reliable
they are on other pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_app.digitize.results import DigitizeRefusal, Evidence, SegmentReading
from lightning_app.digitize.trace import Edges

MIN_COVERAGE = 0.5  # of the drawn seconds, over the page
MIN_CHECK = 0.8  # mean of the laws; rendered pages keep them to .83 and more
MIN_EACH_CHECK = 0.5
MIN_ENDS = 0.3  # of the rows must begin or end where the record does
BEYOND_DOUBT = 0.95
# Of 1, and of the features of `Evidence` in their order.
WEIGHTS = (-35.6, 12.0, 7.0, 1.0, 12.0, 7.0, 1.0)


def gather(
    edges: Edges, columns: slice, radius_px: float, height_px: NDArray[np.float64], laws: float, ends: float
) -> Evidence:
    """Collect the evidence for one stretch.

    Args:
        edges: Band of its row.
        columns: Columns it covers.
        radius_px: Radius of the pen.
        height_px: (n,) height of the trace, px, NaN in gaps.
        laws: See `Evidence`.
        ends: See `Evidence`.
    """
    top, bottom = edges.top[columns], edges.bottom[columns]
    present = np.isfinite(top)
    if not present.any() or not np.isfinite(height_px).any():
        return Evidence(0.0, 0.0, 0.0, laws, ends, 0.0)
    level = np.median((bottom - top)[present])
    return Evidence(
        ink=float(np.mean(np.where(present, np.minimum(edges.ink[columns] / 0.5, 1.0), 0.0))),
        own=1 - _share_of_power(top, bottom, edges.shared[columns]),
        slim=1 - float(np.clip(level / (2 * radius_px) - 1.5, 0.0, 1.0)),
        laws=laws,
        ends=ends,
        size_px=float(np.nanstd(height_px)),
    )


def probability(evidence: Evidence) -> float:
    """Probability that a stretch with this evidence correlates with the truth by .95 or more."""
    if evidence.ink == 0:
        return 0.0
    return float(1 / (1 + np.exp(-np.dot(WEIGHTS, evidence.features))))


def laws_kept(checks: Mapping[str, float]) -> float:
    """Mean of the laws, each between 0 and 1; .5 for a page without any."""
    return float(np.mean([np.clip(value, 0, 1) for value in checks.values()])) if checks else 0.5


def _share_of_power(
    top: NDArray[np.float64], bottom: NDArray[np.float64], shared: NDArray[np.bool_]
) -> float:
    """Share of a stretch's power in columns whose ink was divided with another row."""
    middle = (top + bottom) / 2
    power = np.nan_to_num(np.square(middle - np.nanmedian(middle)))
    return float(power[shared].sum() / (power.sum() + 1e-12))


def refuse_if_doubtful(segments: Sequence[SegmentReading], checks: Mapping[str, float], ends: float) -> None:
    """Refuse a page whose leads contradict each other or are mostly missing, or whose rows begin anywhere.

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
    if ends < MIN_ENDS:
        raise DigitizeRefusal(
            "LOW_CONFIDENCE",
            f"only {ends:.0%} of the rows begin or end where the record should",
            "check that the page is complete; see the mask",
            ends=ends,
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
