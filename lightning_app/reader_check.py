"""How well a reader reads pages it is told nothing about: one row per scan, and where the errors come from.

A page is charged to the first thing that went wrong with it, in the order in which a page is read:

- `refused`: not read, with its code;
- `layout`: leads under other names, or the page read upside down;
- `scale`: px/s or px/mV off by more than 3 %;
- `trace`: a lead with less than 95 % of its samples;
- `signal`: all there, but a lead correlates less than 0.95 with the truth;
- `good`: none of these.

Everything but `refused` was given out as if it were right; `wrong` counts those among them that were not:
another layout, a scale off by more than 10 %, or a mean correlation under 0.8.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.cohort import Cohort, Scan
from datamodules.errors import FAULT
from datamodules.layout import LEADS, Layout
from datamodules.signals import RATE_HZ, resampled
from lightning_app.digitize.reader import Reader, load_reader
from lightning_app.digitize.results import Digitized, SegmentReading
from lightning_app.evaluate.agreement import agree, bootstrap_mean
from lightning_app.evaluate.scan_columns import PARAMETERS, SOURCES
from lightning_app.evaluate.scan_rows import MIN_COVERAGE, drawn_only, parameter_row
from lightning_app.evaluate.segmentation import within_tolerance
from lightning_app.evaluate.signals import coverage, pcc, record_metrics

log = logging.getLogger(__name__)

Cause = Literal["refused", "layout", "scale", "trace", "signal", "good"]
CAUSES: tuple[Cause, ...] = ("refused", "layout", "scale", "trace", "signal", "good")
MAX_SCALE_ERROR = 0.03
MIN_PCC = 0.95
WRONG_SCALE = 0.1
WRONG_PCC = 0.8

_reader: Reader | None = None
_cohort: Cohort | None = None


@dataclass(frozen=True)
class Reading:
    """One scan read as an unknown page.

    Attributes:
        page: `state` (`read` or a refusal's code), `cause`, `wrong`; errors of scale; PCC, worst lead's PCC,
            SNR and coverage of the signal; recall, precision and F1 of the mask within 2 px; the clinical
            parameters of what was read and of the truth (`scan_rows.parameter_row`).
        leads: One row per stretch of a lead: its PCC at zero lag and coverage, the confidence it was given,
            and the evidence that follows from; none for a page that was refused.
    """

    page: dict[str, Any]
    leads: list[dict[str, Any]]


def read_cohort(
    folder: Path, weights: Path, workers: int, on_progress: Callable[[int, int], None]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every scan that has a signal, a layout and a scale to compare with.

    Args:
        folder: The cohort.
        weights: As for `load_reader`.
        workers: Processes, each with one thread.
        on_progress: Called with (done, total).

    Returns:
        One row per scan, and one per stretch of a lead; see `Reading`.
    """
    scans = [scan for scan in Cohort.open(folder).scans if scan.signal and scan.layout]
    load_reader(weights)  # tells what is wrong with it once, and here
    readings: list[Reading] = []
    # Forked workers would inherit torch's threads, which do not survive a fork.
    context = multiprocessing.get_context("forkserver")
    with context.Pool(min(workers, len(scans)) or 1, _open, (folder, weights)) as pool:
        for reading in pool.imap(_reading_of, scans):
            readings.append(reading)
            on_progress(len(readings), len(scans))
    leads = [lead for reading in readings for lead in reading.leads]
    return pd.DataFrame([reading.page for reading in readings]), pd.DataFrame(leads)


def _open(folder: Path, weights: Path) -> None:
    global _reader, _cohort
    import torch

    torch.set_num_threads(1)
    _reader, _cohort = load_reader(weights), Cohort.open(folder)


def _reading_of(scan: Scan) -> Reading:
    assert _reader is not None
    assert _cohort is not None
    return read_scan(_reader, _cohort, scan)


def read_scan(reader: Reader, cohort: Cohort, scan: Scan) -> Reading:
    """Read one scan as an unknown page.

    Args:
        reader: What reads.
        cohort: The scan's cohort.
        scan: Has a signal and a layout.

    Returns:
        How well it was read.
    """
    row: dict[str, Any] = {"scan_id": scan.scan_id, "patient_id": scan.patient_id, "layout": scan.layout}
    page = cohort.load_page(scan)
    try:
        result, mask = reader.read(page)
    except Exception as error:
        # One page must not cost the others their rows; it counts as not read, and the log says why.
        log.exception("%s could not be read", scan.scan_id)
        return Reading(row | _refused(FAULT, f"{type(error).__name__}: {error}"), [])
    if scan.mask is not None:
        row |= within_tolerance(mask, cohort.load_mask(scan) > 0)
    if not isinstance(result, Digitized):
        return Reading(row | _refused(result.code, result.reason), [])
    true_mv = resampled(cohort.load_signal(scan), RATE_HZ).mv
    layout = cohort.layouts[scan.layout]
    row |= signal_numbers(result, true_mv, layout)
    row |= parameter_row(result.mv, RATE_HZ, layout, "read") | parameter_row(true_mv, RATE_HZ, layout, "true")
    row |= {
        "state": "read",
        "read_layout": result.layout,
        "confidence": result.confidence,
        "px_per_s_error": _off(result.scale.px_per_s, scan.px_per_s),
        "px_per_mv_error": _off(result.scale.px_per_mv, scan.px_per_mv),
    }
    same_layout = result.layout == scan.layout and result.quarter_turns == 0
    row["cause"] = _cause(row, same_layout)
    row["wrong"] = not same_layout or _worst_scale(row) > WRONG_SCALE or not row["pcc"] >= WRONG_PCC
    return Reading(row, [_lead_row(scan.scan_id, true_mv, segment) for segment in result.segments])


def _refused(code: str, reason: str) -> dict[str, Any]:
    return {"state": code, "cause": "refused", "wrong": False, "reason": reason}


def _lead_row(scan_id: str, true_mv: NDArray[np.float32], segment: SegmentReading) -> dict[str, Any]:
    first = round(segment.start_s * RATE_HZ)
    true = true_mv[LEADS.index(segment.lead), first : first + len(segment.mv)]
    read = segment.mv[: len(true)]
    evidence = {} if segment.evidence is None else asdict(segment.evidence)
    return {
        "scan_id": scan_id,
        "lead": segment.lead,
        "start_s": segment.start_s,
        "pcc": pcc(read, true),
        "coverage": coverage(read, true),
        "confidence": segment.confidence,
    } | evidence


def signal_numbers(result: Digitized, true_mv: NDArray[np.float32], layout: Layout) -> dict[str, float]:
    """Compare what was read with the truth, (12, n) mV at `RATE_HZ`, over the seconds that the layout shows.

    Returns:
        Means over the leads, and the worst lead's PCC and coverage.
    """
    shown = drawn_only(true_mv, RATE_HZ, layout)
    printed = [k for k in range(len(LEADS)) if np.isfinite(shown[k]).any()]
    scores = record_metrics(
        {LEADS[k]: result.mv[k] for k in printed}, {LEADS[k]: shown[k] for k in printed}, RATE_HZ
    )
    overall = {
        name: scores.overall[name]
        for name in (
            "pcc",
            "pcc_best_lag",
            "rmse_mv",
            "snr_db",
            "snr_kaggle2025_db",
            "gain",
        )
    }
    return overall | {
        "worst_pcc": min((lead["pcc"] for lead in scores.leads.values()), default=math.nan),
        "worst_coverage": min((lead["coverage"] for lead in scores.leads.values()), default=math.nan),
    }


def _off(read: float, true: float | None) -> float:
    return math.nan if true is None else read / true - 1


def _worst_scale(row: dict[str, Any]) -> float:
    return float(max(abs(row["px_per_s_error"]), abs(row["px_per_mv_error"])))


def _cause(row: dict[str, Any], same_layout: bool) -> Cause:
    if not same_layout:
        return "layout"
    if _worst_scale(row) > MAX_SCALE_ERROR:
        return "scale"
    if row["worst_coverage"] < MIN_COVERAGE:
        return "trace"
    return "good" if row["worst_pcc"] >= MIN_PCC else "signal"


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Sum readings up.

    Args:
        rows: From `read_cohort`.

    Returns:
        Counts of causes and of refusals by code; medians of the pages that were read, and the mean PCC and
        mean F1 with a 95 % interval over patients; how well the clinical parameters of those pages agree
        with the same delineator on the true signal.
    """
    read = rows[rows["state"] == "read"]
    refused = rows.loc[rows["state"] != "read", "state"]
    found: dict[str, Any] = {
        "scans": len(rows),
        "read": len(read),
        "wrong but accepted": int(rows["wrong"].sum()),
        "causes": {cause: int((rows["cause"] == cause).sum()) for cause in CAUSES},
        "refusals": {str(code): int(n) for code, n in refused.value_counts().items()},
    }
    if "f1_2px" in rows:
        found["trace within 2 px, all scans"] = {
            name: _mean_of(rows, f"{name}_2px") for name in ("f1", "recall", "precision")
        }
    if len(read):
        found["signal, scans read"] = {
            "PCC mean": _mean_of(read, "pcc"),
            "PCC median": round(float(read["pcc"].median()), 4),
            "PCC at the best lag, median": round(float(read["pcc_best_lag"].median()), 4),
            "worst lead's PCC, median": round(float(read["worst_pcc"].median()), 4),
            "SNR dB, median": round(float(read["snr_db"].median()), 2),
            "Kaggle 2025 SNR dB, median": round(float(read["snr_kaggle2025_db"].median()), 2),
            "RMSE mV, median": round(float(read["rmse_mv"].median()), 4),
        }
    if "hr_bpm_strip_read" in rows:
        found["parameters, scans read"] = {
            f"{name} {source}": _agreement_of(read, f"{name}_{source}")
            for name in PARAMETERS
            for source in SOURCES
        }
    return found


def _agreement_of(rows: pd.DataFrame, column: str) -> str:
    found = agree(rows[f"{column}_read"], rows[f"{column}_true"], rows["patient_id"])
    if found.trials is None:
        return found.note
    interval = f"r {found.r:.3f} [{found.trials.low:.3f}, {found.trials.high:.3f}]"
    return f"{interval}, median error {found.median_error:.2f}, {found.n} of {found.n_asked}"


def _mean_of(rows: pd.DataFrame, column: str) -> str:
    estimate = bootstrap_mean(rows[column].to_numpy(), rows["patient_id"].to_numpy())
    if estimate is None:
        return "no number"
    return f"{estimate.mean:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"
