from pathlib import Path

import pandas as pd
import pytest

from lightning_app.report import collected
from tests.lightning_app.report.synthetic import MODELS, write_sweep

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "docs" / "results"
FOLDERS = sorted(path for path in RESULTS.iterdir() if path.is_dir())


def test_the_readme_is_what_the_command_writes():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == collected.replaced(text, collected.collect(RESULTS)), "run: make results"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_tables_agree_with_the_rows_they_stand_for(folder):
    about, rows = collected.read_about(folder / "about.yaml"), pd.read_csv(folder / "scans.csv")
    table = pd.read_csv(folder / "benchmark.csv").set_index(["model", "test_set"])
    assert set(about.test_sets) == set(rows["test_set"])
    by_scan = rows.groupby(["model", "test_set", "scan_id"])["dice"].mean()
    means = by_scan.groupby(level=["model", "test_set"]).agg(["mean", "count"])
    assert set(means.index) == set(table.index)
    both = table.join(means)
    assert (both["dice_mean"] - both["mean"]).abs().max() < 1e-5
    assert (both["n_scans"] == both["count"]).all()


def results(folder, name, protocol, dice, complete=True):
    place = folder / name
    place.mkdir(parents=True)
    (place / "about.yaml").write_text(
        f"title: Sweep {name}\nprotocol: {protocol}\ncommand: make x\ncommit: '0'\nmachine: m\ncost: 1 h\n"
        "reduced: half the scans\ntest_sets: {cv: held-out}\n"
    )
    columns = {"test_set": "cv", "n_scans": 7, "dice_ci_low": [0.2, None], "dice_ci_high": [0.9, None]}
    columns |= {"model": ["net", "half"], "dice_mean": [dice, 0.1], "complete": [True, complete]}
    pd.DataFrame(columns).to_csv(place / "benchmark.csv", index=False)
    signals = pd.DataFrame({"model": ["net"], "n_read": [3], "n_scans": [7]})
    signals.to_csv(place / "signals.csv", index=False)


def test_full_protocols_come_first_and_every_table_says_which_it_is(tmp_path):
    results(tmp_path, "a", "reduced", 0.5)
    assert collected.collect(tmp_path).startswith("**Full protocol.** No sweep")
    results(tmp_path, "b", "full", 0.85)
    text = collected.collect(tmp_path)
    assert "No sweep" not in text
    assert text.index("Sweep b.** Full protocol") < text.index("Sweep a.** Reduced protocol: half")
    assert "| net | 0.850 [0.200, 0.900], n = 7 | 3 of 7 |" in text
    assert "| half | 0.100, n = 7 | – |" in text


def test_a_model_that_is_not_complete_is_not_shown(tmp_path):
    results(tmp_path, "a", "reduced", 0.5, complete=False)
    assert "half |" not in collected.collect(tmp_path)


def test_a_document_without_marks_is_refused():
    with pytest.raises(ValueError, match="without the lines"):
        collected.replaced("no marks", "results")


def test_rows_and_tables_of_a_sweep_are_kept(tmp_path):
    sweep = write_sweep(tmp_path / "toy", MODELS[:1], folds=2, scans=4, colour=False, thresholds=False)
    (sweep.root / "report").mkdir()
    (sweep.root / "report" / "benchmark.csv").write_text("model\n")
    collected.keep(sweep.root, tmp_path / "kept")
    rows = pd.read_csv(tmp_path / "kept" / "scans.csv")
    assert sorted(rows["scan_id"]) == [f"scan-{number:04d}" for number in range(4)]
    assert rows["dice"].between(0, 1).all()
    assert (tmp_path / "kept" / "benchmark.csv").read_text() == "model\n"
