"""The fourteen common errors of PROTOCOL 2.5: each planted, each refused by the code that runs in a sweep.

Every check is also held against the clean case, since a check that always fires protects nobody.
"""

import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from segmentation_models_pytorch.encoders import get_encoder

from datamodules.cohort import Cohort, Scan, write_scans
from datamodules.errors import ConfigError, DataError, IntegrityError
from datamodules.folds import make_folds
from datamodules.layout import LEADS
from datamodules.leakage import check_apart, check_signals_within, identities
from datamodules.page import write_mask_png
from datamodules.rendering.make import SHARES
from datamodules.scans import BinaryScans, ColourScans, PseudoScans, ScanDataModule
from datamodules.signals import patient_hash
from datamodules.wfdb_files import write_record
from lightning_app.cells import Store, read_json
from lightning_app.engines import Job, Slot
from lightning_app.evaluate.agreement import bootstrap_mean
from lightning_app.evaluate.scan_columns import METRICS_VERSION
from lightning_app.evaluate.signals import METRICS, lead_metrics
from lightning_app.evaluate.statistics import (
    check_each_scan_once,
    check_rows_are_scans,
    check_same_scans,
    summarise,
)
from lightning_app.planning import make_plan
from lightning_app.prepare import Preparation, prepare
from lightning_app.report import pages, table1, tables
from lightning_app.report.analysis_plan import PLAN_FILE, load_analysis_plan
from lightning_app.report.audit import audit, audit_rows, audit_signals
from lightning_app.runner import _apart
from lightning_app.specs import Component, Evaluation, Folds, check_sweep, load_sweep
from lightning_app.testing import score_pages
from lightning_app.train import run_cell
from models.conformance import build
from models.fcn import FCN
from tests.datamodules.tiny_cohort import write_tiny_cohort
from tests.lightning_app.cell_runs import planned_jobs
from tests.lightning_app.report.synthetic import MODELS, write_sweep
from tests.lightning_app.sweeps import sweep_with
from tests.lightning_app.tiny import TinyNet

HERE = "tests.test_leakage_checks"
EXPERIMENTS = sorted(
    (Path(__file__).parents[1] / "experiments").glob("[!w]*.yaml")
)  # W&B's file is none of ours
PLAN = load_analysis_plan()


def codes(error) -> set[str]:
    return {problem.code for problem in error.value.problems}


def refusal_in(job: Job) -> str:
    """What result.json says of a cell that ran in this process and failed."""
    assert run_cell(job, Slot(0)) == 1
    return str(read_json(Store(job.sweep_dir).folder(job.key) / "result.json")["error"]["message"])


# A cell of real datamodules on pages of milliseconds


def sweep_on(cohort: Path, *, fit=f"{HERE}.Fold", pretrain=None, tests=()) -> dict:
    shared = {"batch_size": 4, "patches_per_scan": 1}
    content = {
        "name": "leak",
        "cohorts": {"mine": {"path": str(cohort)}},
        "models": [{"class_path": f"{HERE}.TinyNet", "init_args": {"channels": 2}}],
        "folds": {"count": 3, "run": [0]},
        "fit_on": {"class_path": fit, "init_args": {"cohort": "mine", **shared}},
        "test_on": [
            {"name": name, "class_path": path, "init_args": {"cohort": "mine"}} for name, path in tests
        ],
        "training": {"epochs": 1},
        "evaluation": {"overlap_px": 0},
        "trainer": {"accelerator": "cpu"},
    }
    if pretrain:
        content["pretrain_on"] = {"class_path": pretrain, "init_args": {"cohort": "mine", **shared}}
    return content


class Fold(BinaryScans):
    """The clean way: a fold by patient."""


class PatchSplit(ScanDataModule):
    """E1: patches of every page are dealt to both sides."""

    def setup(self, stage=None):
        super().setup(stage)
        self._train = self._test = self.cohort.scans
        self._store, self._pages = self._load_pages() if stage == "fit" else (None, self._pages)


class RowSplit(ScanDataModule):
    """E2: two of three rows train, whoever the patient is."""

    def _split(self, fits):
        scans = self.cohort.scans
        held_out = np.arange(len(scans)) % 3 == 0
        train = tuple(scan for scan, out in zip(scans, held_out, strict=True) if not out)
        return train, tuple(scan for scan, out in zip(scans, held_out, strict=True) if out)


class StrokeFitted(BinaryScans):
    """E5: the page is thickened to the stroke that its own mask tells."""

    def page(self, scan):
        page = super().page(scan)
        stroke_px = int(self.mask(scan).sum(axis=0).max())
        return np.maximum(page, np.roll(page, stroke_px // 2, axis=0))


class Thickened(BinaryScans):
    """Clean: the same for every page, no truth needed."""

    def page(self, scan):
        page = super().page(scan)
        return np.maximum(page, np.roll(page, 1, axis=0))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_tiny_cohort(tmp_path_factory.mktemp("cohort") / "mine", 12)


@pytest.fixture
def run_in_process(monkeypatch):
    """Cells run here instead of in a child; W&B off."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("INKBEAT_LOG_TO_TERMINAL", "1")


@pytest.mark.usefixtures("run_in_process")
def test_clean_cell_of_real_datamodules_runs(cohort, tmp_path):
    (job,) = planned_jobs(sweep_on(cohort, fit=f"{HERE}.Thickened"), tmp_path)
    assert run_cell(job, Slot(0)) == 0
    rows = pd.read_parquet(Store(job.sweep_dir).folder(job.key) / "scans.parquet")
    assert set(rows["metrics_version"]) == {str(METRICS_VERSION)}


@pytest.mark.usefixtures("run_in_process")
def test_e1_patch_level_split_fails_its_cell(cohort, tmp_path):
    (job,) = planned_jobs(sweep_on(cohort, fit=f"{HERE}.PatchSplit"), tmp_path)
    message = refusal_in(job)
    assert "LEAK_IMAGE" in message
    assert "fit and test set cv" in message


@pytest.mark.usefixtures("run_in_process")
def test_e2_one_patient_on_both_sides_fails_its_cell(cohort, tmp_path):
    (job,) = planned_jobs(sweep_on(cohort, fit=f"{HERE}.RowSplit"), tmp_path)
    assert "LEAK_PATIENT" in refusal_in(job)


@pytest.mark.parametrize("seed", range(5))
def test_e2_folds_never_part_a_patient(cohort, seed):
    patients = [scan.patient_id for scan in Cohort.open(cohort).scans]
    folds = make_folds(patients, ["four_line"] * len(patients), 3, seed)
    check_each_scan_once(
        pd.DataFrame(
            {"model": "a", "seed": 0, "fold": folds, "scan_id": range(len(folds)), "patient_id": patients}
        )
    )


def test_e2_rows_of_one_patient_in_two_folds_stop_the_report(tmp_path):
    sweep = write_sweep(tmp_path / "toy", MODELS[:1], folds=2, scans=4, colour=False)
    for key in sweep.keys.values():
        path = sweep.root / "cells" / key / "scans.parquet"
        pd.read_parquet(path).assign(patient_id="p").to_parquet(path, index=False)
    with pytest.raises(DataError, match="PATIENT_IN_TWO_FOLDS"):
        pages.build_report(sweep.root)


# E2, E3: cohorts against each other, by patient, page and signal


def with_signals(root: Path, n: int, *, first: int, patients: str) -> Path:
    """A tiny cohort whose scan k has signal number first + k, whatever it is called."""
    write_tiny_cohort(root, n)
    scans = []
    for k, scan in enumerate(Cohort.open(root).scans):
        mv = np.random.default_rng(first + k).normal(0, 0.3, (len(LEADS), 5000)).round(3).astype(np.float32)
        write_record(root / "signals" / scan.scan_id, LEADS, mv, 500.0, ())
        # Every page is made another one: only what a test plants is shared.
        image = (root / scan.image).read_bytes() + bytes(f"{patients}{k}", "ascii")
        (root / scan.image).write_bytes(image)
        scans.append(
            Scan(
                scan_id=f"{patients}-{k}",
                patient_id=f"{patients}{k}",
                image=scan.image,
                image_sha256=f"{first + k:064x}",
                signal=f"signals/{scan.scan_id}",
                layout="four_line",
                mask=scan.mask,
            )
        )
    write_scans(root, scans)
    return root


def preparation(tmp_path: Path, fold_cohort: Path, *apart: tuple[Path, Path]) -> Preparation:
    return Preparation((), "simulated", fold_cohort, apart, Folds(count=2), tmp_path / "folds.json", (), 1)


def test_e2_one_signal_under_two_patients_stops_the_sweep(tmp_path):
    binary = with_signals(tmp_path / "binary", 4, first=0, patients="a")
    prepare(preparation(tmp_path, binary), print)
    twin = Cohort.open(binary).scans[0].signal
    scans = [*Cohort.open(binary).scans]
    scans[3] = Scan(**{**vars(scans[3]), "signal": twin})
    write_scans(binary, scans)
    with pytest.raises(IntegrityError, match="SIGNAL_OF_TWO_PATIENTS a-3"):
        prepare(preparation(tmp_path, binary), print)


def test_e3_pseudo_scans_of_a_tested_record_stop_the_sweep(tmp_path):
    binary = with_signals(tmp_path / "binary", 4, first=0, patients="a")
    pseudo = with_signals(tmp_path / "pseudo", 2, first=100, patients="b")
    prepare(preparation(tmp_path, binary, (pseudo, binary)), print)
    # Record 3 of the tested ones, under another name and of another patient.
    leaky = with_signals(tmp_path / "leaky", 2, first=3, patients="c")
    with pytest.raises(IntegrityError) as error:
        prepare(preparation(tmp_path, binary, (leaky, binary)), print)
    assert {"SHARED_SIGNAL"} <= codes(error)
    assert error.value.problems[0].where == "c-0"


def test_e3_every_pair_of_training_and_test_cohort_is_looked_at():
    plan = SimpleNamespace(
        sweep=check_sweep(sweep_with()),
        cohorts={name: SimpleNamespace(path=Path("/c") / name) for name in ("binary", "pseudo", "colour")},
    )
    names = {(train.name, test.name) for train, test in _apart(plan)}
    assert names == {("binary", "colour"), ("pseudo", "binary"), ("pseudo", "colour")}


def test_e3_cohorts_made_by_one_sweep_draw_from_patients_apart():
    # What trains and what tests it: the paper's three kinds, and the reader's three; colour tests either.
    for kinds in (
        ("binary", "pseudo", "colour"),
        ("varied", "faxed", "plotted"),
        ("varied", "faxed", "colour"),
    ):
        ends = sorted(SHARES[kind] for kind in kinds)
        assert all(high <= low for (_, high), (low, _) in itertools.pairwise(ends)), kinds
    assert 0 <= patient_hash("anybody") < 1


def test_e3_scans_without_signal_or_hash_are_not_all_one_scan(tmp_path):
    one = identities(Cohort.open(write_tiny_cohort(tmp_path / "one", 3)))
    check_signals_within(one)
    with pytest.raises(IntegrityError):
        check_apart(one, one, "itself")


@pytest.mark.usefixtures("run_in_process")
@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"pretrain": "datamodules.scans.PseudoScans"}, "pretrain and test set cv"),
        ({"tests": [("all", f"{HERE}.AllScans")]}, "fit and test set all"),
    ],
)
def test_e3_a_cohort_in_both_roles_fails_the_cell(cohort, tmp_path, change, stage):
    (job,) = planned_jobs(sweep_on(cohort, **change), tmp_path)
    message = refusal_in(job)
    assert "LEAK_PATIENT" in message
    assert stage in message


class AllScans(PseudoScans):
    """A further test set that holds every scan of the cohort, trained ones too."""


@pytest.mark.usefixtures("run_in_process")
def test_e3_weights_of_another_cell_do_not_get_around_it(cohort, tmp_path):
    (clean,) = planned_jobs(sweep_on(cohort), tmp_path)
    assert run_cell(clean, Slot(0)) == 0
    (leaky,) = planned_jobs(sweep_on(cohort, tests=[("all", f"{HERE}.AllScans")]), tmp_path)
    message = refusal_in(Job(leaky.sweep_dir, leaky.key, donor=clean.key))
    assert "fit and test set all" in message


# E4: nothing is chosen on the test set


@pytest.mark.parametrize("argument", ["enable_checkpointing", "limit_val_batches", "callbacks"])
def test_e4_choosing_an_epoch_is_refused_before_any_work(argument):
    with pytest.raises(ConfigError) as error:
        check_sweep(sweep_with(trainer={argument: 1}))
    assert codes(error) == {"OWNED_BY_CELL"}


def test_e4_a_threshold_tuned_on_test_scans_stops_the_report(tmp_path):
    sweep = write_sweep(tmp_path / "toy", MODELS[:2], folds=2, scans=4, colour=False)
    pages.build_report(sweep.root)
    cell = sweep.root / "cells" / next(iter(sweep.keys.values()))
    rows, curves = pd.read_parquet(cell / "scans.parquet"), pd.read_parquet(cell / "thresholds.parquet")
    best = curves[curves["threshold"] == 0.9].set_index("scan_id")
    for name in ("tp", "fp", "fn"):
        rows[name] = rows["scan_id"].map(best[name])
    rows.assign(dice=2 * rows["tp"] / (2 * rows["tp"] + rows["fp"] + rows["fn"])).to_parquet(
        cell / "scans.parquet", index=False
    )
    with pytest.raises(IntegrityError) as error:
        pages.build_report(sweep.root)
    assert codes(error) == {"E4_THRESHOLD_TUNED"}


def test_e4_models_at_thresholds_of_their_own_are_refused():
    rows = pd.DataFrame({"metrics_version": [str(METRICS_VERSION)], "cell": ["a"]})
    with pytest.raises(IntegrityError, match="E4_SEVERAL_THRESHOLDS"):
        audit_rows(rows, pd.DataFrame(), {"a": 0.15, "b": 0.4})


def test_e4_a_folds_own_labels_have_no_say_in_its_threshold():
    rng = np.random.default_rng(0)
    grid = [(fold, scan, t) for fold in range(3) for scan in range(4) for t in (0.15, 0.5)]
    table = pd.DataFrame(grid, columns=["fold", "scan", "threshold"])
    table = table.assign(
        model="a", seed=0, test_set="cv", scan_id=table["fold"].astype(str) + table["scan"].astype(str),
        tp=rng.integers(50, 99, len(table)), fp=5, fn=5,
    )  # fmt: skip
    before = tables.chosen_thresholds(table).set_index("fold")["threshold"]
    own = table["fold"] == 1
    table.loc[own, "tp"] = np.where(table.loc[own, "threshold"] == before[1], 1, 999)  # now the other is best
    assert tables.chosen_thresholds(table).set_index("fold")["threshold"][1] == before[1]


# E5: the truth of a test scan is out of reach while it is predicted


@pytest.mark.parametrize(("kind", "leaks"), [(Fold, False), (Thickened, False), (StrokeFitted, True)])
def test_e5_a_page_fitted_to_its_own_label_is_refused(cohort, tmp_path, kind, leaks):
    def score():
        return score_pages(
            build(TinyNet, 0, {}), kind(str(cohort), folds=3, fold=0), Evaluation(overlap_px=0),
            torch.device("cpu"), tmp_path / "predictions", lambda *_: None,
        )  # fmt: skip

    if leaks:
        with pytest.raises(IntegrityError, match="LEAK_LABEL"):
            score()
    else:
        assert len(score()[0]) == 4


def test_e5_pages_depend_on_nothing_but_the_scan(tmp_path):
    """The same pages come out of a cohort whose masks were all emptied."""
    ours = write_tiny_cohort(tmp_path / "ours", 3, colour=True)
    theirs = Path(shutil.copytree(ours, tmp_path / "theirs"))
    for path in theirs.glob("masks/*.png"):
        with Image.open(path) as mask:
            write_mask_png(path, np.zeros((mask.height, mask.width), np.uint8))
    for arguments in ({}, {"amount": 0.05}, {"amount": 0.05, "binarize": True}):
        one, other = ColourScans(str(ours), **arguments), ColourScans(str(theirs), **arguments)
        for scan in one.test_scans():
            assert np.array_equal(one.page(scan), other.page(scan))


# E6 to E14: statistics and tables


def make_rows(n_scans=12, leads=1, test_set="cv"):
    """Rows of two models over six patients, with layouts and a scan without value."""
    rng = np.random.default_rng(3)
    rows = [
        {"cell": f"{model}{scan % 2}", "model": model, "fold": scan % 2, "seed": 0, "test_set": test_set,
         "scan_id": f"s{scan}", "patient_id": f"p{scan % 2}{scan // 4}",
         "layout": "six_line" if scan % 4 == 3 else "four_line", "metrics_version": str(METRICS_VERSION),
         "dice": float("nan") if scan == 5 else quality + rng.normal(0, 0.05),
         "tp": 10.0 * (scan + 1), "fp": 3.0 * (scan % 3), "fn": 1.0}
        for model, quality in (("unet", 0.8), ("fcn", 0.7)) for scan in range(n_scans) for _ in range(leads)
    ]  # fmt: skip
    return pd.DataFrame(rows)


CELLS = pd.DataFrame(
    [
        {"key": f"{m}{f}", "model": m, "fold": f, "seed": 0, "state": "done"}
        for m in ("unet", "fcn")
        for f in (0, 1)
    ]
)


def make_tables(rows):
    return (
        tables.benchmark_table(rows, CELLS, PLAN),
        tables.layout_table(rows, CELLS, PLAN),
        tables.contrasts_table(rows, CELLS, "unet", 2, PLAN),
    )


@pytest.fixture(scope="module")
def clean():
    rows = make_rows()
    return rows, *make_tables(rows)


def test_clean_tables_pass_the_audit(clean):
    rows, benchmark, layouts, contrasts = clean
    audit_rows(rows, pd.DataFrame(), dict.fromkeys(rows["cell"], 0.15))
    audit(rows, benchmark, layouts, contrasts)


def refused(rows, benchmark, layouts, contrasts) -> set[str]:
    with pytest.raises(IntegrityError) as error:
        audit(rows, benchmark, layouts, contrasts)
    return {code[: code.index("_")] for code in codes(error)}


def test_e6_leads_as_rows_stop_the_report():
    with pytest.raises(DataError, match=r"SCAN_TWICE"):
        tables.benchmark_table(make_rows(leads=3), CELLS, PLAN)
    with pytest.raises(DataError, match=r"ROW_IS_NO_SCAN .*: got 3 rows"):
        tables.benchmark_table(make_rows(leads=3, test_set="grey"), CELLS, PLAN)
    with pytest.raises(ValueError, match="several rows of scan"):
        table1.cells(make_rows(leads=3))


def test_e6_leads_disguised_as_patients_are_seen_through():
    rows = make_rows(leads=2).assign(model="unet")
    rows["patient_id"] += [f"-lead{k % 2}" for k in range(len(rows))]
    rows["seed"] = [k % 2 for k in range(len(rows))]  # so that no row is there twice
    with pytest.raises(DataError, match="SCAN_OF_TWO_PATIENTS"):
        check_rows_are_scans(rows)


def test_e6_the_interval_does_not_narrow_when_a_scan_is_counted_as_twelve_leads():
    rng = np.random.default_rng(0)
    dice, patients = rng.normal(0.8, 0.1, 40), [f"p{k}" for k in range(40)]
    scans = summarise(dice, patients, ["x"] * 40)
    leads = summarise(np.repeat(dice, 12), np.repeat(patients, 12), ["x"] * 480)
    assert leads.high - leads.low == pytest.approx(scans.high - scans.low, rel=0.03)
    assert leads.n_patients == 40


def test_e7_pooled_pixels_under_the_headline_are_refused(clean, tmp_path):
    rows, benchmark, layouts, contrasts = clean
    pooled = benchmark.assign(dice_mean=benchmark["dice_pooled"])
    assert "E7" in refused(rows, pooled, layouts, contrasts)
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN_FILE.read_text().replace("unit: scan ", "unit: pixel "))
    with pytest.raises(ConfigError, match="HEADLINE_NOT_PER_SCAN"):
        load_analysis_plan(plan)
    plan.write_text(PLAN_FILE.read_text().replace("metric: dice ", "metric: dice_pooled "))
    with pytest.raises(ConfigError, match="dice_pooled per scan"):
        load_analysis_plan(plan)


def test_e8_a_scan_that_vanishes_is_missed(clean):
    rows, benchmark, layouts, contrasts = clean
    assert benchmark["n_missing"].tolist() == [1, 1]  # the scan without value is counted
    dropped = rows[rows["dice"].notna()]
    assert refused(rows, *make_tables(dropped)) == {"E8"}
    with pytest.raises(DataError, match="SCANS_DIFFER fcn: got 1 of 12"):
        check_same_scans(rows[~((rows["model"] == "fcn") & rows["dice"].isna())])
    assert "E8" in refused(rows, benchmark[benchmark["model"] == "unet"], layouts, contrasts)


def test_e9_an_alignment_shows_in_the_name_and_never_in_the_headline():
    reference = np.cumsum(np.random.default_rng(1).normal(0, 0.05, 1250))
    late = np.concatenate([np.full(50, reference[0]), reference[:-50]])  # 100 ms
    true, shifted = (lead_metrics(signal, reference, 500.0) for signal in (reference, late))
    assert all(abs(shifted[name] - true[name]) > 1e-3 for name in ("pcc", "rmse_mv", "mae_mv"))
    assert true["snr_db"] > shifted["snr_db"] + 3
    assert shifted["pcc_best_lag"] == pytest.approx(1.0, abs=1e-6)
    assert abs(shifted["lag_ms"]) == 100
    # Whatever forgives a delay is named after it, after the contest that defines it so, or stands beside
    # the lag it is taken at (gain and offset).
    forgiving = {name for name in METRICS if np.isclose(shifted[name], true[name], rtol=0.02, atol=1e-6)}
    told = {"pcc_best_lag", "snr_cinc2024_db", "snr_kaggle2025_db", "gain", "offset_mv", "coverage"}
    assert forgiving <= told


def signal_rows():
    """Six digitized scans of three patients, each 12 ms late."""
    rows = (
        make_rows()[["scan_id", "patient_id", "layout"]]
        .iloc[:6]
        .assign(signal_pcc=0.9, signal_pcc_best_lag=0.95, signal_lag_ms=12.0, signal_rmse_mv=0.1)
    )
    for name in table1.PARAMETERS:
        for source in table1.SOURCES:
            rows[f"{name}_{source}_read"] = rows[f"{name}_{source}_true"] = np.arange(6.0)
    return rows


def test_e9_table_1_refuses_an_aligned_correlation():
    assert table1.cells(signal_rows())[0].agreement.r == pytest.approx(0.9)
    with pytest.raises(ValueError, match="wanted the correlation at zero lag"):
        table1.cells(signal_rows().assign(signal_pcc=0.95))


class CoarseFCN(FCN):
    """E10: torchvision's way out, a backbone that is not dilated."""

    def build_net(self):
        net = super().build_net()
        net.encoder = get_encoder(self.hparams["backbone"], in_channels=1, weights=None, output_stride=32)
        return net


@pytest.mark.parametrize(
    ("second", "fair"), [("models.deeplabv3.DeepLabV3", True), (f"{HERE}.CoarseFCN", False)]
)
def test_e10_backbones_of_unequal_stride_stop_the_sweep(cohort, tmp_path, second, fair):
    models = (Component(class_path="models.fcn.FCN"), Component(class_path=second))
    wanted = Preparation((), "simulated", cohort, (), Folds(count=2), tmp_path / "folds.json", models, 1)
    if fair:
        assert all(cost > 0 for cost in prepare(wanted, print).values())
        return
    with pytest.raises(ConfigError, match=r"UNEQUAL_STRIDE .*CoarseFCN: got output stride 32; wanted 8"):
        prepare(wanted, print)


def test_e10_an_unequal_start_must_be_in_the_name():
    at_random = {"class_path": "models.fcn.FCN", "init_args": {"backbone": "resnet18"}, "name": "FCN"}
    trained = {"class_path": "models.fcn.FCN", "init_args": {"encoder_weights": "imagenet"}, "name": "FCN-B"}
    with pytest.raises(ConfigError) as error:
        check_sweep(sweep_with(models=[at_random, trained]))
    assert codes(error) == {"UNEQUAL_START"}
    check_sweep(sweep_with(models=[at_random, {**trained, "name": "FCN ImageNet"}]))
    check_sweep(sweep_with(models=[at_random, {**trained, "name": None}]))  # the automatic name tells


def test_e11_the_sd_of_a_bootstrap_is_not_shown_as_the_datas(clean):
    rows, benchmark, layouts, contrasts = clean
    values = rows[rows["model"] == "unet"].dropna(subset=["dice"])
    trials = bootstrap_mean(values["dice"], values["patient_id"])
    assert benchmark.loc[benchmark["model"] == "unet", "dice_sd"].item() == pytest.approx(
        values["dice"].std()
    )
    assert refused(rows, benchmark.assign(dice_sd=trials.sd), layouts, contrasts) == {"E11"}


def test_e12_layouts_seen_only_in_a_mixture_are_refused(clean):
    rows, benchmark, layouts, contrasts = clean
    assert set(layouts["layout"]) == {"four_line", "six_line"}
    assert "E12" in refused(rows, benchmark, layouts[layouts["layout"] == "four_line"], contrasts)
    assert "E12" in refused(rows, benchmark, layouts.iloc[:0], contrasts)


def test_e13_an_interval_without_n_is_refused(clean):
    rows, benchmark, layouts, contrasts = clean
    assert refused(rows, benchmark, layouts, contrasts.assign(n_patients=0)) == {"E13"}
    assert refused(rows, benchmark, layouts, contrasts.drop(columns="n_scans")) == {"E13"}


def test_e13_an_interval_of_table_1_without_n_is_refused():
    rows = signal_rows()
    table = table1.table1(rows)
    assert table["low"].notna().any()
    summary = pd.DataFrame(
        [{"model": "unet", "n_scans": 6, "signal_pcc_ci_low": 0.8, "signal_pcc_ci_high": 0.9}]
    )
    audit_signals(summary.assign(n_patients=3), table)
    with pytest.raises(IntegrityError, match=r"E13_INTERVAL_WITHOUT_N signals, unet: got n_patients absent"):
        audit_signals(summary, table)
    with pytest.raises(IntegrityError, match="E13_INTERVAL_WITHOUT_N table1, Signal, overall"):
        audit_signals(summary.assign(n_patients=3), table.assign(n=float("nan")))


def test_e14_numbers_of_unknown_or_other_metrics_are_refused(clean, tmp_path):
    rows = clean[0]
    for planted in (rows.drop(columns="metrics_version"), rows.assign(metrics_version="0")):
        with pytest.raises(IntegrityError, match="E14_METRICS"):
            audit_rows(planted, pd.DataFrame(), {})
    sweep = write_sweep(tmp_path / "toy", MODELS[:1], folds=2, scans=4, colour=False)
    path = sweep.root / "cells" / next(iter(sweep.keys.values())) / "scans.parquet"
    pd.read_parquet(path).assign(metrics_version="0").to_parquet(path, index=False)
    with pytest.raises(IntegrityError, match=r"E14_METRICS_VERSION .*: got version 0"):
        pages.build_report(sweep.root)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_no_false_alarm_on_the_sweeps_that_ship(path, tmp_path):
    make_plan(load_sweep(path), tmp_path)
