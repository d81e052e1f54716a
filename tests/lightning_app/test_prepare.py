"""Cohorts made on the spot: made once, found again, and every edit found before a cell runs."""

from dataclasses import replace

import pytest

from datamodules.cohort import Cohort
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


def test_pages_of_another_difficulty_are_another_cohort(made, tmp_path):
    preparation = made[1]
    content = sweep_with(**{"cohorts.binary.difficulty": "literal-50", "cohorts.binary.scans": 3})
    literal = make_plan(check_sweep(content), tmp_path).cohorts["binary"]
    nominal = make_plan(check_sweep(sweep_with(**{"cohorts.binary.scans": 3})), tmp_path).cohorts["binary"]
    assert literal.content_id != nominal.content_id
    recipes = ((literal.content_id, literal.path, literal.recipe),)
    prepare(replace(preparation, recipes=recipes, fold_cohort=None), lambda *said: None)
    cohort = Cohort.open(literal.path)
    # Both scales as the paper states them: 50 mm/s and 10 mm/mV, ten seconds in 1000 px (PROTOCOL R3).
    wanted = {"px_per_s": 100.0, "px_per_mv": 20.0, "mm_per_s": 50.0, "mm_per_mv": 10.0}
    assert cohort.defaults == wanted
    assert all(abs(scan.px_per_mv / 20.0 - 1) < 0.05 for scan in cohort.scans)


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
