"""Heart rate, RR, HRV, PR and QRS of simultaneous leads, or the reason why there is no such number.

Nothing here raises on bad signals. Gates come first, because neurokit2 finds a heart rate of 70 in white
noise; then R peaks by neurokit2 (never its artifact correction, which edits beats), P onsets by its
prominence method (the only one that works below 4 s), QRS by `evaluate.qrs`. A PR interval is given only
where a P wave repeats from beat to beat, which atrial fibrillation, complete block and pacing do not do.

The preset `paper-nk` is the literal protocol of Li et al. 2020 with neurokit2's dwt delineator, kept to be
able to run it: it needs 4 s and its QRS is 70 ms too wide.

Research use; not a medical device.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal
from scipy.interpolate import PchipInterpolator

from datamodules.layout import LEADS, Layout, Segment
from lightning_app.evaluate.qrs import HALF_BEAT, RATE_HZ, Beats, align_beats, qrs_bounds
from lightning_app.evaluate.scan_columns import PARAMETERS, STRIP_LEAD

Array = NDArray[np.floating]
Floats = NDArray[np.float64]
Preset = Literal["inkbeat", "paper-nk"]
Reason = Literal[
    "EMPTY",  # nothing was drawn or read
    "GAPS",  # less than MIN_RUN_S without a gap
    "SHORT",  # too short for the method
    "UNIT_SUSPECT",  # no electrocardiogram has this amplitude in millivolts
    "FLAT",  # no deflection
    "LOW_QUALITY",  # noise, hum, or beats that do not resemble each other
    "FEW_BEATS",  # fewer than the number needs
    "PACED",  # pacing spikes: the intervals are the device's
    "NO_P_WAVE",  # nothing repeats before the QRS
    "NOT_FOUND",  # the delineator gave nothing plausible
    "NOT_ANNOTATED",  # of human annotation: nobody marked this
]

MIN_RUN_S = 1.8
BRIDGED_GAP_S = 0.02
DWT_MIN_S = 4.0  # neurokit2 since 0.2.5
MIN_AMPLITUDE_MV = 0.05
MAX_AMPLITUDE_MV = 20.0
BAND_HZ = (0.5, 40.0)
MAX_RESTLESSNESS = 0.33  # LUDB leads: 99 % below 0.27; white noise 0.27 to 0.6, hum above 0.58
MAX_HUM_SHARE = 0.5
MIN_SIMILARITY = 0.65
SPIKE_SHARE = 0.155  # LUDB: 4 of 5 paced records above, 95 of 95 others below
P_WINDOW_S = (0.26, 0.016)  # before the QRS onset
MIN_P_REPEAT = 0.5  # LUDB 10 s: sinus rhythm median 0.93, fibrillation and complete block 0.05
IRREGULAR = 0.1  # SD of RR over mean RR from which a rhythm needs a clearer P wave
MIN_P_REPEAT_IRREGULAR = 0.8
MOSTLY_DOWN = 1.5  # depth over height: deep S waves as in V1; leads of equal waves are detected as they are
HR_RANGE_BPM = (20.0, 300.0)
PR_RANGE_MS = (60.0, 400.0)
QRS_RANGE_MS = (40.0, 300.0)


@dataclass(frozen=True)
class Parameters:
    """The five parameters of the paper's Table 1; None where there is none, with the reason.

    Attributes:
        hr_bpm: Heart rate, 60000 / mean RR.
        rr_ms: Mean interval between beats.
        hrv_ms: Standard deviation of the RR intervals (n - 1), from 3 beats on.
        pr_ms: Median interval from P onset to QRS onset.
        qrs_ms: Width of the QRS complex of the median beat.
        reasons: Name of every absent parameter to why it is absent.
    """

    hr_bpm: float | None = None
    rr_ms: float | None = None
    hrv_ms: float | None = None
    pr_ms: float | None = None
    qrs_ms: float | None = None
    reasons: Mapping[str, Reason] = field(default_factory=dict)


def absent(reason: Reason) -> Parameters:
    """All five parameters absent for one reason."""
    return Parameters(reasons=dict.fromkeys(PARAMETERS, reason))


def measure(mv: Array, rate_hz: float, preset: Preset = "inkbeat") -> Parameters:
    """Measure the parameters of leads recorded at the same time.

    Args:
        mv: (k, n) mV, NaN where nothing is known; leads that are unusable are left out.
        rate_hz: Sampling rate.
        preset: `inkbeat`, or `paper-nk` for neurokit2's dwt delineation.

    Returns:
        Numbers and reasons; never raises for what a signal may hold.

    Raises:
        ValueError: for an unknown preset or an array that is not (k, n).
    """
    if preset not in get_args(Preset) or mv.ndim != 2:
        raise ValueError(f"got preset {preset!r}, shape {mv.shape}; wanted {get_args(Preset)} and (k, n)")
    usable, reason = usable_leads(mv, rate_hz)
    if reason is not None:
        return absent(reason)
    if preset == "paper-nk":
        return median_of(_paper_nk(lead) for lead in usable)
    return _measure_clean(usable)


def usable_leads(mv: Array, rate_hz: float) -> tuple[Floats, Reason | None]:
    """Bring leads to `RATE_HZ`, cut them to a common stretch without gaps and drop those that fail a gate.

    Args:
        mv: (k, n) mV with NaN.
        rate_hz: Sampling rate.

    Returns:
        (j, m) leads that pass, and None; or no leads and the reason the most leads failed for.
    """
    reasons: list[Reason] = []
    runs = [_longest_run(lead, rate_hz) for lead in mv]
    lengths = [stop - start for start, stop in runs]
    # A lead that is cut short by a gap must not shorten the others.
    good = [run for run in runs if run[1] - run[0] >= max(MIN_RUN_S * rate_hz, 0.8 * max(lengths, default=0))]
    start, stop = max((r[0] for r in good), default=0), min((r[1] for r in good), default=0)
    passed = []
    for lead, run in zip(mv, runs, strict=True):
        if run not in good or stop - start < MIN_RUN_S * rate_hz:
            reasons.append("GAPS" if np.isfinite(lead).any() else "EMPTY")
            continue
        resampled = _at_rate(_bridged(lead[start:stop]), rate_hz)
        reason = lead_problem(resampled)
        reasons.append(reason) if reason else passed.append(resampled)
    if passed:
        return np.stack(passed), None
    return np.empty((0, 0)), max(reasons, key=reasons.count) if reasons else "EMPTY"


def _bridged(lead: Array) -> Floats:
    known = np.flatnonzero(np.isfinite(lead))
    return np.interp(np.arange(lead.size), known, lead[known])


def _longest_run(lead: Array, rate_hz: float) -> tuple[int, int]:
    """Longest stretch whose gaps are at most `BRIDGED_GAP_S`, as (start, stop); (0, 0) if all is NaN."""
    known = np.flatnonzero(np.isfinite(lead))
    if not known.size:
        return 0, 0
    breaks = np.flatnonzero(np.diff(known) - 1 > BRIDGED_GAP_S * rate_hz)
    starts, stops = np.r_[known[0], known[breaks + 1]], np.r_[known[breaks], known[-1]] + 1
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])


def _at_rate(lead: Floats, rate_hz: float) -> Floats:
    if rate_hz == RATE_HZ:
        return lead
    times_s = np.arange(int((lead.size - 1) / rate_hz * RATE_HZ) + 1) / RATE_HZ
    resampled: Floats = PchipInterpolator(np.arange(lead.size) / rate_hz, lead)(times_s)
    return resampled


def lead_problem(lead_mv: Floats) -> Reason | None:
    """Say why a lead cannot carry parameters, or None.

    Args:
        lead_mv: (n,) finite mV at `RATE_HZ`.
    """
    filtered = _band_pass(lead_mv)
    low, high = np.percentile(filtered, [0.5, 99.5])
    if np.ptp(lead_mv) > MAX_AMPLITUDE_MV:
        return "UNIT_SUSPECT"
    rest = signal.detrend(lead_mv) - filtered
    fast = rest - ndimage.uniform_filter1d(rest, int(RATE_HZ / 20))
    if high - low < MIN_AMPLITUDE_MV:
        return "LOW_QUALITY" if fast.std() > MIN_AMPLITUDE_MV / 4 else "FLAT"
    if fast.std() > MAX_HUM_SHARE * (high - low) or restlessness(filtered) > MAX_RESTLESSNESS:
        return "LOW_QUALITY"
    return None


def _band_pass(lead_mv: Floats) -> Floats:
    sections = signal.butter(2, BAND_HZ, "bandpass", fs=RATE_HZ, output="sos")
    filtered: Floats = signal.sosfiltfilt(sections, lead_mv, padtype="even")
    return filtered


def restlessness(filtered_mv: Floats) -> float:
    """Typical slope over steepest slope, each over 90 ms: near 0 for beats on a quiet line, 1 for a hum."""
    slope = np.abs(signal.savgol_filter(filtered_mv, 21, 2, deriv=1))
    envelope = ndimage.uniform_filter1d(slope, 45)
    steepest = float(np.percentile(envelope, 98))
    return float(np.median(envelope)) / steepest if steepest > 0 else 1.0


def is_paced(mv: Floats) -> bool:
    """See pacing spikes: pulses of at most 4 ms that most leads share.

    A cart's 40 Hz filter, and a digitized page, have no such spikes any more.

    Args:
        mv: (k, n) mV at `RATE_HZ`.
    """
    spikes = np.abs(mv - signal.medfilt(mv, (1, 5)))
    # Some leads see no spike, and one sample may be an artefact: the 8th largest, the median lead.
    share = np.sort(spikes, axis=1)[:, -8] / np.maximum(
        np.ptp(np.percentile(mv, [0.5, 99.5], axis=1), 0), 1e-9
    )
    return bool(np.median(share) > SPIKE_SHARE)


def _quietly(call: Callable[[], Any]) -> Any:
    """Run a neurokit2 call; its warnings are dropped and what it raises on odd signals becomes None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            return None


def r_peaks(lead_mv: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Clean a lead at `RATE_HZ` by neurokit2 and detect its R peaks, unedited.

    Returns:
        The cleaned lead and (b,) samples, empty where neurokit2 finds none or fails.
    """
    import neurokit2 as nk

    def detect() -> tuple[Floats, NDArray[np.int64]]:
        clean = nk.ecg_clean(lead_mv, sampling_rate=int(RATE_HZ))
        _, info = nk.ecg_peaks(clean, sampling_rate=int(RATE_HZ), correct_artifacts=False)
        return clean, np.asarray(info["ECG_R_Peaks"], dtype=np.int64)

    found: tuple[Floats, NDArray[np.int64]] = _quietly(detect) or (lead_mv, np.empty(0, np.int64))
    return found


def _tallest(lead_mv: Floats, peaks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take the S waves of a lead whose beats point down, else its R peaks.

    neurokit2 looks for the highest point of every complex. In such a lead that is a small r wave, lost on a
    print of it sooner than anything else, and ripples between the beats are as high.
    """
    low, high = np.percentile(_band_pass(lead_mv), [0.5, 99.5])
    return r_peaks(-lead_mv)[1] if -low > MOSTLY_DOWN * high else peaks


def _measure_clean(mv: Floats) -> Parameters:
    detected = [r_peaks(lead) for lead in mv]
    beat_peaks = [_tallest(lead, peaks) for lead, (_, peaks) in zip(mv, detected, strict=True)]
    counts = np.array([len(peaks) for peaks in beat_peaks])
    typical = np.abs(counts - np.median(counts))
    steepness = np.abs(np.diff(mv, axis=1)).max(axis=1)
    lead = min(range(len(mv)), key=lambda i: (typical[i], -steepness[i]))
    beats = align_beats(mv, beat_peaks[lead]) if counts[lead] else None
    if beats is None or beats.centres.size < 2:
        return absent("FEW_BEATS")
    if np.median(np.delete(beats.similarity, int(np.argmax(beats.similarity)))) < MIN_SIMILARITY:
        return absent("LOW_QUALITY")
    rates = rates_of(beats.centres / RATE_HZ * 1000)
    return _with_intervals(rates, mv, detected, beats)


def rates_of(beats_ms: Floats) -> Parameters:
    """Give heart rate, RR and HRV of beats; the intervals are absent, as not found.

    Args:
        beats_ms: (b,) times in ms, in any order.
    """
    intervals = np.diff(np.sort(beats_ms))
    if not intervals.size:
        return absent("FEW_BEATS")
    rr_ms = float(intervals.mean())
    if not HR_RANGE_BPM[0] <= 60000 / rr_ms <= HR_RANGE_BPM[1]:
        return absent("NOT_FOUND")
    reasons: dict[str, Reason] = {"pr_ms": "NOT_FOUND", "qrs_ms": "NOT_FOUND"}
    hrv_ms = float(intervals.std(ddof=1)) if intervals.size >= 2 else None
    if hrv_ms is None:
        reasons["hrv_ms"] = "FEW_BEATS"
    return Parameters(hr_bpm=60000 / rr_ms, rr_ms=rr_ms, hrv_ms=hrv_ms, reasons=reasons)


def _with_intervals(
    rates: Parameters, mv: Floats, detected: Sequence[tuple[Floats, NDArray[np.int64]]], beats: Beats
) -> Parameters:
    if rates.hr_bpm is None:
        return rates
    if is_paced(mv):
        return replaced(rates, {"pr_ms": "PACED", "qrs_ms": "PACED"})
    onset, end = qrs_bounds(beats.median_mv)
    qrs_ms = (end - onset) / RATE_HZ * 1000
    qrs: float | Reason = qrs_ms if QRS_RANGE_MS[0] <= qrs_ms <= QRS_RANGE_MS[1] else "NOT_FOUND"
    return replaced(rates, {"qrs_ms": qrs, "pr_ms": _pr_ms(mv, detected, beats, HALF_BEAT - onset)})


def replaced(parameters: Parameters, found: Mapping[str, float | Reason]) -> Parameters:
    """Put values, or reasons why there are none, in place of what some parameters were."""
    reasons = {name: why for name, why in parameters.reasons.items() if name not in found}
    reasons |= {name: what for name, what in found.items() if isinstance(what, str)}
    values = {name: None if isinstance(what, str) else what for name, what in found.items()}
    return replace(parameters, **values, reasons=reasons)


def _pr_ms(
    mv: Floats, detected: Sequence[tuple[Floats, NDArray[np.int64]]], beats: Beats, onset_before: float
) -> float | Reason:
    repeat = p_repeat(mv, beats, onset_before)
    if repeat is None:
        return "FEW_BEATS"
    intervals = np.diff(beats.centres)
    irregular = intervals.size >= 2 and intervals.std(ddof=1) > IRREGULAR * intervals.mean()
    if repeat < (MIN_P_REPEAT_IRREGULAR if irregular else MIN_P_REPEAT):
        return "NO_P_WAVE"
    per_lead = [_lead_intervals(clean, peaks, "prominence")[0] for clean, peaks in detected]
    found = [pr for pr in per_lead if pr is not None and PR_RANGE_MS[0] <= pr <= PR_RANGE_MS[1]]
    return float(np.median(found)) if found else "NOT_FOUND"


def p_repeat(mv: Floats, beats: Beats, onset_before: float) -> float | None:
    """How alike the stretches before the QRS are, -1 to 1; None with fewer than two of them.

    Args:
        mv: (k, n) mV at `RATE_HZ`.
        beats: Their beats.
        onset_before: Samples from a beat's centre back to its QRS onset.
    """
    first, last = (round(s * RATE_HZ) for s in P_WINDOW_S)
    onsets = np.round(beats.centres[beats.similarity >= MIN_SIMILARITY] - onset_before).astype(int)
    stretches = [signal.detrend(mv[:, o - first : o - last], axis=1).ravel() for o in onsets if o >= first]
    if len(stretches) < 2:
        return None
    spread = np.std(stretches, axis=1)
    if (spread < 1e-9).any():
        return 0.0
    alike: Floats = np.atleast_2d(np.corrcoef(stretches))
    return float(np.median(alike[np.triu_indices(len(stretches), 1)]))


def _lead_intervals(
    clean: Floats, peaks: NDArray[np.int64], method: Literal["prominence", "dwt"]
) -> tuple[float | None, float | None]:
    """Median PR and QRS in ms of one cleaned lead by neurokit2; None where it gives nothing."""
    import neurokit2 as nk

    found = _quietly(lambda: nk.ecg_delineate(clean, peaks, sampling_rate=int(RATE_HZ), method=method))
    if found is None or len(peaks) < 2:
        return None, None
    p, onset, end = (
        np.array(
            [x for x in found[1].get(f"ECG_{name}", []) if x is not None and np.isfinite(x)], dtype=float
        )
        for name in ("P_Onsets", "R_Onsets", "R_Offsets")
    )
    # By time, never by position: the lists lose their beat when neurokit2 drops an index.
    return _median_gap(p, onset, PR_RANGE_MS[1]), _median_gap(onset, end, QRS_RANGE_MS[1])


def _median_gap(earlier: Floats, later: Floats, at_most_ms: float) -> float | None:
    gaps = [(later[later > e].min() - e) / RATE_HZ * 1000 for e in earlier if (later > e).any()]
    near = [gap for gap in gaps if gap <= at_most_ms]
    return float(np.median(near)) if near else None


def _paper_nk(lead_mv: Floats) -> Parameters:
    """The literal protocol on one lead: neurokit2's peaks and dwt boundaries."""
    if lead_mv.size < DWT_MIN_S * RATE_HZ:
        return absent("SHORT")
    clean, peaks = r_peaks(lead_mv)
    rates = rates_of(peaks / RATE_HZ * 1000)
    pr, qrs = _lead_intervals(clean, peaks, "dwt")
    return replaced(rates, {"pr_ms": pr or "NOT_FOUND", "qrs_ms": qrs or "NOT_FOUND"})


def median_of(measured: Iterable[Parameters]) -> Parameters:
    """Combine measurements of the same heart: per parameter the median of those that have it.

    Args:
        measured: Of several leads or segments.

    Returns:
        Medians; what all lack is absent for the reason given most often.
    """
    rows = list(measured)
    values: dict[str, float] = {}
    reasons: dict[str, Reason] = {}
    for name in PARAMETERS:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        if known:
            values[name] = float(np.median(known))
        else:
            given = [row.reasons[name] for row in rows]
            reasons[name] = max(given, key=given.count) if given else "EMPTY"
    return Parameters(**values, reasons=reasons)


def segment_parameters(mv: Array, rate_hz: float, layout: Layout) -> Parameters:
    """Measure each group of leads that a page shows at the same time, and take the median over the groups.

    Args:
        mv: (12, n) mV in the order of `LEADS`.
        rate_hz: Sampling rate.
        layout: What was drawn when; its rhythm strips are left out.
    """
    return combined(
        [
            measure(
                mv[[LEADS.index(lead) for lead in leads], round(start * rate_hz) : round(stop * rate_hz)],
                rate_hz,
            )
            for (start, stop), leads in segment_groups(layout).items()
        ]
    )


def segment_groups(layout: Layout) -> dict[tuple[float, float], list[str]]:
    """Name the leads that a page shows at the same time, without its rhythm strips.

    Args:
        layout: What was drawn when.

    Returns:
        First second and end of each stretch to its leads.
    """
    groups: dict[tuple[float, float], list[str]] = {}
    for part in layout.segments:
        if part.row not in layout.rhythm_rows:
            groups.setdefault((part.start_s, part.stop_s), []).append(part.lead)
    return groups


def combined(measured: Sequence[Parameters]) -> Parameters:
    """Combine the groups of a page: their median, and a PR only if most groups have one.

    Args:
        measured: One per group of leads.
    """
    # Two beats of fibrillation may look alike by chance, in one group of four; not in most of them.
    denied = sum(p.reasons.get("pr_ms") == "NO_P_WAVE" for p in measured)
    together = median_of(measured)
    if denied and denied >= sum(p.pr_ms is not None for p in measured):
        return replaced(together, {"pr_ms": "NO_P_WAVE"})
    return together


def strip_parameters(
    mv: Array, rate_hz: float, layout: Layout, lead: str = STRIP_LEAD, preset: Preset = "inkbeat"
) -> Parameters:
    """Measure the longest stretch of one lead, the paper's long V1 strip by default.

    Args:
        mv: (12, n) mV in the order of `LEADS`.
        rate_hz: Sampling rate.
        layout: What was drawn when.
        lead: Which lead.
        preset: See `measure`.
    """
    longest = longest_stretch(layout, lead)
    if longest is None:
        return absent("EMPTY")
    where = slice(round(longest.start_s * rate_hz), round(longest.stop_s * rate_hz))
    return measure(mv[[LEADS.index(lead)], where], rate_hz, preset)


def longest_stretch(layout: Layout, lead: str) -> Segment | None:
    """Find where a page shows a lead longest, None if it does not."""
    parts = [part for part in layout.segments if part.lead == lead]
    return max(parts, key=lambda part: part.stop_s - part.start_s) if parts else None
