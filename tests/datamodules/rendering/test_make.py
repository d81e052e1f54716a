import csv
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import wfdb
from PIL import Image

from datamodules.check import check_cohort
from datamodules.cohort import Cohort
from datamodules.errors import ConfigError
from datamodules.geometry import Geometry
from datamodules.layout import LEADS
from datamodules.rendering.make import SHARES, assign_layouts, make_cohort
from datamodules.rendering.pages import draw_mask
from datamodules.rendering.recipe import Kind, recipe_sha256
from datamodules.signals import Recording, open_signals, write_recording
from datamodules.wfdb_files import read_record, write_record
from lightning_app.cohort_commands import make as make_command
from lightning_app.specs import CohortRecipe
from tests.datamodules.rendering.recordings import beats, marked


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    for seed in range(40):
        one = beats(seed)
        write_record(folder / f"r{seed:02d}", LEADS, one.mv, one.rate_hz, (f"patient: {one.patient_id}",))
    return folder


@pytest.fixture(scope="module")
def cohort(signals, tmp_path_factory):
    return make_cohort("binary", 7, 3, signals, tmp_path_factory.mktemp("made") / "binary", workers=1)


def rows_of(folder: Path):
    with (folder / "scans.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def digest(folder: Path):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("scans", "wanted"),
    [
        (96, {"four_line": 81, "six_line": 14, "seven_line": 1}),
        (24, {"four_line": 20, "six_line": 4}),
        (6, {"four_line": 5, "six_line": 1}),
        (2, {"four_line": 2}),
        (192, {"four_line": 162, "six_line": 28, "seven_line": 2}),
    ],
)
def test_binary_cohorts_have_the_papers_layouts(scans, wanted):
    layouts = assign_layouts("binary", scans, 0)
    assert Counter(layout.name for layout in layouts) == wanted


def test_named_layouts_come_in_turn():
    assert [one.name for one in assign_layouts("binary", 3, 0, ["3x4", "12x1"])] == ["3x4", "12x1", "3x4"]


def test_truth_and_geometry_redraw_the_mask_exactly(cohort):
    for row in rows_of(cohort):
        truth = read_record(cohort / row["signal"])
        geometry = Geometry.from_json((cohort / "geometry" / f"{row['scan_id']}.json").read_text())
        assert truth.leads == LEADS
        recording = Recording(row["scan_id"], row["patient_id"], truth.rate_hz, truth.mv)
        mask = np.asarray(Image.open(cohort / row["mask"])).astype(np.uint8)
        redrawn = [draw_mask(recording, geometry, width) for width in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)]
        assert any(np.array_equal(mask, one) for one in redrawn)
        assert float(row["px_per_s"]) == pytest.approx(geometry.scan_px_per_s, abs=1e-4)


def test_pages_are_group_4_tiffs_with_their_hash(cohort):
    for row in rows_of(cohort):
        assert hashlib.sha256((cohort / row["image"]).read_bytes()).hexdigest() == row["image_sha256"]
        with Image.open(cohort / row["image"]) as image:
            assert image.mode == "1"
            assert image.size == (1120, 886)
            assert image.info["compression"] == "group4"


def test_the_number_of_processes_changes_nothing(cohort, signals, tmp_path):
    make_cohort("binary", 7, 3, signals, tmp_path / "again", workers=2)
    assert digest(tmp_path / "again") == digest(cohort)


def test_another_seed_makes_other_pages(cohort, signals, tmp_path):
    make_cohort("binary", 2, 4, signals, tmp_path / "other", workers=1)
    assert rows_of(tmp_path / "other")[0]["image_sha256"] != rows_of(cohort)[0]["image_sha256"]


def test_kinds_never_share_a_patient(signals, tmp_path):
    patients = {}
    for kind, scans in (("binary", 12), ("pseudo", 12), ("colour", 4)):
        make_cohort(kind, scans, 0, signals, tmp_path / kind, workers=1, layouts=["3x4"])
        patients[kind] = {row["patient_id"] for row in rows_of(tmp_path / kind)}
    assert not patients["binary"] & patients["pseudo"]
    assert not patients["binary"] & patients["colour"]
    assert not patients["pseudo"] & patients["colour"]
    assert SHARES["varied"][1] <= SHARES["faxed"][0]
    assert SHARES["faxed"][1] <= SHARES["plotted"][0]
    assert len(patients["pseudo"]) == 2  # twelve scans are two signals in six variants


@pytest.mark.parametrize("kind", ["varied", "faxed"])
def test_cohorts_of_a_variety_are_sound(kind, signals, tmp_path):
    made = make_cohort(kind, 8, 5, signals, tmp_path / kind, workers=1)
    assert check_cohort(made, workers=1).problems == ()
    rows = rows_of(made)
    assert {Path(row["image"]).suffix for row in rows} > {".tif"}
    assert len({row["px_per_s"] for row in rows}) == 8
    assert {row["layout"] for row in rows} > {""}


def test_every_list_of_kinds_is_the_same():
    kinds = get_args(Kind)
    assert set(SHARES) == set(kinds)
    assert get_args(CohortRecipe.model_fields["kind"].annotation) == kinds
    (option,) = [option for option in make_command.params if option.name == "kind"]
    assert tuple(option.type.choices) == kinds


def test_colour_cohorts_say_how_good_a_threshold_label_is(signals, tmp_path):
    make_cohort("colour", 2, 0, signals, tmp_path / "colour", workers=1)
    dice = Cohort.open(tmp_path / "colour").provenance["threshold_label_dice"]
    assert 0.5 < dice["lowest"] <= dice["mean"] <= 1
    assert len(list((tmp_path / "colour" / "masks").glob("*-threshold.png"))) == 2


def test_the_recipe_hash_is_known_beforehand_and_tells_recipes_apart(cohort, signals):
    fingerprint = open_signals(signals, 3).fingerprint()
    known = recipe_sha256("binary", 7, 3, fingerprint)
    assert Cohort.open(cohort).provenance["recipe_sha256"] == known
    others = {
        recipe_sha256("binary", 8, 3, fingerprint),
        recipe_sha256("binary", 7, 4, fingerprint),
        recipe_sha256("colour", 7, 3, fingerprint),
        recipe_sha256("binary", 7, 3, "other"),
        recipe_sha256("binary", 7, 3, fingerprint, layouts=["3x4"]),
    }
    assert len(others | {known}) == 6


def test_progress_is_told_and_a_failure_leaves_nothing(signals, tmp_path):
    told = []
    make_cohort("binary", 2, 0, signals, tmp_path / "a", workers=1, on_progress=lambda *at: told.append(at))
    assert told == [(1, 2), (2, 2)]

    def fail(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cohort("binary", 2, 0, signals, tmp_path / "b", workers=1, on_progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_fewer_recordings_than_scans_are_drawn_again(signals, tmp_path):
    low = SHARES["binary"][0]
    make_cohort("binary", 10, 0, signals, tmp_path / "few", workers=1, share=(low, 0.12))
    rows = rows_of(tmp_path / "few")
    assert len({row["patient_id"] for row in rows}) < 10
    assert len({row["image_sha256"] for row in rows}) == 10


def test_a_taken_folder_and_wrong_numbers_are_refused_together(signals, tmp_path):
    (tmp_path / "there.txt").write_text("mine")
    with pytest.raises(ConfigError) as refusal:
        make_cohort("binray", 0, 0, signals, tmp_path, workers=0)  # type: ignore[arg-type]
    assert {problem.code for problem in refusal.value.problems} == {
        "KIND_UNKNOWN", "SCANS_TOO_FEW", "WORKERS_TOO_FEW", "OUT_EXISTS",
    }  # fmt: skip
    assert (tmp_path / "there.txt").read_text() == "mine"


def test_annotation_is_carried_over_in_time_and_cut_with_the_signal(tmp_path):
    onsets_s = np.arange(1.1, 11.9, 0.8)
    for rate_hz in (360.0, 500.0):
        folder, out = tmp_path / f"signals-{rate_hz:g}", tmp_path / f"cohort-{rate_hz:g}"
        one = beats(0, duration_s=12.0, rate_hz=rate_hz)
        write_recording(folder / "r", replace(one, marks={"II": marked(onsets_s), "V1": marked([11.0])}))
        make_cohort("binary", 2, 0, folder, out, workers=1, share=(0.0, 1.0))
        before = wfdb.rdann(str(folder / "r"), "ii")
        after = wfdb.rdann(str(out / "signals/binary-00000"), "ii")
        shown = before.sample / rate_hz < 10.0
        assert after.sample / 500.0 == pytest.approx(before.sample[shown] / rate_hz, abs=0.51 / 500)
        assert after.symbol == [s for s, keep in zip(before.symbol, shown, strict=True) if keep]
        assert 0 < shown.sum() < shown.size
        assert not list(out.rglob("*.v1"))  # nothing was marked in the ten seconds drawn
        cohort = Cohort.open(out)
        assert cohort.provenance["scans_with_human_annotation"] == 2
        assert check_cohort(out).problems == ()
        assert "signals/binary-00000.ii" in (out / "manifest.csv").read_text()
