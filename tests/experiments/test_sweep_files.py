"""Every sweep file that ships can be planned, its models be built, and its header tells what to expect."""

import re
from pathlib import Path

import pytest

from lightning_app.planning import make_plan
from lightning_app.prepare import distinct
from lightning_app.specs import load_sweep

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
SWEEPS = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("wandb"))
CELLS = {"paper": 45, "quick": 6, "smoke": 4, "cpu": 20}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_it_is_planned(path, tmp_path):
    plan = make_plan(load_sweep(path), tmp_path)
    assert plan.sweep.name == path.stem
    assert len({cell.key for cell in plan.cells}) == CELLS.get(path.stem, len(plan.cells))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_it_opens_with_command_cost_and_expected_result(path, tmp_path):
    lines = path.read_text(encoding="utf-8").splitlines()
    header = " ".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    assert "make benchmark" in header or "inkbeat run" in header
    told = int(re.search(r"(\d+) cells?\b", header)[1])
    assert told == len(make_plan(load_sweep(path), tmp_path).cells)
    assert any(unit in header for unit in (" h on ", "minute", "Cost:"))
    assert "Expected" in header or "Shows" in header


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_model_can_be_built(path, tmp_path):
    import torch

    from lightning_app.train import class_of

    for model in distinct([cell.spec.model for cell in make_plan(load_sweep(path), tmp_path).cells]):
        # Fetching ready-made weights needs a network.
        arguments = {name: value for name, value in model.init_args.items() if name != "encoder_weights"}
        with torch.device("meta"):
            class_of(model.class_path)(**arguments)


def test_the_paper_sweep_holds_the_papers_numbers(tmp_path):
    sweep = load_sweep(FOLDER / "paper.yaml")
    assert len(sweep.models) == 9
    assert (sweep.folds.numbers, sweep.folds.count) == ((0, 1, 2, 3, 4), 5)
    assert {name: cohort.scans for name, cohort in sweep.cohorts.items()} == {
        "binary": 96, "pseudo": 24, "colour": 282,
    }  # fmt: skip
    assert sweep.fit_on.init_args | {"cohort": ""} == {"cohort": "", "batch_size": 64, "patches_per_scan": 64}
    assert (sweep.training.epochs, sweep.training.pretrain_epochs) == (100, 1)
    assert (sweep.evaluation.threshold, sweep.evaluation.overlap_px) == (0.15, 64)
    noise = [test.init_args["amount"] for test in sweep.test_on if "amount" in test.init_args]
    assert noise == [0.0, 0.01, 0.02, 0.05, 0.10]
    assert [test.name for test in sweep.test_on if test.init_args.get("binarize")] == ["colour_binarized"]
