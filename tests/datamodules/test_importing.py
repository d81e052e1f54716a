import shutil

import numpy as np
import pytest
import wfdb

from datamodules.cohort import Cohort
from datamodules.errors import ConfigError, DataError
from datamodules.importing import import_folder
from datamodules.page import write_binary_tiff
from datamodules.signals import Recording, write_recording
from tests.datamodules.annotation.drawing import bumpy_recording


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "scans"
    rng = np.random.default_rng(0)
    for number, name in enumerate(("one", "two")):
        write_binary_tiff(folder / f"{name}.tif", rng.random((200, 300)) < 0.1)
        write_recording(folder / name, bumpy_recording(number))
    with (folder / "one.hea").open("a") as file:
        file.write("# name: Canary Person\n")
    return folder


def test_scans_with_their_records_become_a_cohort(folder, tmp_path):
    seen = []
    imported = import_folder(
        folder,
        tmp_path / "cohort",
        layout="3x4",
        px_per_s=100.0,
        px_per_mv=40.0,
        on_progress=lambda *done: seen.append(done),
    )
    assert imported.problems == ()
    assert seen == [(1, 2), (2, 2)]
    cohort = Cohort.open(tmp_path / "cohort")
    assert [(scan.scan_id, scan.patient_id) for scan in cohort.scans] == [("one", "p0"), ("two", "p1")]
    assert {(scan.layout, scan.px_per_s, scan.px_per_mv, scan.mask) for scan in cohort.scans} == {
        ("3x4", 100.0, 40.0, None)
    }
    for number, scan in enumerate(cohort.scans):
        assert cohort.load_image(scan).shape == (200, 300)
        np.testing.assert_allclose(cohort.load_signal(scan).mv, bumpy_recording(number).mv, atol=6e-4)


def test_nothing_of_a_header_comes_along_but_the_patients_id(folder, tmp_path):
    import_folder(folder, tmp_path / "cohort")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "cohort").rglob("*") if path.is_file())
    assert b"Canary" not in everything


def test_annotation_beside_a_record_comes_along(folder, tmp_path):
    wfdb.wrann(
        "one",
        "ii",
        np.array([20, 30, 40]),
        ["(", "N", ")"],
        aux_note=["Canary", "", ""],
        write_dir=str(folder),
    )
    (folder / "two.v1").write_bytes(b"")
    imported = import_folder(folder, tmp_path / "cohort")
    assert [(problem.where, problem.code) for problem in imported.problems] == [
        ("two.v1", "ANNOTATION_FORMAT")
    ]
    cohort = Cohort.open(tmp_path / "cohort")
    assert cohort.load_marks(cohort.scans[0])["II"].waves("qrs") * 500 == pytest.approx(
        np.array([[20, 30, 40]])
    )
    assert b"Canary" not in (tmp_path / "cohort/signals/one.ii").read_bytes()
    assert "signals/one.ii" in (tmp_path / "cohort/manifest.csv").read_text()


def test_what_cannot_be_taken_over_is_named(folder, tmp_path):
    shutil.copy(folder / "one.tif", folder / "alone.tif")
    write_recording(folder / "unseen", bumpy_recording(3))
    (folder / "bad.tif").write_bytes(b"II*\0")
    write_recording(folder / "bad", bumpy_recording(4))
    shutil.copy(folder / "two.tif", folder / "two.tiff")
    flat = Recording("flat", "flat", 500.0, np.zeros((12, 5000), np.float32))
    write_recording(folder / "flat", flat)
    shutil.copy(folder / "one.tif", folder / "flat.tif")
    imported = import_folder(folder, tmp_path / "cohort")
    assert [scan.scan_id for scan in imported.scans] == ["one"]
    codes = {problem.where: problem.code for problem in imported.problems}
    assert codes["alone"] == "SIGNAL_MISSING"
    assert codes["unseen"] == "IMAGE_MISSING"
    assert codes["two"] == "ID_TWICE"
    assert codes["bad"].startswith("IMG_")
    assert codes["flat"] == "SIGNAL_CONSTANT"


def test_a_folder_without_anything_usable_leaves_no_cohort(tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(DataError, match="COHORT_EMPTY"):
        import_folder(tmp_path / "scans", tmp_path / "cohort")
    with pytest.raises(DataError, match="FOLDER_MISSING"):
        import_folder(tmp_path / "nowhere", tmp_path / "cohort")
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]


def test_a_cohort_is_never_overwritten(folder, tmp_path):
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="OUT_EXISTS"):
        import_folder(folder, tmp_path / "cohort")
