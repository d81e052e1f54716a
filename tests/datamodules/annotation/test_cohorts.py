import csv
import dataclasses
import shutil

import numpy as np
import pytest

from datamodules.annotation import cohorts
from datamodules.annotation.cohorts import annotate_cohort, exit_code
from datamodules.cohort import Cohort, Scan, write_cohort, write_manifest
from datamodules.errors import ConfigError
from datamodules.page import read_page, write_binary_tiff, write_colour_png
from datamodules.signals import write_recording
from tests.datamodules.annotation.drawing import binary_page, bumpy_recording


def _scan(root, scan_id, recording, geometry, layout):
    write_recording(root / f"signals/{scan_id}", recording)
    return Scan(
        scan_id, f"p-{scan_id}", f"images/{scan_id}.tif", "", f"signals/{scan_id}", layout,
        px_per_s=geometry.px_per_s, px_per_mv=geometry.px_per_mv,
    )  # fmt: skip


_annotate_page, _known = cohorts.annotate_page, {}


@pytest.fixture(autouse=True)
def remembered(monkeypatch):
    """Annotate each page once for all tests; gives the list of calls."""
    calls = []

    def annotate_page(ink, recording, layouts, *scale):
        key = (ink.tobytes(), recording.mv.tobytes(), tuple(layouts), tuple(round(x) for x in scale))
        calls.append(key)
        if key not in _known:
            _known[key] = _annotate_page(ink, recording, layouts, *scale)
        return _known[key]

    monkeypatch.setattr(cohorts, "annotate_page", annotate_page)
    return calls


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Two pages with their own signals and one with another patient's; no masks."""
    root = tmp_path_factory.mktemp("cohort")
    scans, masks = [], {}
    for scan_id, seed, signal_seed in (("a", 1, 1), ("b", 3, 3), ("c", 5, 99)):
        _, page, _ = binary_page(seed, "3x4")
        write_binary_tiff(root / f"images/{scan_id}.tif", page.image > 0)
        scans.append(_scan(root, scan_id, bumpy_recording(signal_seed), page.geometry, "3x4"))
        masks[scan_id] = page.mask
    write_cohort(root, "unlabelled", scans, licence="CC0", provenance="drawn", defaults={})
    return root, masks


@pytest.fixture
def cohort(unlabelled, tmp_path):
    root, masks = unlabelled
    shutil.copytree(root, tmp_path / "cohort")
    return tmp_path / "cohort", masks


def _rows(root):
    with (root / "annotations.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_cohort_gets_masks_geometry_and_tables(cohort, tmp_path):
    root, masks = cohort
    seen = []
    labelled = annotate_cohort(
        root,
        workers=1,
        overlays=tmp_path / "look",
        on_progress=lambda done, total, one: seen.append((done, total, one.scan.scan_id)),
    )
    assert seen == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    opened = Cohort.open(root)
    for scan in opened.scans[:2]:
        mask = opened.load_mask(scan)  # compared with the manifest
        assert 2 * (mask & masks[scan.scan_id]).sum() / (mask.sum() + masks[scan.scan_id].sum()) > 0.9
        geometry = opened.load_geometry(scan)
        assert scan.px_per_s == pytest.approx(geometry.scan_px_per_s, abs=1e-3)
        assert len(geometry.segments) == 12
        picture = read_page(tmp_path / "look" / f"{scan.scan_id}.png")
        assert picture.rgb.shape == (*mask.shape, 3)
    assert opened.scans[2].mask is None
    assert opened.load_geometry(opened.scans[2]) is None
    rows = _rows(root)
    assert [row["resolved"] for row in rows] == ["1"] * 24 + ["0"] * 12
    assert all(row["reason"] for row in rows[24:])
    assert all(float(row["gap"]) > 0 and 0 <= float(row["residual"]) <= 1 for row in rows[:24])
    assert [problem.code for one in labelled for problem in one.problems] == ["SCAN_UNRESOLVED"]
    assert exit_code(labelled) == 3
    assert not (root / ".annotate").exists()


def test_only_scans_without_mask_are_annotated_unless_asked(cohort):
    root, _ = cohort
    annotate_cohort(root, workers=1)
    before = (root / "masks/a.png").read_bytes()
    again = annotate_cohort(root, workers=1)
    assert [one.scan.scan_id for one in again] == ["c"]
    assert len(_rows(root)) == 36
    every = annotate_cohort(root, workers=1, again=True)
    assert [one.scan.scan_id for one in every] == ["a", "b", "c"]
    Cohort.open(root).load_mask(every[0].scan)
    # The found scale is now the declared one; the mask may differ by a rounding.
    assert abs(len((root / "masks/a.png").read_bytes()) - len(before)) < 0.05 * len(before)


def test_an_interrupted_run_changes_nothing_and_is_taken_up(cohort, remembered):
    root, _ = cohort
    table = (root / "scans.csv").read_bytes()

    class Killed(BaseException):
        pass

    def kill(done, total, one):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        annotate_cohort(root, workers=1, on_progress=kill)
    assert (root / "scans.csv").read_bytes() == table
    assert not (root / "masks").exists()
    remembered.clear()
    resumed = annotate_cohort(root, workers=1)
    assert len(remembered) == 1
    assert [one.scan.mask for one in resumed] == ["masks/a.png", "masks/b.png", None]


def test_what_waits_is_not_taken_up_when_a_scan_has_changed(cohort):
    root, _ = cohort

    def kill(done, total, one):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate_cohort(root, workers=1, on_progress=kill)
    write_recording(root / "signals/a", bumpy_recording(98))
    labelled = annotate_cohort(root, workers=1)
    assert labelled[0].scan.mask is None


def test_a_scan_keeps_its_mask_when_nothing_is_found_again(cohort):
    root, _ = cohort
    annotate_cohort(root, workers=1)
    mask, geometry = ((root / path).read_bytes() for path in ("masks/a.png", "geometry/a.json"))
    write_recording(root / "signals/a", bumpy_recording(98))
    write_manifest(root, Cohort.open(root).scans)
    labelled = annotate_cohort(root, workers=1, again=True)
    assert labelled[0].problems[0].code == "SCAN_UNRESOLVED"
    assert labelled[0].scan.mask == "masks/a.png"
    assert (root / "masks/a.png").read_bytes() == mask
    assert (root / "geometry/a.json").read_bytes() == geometry
    Cohort.open(root).load_mask(labelled[0].scan)


def test_processes_give_what_one_gives(cohort, tmp_path):
    root, _ = cohort
    shutil.copytree(root, tmp_path / "other")
    annotate_cohort(root, workers=1)
    annotate_cohort(tmp_path / "other", workers=2)
    for name in ("scans.csv", "annotations.csv", "manifest.csv", "masks/a.png", "geometry/b.json"):
        assert (root / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_one_bad_scan_does_not_stop_the_others(cohort):  # F19, F25
    root, _ = cohort
    (root / "images/b.tif").write_bytes(b"II*\0 no page")
    text = (root / "scans.csv").read_text().splitlines()
    header = text[0].split(",")
    cells = text[3].split(",")
    cells[header.index("px_per_s")] = ""
    (root / "scans.csv").write_text("\n".join([*text[:3], ",".join(cells)]) + "\n")
    labelled = annotate_cohort(root, workers=1)
    assert labelled[0].scan.mask == "masks/a.png"
    assert labelled[1].problems[0].code.startswith("IMG_")
    assert labelled[2].problems[0].code == "SCALE_UNKNOWN"
    assert [row["reason"] for row in _rows(root)[12:]] == [labelled[1].problems[0].code, "SCALE_UNKNOWN"]


def test_a_changed_image_is_refused(cohort):
    root, _ = cohort
    opened = Cohort.open(root)
    scans = [dataclasses.replace(scan, image_sha256="0" * 64) for scan in opened.scans]
    write_cohort(root, "changed", scans, licence="", provenance="", defaults={})
    labelled = annotate_cohort(root, workers=1)
    assert {problem.code for one in labelled for problem in one.problems} == {"SHA256_MISMATCH"}
    assert exit_code(labelled) == 4


def test_unknown_layouts_are_told_before_any_work(cohort):
    root, _ = cohort
    with pytest.raises(ConfigError, match="LAYOUT_UNKNOWN"):
        annotate_cohort(root, layout="5x5")


def test_coloured_pages_are_labelled_by_their_dark_ink(tmp_path):
    rng = np.random.default_rng(0)
    x = np.arange(600)
    trace = np.zeros((200, 600), bool)
    trace[(100 + 30 * np.sin(x / 15)).astype(int), x] = True
    trace |= np.roll(trace, 1, 0) | np.roll(trace, 2, 0)
    page = np.full((200, 600, 3), 250, np.uint8)
    page[::10] = page[:, ::10] = (250, 160, 160)
    page[trace] = rng.integers(0, 40, (int(trace.sum()), 3))
    write_colour_png(tmp_path / "images/a.png", page)
    write_binary_tiff(tmp_path / "images/b.tif", trace)
    scans = [Scan(i, i, f"images/{i}.{kind}", "", None, "") for i, kind in (("a", "png"), ("b", "tif"))]
    write_cohort(tmp_path, "colour", scans, licence="", provenance="", defaults={})
    labelled = annotate_cohort(tmp_path, method="colour", workers=1)
    opened = Cohort.open(tmp_path)
    assert np.array_equal(opened.load_mask(opened.scans[0]), trace)
    assert [problem.code for problem in labelled[1].problems] == ["PAGE_WITHOUT_COLOUR"]
