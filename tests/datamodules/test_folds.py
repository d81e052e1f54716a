import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from datamodules.errors import ConfigError, DataError, IntegrityError
from datamodules.folds import make_folds, read_folds, write_folds

PAPER_STRATA = ["four_line"] * 81 + ["six_line"] * 14 + ["seven_line"]
PAPER_PATIENTS = [f"p{number:02d}" for number in range(96)]


@pytest.mark.parametrize("seed", range(5))
def test_paper_counts(seed: int):  # R25
    folds = make_folds(PAPER_PATIENTS, PAPER_STRATA, 5, seed)
    assert sorted(np.bincount(folds), reverse=True) == [20, 19, 19, 19, 19]
    six = np.bincount(folds[np.array(PAPER_STRATA) == "six_line"], minlength=5)
    assert sorted(six, reverse=True) == [3, 3, 3, 3, 2]


def test_order_of_rows_does_not_matter_and_the_seed_does():
    order = np.random.default_rng(0).permutation(96)
    folds = make_folds(PAPER_PATIENTS, PAPER_STRATA, 5, 0)
    shuffled = make_folds([PAPER_PATIENTS[i] for i in order], [PAPER_STRATA[i] for i in order], 5, 0)
    assert np.array_equal(folds[order], shuffled)
    assert not np.array_equal(folds, make_folds(PAPER_PATIENTS, PAPER_STRATA, 5, 1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=13, max_size=60),
    st.integers(2, 5),
    st.integers(0, 3),
)
def test_folds_are_a_partition_by_patient_without_an_empty_fold(scans, n_folds: int, seed: int):
    patients, strata = [f"p{patient}" for patient, _ in scans], [stratum for _, stratum in scans]
    if len(set(patients)) < n_folds:
        return
    folds = make_folds(patients, strata, n_folds, seed)
    assert set(folds.tolist()) == set(range(n_folds))
    assert all(
        len({fold for p, fold in zip(patients, folds, strict=True) if p == patient}) == 1
        for patient in patients
    )


def test_balance_is_no_worse_than_scikit_learns():
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{number:03d}" for number in range(80)], rng.integers(1, 5, 80))
    strata = rng.choice(["four_line", "six_line", "seven_line"], patients.size, p=[0.8, 0.15, 0.05])
    theirs = np.zeros(patients.size, int)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for fold, (_, test) in enumerate(splitter.split(strata, strata, patients)):
        theirs[test] = fold

    def spread(folds):
        return sum(np.ptp(np.bincount(folds[strata == stratum], minlength=5)) for stratum in set(strata))

    ours = make_folds(list(patients), list(strata), 5, 0)
    assert spread(ours) <= spread(theirs)
    assert np.ptp(np.bincount(ours)) <= max(np.ptp(np.bincount(theirs)), 3)


def test_more_folds_than_patients_is_a_configuration_error():  # F32
    with pytest.raises(ConfigError, match="FOLDS_TOO_MANY"):
        make_folds(["a", "a", "b"], ["x"] * 3, 3, 0)
    with pytest.raises(ConfigError, match="FOLDS_TOO_FEW"):
        make_folds(["a", "a", "b"], ["x"] * 3, 1, 0)
    with pytest.raises(ValueError, match="zip"):
        make_folds(["a", "b"], ["x"], 2, 0)


def test_twenty_thousand_scans_are_dealt_out_in_seconds():
    patients = [f"p{number // 2}" for number in range(20_000)]
    folds = make_folds(patients, [PAPER_STRATA[number % 96] for number in range(20_000)], 5, 0)
    assert np.ptp(np.bincount(folds)) <= 2


def test_written_folds_are_read_in_any_order(tmp_path: Path):
    folds = make_folds(PAPER_PATIENTS, PAPER_STRATA, 5, 0)
    ids = [f"s,{patient}é" for patient in PAPER_PATIENTS]
    sha256 = write_folds(tmp_path / "folds.json", ids, folds)
    assert np.array_equal(read_folds(tmp_path / "folds.json", ids), folds)
    assert np.array_equal(read_folds(tmp_path / "folds.json", ids[::-1]), folds[::-1])
    assert write_folds(tmp_path / "again.json", ids[::-1], folds[::-1]) == sha256
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "folds.json").read_bytes()
    content = json.loads((tmp_path / "folds.json").read_text())
    assert Counter(len(fold) for fold in content["folds"]) == {19: 4, 20: 1}


def test_edited_foreign_and_broken_folds_are_refused(tmp_path: Path):
    path = tmp_path / "folds.json"
    ids = ["a", "b", "c", "d"]
    write_folds(path, ids, [0, 1, 0, 1])
    with pytest.raises(DataError, match="FOLDS_OTHER_SCANS"):
        read_folds(path, ["a", "b", "c"])
    with pytest.raises(DataError, match="FOLDS_OTHER_SCANS"):
        read_folds(path, [*ids, "e"])
    text = path.read_text()
    path.write_text(text.replace('"a"', '"x"'))
    with pytest.raises(IntegrityError, match="FOLDS_EDITED"):
        read_folds(path, ids)
    path.write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(DataError, match="schema version 2"):
        read_folds(path, ids)
    for broken in ("", "[]", "{}", '{"schema_version": 1, "sha256": "", "folds": 3}'):
        path.write_text(broken)
        with pytest.raises(DataError, match="FOLDS_INVALID"):
            read_folds(path, ids)
