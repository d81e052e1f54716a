"""`inkbeat score`: how well a digitized record agrees with the true one, per lead and overall.

Both are WFDB records. The heavy imports wait until the command runs, so that `--help` stays quick.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datamodules.errors import DataError, Problem
from lightning_app.commands import Command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightning_app.evaluate.signals import RecordMetrics

    Leads = dict[str, NDArray[np.float64]]

COLUMNS = {
    "pcc": "PCC",
    "pcc_best_lag": "at best lag",
    "lag_ms": "lag ms",
    "rmse_mv": "RMSE mV",
    "gain": "gain",
    "coverage": "cover",
    "snr_db": "SNR dB",
    "snr_cinc2024_db": "CinC",
    "snr_kaggle2025_db": "Kaggle",
}


@click.command("score", cls=Command)
@click.argument("digitized", type=click.Path(path_type=Path))
@click.argument("reference", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def score(digitized: Path, reference: Path, as_json: bool) -> None:
    """Compare a DIGITIZED record with the REFERENCE it should equal (both WFDB, with or without .hea).

    Leads are matched by name, a lead that is missing counts as empty, and another sampling rate is
    resampled to the reference's.
    """
    metrics = score_records(digitized, reference)
    if as_json:
        click.echo(json.dumps(as_plain(metrics), indent=2, allow_nan=False))
    else:
        print_table(metrics)


def score_records(digitized: Path, reference: Path) -> RecordMetrics:
    """Read and score two records.

    Args:
        digitized: WFDB record, path with or without `.hea`.
        reference: Likewise.

    Returns:
        Scores over the reference's leads at the reference's rate.

    Raises:
        DataError: for every problem of both records, or if they have no lead in common.
    """
    from lightning_app.evaluate.signals import record_metrics

    records: list[tuple[Leads, float]] = []
    problems: list[Problem] = []
    for path in (digitized, reference):
        try:
            records.append(read_leads(path))
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)
    (read, read_rate_hz), (true, rate_hz) = records
    if not set(read) & set(true):
        raise DataError(
            Problem("LEADS_UNMATCHED", str(digitized), ", ".join(read), ", ".join(true), "rename the leads")
        )
    return record_metrics({k: resampled(x, read_rate_hz, rate_hz) for k, x in read.items()}, true, rate_hz)


def read_leads(path: Path) -> tuple[Leads, float]:
    """Read the ECG leads of a WFDB record in millivolts.

    Args:
        path: Record path with or without `.hea`.

    Returns:
        Leads by their usual name ("aVR", whatever the spelling in the file), (n,) float64 mV with NaN for
        invalid samples, and the sampling rate in Hz.

    Raises:
        DataError: `RECORD_MISSING`, `LEADS_UNKNOWN`, `LEAD_TWICE`, or what `wfdb_files.read_record` refuses.
        IntegrityError: `PATH_ESCAPE`.
    """
    import numpy as np

    from datamodules.layout import LEADS
    from datamodules.wfdb_files import header_path, read_record

    stem = path.with_suffix("") if path.suffix == ".hea" else path
    if not header_path(stem).is_file():
        wanted = "a WFDB header file"
        raise DataError(
            Problem("RECORD_MISSING", str(path), "no such file", wanted, f"check {header_path(stem)}")
        )
    record = read_record(stem)
    usual = {name.lower(): name for name in LEADS}
    leads: Leads = {}
    problems = []
    for name, mv in zip(record.leads, record.mv, strict=True):
        lead = usual.get(name.strip().lower())
        if lead is None:
            continue  # other channels, such as a pulse wave, are no business of ours
        if lead in leads:
            problems.append(Problem("LEAD_TWICE", str(path), f"{name} again", "each lead once"))
        leads[lead] = mv.astype(np.float64)
    if not leads:
        got, wanted = ", ".join(record.leads), "names of ECG leads, " + ", ".join(LEADS)
        problems.append(Problem("LEADS_UNKNOWN", str(path), got, wanted))
    if problems:
        raise DataError(problems)
    return leads, record.rate_hz


def resampled(mv: NDArray[np.float64], from_hz: float, to_hz: float) -> NDArray[np.float64]:
    """Bring a lead with gaps to another sampling rate by PCHIP inside each finite run.

    Args:
        mv: (n,) with NaN in gaps.
        from_hz: Rate of `mv`.
        to_hz: Rate wanted; the first sample keeps its time.

    Returns:
        (round(n x to / from),) with the same gaps.
    """
    import numpy as np
    from scipy.interpolate import PchipInterpolator

    if from_hz == to_hz:
        return mv
    times_s = np.arange(round(mv.size * to_hz / from_hz)) / to_hz
    out = np.full(times_s.size, np.nan)
    edges = np.flatnonzero(np.diff(np.isfinite(mv), prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2):
        at = np.arange(start, stop) / from_hz
        # A run reaches half a step of the coarser clock past its last sample, else its end would be lost.
        inside = (times_s > at[0] - 1e-9) & (times_s < at[-1] + 1 / from_hz - 1e-9)
        if at.size == 1:
            out[inside] = mv[start]
        else:
            clamped = np.minimum(times_s[inside], at[-1])
            out[inside] = PchipInterpolator(at, mv[start:stop])(clamped)
    return out


def as_plain(metrics: RecordMetrics) -> dict[str, Any]:
    """Turn scores into what JSON can say: NaN and infinity become None."""

    def plain(row: Mapping[str, float]) -> dict[str, float | None]:
        return {name: value if math.isfinite(value) else None for name, value in row.items()}

    return {"overall": plain(metrics.overall), "leads": {k: plain(row) for k, row in metrics.leads.items()}}


def print_table(metrics: RecordMetrics) -> None:
    """Print one line per lead and one for all of them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "lead", *COLUMNS.values(), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )  # fits into 80 columns
    for name, row in (*metrics.leads.items(), ("overall", metrics.overall)):
        if name == "overall":
            table.add_section()
        table.add_row(
            "all" if name == "overall" else name, *(_cell(column, row[column]) for column in COLUMNS)
        )
    console = Console()
    console.print(table)
    console.print(
        "Coverage is the share of the reference's samples that were read: a lead printed for 2.5 of 10 s "
        "reaches 0.25. The three SNR (plain, CinC 2024, Kaggle 2025) are not comparable with each other."
    )


def _cell(column: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "exact"
    return f"{value:.1f}" if column.endswith(("_db", "_ms")) else f"{value:.3f}"
