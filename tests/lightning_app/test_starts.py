"""Sweeps whose models start from trained weights: what is carried over, what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from datamodules.errors import ConfigError
from lightning_app.cells import RESULT, Store, read_json
from lightning_app.specs import cells, check_sweep
from lightning_app.starts import find_start
from tests.lightning_app.cell_runs import planned_jobs, run
from tests.lightning_app.specs_of_tiny import tiny_with
from tests.lightning_app.sweeps import sweep_with

NO_LEARNING = {"channels": 2, "lr": 1e-30}
IDS = {"binary": "b" * 64, "pseudo": "p" * 64, "colour": "c" * 64}


def learnt(folder: Path) -> dict[str, np.ndarray]:
    """Weights that gradients move; the sums of batch norms move without."""
    state = safetensors.numpy.load_file(folder / "model.safetensors")
    return {name: value for name, value in state.items() if not name.startswith("net.1.")}


def ran(content, runs: Path) -> Path:
    (job,) = planned_jobs(content, runs)
    assert run(job) == 0
    return Store(job.sweep_dir).folder(job.key)


def described(folder: Path, **spec) -> Path:
    """A file of weights with what is said of them."""
    weights = folder / "start.safetensors"
    weights.write_bytes(b"weights")
    weights.with_suffix(".json").write_text(json.dumps(spec), encoding="utf-8")
    return weights


@pytest.mark.timeout(120)
@pytest.mark.parametrize("names_the_file", [False, True])
def test_a_training_goes_on_from_the_weights_of_a_cell(tmp_path, names_the_file):
    first = ran(tiny_with(name="first"), tmp_path)
    start = first / "model.safetensors" if names_the_file else first
    # AdaBound's bounds would make a small rate large: they are kept closed.
    model = {**NO_LEARNING, "final_lr": 1e-30}
    content = tiny_with(name="second", start_from=str(start), **{"models.0.init_args": model})
    second = ran(content, tmp_path)
    for name, value in learnt(first).items():
        np.testing.assert_allclose(learnt(second)[name], value, atol=1e-9, err_msg=name)
    del content["start_from"]
    fresh = ran(content | {"name": "third"}, tmp_path)
    assert any(np.abs(value - learnt(fresh)[name]).max() > 0.01 for name, value in learnt(first).items())


def test_the_weights_are_part_of_the_key_by_their_content():
    sweep = check_sweep(sweep_with())
    plain, first, second = (cells(sweep, IDS, sha256)[0] for sha256 in (None, "1" * 64, "2" * 64))
    assert len({plain.key, first.key, second.key}) == 3
    assert len({plain.spec.fit_key, first.spec.fit_key, second.spec.fit_key}) == 3
    assert "start_from" not in json.loads(plain.spec.canonical())  # such cells had their keys before


def test_missing_weights_and_missing_descriptions_are_told_apart(tmp_path):
    lonely = tmp_path / "lonely.safetensors"
    lonely.write_bytes(b"weights")
    for start, missing in ((tmp_path / "none", "no none and no spec.json"), (lonely, "no spec.json")):
        with pytest.raises(ConfigError, match="START_MISSING") as caught:
            find_start(check_sweep(sweep_with(start_from=str(start))), IDS)
        assert missing in str(caught.value)


def test_weights_of_another_class_are_refused(tmp_path):
    start = described(tmp_path, model={"class_path": "models.fcn.FCN"})
    sweep = check_sweep(sweep_with(start_from=str(start)))
    with pytest.raises(ConfigError, match="START_MISMATCH") as caught:
        find_start(sweep, IDS)
    assert [problem.where for problem in caught.value.problems] == ["models.0.class_path"]


@pytest.mark.timeout(120)
def test_weights_of_another_size_fail_the_cell_and_say_which_layer(tmp_path):
    first = ran(tiny_with(name="first"), tmp_path)
    content = tiny_with(name="second", start_from=str(first), **{"models.0.init_args": {"channels": 3}})
    (job,) = planned_jobs(content, tmp_path)
    assert run(job) == 1
    message = read_json(Store(job.sweep_dir).folder(job.key) / RESULT)["error"]["message"]
    assert "START_MISMATCH" in message
    assert "net.0.weight" in message


@pytest.mark.parametrize(
    ("stage", "cohort", "place"),
    [
        ("fit_on", "binary", "fit_on"),
        ("pretrain_on", "binary", "fit_on"),
        ("fit_on", "colour", "test_on colour_grey"),
    ],
)
def test_a_test_on_scans_that_the_weights_have_seen_is_refused(tmp_path, stage, cohort, place):
    seen = {stage: {"init_args": {"cohort": IDS[cohort]}}}
    start = described(tmp_path, model={"class_path": "models.fcn.FCN"}, **seen)
    content = sweep_with(start_from=str(start), models=[{"class_path": "models.fcn.FCN"}])
    with pytest.raises(ConfigError, match="START_SAW_TEST") as caught:
        find_start(check_sweep(content), IDS)
    assert [problem.where for problem in caught.value.problems] == [place]


def test_pretraining_again_on_what_the_weights_have_seen_is_no_leak(tmp_path):
    start = described(
        tmp_path,
        model={"class_path": "models.fcn.FCN"},
        pretrain_on={"init_args": {"cohort": IDS["pseudo"]}},
        fit_on=None,
    )
    content = sweep_with(start_from=str(start), models=[{"class_path": "models.fcn.FCN"}])
    found = find_start(check_sweep(content), IDS)
    assert found is not None
    assert found.path == start


@pytest.mark.timeout(120)
def test_weights_that_changed_after_the_plan_are_not_used(tmp_path):
    first = ran(tiny_with(name="first"), tmp_path)
    moved = shutil.copytree(first, tmp_path / "moved")
    (job,) = planned_jobs(tiny_with(name="second", start_from=str(moved)), tmp_path)
    (moved / "model.safetensors").write_bytes(b"others")
    assert run(job) == 1
    message = read_json(Store(job.sweep_dir).folder(job.key) / RESULT)["error"]["message"]
    assert "START_CHANGED" in message


def test_all_problems_of_a_start_come_at_once(tmp_path):
    start = described(
        tmp_path, model={"class_path": "models.fcn.FCN"}, fit_on={"init_args": {"cohort": IDS["binary"]}}
    )
    with pytest.raises(ConfigError) as caught:
        find_start(check_sweep(sweep_with(start_from=str(start))), IDS)
    assert {problem.code for problem in caught.value.problems} == {"START_MISMATCH", "START_SAW_TEST"}
