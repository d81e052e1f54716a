import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.figure import Figure

from datamodules.errors import DataError
from lightning_app.report import figures
from lightning_app.report.pages import build_report
from tests.lightning_app.report.synthetic import DEEPLAB, FCN, MODELS, Model, leave_out_drawing, write_sweep


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep and its report."""
    sweep = write_sweep(tmp_path_factory.mktemp("runs") / "toy", scans=10)
    return sweep, build_report(sweep.root)


@pytest.fixture
def undrawn(monkeypatch):
    leave_out_drawing(monkeypatch)


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Balance(HTMLParser):
    """Notes tags that are closed in the wrong order."""

    void = frozenset(("meta", "br", "img", "link", "hr", "path", "use", "rect", "image"))

    def __init__(self):
        super().__init__()
        self.open, self.wrong = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.void:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append((tag, self.getpos()))


def test_a_finished_sweep_gives_tables_pages_and_figures(finished):
    _, paths = finished
    names = {path.name.split("-")[0] for path in paths.figures}
    charts = {"fig5a.png", "fig5b.png", "cost.png", "threshold.png"}
    assert names == charts | {"fig4_resunetcbam", "fig4_fcn", "fig4_deeplabv3"}
    assert all(path.is_file() for path in (*paths.figures, paths.html, paths.markdown))
    table = pd.read_csv(paths.benchmark)
    assert table.columns[:4].tolist() == ["model", "test_set", "rank", "n_scans"]
    promised = "n_patients dice_mean dice_sd dice_ci_low dice_ci_high precision_mean recall_mean iou_mean"
    promised += " cldice_mean folds_done folds_planned params macs"
    assert set(promised.split()) <= set(table)
    assert table[table["test_set"] == "cv"]["model"].tolist() == [model.name for model in MODELS]
    assert len(table) == 3 * 4
    assert len(pd.read_csv(paths.contrasts)) == 2 * 4


def test_the_summary_is_the_ranking(finished):
    _, paths = finished
    lines = paths.summary.splitlines()
    assert len(lines) == 4
    assert re.match(r"\s+1\. ResUNetCBAM\s+0\.\d{3}\s+\[0\.\d{3}, 0\.\d{3}\]\s+10\s+5/5", lines[1])


def test_a_rebuilt_report_is_the_same_bytes_wherever_it_lies(finished, tmp_path):
    sweep, paths = finished
    shutil.copytree(sweep.root.parent, tmp_path / "elsewhere")
    again = build_report(tmp_path / "elsewhere" / "toy")
    assert digest(paths.folder) == digest(again.folder)


def test_the_page_is_whole_and_needs_nothing_else(finished):
    _, paths = finished
    html = paths.html.read_text()
    checker = Balance()
    checker.feed(html)
    assert checker.wrong == []
    assert checker.open == []
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)["']""", html)
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert "<script" not in html
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)


def test_the_page_says_n_units_hashes_and_versions(finished):
    _, paths = finished
    html = paths.html.read_text()
    for needed in (
        "10 (10)",
        "over patients",
        "10000 draws",
        "Holm",
        "0" * 40,
        "SHA-256",
        "torch 2.13.0",
        "Metrics",
    ):
        assert needed in html, needed
    assert re.search(r"SHA-256 [0-9a-f]{64}", html)


def test_the_papers_claims_are_told_with_their_evidence(finished):
    _, paths = finished
    text = paths.markdown.read_text()
    rows = [line for line in text.splitlines() if "reproduced |" in line or "not decided |" in line]
    assert len(rows) == 4
    assert all("n = " in row or "of 3 models" in row for row in rows)
    assert "| reproduced | ResUNetCBAM: 0.9" in rows[0]


@pytest.mark.usefixtures("undrawn")
def test_an_unfinished_sweep_ranks_complete_models_and_says_what_is_missing(tmp_path):
    def done(model, fold, seed):
        if model == "ResUNetCBAM" and fold == 2:
            return "failed"
        return "missing" if model == "FCN-resnet18" and fold > 0 else "done"

    sweep = write_sweep(tmp_path / "half", folds=3, scans=6, colour=False, thresholds=False, done=done)
    paths = build_report(sweep.root)
    table = pd.read_csv(paths.benchmark)
    assert table.loc[table["complete"], "model"].tolist() == ["DeepLabV3-resnet18"]
    assert table.set_index("model").loc["FCN-resnet18", "folds_done"] == 1
    html = paths.html.read_text()
    assert "3 of 9 cells have no result" in html
    assert "loss is NaN" in html
    assert "Traceback &lt;most recent call&gt;" in html  # escaped, not run
    assert sweep.keys["FCN-resnet18", 2, 0] in html
    assert paths.summary.splitlines()[2].startswith("   - ")
    told = "without a result yet, 3 of 9 cells: ResUNetCBAM (fold 2); FCN-resnet18 (folds 1, 2)"
    assert paths.summary.splitlines()[-1] == told


@pytest.mark.usefixtures("undrawn")
def test_no_complete_model_is_told_and_nothing_ranked(tmp_path):
    sweep = write_sweep(
        tmp_path / "begun", MODELS[:1], folds=2, scans=4, colour=False,
        done=lambda model, fold, seed: "done" if fold == 0 else "missing",
    )  # fmt: skip
    paths = build_report(sweep.root)
    assert "nothing is ranked" in paths.html.read_text()
    assert pd.read_csv(paths.benchmark)["rank"].isna().all()
    assert len(pd.read_csv(paths.contrasts)) == 0


def test_a_report_without_results_is_refused_and_writes_nothing(tmp_path):
    sweep = write_sweep(tmp_path / "none", MODELS[:1], folds=2, scans=4, done=lambda *_: "missing")
    with pytest.raises(DataError, match="NO_RESULTS"):
        build_report(sweep.root)
    assert not (sweep.root / "report").exists()


@pytest.mark.usefixtures("undrawn")
def test_figure_5b_shows_the_papers_backbone_where_all_are_too_many(tmp_path, monkeypatch):
    blurs = {"resnet18": 1, "resnet50": 3, "resnet101": 2}  # resnet50 is not the best of its family
    models = [MODELS[0]] + [
        Model(f"{family[-5:]} {backbone}", family, blur, 1, backbone)
        for family in (FCN, DEEPLAB)
        for backbone, blur in blurs.items()
        if family == FCN or backbone != "resnet50"
    ]
    sweep = write_sweep(tmp_path / "toy", models, folds=2, scans=4, thresholds=False)
    shown = []
    monkeypatch.setattr(
        figures, "generalization_figure", lambda part, *_: shown.extend(part["model"].unique()) or Figure()
    )
    build_report(sweep.root)
    assert set(shown) == {"ResUNetCBAM", f"{FCN[-5:]} resnet50", f"{DEEPLAB[-5:]} resnet18"}


@pytest.mark.usefixtures("undrawn")
def test_what_cells_spent_stands_beside_the_report_and_not_in_it(tmp_path):
    sweep = write_sweep(tmp_path / "toy", MODELS[:2], folds=2, scans=6, colour=False, thresholds=False)
    before = digest(build_report(sweep.root).folder)
    spent = {"train_s": 10.0, "trained_patches": 50, "predict_s": 6.0, "predicted_pages": 3, "seconds": 20.0}
    for (model, fold, _), key in sweep.keys.items():
        told = spent | {"peak_memory_mb": 100.0 + fold, "machine": "this one"}
        if model == "ResUNetCBAM" and fold == 1:
            told |= {"train_s": 30.0, "trained_patches": 350}
        (sweep.root / "cells" / key / "timing.json").write_text(json.dumps(told))
    assert digest(build_report(sweep.root).folder) == before
    table = pd.read_csv(sweep.root / "cost" / "cost.csv").set_index("model")
    first = table.loc["ResUNetCBAM"]
    assert (first["train_s"], first["patches_per_s"], first["pages_per_s"]) == (20.0, 10.0, 0.5)
    assert (first["peak_memory_mb"], first["n_cells"], first["params"]) == (101.0, 2, 36_300_000)
    text = (sweep.root / "cost" / "cost.md").read_text()
    assert "| ResUNetCBAM | 0.9" in text
    assert "On this one" in text
    assert (sweep.root / "cost" / "quality_against_cost.svg").is_file()


@pytest.mark.usefixtures("undrawn")
def test_cells_that_tell_nothing_cost_nobody_knows_what(tmp_path):
    sweep = write_sweep(tmp_path / "toy", MODELS[:1], folds=2, scans=4, colour=False, thresholds=False)
    build_report(sweep.root)
    table = pd.read_csv(sweep.root / "cost" / "cost.csv")
    assert table["train_s"].isna().all()
    assert not (sweep.root / "cost" / "quality_against_cost.png").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_cohort_that_is_gone_costs_the_pictures_only(tmp_path):
    sweep = write_sweep(tmp_path / "toy", MODELS[:1], folds=2, scans=4, colour=False, thresholds=False)
    first = build_report(sweep.root)
    assert any(path.name.startswith("fig4_") for path in first.figures)
    shutil.rmtree(tmp_path / "cohorts")
    second = build_report(sweep.root)
    assert "Pictures of scans are left out: COHORT_MISSING" in second.html.read_text()
    assert not list((second.folder / "figures").glob("fig4_*"))
    assert (second.folder / "figures" / "fig5a.svg").is_file()


@pytest.mark.usefixtures("undrawn")
def test_files_of_others_in_the_report_folder_stay(tmp_path):
    sweep = write_sweep(tmp_path / "toy", MODELS[:1], folds=2, scans=4, colour=False, thresholds=False)
    (sweep.root / "report").mkdir()
    (sweep.root / "report" / "notes.csv").write_text("mine")
    build_report(sweep.root)
    assert (sweep.root / "report" / "notes.csv").read_text() == "mine"
