"""How well a digitized lead agrees with the true one.

Every function takes two one-dimensional arrays in millivolts on one time base, the digitized signal
first, the reference second. NaN (and infinity) means "nothing there": in the digitized signal a sample
that was not read, in the reference one that was never printed. Samples are compared where both are
finite; `coverage` says how many those are, and belongs beside every other number.

Three signal-to-noise ratios are in use and are not comparable with each other:

- `snr`: no alignment at all, the reference not mean-centred.
- `snr_cinc2024`: PhysioNet/CinC Challenge 2024 (physionetchallenges/evaluation-2024 at commit 733b003,
  the one the contest was scored with; commit 1a51354 loses nearly all samples after a negative shift).
- `snr_kaggle2025`: PhysioNet ECG image digitization, Kaggle 2025.

A lead without any output scores 0 dB by both contest definitions, NaN by the plain one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

Array = NDArray[np.floating]

MAX_LAG_S = 0.2  # Kaggle 2025
CINC_LEVELS = 256
CINC_BLUR_SAMPLES = 0.5
CINC_MAX_LAG_S = 0.5
CINC_MAX_OFFSET_MV = 1.0
KAGGLE_MAX_RATIO = 384.0  # 25.84 dB, the cap of the published metric; the floor is -384 dB

METRICS = (
    "pcc",
    "pcc_best_lag",
    "lag_ms",
    "rmse_mv",
    "mae_mv",
    "gain",
    "offset_mv",
    "coverage",
    "snr_db",
    "snr_cinc2024_db",
    "snr_kaggle2025_db",
)


def on_one_length(estimate: Array, reference: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give both signals the reference's length; what the estimate lacks is NaN, what it has more is cut.

    Args:
        estimate: (m,) digitized signal, mV.
        reference: (n,) true signal, mV.

    Returns:
        Both as (n,) float64 with every non-finite sample turned into NaN.

    Raises:
        ValueError: if one of them is not one-dimensional.
    """
    if estimate.ndim != 1 or reference.ndim != 1:
        raise ValueError(f"got shapes {estimate.shape} and {reference.shape}, wanted two (n,) leads")
    fitted = np.full(reference.size, np.nan)
    n = min(estimate.size, reference.size)
    fitted[:n] = estimate[:n]
    true = reference.astype(np.float64)
    fitted[~np.isfinite(fitted)] = np.nan
    true[~np.isfinite(true)] = np.nan
    return fitted, true


def _common(estimate: Array, reference: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    est, ref = on_one_length(estimate, reference)
    both = np.isfinite(est) & np.isfinite(ref)
    return est[both], ref[both]


def coverage(estimate: Array, reference: Array) -> float:
    """Share of the reference's finite samples that the estimate has too, 0 to 1 (NaN: empty reference)."""
    est, ref = on_one_length(estimate, reference)
    printed = np.isfinite(ref)
    return float(np.isfinite(est[printed]).mean()) if printed.any() else math.nan


def pcc(estimate: Array, reference: Array) -> float:
    """Pearson correlation at zero lag, as in the paper; NaN where one side is constant or empty."""
    est, ref = _common(estimate, reference)
    if est.size < 2:
        return math.nan
    est, ref = est - est.mean(), ref - ref.mean()
    # Against the rounding of a constant, which has a standard deviation of 1e-17 and a correlation of noise.
    if np.abs(est).max() < 1e-12 or np.abs(ref).max() < 1e-12:
        return math.nan
    return float(np.clip(est @ ref / math.sqrt((est @ est) * (ref @ ref)), -1.0, 1.0))


def shifted(estimate: Array, lag: int) -> NDArray[np.float64]:
    """Move a signal `lag` samples earlier (later if negative); freed samples are NaN, the length stays."""
    moved = np.full(estimate.size, np.nan)
    if lag >= 0:
        moved[: estimate.size - lag] = estimate[lag:]
    else:
        moved[-lag:] = estimate[:lag]
    return moved


def best_lag(
    estimate: Array, reference: Array, rate_hz: float, max_lag_s: float = MAX_LAG_S
) -> tuple[int, float]:
    """Find the lag within +-`max_lag_s` at which the correlation is highest.

    Args:
        estimate: (m,) digitized signal, mV.
        reference: (n,) true signal, mV.
        rate_hz: Sampling rate of both.
        max_lag_s: Search range to either side.

    Returns:
        Lag in samples, positive when the digitized signal is late, and the correlation there. Lags that
        leave fewer than half of the common samples are not tried; ties go to the smallest lag.
        (0, NaN) when there is no correlation at all.
    """
    est, ref = on_one_length(estimate, reference)
    reach = min(int(max_lag_s * rate_hz), max(est.size - 1, 0))
    needed = 0.5 * np.count_nonzero(np.isfinite(est) & np.isfinite(ref))
    best = (0, pcc(est, ref))
    for lag in sorted(range(-reach, reach + 1), key=abs):
        moved = shifted(est, lag)
        if np.count_nonzero(np.isfinite(moved) & np.isfinite(ref)) < needed:
            continue
        value = pcc(moved, ref)
        if not value <= best[1] + 1e-12 and not math.isnan(value):
            best = (lag, value)
    return best


def rmse_mv(estimate: Array, reference: Array) -> float:
    """Root mean square difference in mV; NaN without common samples."""
    est, ref = _common(estimate, reference)
    return float(np.sqrt(np.mean((est - ref) ** 2))) if est.size else math.nan


def mae_mv(estimate: Array, reference: Array) -> float:
    """Mean absolute difference in mV; NaN without common samples."""
    est, ref = _common(estimate, reference)
    return float(np.mean(np.abs(est - ref))) if est.size else math.nan


def gain_and_offset(estimate: Array, reference: Array) -> tuple[float, float]:
    """Fit `estimate = gain * reference + offset` by least squares.

    Returns:
        Gain (1 is right, 0.5 half the height) and offset in mV; NaN where the reference is constant.
    """
    est, ref = _common(estimate, reference)
    if est.size < 2 or np.ptp(ref) < 1e-12:
        return math.nan, math.nan
    centred = ref - ref.mean()
    gain = float(centred @ est / (centred @ centred))
    return gain, float(est.mean() - gain * ref.mean())


def _ratio_db(signal_power: float, noise_power: float) -> float:
    if math.isnan(signal_power) or math.isnan(noise_power) or signal_power <= 0:
        return math.nan
    return math.inf if noise_power == 0 else 10 * math.log10(signal_power / noise_power)


def snr(estimate: Array, reference: Array) -> float:
    """Signal-to-noise ratio in dB without any alignment: mean ref^2 over mean (est - ref)^2.

    Returns:
        dB over the samples finite in both; infinity for a perfect copy, NaN for an empty output or a
        reference that is zero throughout.
    """
    est, ref = _common(estimate, reference)
    if not est.size:
        return math.nan
    return _ratio_db(float(np.mean(ref**2)), float(np.mean((est - ref) ** 2)))


def _raster(values: Array, low_mv: float, high_mv: float) -> NDArray[np.float32]:
    """Draw a signal as a (levels, n) picture, one dot per finite sample, slightly blurred (CinC 2024)."""
    picture = np.zeros((CINC_LEVELS, values.size), dtype=np.float32)  # a sixth of the time of float64
    columns = np.flatnonzero(np.isfinite(values))
    # The contest rounds on a scale that starts at 1, which moves ties of round-half-even.
    level = np.round((CINC_LEVELS - 1) * (values[columns] - low_mv) / (high_mv - low_mv) + 1).astype(int)
    picture[np.clip(level, 1, CINC_LEVELS) - 1, columns] = 1
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(picture, CINC_BLUR_SAMPLES)
    return blurred


def cinc2024_shift(estimate: Array, reference: Array) -> tuple[int, float]:
    """Find the time and level shift of the estimate by 2-D cross-correlation of both drawn as pictures.

    Args:
        estimate: (n,) digitized signal, mV, with at least one finite sample.
        reference: (n,) true signal, mV, likewise.

    Returns:
        Samples the estimate is late (negative: early) and mV it is too high.
    """
    low = float(min(np.nanmin(estimate), np.nanmin(reference)))
    high = float(max(np.nanmax(estimate), np.nanmax(reference)))
    if high <= low:
        return 0, 0.0
    seen = np.flatnonzero(np.isfinite(estimate) | np.isfinite(reference))
    window = slice(seen[0], seen[-1] + 1)  # empty borders add nothing to the correlation
    true = _raster(reference[window], low, high)
    read = _raster(estimate[window], low, high)
    shape = tuple(fft.next_fast_len(2 * size - 1, real=True) for size in true.shape)
    # The autocorrelation of a picture always peaks at zero, so the peak itself is the shift.
    product = fft.rfft2(read, shape) * np.conj(fft.rfft2(true, shape))
    cross = fft.irfft2(product, shape)
    peak = np.unravel_index(int(np.argmax(cross)), cross.shape)
    level, lag = (int(p) if p <= n // 2 else int(p) - n for p, n in zip(peak, cross.shape, strict=True))
    return lag, level / (CINC_LEVELS - 1) * (high - low)


def snr_cinc2024(estimate: Array, reference: Array, rate_hz: float) -> float:
    """Signal-to-noise ratio of the PhysioNet/CinC Challenge 2024 in dB.

    The estimate is aligned (`cinc2024_shift`) if the shift is at most 0.5 s and 1 mV, and the ratio is
    multiplied by the share of reference samples covered. That factor shrinks negative ratios too, so
    that leaving out bad leads raises the score: read it beside `coverage`.

    Args:
        estimate: (m,) digitized signal, mV.
        reference: (n,) true signal, mV.
        rate_hz: Sampling rate of both.

    Returns:
        dB; 0 for an empty output, NaN for a perfect one (the contest's mean leaves it out) and for a
        reference that is empty or zero.
    """
    est, ref = on_one_length(estimate, reference)
    printed = np.isfinite(ref)
    if not printed.any():
        return math.nan
    if not np.isfinite(est).any():
        return 0.0
    lag, offset_mv = cinc2024_shift(est, ref)
    if abs(lag) <= CINC_MAX_LAG_S * rate_hz and abs(offset_mv) <= CINC_MAX_OFFSET_MV:
        est = shifted(est, lag) - offset_mv
    value = snr(est, ref)
    covered = np.count_nonzero(printed & np.isfinite(est)) / np.count_nonzero(printed)
    if covered == 0:
        return 0.0
    return math.nan if math.isinf(value) else value * covered


def kaggle2025_powers(estimate: Array, reference: Array, rate_hz: float) -> tuple[float, float]:
    """Signal and noise power of one lead by the Kaggle 2025 metric, to be summed over the leads of an image.

    The mean-centred estimate is moved by the lag within int(0.2 s x rate) that correlates best (ties:
    the smallest), its level by least squares; what is then not covered counts as an output of 0 mV.

    Args:
        estimate: (m,) digitized signal, mV.
        reference: (n,) true signal, mV.
        rate_hz: Sampling rate of both.

    Returns:
        Sum of reference^2 and sum of squared error, mV^2, over the finite samples of the reference.
    """
    est, ref = on_one_length(estimate, reference)
    printed = np.isfinite(ref)
    aligned = _kaggle_aligned(est, ref, int(rate_hz * MAX_LAG_S))
    error = ref - np.nan_to_num(aligned)
    return float(np.sum(ref[printed] ** 2)), float(np.sum(error[printed] ** 2))


def _kaggle_aligned(est: Array, ref: Array, reach: int) -> NDArray[np.float64]:
    if not np.isfinite(est).any() or not np.isfinite(ref).any():
        return np.full(ref.size, np.nan)
    centred_est = np.nan_to_num(est - np.nanmean(est))
    centred_ref = np.nan_to_num(ref - np.nanmean(ref))
    correlation = signal.correlate(centred_est, centred_ref, mode="full")
    lags = signal.correlation_lags(est.size, ref.size, mode="full")
    allowed = np.abs(lags) <= reach
    lags, correlation = lags[allowed], correlation[allowed]
    # FFT rounding must not break the tie that the definition resolves to the smallest lag.
    tolerance = 1e-9 * max(float(np.abs(correlation).max()), 1e-300)
    candidates = lags[correlation >= correlation.max() - tolerance]
    aligned = shifted(est, int(candidates[np.argmin(np.abs(candidates))]))
    both = np.isfinite(aligned) & np.isfinite(ref)
    return aligned - (aligned[both] - ref[both]).mean() if both.any() else aligned


def kaggle2025_db(signal_power: float, noise_power: float) -> float:
    """Turn summed powers of one image into dB, capped at 384 (25.84 dB) and floored at -384 dB.

    The contest averages the linear ratios over images before taking the logarithm, which the best images
    rule; publish the median in dB beside it.
    """
    if noise_power == 0:
        return 10 * math.log10(KAGGLE_MAX_RATIO)
    ratio = min(signal_power / noise_power, KAGGLE_MAX_RATIO)
    return max(10 * math.log10(ratio), -KAGGLE_MAX_RATIO) if ratio > 0 else -KAGGLE_MAX_RATIO


def snr_kaggle2025(estimate: Array, reference: Array, rate_hz: float) -> float:
    """Signal-to-noise ratio of one lead by the Kaggle 2025 metric in dB; NaN for an empty reference."""
    if not np.isfinite(reference).any():
        return math.nan
    return kaggle2025_db(*kaggle2025_powers(estimate, reference, rate_hz))


def lead_metrics(estimate: Array, reference: Array, rate_hz: float) -> dict[str, float]:
    """Score one lead by every measure of this module.

    Args:
        estimate: (m,) digitized signal, mV, NaN where nothing was read.
        reference: (n,) true signal, mV, NaN where nothing was printed.
        rate_hz: Sampling rate of both.

    Returns:
        One value per name of `METRICS`. `pcc`, `rmse_mv`, `mae_mv` and `snr_db` are at zero lag; `gain`
        and `offset_mv` at the lag that `lag_ms` names, so that a late copy is not called a small one.
    """
    est, ref = on_one_length(estimate, reference)
    lag, at_best_lag = best_lag(est, ref, rate_hz)
    gain, offset_mv = gain_and_offset(shifted(est, lag), ref)
    return {
        "pcc": pcc(est, ref),
        "pcc_best_lag": at_best_lag,
        "lag_ms": math.nan if math.isnan(at_best_lag) else 1000 * lag / rate_hz,
        "rmse_mv": rmse_mv(est, ref),
        "mae_mv": mae_mv(est, ref),
        "gain": gain,
        "offset_mv": offset_mv,
        "coverage": coverage(est, ref),
        "snr_db": snr(est, ref),
        "snr_cinc2024_db": snr_cinc2024(est, ref, rate_hz),
        "snr_kaggle2025_db": snr_kaggle2025(est, ref, rate_hz),
    }


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan


@dataclass(frozen=True)
class RecordMetrics:
    """Scores of one record, each a value per name of `METRICS`.

    Attributes:
        overall: All leads together.
        leads: By lead name.
    """

    overall: dict[str, float]
    leads: dict[str, dict[str, float]]


def record_metrics(
    estimate: Mapping[str, Array], reference: Mapping[str, Array], rate_hz: float
) -> RecordMetrics:
    """Score a record: every lead of the reference, and all of them together.

    A lead the estimate lacks is an empty output: its correlation enters the overall mean as 0, its
    contest ratios as 0 dB. Overall RMSE, MAE and coverage pool the samples, the Kaggle ratio sums powers
    over leads as its definition says, the lag is the median, everything else the mean over leads.

    Args:
        estimate: Digitized leads by name, (m,) mV each.
        reference: True leads by name, (n,) mV each.
        rate_hz: Sampling rate of all.

    Returns:
        Overall and per lead.
    """
    read = {name: estimate.get(name, np.full(true.size, np.nan)) for name, true in reference.items()}
    leads = {name: lead_metrics(read[name], true, rate_hz) for name, true in reference.items()}
    return RecordMetrics(_overall(leads, read, reference, rate_hz), leads)


def _overall(
    leads: Mapping[str, Mapping[str, float]],
    read: Mapping[str, Array],
    reference: Mapping[str, Array],
    rate_hz: float,
) -> dict[str, float]:
    column = {metric: np.array([row[metric] for row in leads.values()]) for metric in METRICS}
    overall = {metric: _mean(values) for metric, values in column.items()}
    for metric in ("pcc", "pcc_best_lag"):
        unread = column["coverage"] == 0
        overall[metric] = _mean(np.where(unread, 0.0, column[metric]))
    pairs = [on_one_length(read[name], true) for name, true in reference.items()]
    est, ref = (np.concatenate(side) for side in zip(*pairs, strict=True)) if pairs else (np.empty(0),) * 2
    powers = [kaggle2025_powers(read[name], true, rate_hz) for name, true in reference.items()]
    lags = column["lag_ms"][np.isfinite(column["lag_ms"])]
    return overall | {
        "lag_ms": float(np.median(lags)) if lags.size else math.nan,
        "rmse_mv": rmse_mv(est, ref),
        "mae_mv": mae_mv(est, ref),
        "coverage": coverage(est, ref),
        "snr_kaggle2025_db": kaggle2025_db(*map(float, np.sum(powers, axis=0))) if powers else math.nan,
    }
