"""Mirrored pages: the laws of `layouts` see most of them, these two see the rest.

A page of twelve simultaneous leads read from right to left keeps every law at every instant; only time runs
backwards. And on a page turned over its long side I and III change places and sign, which I + III = II does
not notice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from lightning_app.digitize.results import RATE_HZ, DigitizeRefusal, SegmentReading

# Fewer, as on 6x2 pages, are drawn beside others, of which the laws see that they change places; and their
# arrow is less sure: it would refuse 30 of 364 pages that are right.
MIN_LEADS = 12
ARROW_LIMIT = -0.05
# Of 250 records of PTB-XL and 100 of LUDB none is refused as it is, and 24 are let through mirrored.
POLARITY_LIMIT = -0.5
QRS_S, WAVES_S = 0.12, 0.42  # the T wave lies between, after the R peak; before it there is only P
ALIGN_S = 0.05
HALF_BEAT_S = 0.08
LIMB, AUGMENTED = ("I", "II"), ("aVR", "aVL", "aVF")

Signal = NDArray[np.float64]


def refuse_if_mirrored(segments: Sequence[SegmentReading]) -> None:
    """Refuse a page whose traces run backwards or whose limb leads contradict the augmented ones.

    Raises:
        DigitizeRefusal: `LOW_CONFIDENCE`.
    """
    arrow = time_arrow(segments)
    if arrow is not None and arrow < ARROW_LIMIT:
        _refuse(f"more happens before the QRS complexes than after them ({arrow:.2f})")
    polarity = limb_agreement(segments)
    if polarity is not None and polarity < POLARITY_LIMIT:
        _refuse(f"the augmented leads are the opposite of what I and II say ({polarity:.2f}, wanted over 0)")


def _refuse(reason: str) -> None:
    raise DigitizeRefusal("LOW_CONFIDENCE", reason, "check that the scan is not mirrored")


def time_arrow(segments: Sequence[SegmentReading]) -> float | None:
    """Log ratio of what the mean beat does after its QRS complex to what it does before.

    Args:
        segments: What was read.

    Returns:
        Above 0 for time that runs forward (in 97 of 100 PTB-XL records), None without twelve
            simultaneous leads and a beat.
    """
    longest = max(segment.stop_s - segment.start_s for segment in segments)
    leads = [s.mv for s in segments if s.stop_s - s.start_s == longest and s.start_s == 0]
    if len(leads) < MIN_LEADS:
        return None
    signals = _filled(leads)
    reach, rim = round(WAVES_S * RATE_HZ), round(QRS_S * RATE_HZ)
    beat = _mean_beat(signals, reach)
    if beat is None:
        return None
    after, before = beat[:, reach + rim :], beat[:, : reach - rim + 1]
    return float(np.log(_activity(after) / max(_activity(before), 1e-9)))


def limb_agreement(segments: Sequence[SegmentReading]) -> float | None:
    """Which way up the mean QRS of I and II foretells that of aVR, aVL and aVF, shown at another time.

    On a mirrored page the laws foretell the exact opposite. Beats at two times are aligned to a few
    hundredths of a second only, so each way up is given the shift that suits it best.

    Args:
        segments: What was read.

    Returns:
        Best correlation as it is less that of the opposite, in [-2, 2]: above 0 for a page as printed; None
            where a lead or a beat is missing.
    """
    first = {segment.lead: segment for segment in reversed(segments)}
    if any(lead not in first for lead in (*LIMB, *AUGMENTED)) or first["I"].start_s == first["aVR"].start_s:
        return None
    half, slack = round(HALF_BEAT_S * RATE_HZ), round(ALIGN_S * RATE_HZ)
    limb = _mean_beat(_filled([first[lead].mv for lead in LIMB]), half + slack)
    got = _mean_beat(_filled([first[lead].mv for lead in AUGMENTED]), half)
    if limb is None or got is None:
        return None
    one, two = limb
    foretold = np.stack([-(one + two) / 2, one - two / 2, two - one / 2])
    width = got.shape[1]
    alike = [_correlation(got, foretold[:, at : at + width]) for at in range(2 * slack + 1)]
    return max(alike) + min(alike)


def _correlation(one: Signal, other: Signal) -> float:
    a, b = _centred(one), _centred(other)
    return float((a * b).sum() / np.sqrt(max(np.square(a).sum() * np.square(b).sum(), 1e-12)))


def _filled(leads: Sequence[NDArray[np.float32]]) -> Signal:
    shortest = min(len(lead) for lead in leads)
    signals = np.stack([np.asarray(lead[:shortest], dtype=np.float64) for lead in leads])
    return np.asarray(np.where(np.isfinite(signals), signals, 0.0))


def _centred(beats: Signal) -> Signal:
    return beats - np.median(beats, axis=1, keepdims=True)


def _mean_beat(signals: Signal, reach: int) -> Signal | None:
    """Mean over the beats, (leads, 2 reach + 1), around where all leads together change most."""
    change = np.sqrt(np.square(np.diff(signals, axis=1)).mean(axis=0))
    window = round(0.08 * RATE_HZ)
    activity = np.convolve(change, np.ones(window) / window, mode="same")
    peaks, _ = find_peaks(
        activity, distance=round(0.3 * RATE_HZ), height=0.4 * float(np.quantile(activity, 0.99))
    )
    peaks = peaks[(peaks > reach) & (peaks < signals.shape[1] - reach - 1)]
    if len(peaks) == 0:
        return None
    return np.asarray(np.mean([signals[:, p - reach : p + reach + 1] for p in peaks], axis=0))


def _activity(part: Signal) -> float:
    return float(np.sqrt(part.var(axis=1).mean()))
