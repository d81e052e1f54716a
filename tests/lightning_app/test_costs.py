import json
from pathlib import Path

import pytest

from lightning_app import costs
from lightning_app.cells import write_json
from lightning_app.planning import make_plan
from lightning_app.specs import check_sweep, load_sweep
from tests.lightning_app.specs_of_tiny import TINY

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SWEEPS = sorted(path for path in EXPERIMENTS.glob("*.yaml") if not path.name.startswith("wandb"))


def everything(plan):
    return {cell.key for cell in plan.cells}


def test_the_papers_cost_by_hand(tmp_path):
    plan = make_plan(load_sweep(EXPERIMENTS / "paper.yaml"), tmp_path)
    # 76.8 of 96 scans x 64 patches x 100 epochs and 24 pseudo scans x 64; 19.2 held-out pages and 6 x 282.
    patches = 76.8 * 64 * 100 + 24 * 64
    windows = (19.2 + 6 * 282) * 13 * 17
    assert costs.patches_and_windows(plan) == pytest.approx((patches, windows))
    rows = json.loads(costs.TABLE.read_text())["models"]
    wide = {("models.resunet_cbam.ResUNetCBAM", '{"width": 64}')}
    backbones = {(f"models.{net}", json.dumps({"backbone": f"resnet{depth}"}))
                 for net in ("fcn.FCN", "deeplabv3.DeepLabV3") for depth in (18, 34, 50, 101)}  # fmt: skip
    macs = [row["macs_per_patch"] for row in rows
            if (row["class_path"], json.dumps(row["init_args"])) in wide | backbones]  # fmt: skip
    assert len(macs) == 9
    expected = 5 * sum(macs) * 2 * (3 * patches + windows)
    found = costs.estimate(plan, everything(plan))
    assert found["flop"] == found["flop_left"] == pytest.approx(expected)
    assert found["unknown"] == []


def test_larger_patches_cost_by_their_area(tmp_path):
    plan = make_plan(load_sweep(EXPERIMENTS / "reader.yaml"), tmp_path)
    patches, _ = costs.patches_and_windows(plan)
    # 1000 and 39 of 40 parts of 2000 scans, 2 patches of 256 px from each, 6 and 8 epochs.
    assert patches == pytest.approx((1000 * 6 + 1950 * 8) * 2 * 4)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_cost_of_every_shipped_sweep_is_known(path, tmp_path):
    plan = make_plan(load_sweep(path), tmp_path)
    assert costs.estimate(plan, everything(plan))["unknown"] == []


@pytest.mark.parametrize("overlap_px", [0, 32, 64, 96])
def test_windows_are_counted_as_they_are_placed(overlap_px):
    from models.windows import window_starts

    height, width = (len(window_starts(side, overlap_px=overlap_px)) for side in costs.PAGE_PX)
    assert costs.windows_per_page(overlap_px) == height * width


def rows_to_check(most_macs):
    rows = json.loads(costs.TABLE.read_text())["models"]
    return [row for row in rows if row["macs_per_patch"] <= most_macs]


def check_table(rows):
    from lightning_app.model_commands import describe
    from lightning_app.train import class_of

    for row in rows:
        assert describe(class_of(row["class_path"]), row["init_args"]) == row


def test_the_table_is_true_for_small_networks():
    rows = rows_to_check(5e9)
    assert len({row["class_path"] for row in rows}) >= 3
    check_table(rows)


@pytest.mark.slow
def test_the_table_is_true():
    check_table(rows_to_check(float("inf")))


def test_arguments_of_training_do_not_make_another_network():
    model = load_sweep(EXPERIMENTS / "quick.yaml").models[0]
    plain = model.model_copy(update={"init_args": {"width": 16}})
    assert "lr" in model.init_args
    assert costs.network(model) == costs.network(plain)
    assert costs.network(plain) != costs.network(plain.model_copy(update={"init_args": {"width": 32}}))


def test_a_network_of_ones_own_is_unknown_until_its_first_cell(tmp_path):
    content = dict(TINY, cohorts={"binary": {"kind": "binary", "scans": 4}})
    content["fit_on"] = {"class_path": "datamodules.scans.BinaryScans", "init_args": {"cohort": "binary"}}
    content |= {"pretrain_on": None, "test_on": []}
    plan = make_plan(check_sweep(content), tmp_path)
    assert costs.estimate(plan, everything(plan))["unknown"] == ["TinyNet"]
    folder = plan.store.folder(plan.cells[0].key)
    folder.mkdir(parents=True)
    write_json(folder / "result.json", {"state": "done", "macs": 1000})
    again = costs.estimate(plan, set())
    assert again["unknown"] == []
    # 2 of 4 scans x 64 patches x 3 epochs, forward and twice backward; 2 pages.
    assert again["flop"] == pytest.approx(2 * 1000 * (3 * 2 * 64 * 3 + 2 * 221))
    assert again["flop_left"] == 0


def test_data_without_a_cohort_cost_nobody_knows_what(tmp_path):
    plan = make_plan(check_sweep(TINY), tmp_path)
    found = costs.estimate(plan, everything(plan))
    assert (found["flop"], found["unknown"]) == (0, ["TinyNet"])


def test_rates_are_learnt_from_cells_of_any_sweep(tmp_path):
    told = {
        "machine": "this one",
        "at_a_time": 2,
        "train_flop": 3e9,
        "train_s": 3,
        "test_flop": 8e9,
        "predict_s": 2,
    }
    for sweep, key, change in (("a", "k1", {}), ("b", "k2", {"train_s": 1}), ("b", "k3", {"train_s": 0})):
        (tmp_path / sweep / "cells" / key).mkdir(parents=True)
        write_json(tmp_path / sweep / "cells" / key / "timing.json", told | change)
    (rate,) = costs.measured_rates(tmp_path)
    assert (rate.train, rate.test, rate.at_a_time, rate.is_measured) == (1.5e9, 4e9, 2, True)
    assert rate.hours(costs.Cost(train=1.5e9 * 3600, test=4e9 * 3600)) == pytest.approx(1.0)
