"""How far a reading can be trusted, from the page alone.

A lead's confidence stands for the probability that it correlates with the true signal by .95 or more, at zero
lag and over the stretch shown. It grows with seven pieces of evidence by a logistic function. That of a page
is the mean of its leads', the share of them expected to correlate so well.

The weights were fitted to what the shipped reader reads (docs/reader.md): `inkbeat reader check --leads` and
`python -m tests.performance.confidence_calibration` fit them and print how reliable they are on other pages.
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
# Leads that were recorded with gains of their own, as LUDB's, keep all laws to .7; a misread lead breaks one.
EVENLY_KEPT = 0.65
MIN_ENDS = 0.6  # of the rows must begin, or end, where the record does; with fewer most pages were wrong
BEYOND_DOUBT = 0.95
# Height of a lead, its .3 to its 99.7 % quantile, median over twelve: 294 records of PTB-XL, Ningbo and LUDB.
HEIGHT_QUANTILES = (0.003, 0.997)
USUAL_HEIGHT_MV, HEIGHT_LOG_SD = 0.97, 0.32
GAIN_PRIOR = {10.0: 0.98, 5.0: 0.01, 20.0: 0.01}  # mm/mV; carts print 10 unless somebody changed it
# Of 1, and of the features of `Evidence` in their order.
WEIGHTS = (-4.69, 0.10, 1.03, 1.59, 2.61, 0.01, 0.93, 1.04)


def gather(
    edges: Edges,
    columns: slice,
    radius_px: float,
    height_px: NDArray[np.float64],
    laws: float,
    ends: float,
    start_ms: float,
) -> Evidence:
    """Collect the evidence for one stretch.

    Args:
        edges: Band of its row.
        columns: Columns it covers.
        radius_px: Radius of the pen.
        height_px: (n,) height of the trace, px, NaN in gaps.
        laws: See `Evidence`.
        ends: See `Evidence`.
        start_ms: See `Evidence`.
    """
    top, bottom = edges.top[columns], edges.bottom[columns]
    present = np.isfinite(top)
    if not present.any() or not np.isfinite(height_px).any():
        return Evidence(0.0, 0.0, 0.0, laws, ends, 0.0, start_ms)
    level = np.median((bottom - top)[present])
    return Evidence(
        ink=float(np.mean(np.where(present, np.minimum(edges.ink[columns] / 0.5, 1.0), 0.0))),
        own=1 - _share_of_power(top, bottom, edges.shared[columns]),
        slim=1 - float(np.clip(level / (2 * radius_px) - 1.5, 0.0, 1.0)),
        laws=laws,
        ends=ends,
        size_px=float(np.nanstd(height_px)),
        start_ms=start_ms,
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
            f"only {ends:.0%} of the rows' ends lie where a record begins or ends",
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


def refuse_if_gain_is_unlikely(segments: Sequence[SegmentReading]) -> None:
    """Refuse a page whose gain was taken for granted and whose traces are as high as at another gain.

    Raises:
        DigitizeRefusal: `SCALE_UNKNOWN`.
    """
    heights_mv = [np.ptp(np.nanquantile(s.mv, HEIGHT_QUANTILES)) for s in segments if np.isfinite(s.mv).any()]
    usual_mv = float(np.median(heights_mv)) if heights_mv else 0.0
    likely = {gain: prior * _likelihood(usual_mv * 10.0 / gain) for gain, prior in GAIN_PRIOR.items()}
    best = max(likely, key=lambda gain: likely[gain])
    if best != 10.0:
        raise DigitizeRefusal(
            "SCALE_UNKNOWN",
            f"no calibration pulse, and at 10 mm/mV the traces would be {usual_mv:.2g} mV high: "
            f"{best:g} mm/mV is likelier",
            "give the gain with --mm-per-mv",
            height_mv=usual_mv,
        )


def _likelihood(height_mv: float) -> float:
    """Of traces this high, up to a factor; heights are log-normal."""
    off = np.log(max(height_mv, 1e-3) / USUAL_HEIGHT_MV) / HEIGHT_LOG_SD
    return float(np.exp(-0.5 * off**2))


def laws_hold(checks: Mapping[str, float]) -> bool:
    """Whether the laws vouch for the reading."""
    values = list(checks.values())
    return min(values) >= (MIN_EACH_CHECK if float(np.mean(values)) >= MIN_CHECK else EVENLY_KEPT)


def beyond_doubt(checks: Mapping[str, float]) -> bool:
    """Whether the page has a rhythm strip and all laws are kept nearly to the letter."""
    return any(name.startswith("rhythm") for name in checks) and min(checks.values()) >= BEYOND_DOUBT
