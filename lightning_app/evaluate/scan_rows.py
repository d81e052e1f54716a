"""One row of numbers per digitized scan: how well its signal and its parameters agree with the truth.

Columns that `signal_row` gives, all float, NaN where there is no number:

- `signal_pcc` and the other metrics of `evaluate.signals`, over the drawn stretches of the twelve leads;
  a lead that was not read counts as 0, a refused page has NaN throughout and coverage 0;
- `signal_leads_covered`: share of leads with at least 95 % of their drawn samples read;
- for each of `PARAMETERS` and each source (`segments`: median over the groups of leads drawn together;
  `strip`: the long V1): `<parameter>_<source>_read` and `<parameter>_<source>_true`, the same delineator on
  the read and on the true signal.

Where people marked the waves of the signal, `evaluate.human` adds `<parameter>_<source>_human` and why one is
absent.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.layout import LEADS, Layout
from lightning_app.evaluate.parameters import segment_parameters, strip_parameters
from lightning_app.evaluate.scan_columns import PARAMETERS
from lightning_app.evaluate.signals import METRICS, record_metrics

Array = NDArray[np.floating]
MIN_COVERAGE = 0.95


def drawn_only(mv: Array, rate_hz: float, layout: Layout) -> NDArray[np.float64]:
    """Blank everything a page of this layout does not show.

    Args:
        mv: (12, n) mV in the order of `LEADS`.
        rate_hz: Sampling rate.
        layout: What is drawn when.

    Returns:
        (12, m) float64 with NaN where nothing is drawn, m = the layout's duration.
    """
    shown = np.full((len(LEADS), round(layout.duration_s * rate_hz)), np.nan)
    for part in layout.segments:
        lead, where = (
            LEADS.index(part.lead),
            slice(round(part.start_s * rate_hz), round(part.stop_s * rate_hz)),
        )
        length = shown[lead, where].size
        available = mv[lead, where.start : where.start + length]
        shown[lead, where.start : where.start + available.size] = available
    return shown


def signal_row(
    read_mv: Array | None,
    true_mv: Array,
    rate_hz: float,
    layout: Layout,
    true_values: dict[str, float] | None = None,
) -> dict[str, float]:
    """Score one digitized scan.

    Args:
        read_mv: (12, m) digitized mV with NaN, or None if the page was refused.
        true_mv: (12, n) true mV.
        rate_hz: Sampling rate of both; sample 0 of both is the left end of the page.
        layout: What was drawn when.
        true_values: What `parameter_row(true_mv, ..., "true")` gave, for a caller that scores many
            readings of one scan: it is the larger half of the time.

    Returns:
        The columns described above.

    Raises:
        ValueError: for arrays without twelve leads.
    """
    if true_mv.shape[0] != len(LEADS) or (read_mv is not None and read_mv.shape[0] != len(LEADS)):
        raise ValueError(f"got {true_mv.shape[0]} leads, wanted (12, n) in the order of LEADS")
    shown = drawn_only(true_mv, rate_hz, layout)
    true = true_values or parameter_row(true_mv, rate_hz, layout, "true")
    if read_mv is None:
        nothing = {f"signal_{name}": math.nan for name in (*METRICS, "leads_covered")}
        read = parameter_row(np.full_like(shown, np.nan), rate_hz, layout, "read")
        return nothing | {"signal_coverage": 0.0, "signal_leads_covered": 0.0} | read | true
    printed = [k for k in range(len(LEADS)) if np.isfinite(shown[k]).any()]
    scores = record_metrics(
        {LEADS[k]: read_mv[k] for k in printed}, {LEADS[k]: shown[k] for k in printed}, rate_hz
    )
    covered = [row["coverage"] >= MIN_COVERAGE for row in scores.leads.values()]
    signal = {f"signal_{name}": value for name, value in scores.overall.items()}
    signal["signal_leads_covered"] = float(np.mean(covered)) if covered else math.nan
    return signal | parameter_row(read_mv, rate_hz, layout, "read") | true


def parameter_row(
    mv: Array, rate_hz: float, layout: Layout, whose: Literal["read", "true"]
) -> dict[str, float]:
    """Measure the parameters from the segments and from the long V1 strip.

    Args:
        mv: (12, n) mV in the order of `LEADS`.
        rate_hz: Sampling rate.
        layout: What was drawn when; only that is looked at.
        whose: Ending of the column names.

    Returns:
        `<parameter>_<source>_<whose>`, NaN where a parameter is absent.
    """
    shown = drawn_only(mv, rate_hz, layout)
    measured = {
        "segments": segment_parameters(shown, rate_hz, layout),
        "strip": strip_parameters(shown, rate_hz, layout),
    }
    row: dict[str, float] = {}
    for source, parameters in measured.items():
        values = asdict(parameters)
        for name in PARAMETERS:
            row[f"{name}_{source}_{whose}"] = math.nan if values[name] is None else values[name]
    return row
