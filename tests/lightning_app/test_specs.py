"""Sweep files: what is refused and how, and what a cell's key depends on."""

import json
from pathlib import Path

import pytest
import yaml

from datamodules.errors import ConfigError
from lightning_app.specs import SCHEMA_VERSION, canonical_json, cells, check_sweep, load_sweep
from tests.lightning_app.sweeps import sweep_with

IDS = {"binary": "b" * 64, "pseudo": "p" * 64, "colour": "c" * 64}


def problems_of(content):
    with pytest.raises(ConfigError) as caught:
        check_sweep(content)
    return caught.value.problems


def keys(content, ids=IDS):
    return [cell.key for cell in cells(check_sweep(content), ids)]


def written(tmp_path: Path, content) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_cells_are_models_times_folds_times_seeds():
    planned = cells(check_sweep(sweep_with(seeds=[0, 7])), IDS)
    assert len(planned) == 2 * 2 * 2
    assert len({cell.key for cell in planned}) == len(planned)
    assert [cell.label for cell in planned[:4]] == ["ResUNetCBAM"] * 4
    assert {(cell.spec.folds.fold, cell.spec.seeds.weights) for cell in planned} == {
        (f, s) for f in (0, 1) for s in (0, 7)
    }


def test_all_folds_run_by_default():
    assert len(keys(sweep_with(**{"folds.run": None}))) == 2 * 3


@pytest.mark.parametrize(
    ("path", "value", "code", "where"),
    [
        ("folds.cuont", 3, "UNKNOWN_KEY", "folds.cuont"),
        ("training.epochs", 0, "BAD_VALUE", "training.epochs"),
        ("training.epochs", "many", "BAD_VALUE", "training.epochs"),
        ("training.precision", "8-bit", "BAD_VALUE", "training.precision"),
        ("evaluation.threshold", 1.5, "BAD_VALUE", "evaluation.threshold"),
        ("evaluation.threshold", -0.1, "BAD_VALUE", "evaluation.threshold"),
        ("evaluation.overlap_px", 128, "BAD_VALUE", "evaluation.overlap_px"),
        ("folds.count", 7, "TOO_MANY_FOLDS", "folds.count"),
        ("folds.run", [0, 3], "BAD_VALUE", "folds.run"),
        ("folds.run", [1, 1], "REPEATED", "folds.run"),
        ("seeds", [], "BAD_VALUE", "seeds"),
        ("seeds", [0, -1], "BAD_VALUE", "seeds.1"),
        ("seeds", [0, 0], "REPEATED", "seeds"),
        ("cohorts.binary.kind", "green", "BAD_VALUE", "cohorts.binary.kind"),
        ("cohorts.binary.scans", 0, "BAD_VALUE", "cohorts.binary.scans"),
        ("cohorts.binary.difficulty", "hard", "BAD_VALUE", "cohorts.binary.difficulty"),
        ("cohorts.colour.difficulty", "literal-50", "BAD_VALUE", "cohorts.colour.difficulty"),
        ("fit_on", None, "MISSING_KEY", "fit_on"),
        ("name", "../escape", "BAD_VALUE", "name"),
        ("models.0.class_path", "models.resunet_cbam.ResUNetCBAN", "UNKNOWN_CLASS", "models.0.class_path"),
        ("models.0.class_path", "models.resunet.ResUNetCBAM", "UNKNOWN_CLASS", "models.0.class_path"),
        ("models.0.class_path", "no_such_package.Net", "UNKNOWN_CLASS", "models.0.class_path"),
        ("models.0.class_path", "Net", "UNKNOWN_CLASS", "models.0.class_path"),
        ("models.0.init_args.widht", 16, "UNKNOWN_ARGUMENT", "models.0.init_args.widht"),
        ("models.0.init_args.width", "wide", "BAD_VALUE", "models.0.init_args.width"),
        ("models.0.init_args.lr", -0.001, "BAD_VALUE", "models.0.init_args.lr"),
        ("models.1.init_args.backbone", "resnet19", "BAD_VALUE", "models.1.init_args.backbone"),
        ("fit_on.init_args.batch_size", 0, "BAD_VALUE", "fit_on.init_args.batch_size"),
        ("fit_on.init_args.fold", 1, "GIVEN_BY_CELL", "fit_on.init_args.fold"),
        ("fit_on.init_args.cohort", "binray", "UNKNOWN_COHORT", "fit_on.init_args.cohort"),
        ("fit_on.init_args.cohort", None, "MISSING_ARGUMENT", "fit_on.init_args.cohort"),
        ("test_on.0.init_args.amount", 1.2, "BAD_VALUE", "test_on.0.init_args.amount"),
        ("test_on.0.name", "cv", "REPEATED", "test_on"),
        ("test_on.0.name", "../x", "BAD_VALUE", "test_on.0.name"),
        ("trainer.max_epochs", 3, "OWNED_BY_CELL", "trainer.max_epochs"),
        ("trainer.acelerator", "cpu", "UNKNOWN_ARGUMENT", "trainer.acelerator"),
        ("training.pretrain_epochs", 0, "BAD_VALUE", "training.pretrain_epochs"),
    ],
)
def test_a_wrong_value_is_refused_at_its_place(path, value, code, where):  # F32
    found = problems_of(sweep_with(**{path: value}))
    assert [(problem.code, problem.where) for problem in found] == [(code, f"sweep: {where}")]
    assert found[0].got


@pytest.mark.parametrize(
    ("path", "value", "meant"),
    [
        ("training.epoch", 3, "epochs"),
        ("models.0.class_path", "models.fcn.FNC", "models.fcn.FCN"),
        ("models.0.class_path", "models.fnc.FCN", "models.fcn"),
        ("fit_on.init_args.batchsize", 3, "batch_size"),
        ("fit_on.init_args.cohort", "binari", "binary"),
    ],
)
def test_a_misspelling_is_answered_with_what_was_meant(path, value, meant):
    assert meant in problems_of(sweep_with(**{path: value}))[0].remedy


def test_all_problems_are_told_at_once():
    content = sweep_with(
        **{"training.epochs": 0, "evaluation.overlap_px": 500, "models.0.class_path": "models.x.Y"}
    )
    assert {problem.where.split(": ")[1] for problem in problems_of(content)} == {
        "training.epochs", "evaluation.overlap_px", "models.0.class_path",
    }  # fmt: skip


def test_two_models_of_one_class_are_told_apart_by_their_arguments():
    content = sweep_with(
        **{"models.1": {"class_path": "models.fcn.FCN", "init_args": {"backbone": "resnet34"}}}
    )
    content["models"][0] = {"class_path": "models.fcn.FCN", "init_args": {"backbone": "resnet18"}}
    assert check_sweep(content).labels == ("FCN-resnet18", "FCN-resnet34")


def test_the_same_model_twice_is_refused():
    content = sweep_with(**{"models.1": sweep_with()["models"][0]})
    assert [problem.code for problem in problems_of(content)] == ["REPEATED"]


def test_a_newer_schema_is_refused_with_its_version():
    (problem,) = problems_of(sweep_with(schema_version=SCHEMA_VERSION + 1, unheard_of=1))
    assert problem.code == "SCHEMA_NEWER"
    assert str(SCHEMA_VERSION + 1) in problem.got


def test_a_missing_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="FILE_MISSING"):
        load_sweep(tmp_path / "none.yaml")


def test_a_file_that_is_not_plain_yaml_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="YAML_INVALID"):
        load_sweep(written(tmp_path, "name: *a\n"))


def test_overrides_are_typed_and_checked(tmp_path):
    path = written(tmp_path, sweep_with())
    sweep = load_sweep(
        path, ("training.epochs=7", "models.0.init_args.width=32", "signals=some/folder", "seeds=[1, 2]")
    )
    assert (sweep.training.epochs, sweep.models[0].init_args["width"]) == (7, 32)
    assert (sweep.signals, sweep.seeds) == ("some/folder", (1, 2))
    for wrong in ("training.epochs", "models.9.name=x", "training.epochs=[", "name.x=1", "training.epohcs=1"):
        with pytest.raises(ConfigError):
            load_sweep(path, (wrong,))


CHANGES = {
    "models.0.init_args.width": 32,
    "training.epochs": 3,
    "training.precision": "bf16-mixed",
    "folds.seed": 1,
    "folds.count": 4,
    "seeds": [1],
    "fit_on.init_args.batch_size": 8,
    "pretrain_on.init_args.patches_per_scan": 2,
    "test_on.0.init_args.amount": 0.1,
    "evaluation.threshold": 0.2,
    "trainer": {"gradient_clip_val": 1.0},
}


@pytest.mark.parametrize("path", CHANGES)
def test_a_key_changes_with_everything_the_result_depends_on(path):
    assert keys(sweep_with(**{path: CHANGES[path]}))[0] != keys(sweep_with())[0]


@pytest.mark.parametrize("cohort", IDS)
def test_a_key_changes_with_the_content_of_every_cohort_it_uses(cohort):
    assert set(keys(sweep_with(), {**IDS, cohort: "x" * 64})).isdisjoint(keys(sweep_with()))


def test_a_key_does_not_change_with_names_other_models_or_order():
    base = keys(sweep_with())
    renamed = sweep_with(name="other", **{"models.0.name": "ours"})
    assert keys(renamed) == base
    swapped = sweep_with(models=list(reversed(sweep_with()["models"])))
    assert set(keys(swapped)) == set(base)
    added = sweep_with()
    added["models"].append({"class_path": "models.fcn.FCN", "init_args": {"backbone": "resnet34"}})
    assert set(base) < set(keys(added))
    more = sweep_with(seeds=[0, 1], **{"folds.run": [0, 1, 2]})
    assert set(base) < set(keys(more))


def test_a_key_does_not_change_with_the_name_of_a_cohort():
    content = sweep_with()
    content["cohorts"]["mine"] = content["cohorts"].pop("binary")
    content["fit_on"]["init_args"]["cohort"] = "mine"
    assert keys(content, {**IDS, "mine": IDS["binary"]}) == keys(sweep_with())


def test_a_new_test_set_changes_the_key_but_not_what_the_weights_depend_on():
    content = sweep_with()
    content["test_on"].append({**content["test_on"][0], "name": "noisy"})
    ours, theirs = (cells(check_sweep(c), IDS)[0].spec for c in (content, sweep_with()))
    assert ours.key != theirs.key
    assert ours.fit_key == theirs.fit_key


def test_a_key_is_the_hash_of_the_specification_as_written():
    import hashlib

    spec = cells(check_sweep(sweep_with()), IDS)[0].spec
    text = canonical_json(json.loads(json.dumps(spec.model_dump(mode="json"))))
    assert spec.key == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert len(spec.key) == 16


def test_ten_thousand_cells_have_ten_thousand_keys():
    sweep = check_sweep(sweep_with(seeds=list(range(2500))))
    assert len({cell.key for cell in cells(sweep, IDS)}) == 10_000
