"""`make results`: the README's result tables, made from the files that sweeps left under docs/results.

A sweep is kept there by `python -m lightning_app.report.collected RUNS/<sweep> docs/results/<name>`.

Each folder there holds `about.yaml` (what was run, where, and how it differs from the paper's protocol),
`scans.csv` (one row per cell, test set and scan) and the report's tables computed from it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from datamodules.files import write_atomic
from datamodules.yaml_text import parse_yaml
from lightning_app.report.results import read_results
from lightning_app.report.tables import HELD_OUT

BEGIN = "<!-- begin of what `make results` writes -->"
END = "<!-- end of what `make results` writes -->"
FULL = "the paper's protocol (nine networks, five folds, 100 epochs)"


TABLES = ("benchmark", "contrasts", "layouts", "signals", "table1")
ROW_COLUMNS = (
    *("cell", "model", "fold", "seed", "test_set", "scan_id", "patient_id", "layout"),
    *("dice", "precision", "recall", "iou", "cldice", "nsd_1px", "nsd_2px", "hd95_px", "column_recall"),
    *("f1_2px", "traces_lost", "digitized", "signal_pcc", "signal_coverage"),
)


class About(BaseModel):
    """What a folder of results says of itself in about.yaml.

    Attributes:
        title: Heading.
        protocol: Whether it is the paper's whole protocol or a part of it.
        command: That made it.
        commit: Of the code.
        machine: That it ran on.
        cost: How long it took.
        reduced: In what it differs from the paper's protocol.
        missing: What has not finished; empty if nothing.
        test_sets: Name -> how the table calls it, in the order to show.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    protocol: Literal["full", "reduced"]
    command: str
    commit: str
    machine: str
    cost: str
    reduced: str = ""
    missing: str = ""
    test_sets: dict[str, str]


def collect(folder: Path) -> str:
    """Write all results as Markdown, those of the full protocol first.

    Args:
        folder: docs/results.
    """
    found = {path.parent: read_about(path) for path in sorted(folder.glob("*/about.yaml"))}
    order = sorted(found, key=lambda path: (found[path].protocol != "full", path.name))
    parts = [_section(path, found[path]) for path in order]
    if not any(about.protocol == "full" for about in found.values()):
        parts.insert(0, f"**Full protocol.** No sweep of {FULL} has been run yet; it needs a GPU.\n")
    return "\n".join(parts)


def read_about(path: Path) -> About:
    """Read an about.yaml."""
    return About.model_validate(parse_yaml(path.read_text(encoding="utf-8")))


def _section(folder: Path, about: About) -> str:
    label = f"Full protocol: {FULL}." if about.protocol == "full" else f"Reduced protocol: {about.reduced}."
    lines = [
        f"**{about.title}.** {label}",
        f"`{about.command}` at {about.commit}, {about.machine}; {about.cost}.",
        f"Rows: `docs/results/{folder.name}`.",
        *([f"Missing: {about.missing}."] if about.missing else []),
        "",
        *_table(folder, about),
        "\n",
    ]
    return "\n".join(lines)


def _table(folder: Path, about: About) -> list[str]:
    benchmark = pd.read_csv(folder / "benchmark.csv")
    benchmark = benchmark[benchmark["complete"].astype(bool)]
    signals = pd.read_csv(folder / "signals.csv").set_index("model")
    scores = {(row["model"], row["test_set"]): _score(row) for row in benchmark.to_dict("records")}
    head = ["model", *about.test_sets.values(), "pages read to a signal"]
    rows = [
        [model, *(scores.get((model, name), "–") for name in about.test_sets), _read(signals, model)]
        for model in benchmark[benchmark["test_set"] == HELD_OUT]["model"]
    ]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _score(row: dict[Any, Any]) -> str:
    low, high = row["dice_ci_low"], row["dice_ci_high"]
    interval = f" [{low:.3f}, {high:.3f}]" if pd.notna(low) else ""
    return f"{row['dice_mean']:.3f}{interval}, n = {row['n_scans']}"


def _read(signals: pd.DataFrame, model: str) -> str:
    if model not in signals.index:
        return "–"
    row = signals.loc[model]
    return f"{row['n_read']:g} of {row['n_scans']:g}"


def replaced(text: str, results: str) -> str:
    """Put results between the two marks of a document.

    Raises:
        ValueError: If it lacks the marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"got a document without the lines {BEGIN} and {END}; wanted both, in this order")
    return f"{before}{BEGIN}\n{results}{END}{after}"


def keep(sweep_dir: Path, folder: Path) -> None:
    """Copy the per-scan rows and the tables of a sweep, whose report is built, to a folder of results.

    Args:
        sweep_dir: RUNS/<sweep>.
        folder: docs/results/<name>; its about.yaml and README.md are written by hand.
    """
    rows = read_results(sweep_dir).rows
    folder.mkdir(parents=True, exist_ok=True)
    columns = [name for name in ROW_COLUMNS if name in rows]
    rows[columns].to_csv(folder / "scans.csv", index=False, float_format="%.6g", lineterminator="\n")
    tables = [sweep_dir / "report" / f"{name}.csv" for name in TABLES]
    for path in (*tables, sweep_dir / "cost" / "cost.csv"):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


def main() -> None:
    """Write the README's tables anew; with RUNS/<sweep> and docs/results/<name>, copy that sweep's first."""
    if len(sys.argv) == 3:
        keep(Path(sys.argv[1]), Path(sys.argv[2]))
    root = Path(__file__).resolve().parents[2]
    readme = root / "README.md"
    text = replaced(readme.read_text(encoding="utf-8"), collect(root / "docs" / "results"))
    write_atomic(readme, text.encode())


if __name__ == "__main__":
    main()
