"""The W&B sweep hands out each cell of its sweep file once, with a command the command line understands."""

import itertools
from pathlib import Path

import pytest
import yaml

from datamodules.errors import ConfigError
from lightning_app.planning import make_plan
from lightning_app.specs import load_sweep
from lightning_app.sweep_commands import part_of, run

ROOT = Path(__file__).resolve().parents[2]
SWEEP = yaml.safe_load((ROOT / "experiments" / "wandb_sweep.yaml").read_text(encoding="utf-8"))


def commands() -> list[list[str]]:
    """What agents call, put together by W&B's own function."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    names, values = zip(
        *((name, entry["values"]) for name, entry in SWEEP["parameters"].items()), strict=True
    )
    found = []
    for chosen in itertools.product(*values):
        arguments = {name: {"value": value} for name, value in zip(names, chosen, strict=True)}
        flags = create_sweep_command_args({"args": arguments})["args"]
        found.append([text for part in SWEEP["command"] for text in (flags if part == "${args}" else [part])])
    return found


def test_it_is_a_grid_so_that_each_cell_is_run_once():
    assert SWEEP["method"] == "grid"


@pytest.mark.filterwarnings("ignore")  # W&B's launch package is not quiet on import
def test_the_commands_are_the_cells_of_the_sweep_file(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = None
    keys = []
    for program, command, *arguments in commands():
        assert (program, command) == (".venv/bin/inkbeat", "run")
        given = run.make_context("run", list(arguments)).params
        plan = plan or make_plan(load_sweep(given["sweep"]), tmp_path)
        keys += part_of(plan, given["models"], given["folds"], given["seeds"])
    assert sorted(keys) == sorted(cell.key for cell in plan.cells)


def test_a_part_that_is_not_there_is_told(tmp_path):
    plan = make_plan(load_sweep(ROOT / "experiments" / "smoke.yaml"), tmp_path)
    assert len(part_of(plan, (), (0,), ())) == 2
    with pytest.raises(ConfigError) as caught:
        part_of(plan, ("U-Met",), (7,), (0,))
    assert [problem.where for problem in caught.value.problems] == ["--model", "--fold"]
