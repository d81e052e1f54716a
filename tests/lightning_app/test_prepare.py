"""Cohorts made on the spot: made once, found again, and every edit found before a cell runs."""

import pytest

from datamodules.errors import IntegrityError
from lightning_app.planning import make_plan
from lightning_app.prepare import Preparation, check_made, prepare
from lightning_app.specs import Folds, check_sweep
from tests.lightning_app.sweeps import sweep_with


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The binary cohort of a sweep, and what made it."""
    runs = tmp_path_factory.mktemp("runs")
    place = make_plan(check_sweep(sweep_with()), runs).cohorts["binary"]
    preparation = Preparation(
        recipes=((place.content_id, place.path, place.recipe),),
        signals="simulated",
        fold_cohort=place.path,
        apart=(),
        folds=Folds(count=2),
        folds_file=runs / "tiny" / "folds.json",
        models=(),
        workers=1,
    )
    prepare(preparation, lambda *said: None)
    return place, preparation


def test_a_cohort_is_made_once(made):
    place, preparation = made
    before = (place.path / "scans.csv").stat().st_mtime_ns
    said = []
    prepare(preparation, lambda *what: said.append(what))
    assert said == []
    assert (place.path / "scans.csv").stat().st_mtime_ns == before


def test_the_plan_names_it_before_and_after_by_the_same_id(made):
    place, _ = made
    again = make_plan(check_sweep(sweep_with()), place.path.parents[1]).cohorts["binary"]
    assert again == place


def test_folds_are_written_down(made):
    _, preparation = made
    assert preparation.folds_file.is_file()


@pytest.mark.parametrize("kind", ["images/*", "masks/*", "signals/*.dat", "geometry/*"])
def test_an_edited_file_is_found(made, kind):
    place, _ = made
    check_made(place.path, place.content_id)
    path = next(place.path.glob(kind))
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=path.name):
        check_made(place.path, place.content_id)
    path.write_bytes(before)


def test_a_cohort_of_another_recipe_is_refused(made):
    place, _ = made
    with pytest.raises(IntegrityError, match="COHORT_EDITED"):
        check_made(place.path, "0" * 64)
