"""Turns per-scan rows into the tables of the report. Pure: data frames in, data frames out.

The unit is the scan, the cluster is the patient. A scan that several models of one architecture have seen
(seeds in cross-validation; folds and seeds on the other test sets) is averaged over them first, so it counts
once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from datamodules.wording import number_of
from lightning_app.evaluate import statistics
from lightning_app.evaluate.statistics import Resamples
from lightning_app.report.analysis_plan import AnalysisPlan

HELD_OUT = "cv"
COUNTS = ("tp", "fp", "fn")
NOT_METRICS = frozenset(
    ("cell", "model", "fold", "seed", "test_set", "scan_id", "patient_id", "layout", *COUNTS)
)
FIRST_METRICS = ("precision", "recall", "iou", "cldice", "nsd_1px", "nsd_2px", "hd95_px")
BY_SCAN = ["model", "scan_id"]
COST = {"params": "parameters", "macs": "multiply-adds per 128 px patch"}  # seconds: see cost.py


@dataclass(frozen=True)
class Scores:
    """One metric on one test set, each scan once per model.

    Attributes:
        values: (n_scans, n_models), index `scan_id`; NaN = scored, but no value.
        patients: (n_scans,) patient of each scan.
        layouts: (n_scans,) layout of each scan.
        draws: Bootstrap draws over these scans, shared by all models, so differences are paired.
    """

    values: pd.DataFrame
    patients: list[str]
    layouts: list[str]
    draws: Resamples


def counted(n_scans: float, n_patients: float) -> str:
    """Say how many scans and patients.

    Example:
        >>> counted(6, 1)
        '6 scans of 1 patient'
    """
    return f"{number_of(n_scans, 'scan')} of {number_of(n_patients, 'patient')}"


def metric_columns(rows: pd.DataFrame) -> list[str]:
    """Name the metrics of the rows: the usual ones first, whatever else a cell measured after them."""
    others = [
        name
        for name in rows.columns
        if name not in NOT_METRICS and name != "dice" and pd.api.types.is_numeric_dtype(rows[name])
    ]
    first = [name for name in FIRST_METRICS if name in others]
    return first + [name for name in others if name not in first]


def completeness(cells: pd.DataFrame) -> pd.DataFrame:
    """Say per model how far it is.

    Args:
        cells: One row per planned cell: `model, fold, seed, state`.

    Returns:
        Index model (in sweep order): `folds_done` (folds finished for every seed), `folds_planned`,
        `cells_done`, `cells_planned`, `complete`.
    """
    done = cells["state"].eq("done")
    by_fold = done.groupby([cells["model"], cells["fold"]]).all().groupby(level="model")
    by_model = done.groupby(cells["model"])
    table = pd.DataFrame(
        {
            "folds_done": by_fold.sum(),
            "folds_planned": by_fold.size(),
            "cells_done": by_model.sum(),
            "cells_planned": by_model.size(),
            "complete": by_model.all(),
        }
    )
    return table.loc[list(dict.fromkeys(cells["model"]))]


def scores(rows: pd.DataFrame, metric: str, plan: AnalysisPlan) -> Scores:
    """Collect one metric on one test set, one number per model and scan.

    Args:
        rows: Rows of one test set; every model on identical scans.
        metric: Column.
        plan: Gives bootstrap trials and seed.

    Returns:
        The table with its patients, layouts and draws.
    """
    values = rows.pivot_table(index="scan_id", columns="model", values=metric, aggfunc="mean", dropna=False)
    scans = rows.drop_duplicates("scan_id").set_index("scan_id").loc[values.index]
    patients, layouts = scans["patient_id"].astype(str).tolist(), scans["layout"].astype(str).tolist()
    draws = statistics.resample_patients(patients, layouts, plan.resamples, plan.seed)
    return Scores(values, patients, layouts, draws)


def benchmark_table(rows: pd.DataFrame, cells: pd.DataFrame, plan: AnalysisPlan) -> pd.DataFrame:
    """Make one row per model and test set, best model first; incomplete models come last, unranked.

    Args:
        rows: All per-scan rows.
        cells: All planned cells with their numbers.
        plan: The analysis plan.

    Returns:
        `model, test_set, rank, n_scans, n_patients, n_missing, dice_mean, dice_sd, dice_ci_low,
        dice_ci_high, dice_median, dice_pooled, dice_sd_folds, dice_sd_seeds`, then mean and n of every other
        metric, then
        `folds_done, folds_planned, cells_done, cells_planned, complete, params, macs`.

    Raises:
        DataError: If a scan was scored twice, a patient lies in two folds, or complete models differ in
            scans.
    """
    state = completeness(cells)
    held_out = rows[rows["test_set"] == HELD_OUT]
    if len(held_out):
        statistics.check_each_scan_once(held_out)
    records: list[dict[str, Any]] = []
    for test_set, part in rows.groupby("test_set", sort=True):
        statistics.check_rows_are_scans(part)
        complete = part[part["model"].map(state["complete"]).astype(bool)]
        if len(complete):
            statistics.check_same_scans(complete)
            records += _records(complete, str(test_set), plan)
        for _, unfinished in part[~part.index.isin(complete.index)].groupby("model", sort=True):
            records += _records(unfinished, str(test_set), plan)
    table = pd.DataFrame(records).join(state, on="model").join(_cost(cells), on="model")
    return _ranked(table, plan.test_set)


def layout_table(rows: pd.DataFrame, cells: pd.DataFrame, plan: AnalysisPlan) -> pd.DataFrame:
    """Make one row per test set, model and layout, so that a mixture never hides a layout that fails.

    Args:
        rows: All per-scan rows.
        cells: All planned cells.
        plan: The analysis plan.

    Returns:
        `test_set, model, layout, n_scans, n_patients, n_missing, dice_mean, dice_sd, dice_ci_low,
        dice_ci_high`; a layout of one scan has neither SD nor interval.
    """
    # An unfinished model stands alone: scans it has not reached are not scans without a value.
    complete = rows["model"].map(completeness(cells)["complete"]).astype(bool)
    together = rows["model"].where(~complete, "")
    records = []
    for (test_set, layout, _), part in rows.groupby(["test_set", "layout", together], sort=True):
        dice = scores(part, "dice", plan)
        summaries = statistics.summarise_columns(dice.values.to_numpy(), dice.draws, plan.level)
        for model, summary in zip(dice.values.columns, summaries, strict=True):
            ids = {"test_set": test_set, "model": model, "layout": layout}
            records.append({**ids, **_summary_columns(summary)})
    return pd.DataFrame(records).sort_values(["test_set", "model", "layout"], ignore_index=True)


def _summary_columns(summary: statistics.Summary) -> dict[str, float]:
    return {
        "n_scans": summary.n_scans,
        "n_patients": summary.n_patients,
        "n_missing": summary.n_missing,
        "dice_mean": summary.mean,
        "dice_sd": summary.sd,
        "dice_ci_low": summary.low,
        "dice_ci_high": summary.high,
    }


def _records(rows: pd.DataFrame, test_set: str, plan: AnalysisPlan) -> list[dict[str, Any]]:
    """One record per model of these rows, all on identical scans."""
    dice = scores(rows, "dice", plan)
    summaries = statistics.summarise_columns(dice.values.to_numpy(), dice.draws, plan.level)
    metrics = metric_columns(rows)
    by_scan = rows.groupby(BY_SCAN)[metrics].mean().groupby(level="model")
    means, counts = by_scan.mean().to_dict("index"), by_scan.count().to_dict("index")
    pooled, spreads = pooled_dice(rows), _spreads(rows)
    records = []
    for (model, column), summary in zip(dice.values.items(), summaries, strict=True):
        record = {
            "model": model,
            "test_set": test_set,
            **_summary_columns(summary),
            "dice_median": float(column.median()),
            "dice_pooled": pooled[model],
            "dice_sd_folds": spreads[model].sd_folds,
            "dice_sd_seeds": spreads[model].sd_seeds,
        }
        for metric in metrics:
            record[f"{metric}_mean"] = means[model][metric]
            record[f"{metric}_n"] = int(counts[model][metric])
        records.append(record)
    return records


def pooled_dice(rows: pd.DataFrame) -> dict[Any, float]:
    """Return, per model, Dice of all pixels thrown together (never the headline, R29); NaN without counts."""
    if not set(COUNTS) <= set(rows.columns):
        return dict.fromkeys(rows["model"], math.nan)
    sums = rows.groupby("model")[list(COUNTS)].sum()
    return _with_dice(sums)["dice"].to_dict()


def _spreads(rows: pd.DataFrame) -> dict[Any, statistics.Spread]:
    """Per model, SD between folds and between seeds of the mean Dice of its runs."""
    runs = rows.groupby(["model", "fold", "seed"])["dice"].mean().unstack("seed")
    spreads = {}
    for model, table in runs.groupby(level="model"):
        values = table.to_numpy()
        # A seed that has not seen every fold yet says nothing here.
        whole = values[:, np.isfinite(values).all(axis=0)]
        spreads[model] = statistics.spread(whole if whole.size else np.full((1, 1), math.nan))
    return spreads


def _cost(cells: pd.DataFrame) -> pd.DataFrame:
    """Size of each model as its finished cells tell it; a number no cell has told is NaN."""
    done = cells[cells["state"] == "done"].reindex(columns=["model", *COST])
    return done.groupby("model").median(numeric_only=True).reindex(columns=list(COST))


def _ranked(table: pd.DataFrame, primary: str) -> pd.DataFrame:
    """Sort by the primary test set's mean Dice and number the complete models; that test set comes first."""
    main = table[(table["test_set"] == primary) & table["complete"]].set_index("model")["dice_mean"]
    rank = main.rank(ascending=False, method="min")
    order = pd.DataFrame(
        {
            "unfinished": ~table["complete"].astype(bool),
            "secondary": table["test_set"] != primary,
            "score": -table["model"].map(main).fillna(-math.inf),
            "model": table["model"],
            "test_set": table["test_set"],
        }
    ).sort_values(["unfinished", "secondary", "test_set", "score", "model"], kind="stable")
    table.insert(2, "rank", table["model"].map(rank).astype("Int64"))
    return table.loc[order.index].reset_index(drop=True)


def reference_model(models: Sequence[str], class_paths: Mapping[str, str], plan: AnalysisPlan) -> str:
    """Choose the model the others are compared with: the first of the plan's class, else of the sweep.

    Args:
        models: Labels in sweep order.
        class_paths: Class path by label; may lack models of which nothing is known yet.
        plan: The analysis plan.
    """
    return next((model for model in models if class_paths.get(model) == plan.reference), models[0])


def contrasts_table(
    rows: pd.DataFrame, cells: pd.DataFrame, reference: str, n_folds: int, plan: AnalysisPlan
) -> pd.DataFrame:
    """Compare every other complete model with the reference, per test set.

    Args:
        rows: All per-scan rows.
        cells: All planned cells.
        reference: Label of the reference model.
        n_folds: Folds of the whole cross-validation, run or not.
        plan: The analysis plan.

    Returns:
        One row per test set and model: paired difference (model minus reference) with interval, raw and Holm
        p, Nadeau-Bengio and Bayesian second opinion (cross-validation with all its folds only, else NaN).
        Empty if the reference is not complete or alone.
    """
    state = completeness(cells)
    complete = [model for model in state.index[state["complete"]] if model != reference]
    if not (complete and state.loc[reference, "complete"]):
        return pd.DataFrame(columns=CONTRAST_COLUMNS)
    compared = rows[rows["model"].isin([reference, *complete])]
    tables = []
    for test_set, part in compared.groupby("test_set", sort=True):
        table = pd.DataFrame(_contrasts(part, str(test_set), reference, complete, plan))
        table["p_holm"] = statistics.holm(table["p_raw"].tolist())
        tables.append(table.join(pd.DataFrame(_second_opinions(part, str(test_set), table, n_folds, plan))))
    result = pd.concat(tables, ignore_index=True)[CONTRAST_COLUMNS]
    result["_secondary"] = result["test_set"] != plan.test_set
    order = ["_secondary", "test_set", "difference", "model"]
    ascending = [True, True, False, True]
    return result.sort_values(order, ascending=ascending, kind="stable", ignore_index=True).drop(
        columns="_secondary"
    )


OPINIONS = ("nb_ci_low", "nb_ci_high", "nb_p", "p_better", "p_equivalent", "p_worse")
CONTRAST_COLUMNS = [
    *("test_set", "metric", "model", "reference", "n_scans", "n_patients", "n_missing"),
    *("difference", "ci_low", "ci_high", "p_raw", "p_holm", "n_folds", "rope", *OPINIONS),
]


def _contrasts(
    rows: pd.DataFrame, test_set: str, reference: str, models: Sequence[str], plan: AnalysisPlan
) -> list[dict[str, Any]]:
    found = scores(rows, plan.metric, plan)
    differences = found.values[list(models)].sub(found.values[reference], axis=0).to_numpy()
    summaries = statistics.summarise_columns(differences, found.draws, plan.level)
    resampled = found.draws.means(differences)
    return [
        {
            "test_set": test_set,
            "metric": plan.metric,
            "model": model,
            "reference": reference,
            "n_scans": summary.n_scans,
            "n_patients": summary.n_patients,
            "n_missing": summary.n_missing,
            "difference": summary.mean,
            "ci_low": summary.low,
            "ci_high": summary.high,
            "p_raw": statistics.bootstrap_p(means, summary.n_patients),
        }
        for model, summary, means in zip(models, summaries, resampled.T, strict=True)
    ]


def _second_opinions(
    rows: pd.DataFrame, test_set: str, contrasts: pd.DataFrame, n_folds: int, plan: AnalysisPlan
) -> list[dict[str, Any]]:
    """Folds as units, where they are disjoint test sets and all of them have run."""
    runs = rows.groupby(["model", "fold"])[plan.metric].mean().unstack("fold")
    records: list[dict[str, Any]] = []
    for model, reference in contrasts[["model", "reference"]].itertuples(index=False):
        record = {"n_folds": runs.shape[1], "rope": plan.rope}
        if (
            test_set != HELD_OUT
            or runs.shape[1] != n_folds
            or runs.loc[[model, reference]].isna().any(axis=None)
        ):
            records.append(record | dict.fromkeys(OPINIONS, math.nan))
            continue
        ours, theirs = runs.loc[model].to_numpy(), runs.loc[reference].to_numpy()
        corrected = statistics.nadeau_bengio(ours - theirs, 1 / (n_folds - 1), plan.level)
        posterior = statistics.bayesian_comparison(ours, theirs, plan.rope)
        values = (
            *(corrected.low, corrected.high, corrected.p),
            *(posterior.better, posterior.equivalent, posterior.worse),
        )
        records.append(record | dict(zip(OPINIONS, values, strict=True)))
    return records


def missing_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """List the planned cells without a result: `model, fold, seed, state, key`."""
    return cells.loc[cells["state"] != "done", ["model", "fold", "seed", "state", "key"]].reset_index(
        drop=True
    )


def threshold_curves(thresholds: pd.DataFrame) -> pd.DataFrame:
    """Average Dice over the held-out scans at each threshold (R27 c).

    Args:
        thresholds: `model, fold, seed, test_set, scan_id, threshold, tp, fp, fn`.

    Returns:
        `model, threshold, dice, n_scans`.
    """
    rows = _with_dice(thresholds[thresholds["test_set"] == HELD_OUT])
    by_scan = rows.groupby(["model", "threshold", "scan_id"])["dice"].mean()
    table = by_scan.groupby(level=["model", "threshold"]).agg(["mean", "count"])
    return table.set_axis(["dice", "n_scans"], axis=1).reset_index()


def chosen_thresholds(thresholds: pd.DataFrame) -> pd.DataFrame:
    """Choose a threshold for each fold on the other folds' held-out scans, and score the fold at it (R27 b).

    No label of a fold has a say in its own threshold.

    Args:
        thresholds: As for `threshold_curves`; models with one finished fold are left out.

    Returns:
        `model, fold, threshold, dice, dice_fixed, n_scans`; `dice_fixed` is the fold's mean at 0.15.
    """
    rows = _with_dice(thresholds[thresholds["test_set"] == HELD_OUT])
    by_scan = rows.groupby(["model", "fold", "threshold", "scan_id"])["dice"].mean().reset_index()
    records = []
    for model, own in by_scan.groupby("model", sort=True):
        for fold in sorted(own["fold"].unique()) if own["fold"].nunique() > 1 else ():
            elsewhere = own[own["fold"] != fold].groupby("threshold")["dice"].mean()
            chosen = float(elsewhere.idxmax())
            here = own[own["fold"] == fold].groupby("threshold")["dice"].agg(["mean", "count"])
            records.append(
                {
                    "model": model,
                    "fold": int(fold),
                    "threshold": chosen,
                    "dice": float(here.loc[chosen, "mean"]),
                    "dice_fixed": float(here["mean"].get(0.15, math.nan)),
                    "n_scans": int(here.loc[chosen, "count"]),
                }
            )
    return pd.DataFrame(records, columns=["model", "fold", "threshold", "dice", "dice_fixed", "n_scans"])


def _with_dice(rows: pd.DataFrame) -> pd.DataFrame:
    ink = 2 * rows["tp"] + rows["fp"] + rows["fn"]
    return rows.assign(dice=np.where(ink > 0, 2 * rows["tp"] / ink.where(ink > 0, 1), np.nan))


def best_median_worst(rows: pd.DataFrame, model: str, metric: str = "dice") -> dict[str, pd.Series[Any]]:
    """Pick the held-out rows of a model's best, median and worst scan (Fig. 4); ties go to the first by name.

    Args:
        rows: All per-scan rows.
        model: Label.
        metric: Column to sort by.

    Returns:
        `best`, `median`, `worst` -> the row; fewer entries for fewer scans, none without held-out rows.
    """
    own = rows[(rows["model"] == model) & (rows["test_set"] == HELD_OUT)].dropna(subset=[metric])
    own = own.sort_values([metric, "scan_id", "seed"], ascending=[False, True, True], kind="stable")
    if own.empty:
        return {}
    places = {"best": 0, "worst": len(own) - 1, "median": (len(own) - 1) // 2}
    picked = {name: own.iloc[place] for name, place in places.items()}
    unique = {row["scan_id"]: name for name, row in reversed(picked.items())}
    return {name: picked[name] for name in ("best", "median", "worst") if name in unique.values()}
