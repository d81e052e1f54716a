"""Where the signals come from that are drawn: WFDB folders, or simulated ones.

One seam, `SignalSource`: ids, and an id to a `Recording` of 12 leads in millivolts at 500 Hz. What cannot be
used raises `DataError` with a coded reason, never anything else, so that one bad record never stops a batch.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from datamodules.errors import ConfigError, DataError, IntegrityError, Problem
from datamodules.layout import LEADS
from datamodules.wave_marks import Marks, mark_files, read_marks, write_marks
from datamodules.wfdb_files import RawRecord, header_path, read_header, read_record, write_record

RATE_HZ = 500.0
MIN_DURATION_S = 10.0  # what every layout that ships shows
CART_BAND_HZ = (0.05, 40.0)
SIMULATED_COUNT = 100_000
SIMULATED_MV_PER_UNIT = 6.0  # deepfake-ecg writes out * 6000 as microvolts
CONSTANT_BELOW_MV = 0.005
LARGEST_SD_MV = 10.0
SMALLEST_RANGE_MV = 0.05

Signal = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """Twelve leads of one patient.

    Attributes:
        record_id: Name within its source.
        patient_id: Folds keep a patient together; the record id where the source does not say.
        rate_hz: Samples per second.
        mv: (12, n_samples) float32 millivolts in the order of `LEADS`.
        marks: Waves that a person marked, by lead; empty where nobody did.
    """

    record_id: str
    patient_id: str
    rate_hz: float
    mv: Signal
    marks: Marks = field(default_factory=dict)


class SignalSource(Protocol):
    """Anything that has recordings to draw."""

    def record_ids(self) -> list[str]:
        """All ids, sorted."""

    def patient_id(self, record_id: str) -> str:
        """Whose record it is, without reading the samples."""

    def load(self, record_id: str) -> Recording:
        """Read one; raises DataError with a coded reason if it cannot be used."""

    def fingerprint(self) -> str:
        """Hash that changes when the records may have changed."""


class WfdbFolder:
    """A folder of WFDB records, subfolders included.

    WFDB knows no patient, so each record counts as its own patient unless a comment of its header says
    `patient: X` (or `patient_id: X`, `subject: X`). Annotation files beside a record come with it (see
    `wave_marks`).

    Args:
        path: The folder.

    Raises:
        DataError: `SIGNALS_MISSING` if it is no folder, `SIGNALS_EMPTY` if it holds no record.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(
                Problem(
                    "SIGNALS_MISSING",
                    str(self.path),
                    "no such folder",
                    "a folder of WFDB records (.hea, .dat)",
                )
            )
        if not self.record_ids():
            raise DataError(
                Problem(
                    "SIGNALS_EMPTY", str(self.path), "no .hea file", "a folder of WFDB records (.hea, .dat)"
                )
            )

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        found = (path for path in self.path.rglob("*.hea") if path.is_file())
        return tuple(sorted(path.relative_to(self.path).as_posix().removesuffix(".hea") for path in found))

    @cached_property
    def _mark_files(self) -> dict[str, list[Path]]:
        folders = {header_path(self.path / record_id).parent for record_id in self._ids}
        return {
            (folder / name).relative_to(self.path).as_posix(): paths
            for folder in folders
            for name, paths in mark_files(folder).items()
        }

    def record_ids(self) -> list[str]:
        """Ids of all records: their paths below the folder without `.hea`, sorted."""
        return list(self._ids)

    def patient_id(self, record_id: str) -> str:
        """Patient as the header's comments say, else the record id."""
        try:
            return _patient_of(read_header(self.path / record_id).comments, record_id)
        except (DataError, IntegrityError):
            return record_id

    def load(self, record_id: str) -> Recording:
        """Read a record: leads put in order, resampled to 500 Hz.

        Args:
            record_id: One of `record_ids`.

        Returns:
            12 finite leads of at least 10 s, with what was marked in them.

        Raises:
            DataError: With the reasons why the record cannot be used.
        """
        stem = self.path / record_id
        try:
            recording = to_recording(read_record(stem), record_id)
            recording = replace(recording, marks=read_marks(stem, self._mark_files.get(record_id, ())))
        except IntegrityError as error:
            raise DataError(error.problems) from None
        problems = signal_problems(recording.mv, recording.rate_hz, record_id, MIN_DURATION_S)
        if problems:
            raise DataError(problems)
        return resampled(recording, RATE_HZ)

    def fingerprint(self) -> str:
        """SHA-256 of every header and annotation file, and of names and sizes of all data files.

        Samples are not read.
        """
        digest = hashlib.sha256()
        for record_id in self._ids:
            path = header_path(self.path / record_id)
            digest.update(f"{record_id}\0".encode() + path.read_bytes())
        for path in sorted(path for path in self.path.rglob("*") if path.suffix in (".dat", ".mat")):
            digest.update(f"{path.relative_to(self.path).as_posix()}\0{path.stat().st_size}\0".encode())
        for path in sorted(path for paths in self._mark_files.values() for path in paths):
            digest.update(f"{path.relative_to(self.path).as_posix()}\0".encode() + path.read_bytes())
        return digest.hexdigest()


class Simulated:
    """Ten-second normal ECGs from the generator that `deepfake-ecg` ships (Thambawita et al. 2021, MIT).

    It makes 8 independent leads, whose 6-fold are millivolts; III, aVR, aVL and aVF follow from I and II.
    Record k of a seed is always the same, whatever was loaded before.

    Args:
        seed: Another seed, other recordings.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def record_ids(self) -> list[str]:
        """`sim0-00000` to `sim0-99999` for seed 0."""
        return [f"sim{self.seed}-{index:05d}" for index in range(SIMULATED_COUNT)]

    def patient_id(self, record_id: str) -> str:
        """Every simulated record is a patient of its own."""
        return record_id

    def load(self, record_id: str) -> Recording:
        """Generate one.

        Args:
            record_id: One of `record_ids`.

        Returns:
            12 leads of 10 s at 500 Hz, whole microvolts.

        Raises:
            DataError: `RECORD_UNKNOWN`.
        """
        match = re.fullmatch(rf"sim{self.seed}-(\d{{5}})", record_id)
        if match is None:
            raise DataError(
                Problem("RECORD_UNKNOWN", record_id, "no such record", f"sim{self.seed}-00000 to -99999")
            )
        independent_mv = _generate((self.seed, int(match[1])))
        return Recording(record_id, record_id, RATE_HZ, _twelve_leads(independent_mv))

    def fingerprint(self) -> str:
        """SHA-256 of seed and generator version."""
        return hashlib.sha256(f"deepfake-ecg {version('deepfake-ecg')} seed {self.seed}".encode()).hexdigest()


def open_signals(signals: str | Path, seed: int) -> SignalSource:
    """Open a source by what a user writes.

    Args:
        signals: `simulated`, or a folder of WFDB records.
        seed: For `simulated`.

    Returns:
        The source.

    Raises:
        DataError: `SIGNALS_MISSING`, `SIGNALS_EMPTY`.
    """
    return Simulated(seed) if str(signals) == "simulated" else WfdbFolder(signals)


def choose_records(
    source: SignalSource,
    n: int,
    seed: int,
    share: tuple[float, float] = (0.0, 1.0),
    at_least: int | None = None,
) -> tuple[list[Recording], list[Problem]]:
    """Draw usable recordings; those that cannot be used are skipped and reported.

    Args:
        source: Where from.
        n: How many.
        seed: Orders the draw.
        share: Part of the patients to draw from, in terms of a fixed hash of the patient id. Cohorts with
            shares that do not overlap have no patient in common, whatever their seeds (PROTOCOL R6).
        at_least: Fewer than n will do, down to this many; by default n.

    Returns:
        n recordings, or all usable ones, in the order drawn, and the reasons of the records
        skipped on the way.

    Raises:
        ConfigError: `SHARE_INVALID`.
        DataError: `RECORDS_TOO_FEW`, with all reasons.
    """
    low, high = share
    if not 0.0 <= low < high <= 1.0:
        raise ConfigError(Problem("SHARE_INVALID", "share", f"{share}", "0 <= low < high <= 1"))
    ids = sorted(source.record_ids())
    recordings: list[Recording] = []
    rejects: list[Problem] = []
    outside, wanted = 0, n if at_least is None else at_least
    for place in np.random.default_rng([seed, 0x5EED]).permutation(len(ids)):
        if len(recordings) == n:
            break
        if not low <= patient_hash(source.patient_id(ids[place])) < high:
            outside += 1
            continue
        try:
            recordings.append(source.load(ids[place]))
        except DataError as error:
            rejects.extend(error.problems)
    if len(recordings) < wanted:
        kept = f", {outside} kept for cohorts of other kinds" if outside else ""
        got = f"{len(recordings)} usable of {len(ids)}{kept}"
        remedy = "ask for fewer or give more records"
        problem = Problem("RECORDS_TOO_FEW", "signals", got, f"at least {wanted}", remedy)
        raise DataError([problem, *rejects])
    return recordings, rejects


def patient_hash(patient_id: str) -> float:
    """Place of a patient in [0, 1), the same on every machine and in every release."""
    return int.from_bytes(hashlib.sha256(patient_id.encode()).digest()[:6], "big") / 2**48


def cart_filter(mv: npt.NDArray[np.floating], rate_hz: float) -> Signal:
    """Band-limit a signal as a cart does before it prints: 0.05 to 40 Hz, without shifting it in time.

    A first-order Butterworth high-pass and a second-order low-pass, each run forwards and backwards, so
    twice the order and half the amplitude at the two corners.

    Args:
        mv: (..., n_samples) finite mV.
        rate_hz: Samples per second, above 80.

    Returns:
        The same shape, float32.

    Raises:
        ValueError: If the rate cannot carry 40 Hz.
    """
    from scipy import signal as dsp

    low_hz, high_hz = CART_BAND_HZ
    if rate_hz <= 2 * high_hz:
        raise ValueError(f"got {rate_hz} Hz, wanted more than {2 * high_hz} Hz")
    sections = np.concatenate(
        [
            dsp.butter(1, low_hz, "highpass", fs=rate_hz, output="sos"),
            dsp.butter(2, high_hz, "lowpass", fs=rate_hz, output="sos"),
        ]
    )
    # Mirrored ends and a start at rest on the median: the usual point reflection and start at the first
    # sample would let a QRS that happens to lie there bend the baseline for seconds.
    padding = min(mv.shape[-1] - 1, round(10 * rate_hz))
    level_mv = np.median(mv, axis=-1, keepdims=True)
    extended = np.pad(mv - level_mv, [(0, 0)] * (mv.ndim - 1) + [(padding, padding)], mode="reflect")
    forwards = dsp.sosfilt(sections, extended.astype(np.float64))
    both = dsp.sosfilt(sections, forwards[..., ::-1])[..., ::-1]
    return np.asarray(both[..., padding : both.shape[-1] - padding], dtype=np.float32)


def to_recording(raw: RawRecord, record_id: str) -> Recording:
    """Put the signals of a record in the order of `LEADS`; further signals are left out.

    Args:
        raw: Signals under the names of their header, in any order and case.
        record_id: Name for the recording and its problems.

    Returns:
        The recording at its own rate, NaN kept.

    Raises:
        DataError: `LEAD_MISSING`, `LEAD_TWICE`.
    """
    names = [_lead_name(name) for name in raw.leads]
    missing = [lead for lead in LEADS if lead not in names]
    twice = [lead for lead in LEADS if names.count(lead) > 1]
    problems = []
    if missing:
        got = f"no {', '.join(missing)} among {', '.join(raw.leads) or 'no names'}"
        problems.append(Problem("LEAD_MISSING", record_id, got, "the 12 leads " + ", ".join(LEADS)))
    if twice:
        problems.append(Problem("LEAD_TWICE", record_id, f"{', '.join(twice)} twice", "each lead once"))
    if problems:
        raise DataError(problems)
    mv = raw.mv[[names.index(lead) for lead in LEADS]]
    return Recording(record_id, _patient_of(raw.comments, record_id), raw.rate_hz, np.ascontiguousarray(mv))


def signal_problems(mv: Signal, rate_hz: float, where: str, min_duration_s: float) -> list[Problem]:
    """Judge whether 12 leads can be drawn, or serve as truth.

    Args:
        mv: (12, n_samples) mV in the order of `LEADS`.
        rate_hz: Samples per second.
        where: Record id for the problems.
        min_duration_s: Shortest record that will do.

    Returns:
        `SIGNAL_EMPTY`, `SIGNAL_SHORT`, `SIGNAL_INF`, `SIGNAL_NAN`, `SIGNAL_GAP`, `SIGNAL_CONSTANT` and
        `UNIT_SUSPECT`, at most one per lead and code; empty when all is well.
    """
    n_samples = mv.shape[1]
    if n_samples == 0:
        return [Problem("SIGNAL_EMPTY", where, "no samples", f"at least {min_duration_s:g} s")]
    problems = []
    if n_samples < round(min_duration_s * rate_hz):
        got = f"{n_samples / rate_hz:.2f} s"
        problems.append(Problem("SIGNAL_SHORT", where, got, f"at least {min_duration_s:g} s"))
    lowest_mv, highest_mv = mv.min(axis=1), mv.max(axis=1)
    if not np.isfinite([lowest_mv, highest_mv]).all():
        return problems + _not_finite(mv, rate_hz, where)
    extent_mv = highest_mv - lowest_mv
    for lead, lead_extent_mv in zip(LEADS, extent_mv, strict=True):
        if lead_extent_mv < CONSTANT_BELOW_MV:
            problems.append(
                Problem("SIGNAL_CONSTANT", where, f"lead {lead} constant", "a signal", "leave it out")
            )
    # Half the range bounds the standard deviation, which takes a third of the time of this function.
    sd_mv = float(mv.std()) if np.ptp([lowest_mv, highest_mv]) > 2 * LARGEST_SD_MV else 0.0
    if sd_mv > LARGEST_SD_MV or CONSTANT_BELOW_MV <= extent_mv.max() < SMALLEST_RANGE_MV:
        got = f"range up to {extent_mv.max():.3g} mV, standard deviation {mv.std():.3g} mV"
        wanted = "an ECG in mV"
        problems.append(Problem("UNIT_SUSPECT", where, got, wanted, "check units and gain: uV for mV, or V?"))
    return problems


def resampled(recording: Recording, rate_hz: float) -> Recording:
    """Bring a recording to another rate with a linear-phase anti-alias filter.

    Args:
        recording: At any rate, without NaN.
        rate_hz: Rate wanted.

    Returns:
        The same seconds at `rate_hz`; the recording itself if it has that rate already.
    """
    if recording.rate_hz == rate_hz:
        return recording
    from scipy import signal as dsp

    ratio = Fraction(rate_hz / recording.rate_hz).limit_denominator(5000)
    # The level is taken off first, for the filter's gain is 1 up to 0.1 % only and a lead may lie far from 0.
    level_mv = np.median(recording.mv, axis=1, keepdims=True).astype(np.float64)
    mv = level_mv + dsp.resample_poly(
        recording.mv - level_mv, ratio.numerator, ratio.denominator, axis=1, padtype="line"
    )
    n_samples = round(recording.mv.shape[1] * rate_hz / recording.rate_hz)
    return replace(recording, rate_hz=rate_hz, mv=mv[:, :n_samples].astype(np.float32))


def write_recording(stem: Path, recording: Recording) -> None:
    """Write a recording as WFDB record, with its patient in the header and its marks beside it.

    Args:
        stem: Path without suffix.
        recording: 12 leads, NaN where there is no sample.

    Raises:
        ValueError: For a name or value WFDB cannot hold.
    """
    write_record(stem, LEADS, recording.mv, recording.rate_hz, (f"patient: {recording.patient_id}",))
    write_marks(stem, recording.marks, recording.rate_hz)


def _lead_name(name: str) -> str:
    """Map `avr`, `Lead I`, `MDC_ECG_LEAD_V1` to our names; others, inverted `-aVR` too, stay as they are."""
    plain = re.sub(r"^(mdc_ecg_lead_|lead[ _]?|ecg[ _]?)", "", name.strip().lower())
    return _LEAD_NAMES.get(plain, name)


_LEAD_NAMES = {lead.lower(): lead for lead in LEADS}


def _patient_of(comments: Iterable[str], record_id: str) -> str:
    for comment in comments:
        match = re.match(
            r"<?(?:patient|patient[_ ]id|subject|subject[_ ]id)>?\s*[:=]\s*(\S.*)", comment, re.I
        )
        if match:
            return match[1].strip()
    return record_id


def _not_finite(mv: Signal, rate_hz: float, where: str) -> list[Problem]:
    problems = []
    for lead, lead_mv in zip(LEADS, mv, strict=True):
        gone = np.isnan(lead_mv)
        if np.isinf(lead_mv).any():
            problems.append(
                Problem("SIGNAL_INF", where, f"lead {lead} infinite", "finite mV", "check the gain")
            )
        elif gone.all():
            problems.append(Problem("SIGNAL_NAN", where, f"lead {lead} without any sample", "a signal"))
        elif gone.any():
            starts = np.flatnonzero(np.diff(gone.astype(np.int8), prepend=0) == 1)
            gone_ms, first_s = gone.sum() * 1000 / rate_hz, starts[0] / rate_hz
            got = f"lead {lead}: {gone_ms:.0f} ms missing, first at {first_s:.2f} s"
            problems.append(Problem("SIGNAL_GAP", where, got, "no gaps", "leave the record out, or cut it"))
    return problems


def _twelve_leads(independent_mv: Signal) -> Signal:
    """Add III, aVR, aVL and aVF to I, II, V1..V6 (Einthoven, Goldberger), in whole microvolts."""
    i_mv, ii_mv = independent_mv[0], independent_mv[1]
    limbs = [i_mv, ii_mv, ii_mv - i_mv, -(i_mv + ii_mv) / 2, i_mv - ii_mv / 2, ii_mv - i_mv / 2]
    return np.concatenate([np.stack(limbs), independent_mv[2:]]).astype(np.float32)


def _generate(key: tuple[int, int]) -> Signal:
    """Run the generator on noise keyed to (seed, index); (8, 5000) float32 mV in whole microvolts."""
    import torch

    noise = np.random.default_rng(key).uniform(-1.0, 1.0, (1, 8, 5000)).astype(np.float32)
    threads = torch.get_num_threads()
    # Sums differ in the last bit between thread counts; one thread gives one result.
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            out: npt.NDArray[np.float32] = _generator()(torch.from_numpy(noise))[0].numpy()
    finally:
        torch.set_num_threads(threads)
    return (np.round(out * (SIMULATED_MV_PER_UNIT * 1000)) / 1000).astype(np.float32)


@lru_cache(maxsize=1)
def _generator() -> Any:
    """Load the generator with its weights, leaving torch's random state as it was.

    The package's own `generate` is not used: it writes files, prints and draws from the global state.
    """
    import deepfakeecg
    import torch

    weights = Path(deepfakeecg.__file__).parent / "checkpoints" / "g_stat.pt"
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its initialisation calls a deprecated name
        net = deepfakeecg.Generator()
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["stat_dict"])
    return net.eval()
