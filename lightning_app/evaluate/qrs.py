"""Where the QRS complex begins and ends, found on the median beat of leads recorded at the same time.

neurokit2's delineators miss this target (on LUDB, lead II, 10 s: dwt is 72 ms too wide with r 0.27,
prominence 14 ms too narrow with r 0.32), hence an own, simple one: beats are aligned on the slopes of all
leads together, their median is taken, and the boundaries are where the common slope envelope falls below a
share of its peak, or below the slope of the noise between the beats.

The thresholds were chosen on the odd-numbered subjects of LUDB and are reported on the even-numbered ones
by `python -m tests.performance.qrs_against_ludb`; the figures stand in docs/parameters.md.

Times are samples at `RATE_HZ`; callers resample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage, signal

Array = NDArray[np.floating]
Floats = NDArray[np.float64]

RATE_HZ = 500.0
HALF_BEAT = 125  # 250 ms to either side of the centre
HALF_CORE = 60  # 120 ms: what beats are aligned by
REACH = 40  # 80 ms: how far a detected R peak may lie from its beat's centre
ALIGN_SLOPE = 15  # samples of the slope filter for alignment
ENERGY_WINDOW = 45  # 90 ms, about one QRS
MIN_BEAT_DISTANCE = 50  # 100 ms: closer detections are one beat
SAME_SHAPE = 0.8  # correlation from which a beat enters the median
MEDOID_CANDIDATES = 12
MIN_MISSED_DISTANCE = 125  # 250 ms: no beat follows sooner on one of the same shape
# Share of the typical steepness that a detection must have, of another and of the same shape: noise has any.
SMALL_BEAT, TINY_BEAT = 0.3, 0.1

BOUND_SLOPE = 21
BOUND_SMOOTHING = 9
ONSET_SHARE = 0.20
OFFSET_SHARE = 0.08
# Of the offset's share, per natural logarithm of the number of leads over three, from three leads on: the
# latest end of many leads lies further out than the mean of their own.
OFFSET_PER_LOG_LEADS = 0.25
NOISE_FACTOR = 4.0
NOISE_PERCENTILE = 20.0
QUIET = 15  # 30 ms below the threshold end the complex


@dataclass(frozen=True)
class Beats:
    """Aligned beats of simultaneous leads.

    Attributes:
        centres: (b,) sample positions of all beats, with a fraction, on a common fiducial.
        similarity: (b,) correlation of each beat's slopes with the most typical one.
        median_mv: (k, 2 * HALF_BEAT + 1) median of the beats that look alike; the centre is the middle.
    """

    centres: Floats
    similarity: Floats
    median_mv: Floats


def align_beats(mv: Array, peaks: NDArray[np.integer]) -> Beats | None:
    """Align beats on the slopes of all leads and take the median of those that look alike.

    Args:
        mv: (k, n) simultaneous leads at `RATE_HZ`, finite.
        peaks: (b,) R peaks as detected in any one lead.

    Returns:
        The beats, or None if no beat lies inside the signal.
    """
    slope = signal.savgol_filter(mv, ALIGN_SLOPE, 2, deriv=1, axis=1)
    rough = _energy_centres(slope, peaks)
    if not rough:
        return None
    shift, similarity, medoid = _align_to_medoid([_window(slope, centre) for centre in rough])
    centres = np.array(rough) + np.where(similarity > 0.5, shift, 0.0)
    centres, similarity = _completed(slope, centres, similarity, medoid)
    alike = np.flatnonzero(similarity >= SAME_SHAPE)
    return Beats(centres, similarity, _median_beat(mv, np.round(centres[alike]).astype(int)))


def _window(slope: Floats, centre: int) -> Floats:
    reach = HALF_CORE + REACH
    return np.pad(slope, ((0, 0), (reach, reach)))[:, centre : centre + 2 * reach + 1]


def _completed(slope: Floats, centres: Floats, similarity: Floats, medoid: Floats) -> tuple[Floats, Floats]:
    """Add beats the detector missed and drop detections that are none, by the shape of the typical beat.

    Peak detectors tuned to tall R waves miss beats in V1, and one missed beat rules a standard deviation.

    Args:
        slope: (k, n) slopes of the leads.
        centres: (b,) beats as detected.
        similarity: (b,) their correlation with the typical beat.
        medoid: (k, 2 * HALF_CORE + 1) slopes of the typical beat.

    Returns:
        Centres, sorted, and their similarity.
    """
    products = sum(
        signal.correlate(lead, beat, mode="same") for lead, beat in zip(slope, medoid, strict=True)
    )
    power = ndimage.uniform_filter1d((slope**2).sum(axis=0), medoid.shape[1], mode="constant")
    norm = np.sqrt(np.maximum(power * medoid.shape[1], 1e-18))
    fit = products / (norm * np.sqrt((medoid**2).sum()))
    own = norm[np.clip(np.round(centres).astype(int), 0, norm.size - 1)]
    typical = float(np.median(own[similarity > 0.5]))
    real = own > np.where(similarity >= SAME_SHAPE, TINY_BEAT, SMALL_BEAT) * typical
    found, _ = signal.find_peaks(fit, height=SAME_SHAPE, distance=MIN_MISSED_DISTANCE)
    missed = [
        at
        for at in found
        if norm[at] > 0.5 * typical
        and HALF_CORE // 2 <= at < fit.size - HALF_CORE // 2
        and np.abs(centres[real] - at).min(initial=np.inf) > MIN_MISSED_DISTANCE
    ]
    # At its peak the fit of a missed beat is its similarity; a parabola gives the fraction of a sample.
    fractions = [_parabola(*fit[at - 1 : at + 2]) for at in missed]
    every = np.r_[centres[real], np.array(missed) + np.array(fractions)]
    order = np.argsort(every)
    return every[order], np.r_[similarity[real], fit[missed]][order]


def _parabola(before: float, here: float, after: float) -> float:
    """Place of the peak through three values around it, as an offset from the middle one."""
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _energy_centres(slope: Floats, peaks: NDArray[np.integer]) -> list[int]:
    """Move each R peak to the middle of its complex, which does not depend on the lead it was found in."""
    energy = ndimage.uniform_filter1d(np.sqrt((slope**2).sum(axis=0)), ENERGY_WINDOW)
    centres: list[int] = []
    for peak in sorted(int(p) for p in peaks):
        first = max(peak - REACH, 0)
        centre = first + int(np.argmax(energy[first : peak + REACH + 1]))
        inside = HALF_CORE // 2 <= centre < slope.shape[1] - HALF_CORE // 2
        if inside and (not centres or centre - centres[-1] > MIN_BEAT_DISTANCE):
            centres.append(centre)
    return centres


def _best_shift(window: Floats, core: Floats) -> tuple[float, float]:
    """Slide a core over a window; shift in samples (with a fraction) and correlation of the best fit."""
    lags = sliding_window_view(window, core.shape[1], axis=1)  # (k, lags, core)
    products = np.einsum("klc,kc->l", lags, core)
    norms = np.sqrt(np.einsum("klc,klc->l", lags, lags)) * np.sqrt((core**2).sum())
    fit = products / np.maximum(norms, 1e-12)
    at = int(np.argmax(fit))
    fraction = _parabola(*fit[at - 1 : at + 2]) if 0 < at < fit.size - 1 else 0.0
    return at - REACH + fraction, float(fit[at])


def _align_to_medoid(windows: list[Floats]) -> tuple[Floats, Floats, Floats]:
    """Choose the beat the others resemble most and align all to it: shifts, correlations, that beat."""
    n = len(windows)
    candidates = np.unique(np.linspace(0, n - 1, min(n, MEDOID_CANDIDATES)).astype(int))
    best: tuple[float, Floats, Floats, Floats] | None = None
    for candidate in candidates:
        core = windows[candidate][:, REACH:-REACH]
        shift, fit = np.array([_best_shift(window, core) for window in windows]).T
        shift[candidate], fit[candidate] = 0.0, 1.0
        typical = float(np.median(fit)) if n > 3 else float(fit.mean())
        if best is None or typical > best[0]:
            best = (typical, shift, fit, core)
    assert best is not None
    return best[1:]


def _median_beat(mv: Array, centres: NDArray[np.integer]) -> Floats:
    padded = np.pad(mv.astype(np.float64), ((0, 0), (HALF_BEAT, HALF_BEAT)), mode="edge")
    beats = np.stack([padded[:, c : c + 2 * HALF_BEAT + 1] for c in centres])
    levelled = beats - np.median(beats, axis=2, keepdims=True)
    median: Floats = np.median(levelled, axis=0)
    return median


def slope_envelope(median_mv: Array) -> Floats:
    """Root mean square slope over the leads of a median beat, smoothed; (k, n) mV in, (n,) mV/sample out."""
    slope = signal.savgol_filter(median_mv, BOUND_SLOPE, 2, deriv=1, axis=1)
    envelope: Floats = ndimage.uniform_filter1d(np.sqrt((slope**2).mean(axis=0)), BOUND_SMOOTHING)
    return envelope


def qrs_bounds(median_mv: Array) -> tuple[float, float]:
    """Find onset and end of the QRS complex.

    Args:
        median_mv: (k, 2 * HALF_BEAT + 1) median beat at `RATE_HZ`, its complex in the middle.

    Returns:
        Onset and end in samples from the beginning of the median beat, with a fraction.
    """
    envelope = slope_envelope(median_mv)
    first = HALF_BEAT - REACH
    top = first + int(np.argmax(envelope[first : HALF_BEAT + REACH + 1]))
    noise = NOISE_FACTOR * np.percentile(envelope, NOISE_PERCENTILE)
    many = 1 + OFFSET_PER_LOG_LEADS * np.log(max(len(median_mv) / 3, 1))
    onset = _falls_below(envelope[top::-1], max(ONSET_SHARE * envelope[top], noise))
    end = _falls_below(envelope[top:], max(OFFSET_SHARE * many * envelope[top], noise))
    return top - onset, top + end


def _falls_below(envelope: Floats, threshold: float) -> float:
    """Walk from the peak until `QUIET` samples in a row are below the threshold; give where that begins."""
    loud = np.flatnonzero(envelope >= threshold)
    if not loud.size:
        return 0.0
    pauses = np.flatnonzero(np.diff(loud) > QUIET)
    last = int(loud[pauses[0]] if pauses.size else loud[-1])
    if last + 1 >= envelope.size:
        return float(last)
    above, below = envelope[last], envelope[last + 1]
    return last + float((above - threshold) / (above - below))
