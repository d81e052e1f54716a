import math

import numpy as np
import pandas as pd
import pytest

from datamodules.errors import DataError
from lightning_app.report import tables
from lightning_app.report.analysis_plan import PLAN_FILE, load_analysis_plan

PLAN = load_analysis_plan()
QUALITY = {"unet": 0.9, "fcn": 0.8, "deeplab": 0.7}


def make(models=QUALITY, *, folds=5, seeds=(0,), scans=30, sets=("cv", "grey"), noise=0.02, seed=0):
    """Rows and cells of a finished sweep with known means."""
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0, 0.03, scans)
    rows, cells = [], []
    for model, quality in models.items():
        for s in seeds:
            for fold in range(folds):
                cells.append(
                    {"key": f"{model}{fold}{s}", "model": model, "fold": fold, "seed": s, "state": "done",
                     "params": 1e6 * quality}
                )  # fmt: skip
                for test_set in sets:
                    for scan in range(scans):
                        if test_set == "cv" and scan % folds != fold:
                            continue
                        rows.append(
                            {"cell": cells[-1]["key"], "model": model, "fold": fold, "seed": s,
                             "test_set": test_set, "scan_id": f"{test_set}{scan:03d}",
                             "patient_id": f"p{scan:03d}", "layout": "six" if scan % 6 == 5 else "four",
                             "dice": quality + hardness[scan] + noise * rng.normal(),
                             "precision": 0.5, "recall": 0.5, "iou": 0.4, "hd95_px": 3.0,
                             "tp": 10.0 * quality, "fp": 1.0, "fn": 1.0}
                        )  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(cells)


def test_models_are_ranked_by_mean_dice_in_cross_validation():
    table = tables.benchmark_table(*make(), PLAN)
    held_out = table[table["test_set"] == "cv"]
    assert held_out["model"].tolist() == ["unet", "fcn", "deeplab"]
    assert held_out["rank"].tolist() == [1, 2, 3]
    assert table["test_set"].tolist() == ["cv"] * 3 + ["grey"] * 3
    assert table["rank"].tolist() == [1, 2, 3, 1, 2, 3]


def test_the_means_are_those_of_a_plain_loop():
    rows, cells = make(seeds=(0, 1))
    table = tables.benchmark_table(rows, cells, PLAN).set_index(["model", "test_set"])
    for (model, test_set), row in table.iterrows():
        own = rows[(rows["model"] == model) & (rows["test_set"] == test_set)]
        by_scan = [own.loc[own["scan_id"] == scan, "dice"].mean() for scan in sorted(set(own["scan_id"]))]
        assert row["dice_mean"] == pytest.approx(np.mean(by_scan))
        assert row["dice_sd"] == pytest.approx(np.std(by_scan, ddof=1))
        assert row["n_scans"] == row["n_patients"] == 30
        assert row["dice_ci_low"] < row["dice_mean"] < row["dice_ci_high"]
        tp = own["tp"].sum()
        assert row["dice_pooled"] == pytest.approx(2 * tp / (2 * tp + own["fp"].sum() + own["fn"].sum()))


def test_many_models_of_one_scan_do_not_narrow_the_interval_as_new_scans_would():
    """Five fold models score the same colour pages: pages stay the unit (E6)."""
    table = tables.benchmark_table(*make({"unet": 0.9}, noise=0.0), PLAN).set_index("test_set")
    widths = table["dice_ci_high"] - table["dice_ci_low"]
    assert widths["grey"] == pytest.approx(widths["cv"], rel=0.02)


def test_seeds_and_folds_are_told_apart():
    table = tables.benchmark_table(*make({"unet": 0.9}, seeds=(0, 1, 2)), PLAN)
    row = table[table["test_set"] == "cv"].iloc[0]
    assert 0 < row["dice_sd_seeds"] < 0.02
    assert 0 < row["dice_sd_folds"] < 0.05
    one = tables.benchmark_table(*make({"unet": 0.9}), PLAN)
    assert one["dice_sd_seeds"].isna().all()


def test_unfinished_models_are_listed_last_and_never_ranked():
    rows, cells = make()
    cells.loc[(cells["model"] == "unet") & (cells["fold"] == 4), "state"] = "missing"
    rows = rows[rows["cell"].isin(cells.loc[cells["state"] == "done", "key"])]
    table = tables.benchmark_table(rows, cells, PLAN)
    last = table[table["model"] == "unet"]
    assert table.index[table["model"] == "unet"].min() == 4
    assert last["rank"].isna().all()
    assert not last["complete"].any()
    assert last["folds_done"].tolist() == [4, 4]
    assert last["folds_planned"].tolist() == [5, 5]
    assert table.loc[table["model"] == "fcn", "rank"].tolist() == [1, 1]


def test_missing_values_are_counted():
    rows, cells = make({"unet": 0.9})
    rows.loc[rows["scan_id"].isin(["cv000", "cv001"]), ["dice", "hd95_px"]] = np.nan
    row = tables.benchmark_table(rows, cells, PLAN).iloc[0]
    assert (row["n_scans"], row["n_missing"], row["hd95_px_n"]) == (28, 2, 28)


def test_a_metric_added_later_becomes_a_column():
    rows, cells = make({"unet": 0.9})
    rows["snr_db"] = np.where(rows["fold"] == 0, 7.0, np.nan)
    row = tables.benchmark_table(rows, cells, PLAN).iloc[0]
    assert (row["snr_db_mean"], row["snr_db_n"]) == (7.0, 6)


def test_costs_nobody_measured_are_empty_columns():
    table = tables.benchmark_table(*make(), PLAN)
    assert table["macs"].isna().all()
    assert table["params"].iloc[0] == pytest.approx(9e5)


def test_a_scan_scored_twice_stops_the_report():
    rows, cells = make()
    with pytest.raises(DataError, match="SCAN_TWICE"):
        tables.benchmark_table(pd.concat([rows, rows.iloc[:1]], ignore_index=True), cells, PLAN)


def test_complete_models_on_different_scans_stop_the_report():
    rows, cells = make()
    rows = rows[~((rows["model"] == "fcn") & (rows["scan_id"] == "grey003"))]
    with pytest.raises(DataError, match="SCANS_DIFFER fcn"):
        tables.benchmark_table(rows, cells, PLAN)


# Contrasts


def test_contrasts_are_paired_differences_with_holm_within_a_test_set():
    rows, cells = make()
    table = tables.contrasts_table(rows, cells, "unet", 5, PLAN)
    assert table.columns.tolist() == tables.CONTRAST_COLUMNS
    assert table["test_set"].tolist() == ["cv", "cv", "grey", "grey"]
    assert table["model"].tolist() == ["fcn", "deeplab"] * 2
    wide = rows[rows["test_set"] == "cv"].pivot_table(index="scan_id", columns="model", values="dice")
    first = table.iloc[0]
    assert first["difference"] == pytest.approx((wide["fcn"] - wide["unet"]).mean())
    assert first["ci_low"] < first["difference"] < first["ci_high"] < 0
    assert (table["p_holm"] >= table["p_raw"]).all()
    assert first["p_holm"] == pytest.approx(2 * table["p_raw"][:2].min())
    assert first["p_worse"] > 0.99
    assert first["nb_p"] < 0.01
    assert table.loc[table["test_set"] == "grey", "nb_p"].isna().all()


def test_second_opinions_need_every_fold():
    rows, cells = make(folds=2)
    table = tables.contrasts_table(rows, cells, "unet", 5, PLAN)
    assert table["nb_p"].isna().all()
    assert table["p_better"].isna().all()
    assert (table["n_folds"] == 2).all()
    assert table["p_raw"].notna().all()


def test_equal_models_differ_by_nothing():
    rows, cells = make({"a": 0.8, "b": 0.8}, noise=0.0)
    row = tables.contrasts_table(rows, cells, "a", 5, PLAN).iloc[0]
    assert row["difference"] == pytest.approx(0.0, abs=1e-12)
    assert row["p_equivalent"] == pytest.approx(1.0)


def test_an_unfinished_reference_leaves_no_contrasts():
    rows, cells = make()
    cells.loc[0, "state"] = "failed"
    assert tables.contrasts_table(rows, cells, "unet", 5, PLAN).empty
    assert tables.contrasts_table(*make({"unet": 0.9}), "unet", 5, PLAN).empty


def test_the_reference_is_the_papers_network_where_there_is_one():
    paths = {"a": "models.fcn.FCN", "b": PLAN.reference, "c": PLAN.reference}
    assert tables.reference_model(["a", "b", "c"], paths, PLAN) == "b"
    assert tables.reference_model(["a"], paths, PLAN) == "a"


# Thresholds and examples


def curves():
    rows = []
    for fold in range(3):
        for scan in range(4):
            for threshold, hits in ((0.15, 50), (0.5, 90 if fold else 10)):
                rows.append(
                    {"model": "unet", "fold": fold, "seed": 0, "test_set": "cv", "threshold": threshold,
                     "scan_id": f"{fold}{scan}", "tp": hits, "fp": 100 - hits, "fn": 100 - hits}
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_threshold_curves_average_over_scans():
    table = tables.threshold_curves(curves()).set_index("threshold")
    assert table.loc[0.15, "dice"] == pytest.approx(0.5)
    assert table.loc[0.5, "dice"] == pytest.approx((0.1 + 0.9 + 0.9) / 3)
    assert (table["n_scans"] == 12).all()


def test_a_folds_threshold_is_chosen_by_the_other_folds_only():
    """Planted leak (E4): fold 0 would choose 0.15 for itself, the others say 0.5."""
    chosen = tables.chosen_thresholds(curves()).set_index("fold")
    assert chosen.loc[0, "threshold"] == 0.5
    assert chosen.loc[0, "dice"] == pytest.approx(0.1)
    assert chosen.loc[0, "dice_fixed"] == pytest.approx(0.5)
    assert chosen["n_scans"].tolist() == [4, 4, 4]


def test_best_median_and_worst_scan():
    rows, _ = make({"unet": 0.9}, scans=5)
    own = rows[rows["test_set"] == "cv"].sort_values("dice")
    picked = tables.best_median_worst(rows, "unet")
    assert list(picked) == ["best", "median", "worst"]
    assert picked["best"]["scan_id"] == own["scan_id"].iloc[-1]
    assert picked["median"]["scan_id"] == own["scan_id"].iloc[2]
    assert picked["worst"]["scan_id"] == own["scan_id"].iloc[0]
    assert list(tables.best_median_worst(rows[rows["scan_id"] == "cv000"], "unet")) == ["best"]
    assert tables.best_median_worst(rows, "nobody") == {}


# Plan


def test_the_analysis_plan_is_the_protocols():
    assert (PLAN.metric, PLAN.test_set, PLAN.rope, PLAN.resamples) == ("dice", "cv", 0.01, 10_000)
    assert PLAN.best_score == 0.85
    assert len(PLAN.sha256) == 64


def test_any_change_of_the_plan_shows_in_its_hash(tmp_path):
    changed = tmp_path / "plan.yaml"
    changed.write_text(PLAN_FILE.read_text().replace("rope: 0.01", "rope: 0.02"))
    other = load_analysis_plan(changed)
    assert other.rope == 0.02
    assert other.sha256 != PLAN.sha256
    assert math.isclose(other.level, PLAN.level)
