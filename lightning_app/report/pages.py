"""Builds RUNS/<sweep>/report/ from what the cells have written, any number of times, with equal bytes."""

from __future__ import annotations

import base64
import hashlib
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.errors import DataError, InkbeatError, Problem
from datamodules.wording import number_of
from lightning_app.cells import Outcome, Store, write_durably
from lightning_app.evaluate.scan_columns import METRICS_VERSION
from lightning_app.report import tables
from lightning_app.report.analysis_plan import AnalysisPlan, load_analysis_plan
from lightning_app.report.audit import audit, audit_rows, audit_signals
from lightning_app.report.claims import Claim, check_claims, check_table1_claims
from lightning_app.report.cost import cost_table, write_cost
from lightning_app.report.results import SweepResults, read_results
from lightning_app.report.signals import SignalTables, signal_tables
from lightning_app.report.table1 import to_html, to_markdown

TEMPLATES = Path(__file__).parent
MAX_MODELS_IN_5B = 4  # more bars than that in a group cannot be read
BACKBONE_OF_5B = "resnet50"  # Li et al. 2020, figure 5B
CSV_FORMAT = "%.8g"
TRAINING_WORDS = {"pretrain_epochs": "epochs of pre-training", "epochs": "epochs", "precision": "precision"}


@dataclass(frozen=True)
class ReportPaths:
    """What a report consists of.

    Attributes:
        folder: RUNS/<sweep>/report.
        benchmark: benchmark.csv, one row per model and test set.
        contrasts: contrasts.csv, one row per model against the reference and test set.
        layouts: layouts.csv, one row per model, test set and layout.
        markdown: report.md.
        html: report.html, one self-contained page.
        figures: Every figure, PNG; beside each chart lies an SVG.
        summary: The ranking as plain text, for a terminal.
    """

    folder: Path
    benchmark: Path
    contrasts: Path
    layouts: Path
    markdown: Path
    html: Path
    figures: tuple[Path, ...]
    summary: str


@dataclass(frozen=True)
class _Figure:
    name: str
    title: str
    caption: str
    path: Path

    @property
    def svg(self) -> str:
        """The drawing, to stand inside the page and take its colours."""
        from lightning_app.report.figures import GRID, TEXT

        text = self.path.with_suffix(".svg").read_text(encoding="utf-8")
        drawing = text[text.index("<svg") :]
        return drawing.replace(TEXT, "currentColor").replace(GRID, "var(--line)")

    @property
    def data_url(self) -> str:
        """The picture as text."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"


@dataclass(frozen=True)
class _Report:
    """Everything the two templates show."""

    results: SweepResults
    plan: AnalysisPlan
    reference: str
    benchmark: pd.DataFrame
    contrasts: pd.DataFrame
    layouts: pd.DataFrame
    claims: list[Claim]
    class_paths: dict[str, str]
    test_sets: dict[str, str]


def build_report(sweep_dir: Path, outcomes: Mapping[str, Outcome] | None = None) -> ReportPaths:
    """Rebuild the report of a sweep, however far it is, and RUNS/<sweep>/cost/ beside it.

    Args:
        sweep_dir: RUNS/<sweep>.
        outcomes: Of all planned cells, for a caller that has read them already.

    Returns:
        Where everything lies.

    Raises:
        ConfigError: `NO_SWEEP` if the folder holds no sweep.
        DataError: `NO_RESULTS` if no cell has finished, or a code for tables that contradict each other.
        IntegrityError: `E4_...` to `E14_...` if a table does not say what its columns are called.
    """
    report = _report(read_results(sweep_dir, outcomes))
    folder = sweep_dir / "report"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    write_durably(folder / "benchmark.csv", _csv(report.benchmark))
    write_durably(folder / "contrasts.csv", _csv(report.contrasts))
    write_durably(folder / "layouts.csv", _csv(report.layouts))
    signals = _signals(report)
    _write_signals(folder, signals)
    charts, notes = _draw_charts(report, folder / "figures")
    triplets, more_notes = _draw_triplets(report, folder / "figures")
    _remove_stale(folder / "figures", [*charts, *triplets])
    _write_cost(report)
    context = _context(report, charts, triplets, [*notes, *more_notes]) | _signal_context(signals)
    context["claims"] = [*report.claims, *_signal_claims(report, signals)]
    for name in ("report.md", "report.html"):
        write_durably(folder / name, _render(f"{name}.jinja", context).encode())
    return ReportPaths(
        folder=folder,
        benchmark=folder / "benchmark.csv",
        contrasts=folder / "contrasts.csv",
        layouts=folder / "layouts.csv",
        markdown=folder / "report.md",
        html=folder / "report.html",
        figures=tuple(figure.path for figure in (*charts, *triplets)),
        summary="\n".join([ranking_text(report.benchmark), *missing_text(report.results.cells)]),
    )


def _write_cost(report: _Report) -> None:
    from lightning_app.report.figures import family_colours

    benchmark, store = report.benchmark, Store(report.results.root)
    held_out = benchmark[(benchmark["test_set"] == tables.HELD_OUT) & benchmark["complete"].astype(bool)]
    timings = {key: store.timing(key) for key in report.results.specs}
    table = cost_table(held_out, report.results.cells, timings)
    write_cost(store, table, family_colours(report.class_paths))


def draw_from_sweep(sweep_dir: Path, name: str, folder: Path) -> list[Path]:
    """Draw a figure of the paper from a sweep, as in its report, into another folder.

    Args:
        sweep_dir: RUNS/<sweep>.
        name: `fig4`, `fig5a` or `fig5b`.
        folder: Where to; exists.

    Returns:
        The pictures, PNG; beside each chart lies an SVG.

    Raises:
        ConfigError: `NO_SWEEP` if the folder holds no sweep.
        DataError: `NO_RESULTS`, or `NO_FIGURE` with the reason why the sweep has nothing to draw.
    """
    report = _report(read_results(sweep_dir))
    with tempfile.TemporaryDirectory() as scratch:
        draw = _draw_triplets if name == "fig4" else _draw_charts
        drawn, notes = draw(report, Path(scratch))
        wanted = [figure.path for figure in drawn if figure.name == name]
        if not wanted:
            got = "; ".join(notes) or "no finished model with such a test set"
            raise DataError(Problem("NO_FIGURE", f"{sweep_dir.name}, {name}", got, "", "finish the sweep"))
        for path in [*wanted, *(path.with_suffix(".svg") for path in wanted)]:
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
    return [folder / path.name for path in wanted]


def ranking_text(benchmark: pd.DataFrame) -> str:
    """Write the ranking in cross-validation as aligned plain text.

    Args:
        benchmark: The benchmark table.
    """
    table = benchmark[benchmark["test_set"] == tables.HELD_OUT]
    width = max([5, *table["model"].map(len)])
    lines = [f"{'':>4} {'model':<{width}}  {'Dice':>6}  {'95 % interval':>16}  scans  folds"]
    for row in table.to_dict("records"):
        rank = f"{row['rank']}." if row["complete"] else "-"
        interval = f"[{row['dice_ci_low']:.3f}, {row['dice_ci_high']:.3f}]"
        interval = interval if math.isfinite(row["dice_ci_low"]) else "n too small"
        lines.append(
            f"{rank:>4} {row['model']:<{width}}  {row['dice_mean']:>6.3f}  {interval:>16}  "
            f"{row['n_scans']:>5}  {row['folds_done']}/{row['folds_planned']}"
        )
    return "\n".join(lines)


def missing_text(cells: pd.DataFrame) -> list[str]:
    """Say in a line which cells have no result; no line where all have one.

    Args:
        cells: All planned cells.
    """
    missing = tables.missing_cells(cells)
    if missing.empty:
        return []
    models = [
        f"{model} ({'fold' if own['fold'].nunique() == 1 else 'folds'} "
        f"{', '.join(str(fold) for fold in sorted(set(own['fold'])))})"
        for model, own in missing.groupby("model", sort=False)
    ]
    return [f"without a result yet, {len(missing)} of {number_of(len(cells), 'cell')}: {'; '.join(models)}"]


def _report(results: SweepResults) -> _Report:
    plan = load_analysis_plan()
    audit_rows(results.rows, results.thresholds, _thresholds(results))
    class_paths = _class_paths(results)
    reference = tables.reference_model(results.models, class_paths, plan)
    benchmark = tables.benchmark_table(results.rows, results.cells, plan)
    contrasts = tables.contrasts_table(results.rows, results.cells, reference, _fold_count(results), plan)
    layouts = tables.layout_table(results.rows, results.cells, plan)
    audit(results.rows, benchmark, layouts, contrasts)
    noise = _noise_amounts(results)
    claims = []
    if class_paths.get(reference) == plan.reference:
        claims = check_claims(results.rows, benchmark, contrasts, reference, noise, plan)
    test_sets = _test_set_labels(results, noise)
    return _Report(results, plan, reference, benchmark, contrasts, layouts, claims, class_paths, test_sets)


def _class_paths(results: SweepResults) -> dict[str, str]:
    """Class path by label: of the finished cells; a model without any is named by its label."""
    paths = {model: model for model in results.models}
    for key, model in results.cells[["key", "model"]].itertuples(index=False):
        if key in results.specs:
            paths[model] = results.specs[key].get("model", {}).get("class_path", model)
    return paths


def _fold_count(results: SweepResults) -> int:
    counts = [spec.get("folds", {}).get("count", 0) for spec in results.specs.values()]
    return max(counts, default=0)


def _noise_amounts(results: SweepResults) -> dict[str, float]:
    """Amount of noise per test set that has one, least first."""
    amounts = {
        test["name"]: float(test["init_args"]["amount"])
        for spec in results.specs.values()
        for test in spec.get("test_on", ())
        if "amount" in test.get("init_args", {})
    }
    return dict(sorted(amounts.items(), key=lambda item: (item[1], item[0])))


def _test_set_labels(results: SweepResults, noise: Mapping[str, float]) -> dict[str, str]:
    """Shown label of every further test set: those with a noise amount first, then by name."""
    names = set(results.rows["test_set"]) - {tables.HELD_OUT}
    labels = {
        name: f"grey, {amount * 100:g} % noise" if amount else "grey, clean"
        for name, amount in noise.items()
        if name in names
    }
    if len(set(labels.values())) < len(labels):  # two colour cohorts: their names must tell them apart
        labels = {name: name for name in labels}
    return labels | {name: name for name in sorted(names - set(labels))}


# Figures


def _draw_charts(report: _Report, folder: Path) -> tuple[list[_Figure], list[str]]:
    from lightning_app.report import figures

    benchmark = report.benchmark
    complete = benchmark[benchmark["complete"].astype(bool)]
    held_out = complete[complete["test_set"] == tables.HELD_OUT]
    if held_out.empty:
        return [], ["No model is complete yet, so nothing is ranked or drawn."]
    colours = figures.family_colours(report.class_paths)
    drawn = [
        _Figure("fig5a", "Dice in cross-validation (Fig. 5A)", _caption_5a(report), folder / "fig5a.png"),
    ]
    figures.save_figure(figures.ranking_figure(held_out, colours), folder / "fig5a")
    further = complete[complete["test_set"].isin(report.test_sets)]
    if len(further):
        shown = _models_in_5b(held_out, report)
        part = further[further["model"].isin(shown)]
        figures.save_figure(figures.generalization_figure(part, report.test_sets, colours), folder / "fig5b")
        caption = "Each page is scored by every fold's model and averaged first."
        if len(shown) < held_out["model"].nunique():
            caption += (
                " Shown is one model of each architecture, that on ResNet-50 where there is one as in the "
                "paper, else the best; the table below has all."
            )
        drawn.append(_Figure("fig5b", "Pages of another kind (Fig. 5B)", caption, folder / "fig5b.png"))
    costs = {name: label for name, label in tables.COST.items() if (held_out[name] > 0).all()}
    if costs:
        figures.save_figure(figures.cost_figure(held_out, costs, colours), folder / "cost")
        caption = "Up and to the left is better."
        drawn.append(_Figure("cost", "Quality against cost", caption, folder / "cost.png"))
    if len(report.results.thresholds):
        curves = tables.threshold_curves(report.results.thresholds)
        curves = pd.concat([curves[curves["model"] == model] for model in held_out["model"]])
        figure = figures.threshold_figure(curves, _threshold(report.results), colours)
        figures.save_figure(figure, folder / "threshold")
        caption = "The ranking is at the sweep's fixed threshold; the curve is for information."
        drawn.append(_Figure("threshold", "Dice at every threshold", caption, folder / "threshold.png"))
    return drawn, []


def _caption_5a(report: _Report) -> str:
    return (
        f"Bars: mean over scans of the Dice of the whole stitched page at threshold "
        f"{_threshold(report.results):g}, each scan predicted by the model that had not seen its fold. "
        f"One colour per architecture."
    )


def _thresholds(results: SweepResults) -> dict[str, float]:
    """Threshold of every finished cell that tells one."""
    told = {key: spec.get("evaluation", {}).get("threshold") for key, spec in results.specs.items()}
    return {key: float(threshold) for key, threshold in told.items() if threshold is not None}


def _threshold(results: SweepResults) -> float:
    return next(iter(_thresholds(results).values()), math.nan)


def _models_in_5b(held_out: pd.DataFrame, report: _Report) -> list[str]:
    """Choose one model of each architecture where all are too many: that on ResNet-50, else the best."""
    models = held_out["model"].tolist()  # best first
    if len(models) <= MAX_MODELS_IN_5B:
        return models
    backbones, shown = _backbones(report.results), []
    for family in dict.fromkeys(report.class_paths[model] for model in models):
        own = [model for model in models if report.class_paths[model] == family]
        shown.append(next((model for model in own if backbones.get(model) == BACKBONE_OF_5B), own[0]))
    return [model for model in models if model in shown]


def _backbones(results: SweepResults) -> dict[str, str]:
    """Backbone by label, of finished models that have one."""
    models = results.cells[["key", "model"]].itertuples(index=False)
    arguments = {
        model: results.specs[key].get("model", {}).get("init_args", {})
        for key, model in models
        if key in results.specs
    }
    return {model: str(own["backbone"]) for model, own in arguments.items() if "backbone" in own}


def _draw_triplets(report: _Report, folder: Path) -> tuple[list[_Figure], list[str]]:
    """Draw Fig. 4 of every model with held-out rows, as far as its pages and predictions still exist."""
    from lightning_app.report import figures

    drawn, notes = [], []
    try:
        pages = _HeldOutPages(report.results)
    except InkbeatError as error:
        return [], [f"Pictures of scans are left out: {error}"]
    ranked = dict.fromkeys(report.benchmark["model"])
    for model in ranked:
        picked = tables.best_median_worst(report.results.rows, model)
        try:
            examples = [pages.example(name, row) for name, row in picked.items()]
        except (InkbeatError, OSError) as error:
            notes.append(f"Pictures of {model} are left out: {error}")
            continue
        if examples:
            path = folder / f"fig4_{_slug(model)}.png"
            figures.save_picture(figures.triplet_picture(examples), path)
            drawn.append(_Figure("fig4", model, ", ".join(example.title for example in examples), path))
    return drawn, notes


class _HeldOutPages:
    """Scans, truths and predictions of the held-out folds.

    Args:
        results: Of the sweep; its plan says where the cohort lies.
    """

    def __init__(self, results: SweepResults) -> None:
        from datamodules.cohort import Cohort

        name = results.plan["test_sets"].get(tables.HELD_OUT)
        if name is None:  # a datamodule of the user's own, with data this project cannot read
            raise DataError(Problem("NO_COHORT", tables.HELD_OUT, "a data set without a cohort folder"))
        self._cells = results.root / "cells"
        self._cohort = Cohort.open((results.root / results.plan["cohorts"][name]["path"]).resolve())
        self._scans = {scan.scan_id: scan for scan in self._cohort.scans}
        recipe = results.plan.get("sweep", {}).get("cohorts", {}).get(name, {})
        self._drawn_by_us = "kind" in recipe

    def example(self, name: str, row: pd.Series[Any]) -> Any:
        """Load one scan for Fig. 4; pages that were not drawn by us lose their header and footer."""
        from PIL import Image

        from lightning_app.report.figures import Example, mask_margins

        scan = self._scans[row["scan_id"]]
        path = self._cells / str(row["cell"]) / "predictions" / tables.HELD_OUT / f"{scan.scan_id}.png"
        with Image.open(path) as picture:
            prediction = np.asarray(picture).astype(bool)
        example = Example(
            f"{name} · {scan.scan_id} · Dice {row['dice']:.3f}",
            self._cohort.load_image(scan),
            self._cohort.load_mask(scan) > 0,
            prediction,
        )
        return example if self._drawn_by_us else mask_margins(example)


def _slug(label: str) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in label.lower()).strip("-")
    # Labels may differ only in what a file name cannot hold.
    return f"{plain}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"


def _remove_stale(folder: Path, drawn: Sequence[_Figure]) -> None:
    """Remove figures of an earlier report that this one no longer has."""
    kept = {figure.path.stem for figure in drawn}
    for path in folder.iterdir():
        ours = path.stem.startswith("fig4_") or path.stem in ("fig5a", "fig5b", "cost", "threshold")
        if ours and path.stem not in kept:
            path.unlink()


# Pages


def _signals(report: _Report) -> SignalTables | None:
    results = report.results
    held_out = report.benchmark[report.benchmark["test_set"] == tables.HELD_OUT]
    ranked = held_out[held_out["complete"].astype(bool)]["model"].tolist()
    fitted = [spec.get("fit_on", {}).get("init_args", {}) for spec in results.specs.values()]
    cohorts = {str(arguments.get("cohort", "")) for arguments in fitted}
    folders = [results.root / "ceiling" / cohort for cohort in sorted(cohorts - {""})]
    signals = signal_tables(folders, results.rows, ranked)
    if signals is not None:
        audit_signals(signals.summary, signals.table1)
    return signals


def _signal_claims(report: _Report, signals: SignalTables | None) -> list[Claim]:
    """What the paper says of its Table 1, where the sweep has the paper's network and digitized its scans."""
    if signals is None or report.class_paths.get(report.reference) != report.plan.reference:
        return []
    return check_table1_claims(signals.table1[signals.table1["model"] == report.reference])


def _write_signals(folder: Path, signals: SignalTables | None) -> None:
    for name in ("signals", "table1"):
        path = folder / f"{name}.csv"
        if signals is None:
            path.unlink(missing_ok=True)
        else:
            write_durably(path, _csv(signals.summary if name == "signals" else signals.table1))


def _signal_context(signals: SignalTables | None) -> dict[str, Any]:
    if signals is None:
        return {"signals": [], "table1_model": "", "table1_html": "", "table1_markdown": ""}
    best = signals.summary["model"].iloc[0]
    table = signals.table1[signals.table1["model"] == best]
    return {
        "signals": signals.summary.to_dict("records"),
        "table1_model": best,
        "table1_html": to_html(table),
        "table1_markdown": to_markdown(table),
    }


def _context(
    report: _Report, charts: list[_Figure], triplets: list[_Figure], notes: list[str]
) -> dict[str, Any]:
    results = report.results
    held_out = report.benchmark[report.benchmark["test_set"] == tables.HELD_OUT]
    complete = held_out[held_out["complete"].astype(bool)]
    failed = results.cells[results.cells["state"] == "failed"]
    chosen = tables.chosen_thresholds(results.thresholds) if len(results.thresholds) else pd.DataFrame()
    return {
        "name": results.name,
        "facts": _facts(report),
        "counts": _counts(results),
        "plan": report.plan,
        "reference": report.reference,
        "ranking": complete.to_dict("records"),
        "unranked": held_out[~held_out["complete"].astype(bool)].to_dict("records"),
        "further": _further(report),
        "contrasts": report.contrasts.to_dict("records"),
        "layouts": _by_layout(report),
        "has_opinions": bool(report.contrasts["nb_p"].notna().any()),
        "test_sets": {tables.HELD_OUT: "cross-validation", **report.test_sets},
        "claims": report.claims,
        "chosen": chosen.to_dict("records"),
        "charts": {figure.name: figure for figure in charts},
        "triplets": triplets,
        "notes": notes,
        "failures": [_failure(row) for row in failed.to_dict("records")],
        "missing": tables.missing_cells(results.cells).to_dict("records"),
        "threshold": _threshold(results),
        "metrics_version": METRICS_VERSION,
        "cost_labels": tables.COST,
        "command": f"inkbeat report RUNS/{results.root.name}",  # wherever it lies: equal bytes
    }


def _counts(results: SweepResults) -> dict[str, int]:
    states = results.cells["state"].value_counts()
    order = ("done", "running", "interrupted", "failed", "missing")
    return {"planned": len(results.cells)} | {s: int(states[s]) for s in order if s in states.index}


def _further(report: _Report) -> list[dict[str, Any]]:
    """One row per complete model: its numbers on every further test set."""
    table = report.benchmark[report.benchmark["complete"].astype(bool)]
    return [
        {"model": model, "sets": {row["test_set"]: row for row in own.to_dict("records")}}
        for model, own in table.groupby("model", sort=False)
    ]


def _by_layout(report: _Report) -> list[dict[str, Any]]:
    """One row per model and layout in cross-validation; nothing where all pages have one layout."""
    table = report.layouts[report.layouts["test_set"] == tables.HELD_OUT]
    order = list(dict.fromkeys(report.benchmark["model"]))
    table = table.sort_values("model", key=lambda names: names.map(order.index), kind="stable")
    if table["layout"].nunique() <= 1:
        return []
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _failure(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "title": f"{row['model']} · fold {row['fold']} · seed {row['seed']}",
        "message": row.get("message") or row.get("error") or "",
        "traceback": row.get("traceback") or "",
        "key": row["key"],
    }


def _facts(report: _Report) -> dict[str, str]:
    """What, where and with which code: everything the numbers hang on."""
    results = report.results
    done = results.cells[results.cells["state"] == "done"]
    digest = hashlib.sha256("".join(sorted(done.get("result_sha256", done["key"]).astype(str))).encode())
    folds = sorted({int(fold) for fold in results.cells["fold"]})
    held_out = results.rows[results.rows["test_set"] == tables.HELD_OUT]
    patients = number_of(held_out["patient_id"].nunique(), "patient")
    cohorts = results.plan.get("cohorts", {})
    facts = {
        "Models": str(len(results.models)),
        "Folds": f"{len(folds)} of {_fold_count(results)} ({', '.join(map(str, folds))})",
        "Weight seeds": ", ".join(str(seed) for seed in sorted(set(results.cells["seed"]))),
        "Scans": f"{held_out['scan_id'].nunique()} held out, of {patients}",
        "Training": _training(next(iter(results.specs.values()))),
        "Signals": str(results.plan.get("sweep", {}).get("signals", "")),
        "Cohorts": ", ".join(f"{name} {cohort['id'][:12]}" for name, cohort in cohorts.items()),
        **_environment_facts(list(results.environments.values())),
        "Analysis plan": f"SHA-256 {report.plan.sha256}",
        "Results": f"SHA-256 {digest.hexdigest()} over {number_of(len(done), 'cell')}",
        "Metrics": f"version {METRICS_VERSION}; NSD and HD95 as in surface-distance 0.1",
    }
    return {name: value for name, value in facts.items() if value}


def _training(spec: Mapping[str, Any]) -> str:
    """How long and on what was trained: tells a reduced protocol from the paper's."""
    training, data = spec.get("training", {}), spec.get("fit_on", {}).get("init_args", {})
    parts = [f"{training[name]} {what}" for name, what in TRAINING_WORDS.items() if name in training]
    parts += [
        f"{name.replace('_', ' ')} {data[name]}"
        for name in ("batch_size", "patches_per_scan")
        if name in data
    ]
    return ", ".join(parts)


def _environment_facts(environments: list[Mapping[str, Any]]) -> dict[str, str]:
    def distinct(values: list[Any]) -> str:
        return "; ".join(sorted({str(value) for value in values if value}))

    packages = [
        ", ".join(f"{name} {number}" for name, number in environment.get("packages", {}).items())
        for environment in environments
    ]
    return {
        "Device": distinct([environment.get("device") for environment in environments]),
        "Processor": distinct([environment.get("processor") for environment in environments]),
        "System": distinct([environment.get("system") for environment in environments]),
        "Packages": distinct(packages),
        "Commit": distinct([environment.get("commit") for environment in environments]),
    }


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, float_format=CSV_FORMAT, lineterminator="\n").encode()


def _render(template: str, context: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "interval": _interval,
        "p": _p,
        "count": _count,
        "counted": _counted,
        "number_of": number_of,
    }
    return environment.get_template(template).render(context)


def _score(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _interval(row: Mapping[str, Any], prefix: str = "", *, sign: bool = False) -> str:
    low, high = row[f"{prefix}ci_low"], row[f"{prefix}ci_high"]
    if not math.isfinite(low):
        return "not estimable"
    return f"[{low:+.3f}, {high:+.3f}]" if sign else f"[{low:.3f}, {high:.3f}]"


def _counted(row: Mapping[str, Any]) -> str:
    return tables.counted(row["n_scans"], row["n_patients"])


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(value: float | None) -> str:
    """A big number in three digits and its unit, for instance 36.3 M."""
    if value is None or not math.isfinite(value):
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
