import json

import pandas as pd
import pytest

from datamodules.errors import ConfigError, DataError
from lightning_app.report.results import read_results
from tests.lightning_app.report.synthetic import MODELS, write_sweep

SMALL = {"folds": 2, "scans": 4, "colour": False, "thresholds": False}


def test_rows_carry_the_label_of_the_current_plan_and_no_other_cell(tmp_path):
    sweep = write_sweep(tmp_path / "s", MODELS[:2], **SMALL)
    plan = json.loads((sweep.root / "sweep.json").read_text())
    plan["cells"] = [{**cell, "model": "renamed"} for cell in plan["cells"] if cell["model"] == "ResUNetCBAM"]
    (sweep.root / "sweep.json").write_text(json.dumps(plan))
    results = read_results(sweep.root)
    assert set(results.rows["model"]) == {"renamed"}
    assert set(results.rows["cell"]) == {cell["key"] for cell in plan["cells"]}
    assert len(results.rows) == 4


def test_columns_that_only_some_cells_measured_are_kept_and_empty_elsewhere(tmp_path):
    sweep = write_sweep(tmp_path / "s", MODELS[:1], **SMALL)
    path = sweep.root / "cells" / sweep.keys["ResUNetCBAM", 1, 0] / "scans.parquet"
    pd.read_parquet(path).assign(snr_db=7.0).to_parquet(path)
    rows = read_results(sweep.root).rows
    assert rows.groupby("fold")["snr_db"].count().to_dict() == {0: 0, 1: 2}


def test_cells_that_an_earlier_release_wrote_by_pandas_are_read_beside_newer_ones(tmp_path):
    sweep = write_sweep(tmp_path / "s", MODELS[:1], **SMALL)
    before = read_results(sweep.root).rows
    path = sweep.root / "cells" / sweep.keys["ResUNetCBAM", 0, 0] / "scans.parquet"
    pd.read_parquet(path).to_parquet(path, index=False)
    pd.testing.assert_frame_equal(read_results(sweep.root).rows, before)


def test_nothing_finished_is_refused_with_what_there_is(tmp_path):
    sweep = write_sweep(
        tmp_path / "s",
        MODELS[:1],
        done=lambda model, fold, seed: "failed" if fold == 0 else "missing",
        **SMALL,
    )
    with pytest.raises(
        DataError, match=r"NO_RESULTS s: got no finished cell \(1 failed, 1 missing\)"
    ) as refusal:
        read_results(sweep.root)
    assert refusal.value.exit_code == 3


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="NO_SWEEP"):
        read_results(tmp_path)


def test_every_damaged_table_is_named(tmp_path):
    sweep = write_sweep(tmp_path / "s", MODELS[:1], **SMALL)
    first, second = (sweep.root / "cells" / key / "scans.parquet" for key in sweep.keys.values())
    first.write_bytes(first.read_bytes()[:100])
    second.unlink()
    with pytest.raises(DataError) as refusal:
        read_results(sweep.root)
    assert [problem.code for problem in refusal.value.problems] == ["ROWS_UNREADABLE"] * 2
    assert "no file" in str(refusal.value)
