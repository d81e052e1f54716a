"""The paper's Table 1: agreement of signal and parameters between digitized and true, by layout.

Computed from per-scan rows (columns: see `evaluate.scan_rows`; plus `scan_id`, `patient_id`, `layout`), and
printed beside what the paper reports and beside the ceiling: the same table for the drawn masks, which a
perfect network would reach at that resolution.

Parameters are held against two references (PROTOCOL 2.3): the same delineator on the true signal, as in the
paper, and what people marked in it, where they did. Below each human line stands the delineator on the true
signal against the same marks: as much of the disagreement is the delineator's, whatever the page looks like.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lightning_app.evaluate.agreement import Agreement, Estimate, agree, bootstrap_mean
from lightning_app.evaluate.scan_columns import PARAMETERS, REASON, SOURCES, Source, human_column

TITLES = {"hr_bpm": "HR", "rr_ms": "RR", "hrv_ms": "HRV", "pr_ms": "PR", "qrs_ms": "QRS"}
UNITS = {"hr_bpm": "bpm", "rr_ms": "ms", "hrv_ms": "ms", "pr_ms": "ms", "qrs_ms": "ms"}
# PROTOCOL 2.3: share within 1 bpm (HR), 20 ms (PR), 10 ms (QRS); RR and HRV follow HR's second decimal.
TOLERANCES = {"hr_bpm": 1.0, "rr_ms": 10.0, "hrv_ms": 10.0, "pr_ms": 20.0, "qrs_ms": 10.0}
OVERALL = "overall"
HUMAN = "human"
NO_HUMAN_VALUE = "no human value"
DIGITIZED, TRUE_SIGNAL = "digitized", "true signal"  # what a value was measured on
FEW_PATIENTS = 30  # below, a percentile interval of r covers less than it says: 88 % at 14 pairs
FIRST = ("four_line", "six_line")

# Li et al. 2020, Table 1: mean, SD and 95 % interval of r over 1000 bootstrap trials.
PAPER: Mapping[tuple[str, str], Estimate] = {
    ("Signal", "four_line"): Estimate(0.921, 0.008, 0.902, 0.935),
    ("Signal", "six_line"): Estimate(0.900, 0.013, 0.871, 0.924),
    ("Signal", "overall"): Estimate(0.916, 0.007, 0.901, 0.929),
    ("HR", "four_line"): Estimate(0.939, 0.025, 0.881, 0.977),
    ("HR", "six_line"): Estimate(0.991, 0.006, 0.988, 0.999),
    ("HR", "overall"): Estimate(0.949, 0.019, 0.904, 0.979),
    ("RR", "four_line"): Estimate(0.962, 0.012, 0.934, 0.982),
    ("RR", "six_line"): Estimate(0.995, 0.003, 0.988, 0.999),
    ("RR", "overall"): Estimate(0.968, 0.009, 0.948, 0.984),
    ("HRV", "four_line"): Estimate(0.667, 0.096, 0.456, 0.819),
    ("HRV", "six_line"): Estimate(0.861, 0.103, 0.577, 0.980),
    ("HRV", "overall"): Estimate(0.698, 0.080, 0.517, 0.834),
    ("PR", "four_line"): Estimate(0.447, 0.116, 0.210, 0.666),
    ("PR", "six_line"): Estimate(0.670, 0.184, 0.240, 0.926),
    ("PR", "overall"): Estimate(0.475, 0.103, 0.274, 0.667),
    ("QRS", "four_line"): Estimate(0.389, 0.112, 0.156, 0.590),
    ("QRS", "six_line"): Estimate(0.845, 0.198, 0.288, 0.985),
    ("QRS", "overall"): Estimate(0.371, 0.097, 0.175, 0.544),
}
PAPER_NOTES: Mapping[tuple[str, str], str] = {
    (
        "HR",
        "six_line",
    ): "the paper's interval equals its RR interval and excludes mean - SD: probably a copy slip",
    ("QRS", "overall"): "the paper's overall value lies below both layouts: an effect of pooling",
}


@dataclass(frozen=True)
class Cell:
    """One cell: a quantity, a layout, and where both values came from.

    Attributes:
        quantity: `Signal`, `HR`, `RR`, `HRV`, `PR` or `QRS`.
        layout: Name of a layout, or `overall`.
        source: `segments`, `strip`, or `leads` for the signal.
        measured_on: `digitized`, or `true signal` for the delineator against people.
        reference: `same delineator`, `human`, or `true signal`.
        unit: Of errors; empty for the signal.
        agreement: Counts, errors and correlation; for the signal `r` is the mean PCC, `trials` its bootstrap.
        unmarked: How many scans people give no value for, and why; empty if for none.
    """

    quantity: str
    layout: str
    source: str
    measured_on: str
    reference: str
    unit: str
    agreement: Agreement
    unmarked: str = ""


def cells(rows: pd.DataFrame, seed: int = 0) -> list[Cell]:
    """Compute every cell.

    Args:
        rows: One row per scan, see the module's docstring; of one model and one test set.
        seed: Of the bootstrap.

    Returns:
        Cells, quantity by quantity, layouts in the paper's order.

    Raises:
        ValueError: if a scan occurs twice: a mean over scans would count it double; if the correlation of
            the signal was aligned first (E9).
    """
    if rows["scan_id"].duplicated().any():
        twice = ", ".join(sorted(set(rows["scan_id"][rows["scan_id"].duplicated()]))[:3])
        raise ValueError(f"got several rows of scan {twice}; wanted one model and test set, each scan once")
    _require_zero_lag(rows)
    found = []
    for layout in _layouts(rows):
        part = rows if layout == OVERALL else rows[rows["layout"] == layout]
        found.append(Cell("Signal", layout, "leads", DIGITIZED, "true signal", "", _signal(part, seed)))
        for name in PARAMETERS:
            found += _parameter(part, name, layout, seed)
    order = ["Signal", *TITLES.values()]
    return sorted(found, key=lambda cell: order.index(cell.quantity))


def _require_zero_lag(rows: pd.DataFrame) -> None:
    if not {"signal_lag_ms", "signal_pcc_best_lag"} <= set(rows):
        return
    # A best lag other than zero correlates better than zero does; equal means one stands for the other.
    delayed = rows["signal_lag_ms"].abs() > 0
    aligned = rows[delayed & (rows["signal_pcc"] == rows["signal_pcc_best_lag"])]
    if len(aligned):
        scan = aligned.iloc[0]
        raise ValueError(
            f"got an aligned signal_pcc for {len(aligned)} scans, first {scan['scan_id']} with a lag of "
            f"{scan['signal_lag_ms']:g} ms; wanted the correlation at zero lag"
        )


def _layouts(rows: pd.DataFrame) -> list[str]:
    present = set(rows["layout"])
    return [name for name in FIRST if name in present] + sorted(present - set(FIRST)) + [OVERALL]


def _signal(rows: pd.DataFrame, seed: int) -> Agreement:
    """Mean PCC per scan; its bootstrap is over patients too."""
    pcc = rows["signal_pcc"].to_numpy(dtype=float)
    known = np.isfinite(pcc)
    patients = rows["patient_id"].astype(str).to_numpy()[known]
    counted = Agreement(
        n=int(known.sum()),
        n_patients=int(np.unique(patients).size),
        n_asked=len(rows),
        found=float(known.mean()) if len(rows) else None,
        note="" if known.sum() > 1 else f"n={known.sum()}, not estimable",
    )
    if counted.note:
        return counted
    return replace(
        counted,
        r=float(pcc[known].mean()),
        trials=bootstrap_mean(pcc[known], patients, seed),
        median_error=float(np.median(rows["signal_rmse_mv"].to_numpy(dtype=float)[known])),
    )


def _parameter(rows: pd.DataFrame, name: str, layout: str, seed: int) -> list[Cell]:
    patients = rows["patient_id"].astype(str).to_numpy()
    found = []
    for source in SOURCES:
        read, true = f"{name}_{source}_read", f"{name}_{source}_true"
        human = human_column(name, source)
        lines = [(DIGITIZED, "same delineator", read, true)]
        if human + REASON in rows and rows[human + REASON].notna().any():
            lines += [(DIGITIZED, HUMAN, read, human), (TRUE_SIGNAL, HUMAN, true, human)]
        for measured_on, reference, column, against in lines:
            agreement = agree(
                rows[column].to_numpy(dtype=float),
                rows[against].to_numpy(dtype=float),
                patients,
                TOLERANCES[name],
                seed,
            )
            unmarked = _unmarked(rows, name, source) if reference == HUMAN else ""
            found.append(
                Cell(TITLES[name], layout, source, measured_on, reference, UNITS[name], agreement, unmarked)
            )
    return found


def _unmarked(rows: pd.DataFrame, name: str, source: Source) -> str:
    """Say for how many scans people give no value, and why; empty if for none."""
    absent = rows[human_column(name, source)].isna()
    if not absent.any():
        return ""
    reasons = rows.loc[absent, human_column(name, source) + REASON].fillna("NOT_ANNOTATED").value_counts()
    why = ", ".join(f"{reason} {n}" for reason, n in reasons.sort_index().items())
    return f"{NO_HUMAN_VALUE} for {absent.sum()} of {len(rows)} scans ({why})"


def table1(rows: pd.DataFrame, ceiling: pd.DataFrame | None = None, seed: int = 0) -> pd.DataFrame:
    """Make the table in long form, one line per cell, as it goes into `table1.csv`.

    Args:
        rows: One row per scan of one model and test set.
        ceiling: The same columns for the same scans, digitized from the drawn masks.
        seed: Of the bootstrap.

    Returns:
        Columns: quantity, layout, source, measured_on, reference, unit, n, n_patients, n_asked, yield, mean,
        sd, low, high (over 1000 bootstrap trials by patient), r, fisher_low, fisher_high, spearman, ccc, icc,
        icc_low, icc_high, median_error, bias, limit_low, limit_high, within, tolerance, ceiling, paper_mean,
        paper_sd, paper_low, paper_high, note. Numbers that cannot be estimated are empty and `note` says why;
        it also counts the scans that people give no value for.
    """
    best = {} if ceiling is None else {_key(cell): cell.agreement for cell in cells(ceiling, seed)}
    return pd.DataFrame([_line(cell, best.get(_key(cell))) for cell in cells(rows, seed)])


def _key(cell: Cell) -> tuple[str, str, str, str, str]:
    return cell.quantity, cell.layout, cell.source, cell.measured_on, cell.reference


def _line(cell: Cell, ceiling: Agreement | None) -> dict[str, object]:
    a = cell.agreement
    # The paper's values are for one unnamed choice of leads; they stand beside both of ours. It has none
    # against people.
    of_paper = cell.reference != HUMAN
    paper = PAPER.get((cell.quantity, cell.layout)) if of_paper else None
    notes = [a.note, cell.unmarked, PAPER_NOTES.get((cell.quantity, cell.layout), "") if of_paper else ""]
    if a.r is not None and a.trials is None:
        notes.append("one patient, no interval")
    pairs = {"fisher": a.fisher, "limit": a.limits, "icc": a.icc[1:] if a.icc else None}
    tolerance = next((TOLERANCES[name] for name, title in TITLES.items() if title == cell.quantity), None)
    return {
        "quantity": cell.quantity,
        "layout": cell.layout,
        "source": cell.source,
        "measured_on": cell.measured_on,
        "reference": cell.reference,
        "unit": cell.unit,
        "n": a.n,
        "n_patients": a.n_patients,
        "n_asked": a.n_asked,
        "yield": a.found,
        **_estimate("", a.trials),
        "r": a.r,
        "spearman": a.spearman,
        "ccc": a.ccc,
        "icc": a.icc[0] if a.icc else None,
        **{f"{name}_{end}": pair[i] if pair else None for name, pair in pairs.items() for i, end in _ENDS},
        "median_error": a.median_error,
        "bias": a.bias,
        "within": a.within,
        "tolerance": tolerance,
        "ceiling": _centre(ceiling) if cell.measured_on == DIGITIZED else None,
        **_estimate("paper_", paper),
        "note": "; ".join(note for note in notes if note),
    }


_ENDS = ((0, "low"), (1, "high"))


def _estimate(prefix: str, estimate: Estimate | None) -> dict[str, float | None]:
    names = ("mean", "sd", "low", "high")
    return {prefix + name: getattr(estimate, name) if estimate else None for name in names}


def _centre(agreement: Agreement | None) -> float | None:
    if agreement is None:
        return None
    return agreement.trials.mean if agreement.trials else agreement.r


HEADER = (
    "",
    "layout",
    "from",
    "against",
    "mean r",
    "SD",
    "95 % interval",
    "n",
    "yield",
    "median error",
    "bias [limits]",
    "ceiling",
    "paper",
)
N_LABELS = 4  # words; the other columns are numbers
SECOND_LINES = ("(Fisher", "[", "true signal", "not estimable", "±")  # or the last columns leave the page


def to_text_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Turn the long table into cells of text, one tuple per line under `HEADER`."""
    return [_text_row(line) for _, line in table.iterrows()]


def _text_row(line: pd.Series) -> tuple[str, ...]:
    estimable = not pd.isna(line["mean"])
    note = str(line["note"]).split(";")[0]
    unit = f" {line['unit']}" if line["unit"] else " mV RMSE"
    bias = "" if pd.isna(line["bias"]) else f"{line['bias']:+.1f}"
    limits = "" if pd.isna(line["limit_low"]) else f" [{line['limit_low']:+.1f}, {line['limit_high']:+.1f}]"
    digits = 2 if line["quantity"] in ("Signal", "HR") else 1
    error = "" if pd.isna(line["median_error"]) else f"{line['median_error']:.{digits}f}{unit}"
    paper = "" if pd.isna(line["paper_mean"]) else f"{line['paper_mean']:.3f} ± {line['paper_sd']:.3f}"
    return (
        str(line["quantity"]),
        str(line["layout"]),
        str(line["source"]) if line["measured_on"] == DIGITIZED else f"{line['source']}, true signal",
        str(line["reference"]),
        f"{line['mean']:.3f}" if estimable else note or "not estimable",
        f"{line['sd']:.3f}" if estimable else "",
        _interval_text(line) if estimable else "",
        f"{line['n']} of {line['n_asked']}",
        "" if pd.isna(line["yield"]) else f"{100 * line['yield']:.0f} %",
        error,
        bias + limits,
        "" if pd.isna(line["ceiling"]) else f"{line['ceiling']:.3f}",
        paper,
    )


def _interval_text(line: pd.Series) -> str:
    """Write the bootstrap's interval, and Fisher's beside it where patients are few."""
    text = f"{line['low']:.3f} to {line['high']:.3f}"
    if line["n_patients"] >= FEW_PATIENTS or pd.isna(line["fisher_low"]):
        return text
    return f"{text} (Fisher z {line['fisher_low']:.3f} to {line['fisher_high']:.3f})"


def to_markdown(table: pd.DataFrame) -> str:
    """Render the table as Markdown, notes below."""
    lines = [HEADER, ("---",) * len(HEADER), *to_text_rows(table)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n" + "\n".join(_notes(table))


def to_html(table: pd.DataFrame) -> str:
    """Render the table as an HTML fragment; layout names are the user's and are escaped."""
    head = "".join(_html_cell("th", place, name) for place, name in enumerate(HEADER))
    body = "".join(
        "<tr>" + "".join(_html_cell("td", place, text) for place, text in enumerate(line)) + "</tr>"
        for line in _without_repeats(to_text_rows(table))
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in _notes(table))
    return (
        f'<table class="table1"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{notes}</ul>'
    )


def _without_repeats(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Leave out quantity and layout where they are those of the line above, so that groups are seen."""
    above = [("", ""), *(line[:2] for line in lines)]
    return [
        ("" if line[:1] == before[:1] else line[0], "" if line[:2] == before else line[1], *line[2:])
        for before, line in zip(above, lines, strict=False)
    ]


def _html_cell(tag: str, place: int, text: str) -> str:
    content = html.escape(text)
    for part in SECOND_LINES:
        content = content.replace(f" {part}", f"<br>{part}")
    start = f'<{tag} class="l">' if place < N_LABELS else f"<{tag}>"
    return f"{start}{content}</{tag}>"


def _notes(table: pd.DataFrame) -> list[str]:
    shown = set(zip(table["quantity"], table["layout"], strict=True))
    remarks = [f"{quantity}, {layout}: {note}" for (quantity, layout), note in PAPER_NOTES.items()
               if (quantity, layout) in shown]  # fmt: skip
    return [
        "Mean, SD and interval over 1000 bootstrap trials that draw patients; SD is that of the estimate.",
        "Signal: mean over leads of the correlation at zero lag, then over scans.",
        "segments: median over the groups of leads drawn together; strip: the long V1.",
        "Ceiling: the same table for the drawn masks. Paper: Li et al. 2020, Table 1 (leads not stated).",
        *remarks,
        *_human_notes(table),
    ]


def _human_notes(table: pd.DataFrame) -> list[str]:
    human = table[(table["reference"] == HUMAN) & (table["layout"] == OVERALL)]
    human = human[human["measured_on"] == DIGITIZED]
    if human.empty:
        return []
    unmarked = [
        f"{line['quantity']}, {line['source']}: {part}"
        for _, line in human.iterrows()
        for part in str(line["note"]).split("; ")
        if part.startswith(NO_HUMAN_VALUE)
    ]
    return [
        "Human: what people marked in the leads and seconds shown; only marked beats count. Lines from the "
        "true signal: the same delineator on the signal as it was drawn, against the same marks: as much of "
        "the disagreement is the delineator's.",
        *unmarked,
    ]
