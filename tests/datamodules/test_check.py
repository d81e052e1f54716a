import dataclasses
import errno
import hashlib
import os
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules import check as check_module
from datamodules.check import (
    ScanFacts,
    check_cohort,
    fix_hashes,
    fold_problems,
    page_bits,
    page_problems,
    shared_between,
    shared_signal_problems,
)
from datamodules.cohort import Cohort, Scan, write_cohort, write_manifest, write_scans
from datamodules.errors import DataError, IntegrityError
from datamodules.geometry import IDENTITY, DrawnSegment, Geometry
from datamodules.layout import LEADS
from datamodules.page import write_binary_tiff, write_mask_png
from datamodules.wave_marks import write_marks
from datamodules.wfdb_files import write_record
from tests.datamodules.rendering.recordings import marked

SHAPE = (220, 280)
DEFAULTS = {"px_per_s": 25.0, "px_per_mv": 10.0, "mm_per_s": 25.0, "mm_per_mv": 10.0}


def _signal(seed: int) -> np.ndarray:
    """Twelve leads that wander over half a page."""
    steps = np.random.default_rng(seed).normal(0, 0.3, (12, 250))
    slow = cv2.GaussianBlur(steps, (9, 1), 0)
    return np.repeat(slow / slow.std(), 20, axis=1).astype(np.float32)


def _page(seed: int, shape=SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Ink and mask of a page with four rows of trace over a dotted grid."""
    trace = np.zeros(shape, np.uint8)
    x = np.arange(shape[1])
    for row, lead in enumerate(_signal(seed)[:4]):
        y = (
            shape[0] * (row + 0.6) / 4.4
            - np.interp(x, np.linspace(0, shape[1], lead.size), lead) * shape[0] / 16
        )
        cv2.polylines(trace, [np.stack([x, y], axis=1).astype(np.int32)], False, 1, 2)
    ink = trace > 0
    ink[::10, ::2] = True
    ink[::2, ::10] = True
    return ink, trace > 0


def _add(root: Path, number: int, patient: str | None = None, page=None) -> Scan:
    ink, mask = page or _page(number)
    scan_id = f"s{number:03d}"
    write_binary_tiff(root / f"images/{scan_id}.tif", ink)
    write_mask_png(root / f"masks/{scan_id}.png", mask)
    write_record(root / f"signals/{scan_id}", LEADS, _signal(number), 500.0)
    return Scan(
        scan_id,
        patient or f"p{number:03d}",
        f"images/{scan_id}.tif",
        hashlib.sha256((root / f"images/{scan_id}.tif").read_bytes()).hexdigest(),
        f"signals/{scan_id}",
        "four_line",
        f"masks/{scan_id}.png",
        None,
        25.0,
        10.0,
    )


def _write(root: Path, scans: list[Scan]) -> None:
    write_cohort(root, "c", scans, licence="CC0-1.0", provenance="drawn", defaults=DEFAULTS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _write(tmp_path / "c", [_add(tmp_path / "c", number) for number in range(4)])
    return tmp_path / "c"


def _change(root: Path, number: int, **fields) -> None:
    scans = list(Cohort.open(root).scans)
    scans[number] = dataclasses.replace(scans[number], **fields)
    write_scans(root, scans)


def _found(root: Path) -> list[tuple[str, str]]:
    report = check_cohort(root)
    return [(problem.where, problem.code) for problem in report.problems]


def test_a_sound_cohort_passes_without_a_word(root: Path):
    report = check_cohort(root)
    assert (report.exit_code, report.n_scans, report.problems, report.notes) == (0, 4, (), ())
    assert report.rejects == []
    assert len({fact.page_sha256 for fact in report.facts}) == 4


def test_everything_wrong_is_told_in_one_pass(root: Path):
    scans = [_add(root, number) for number in range(4, 9)]
    _write(root, [*Cohort.open(root).scans, *scans])
    (root / "images/s000.tif").write_bytes(b"")
    (root / "images/s001.tif").unlink()
    write_mask_png(root / "masks/s002.png", np.zeros(SHAPE, bool))
    write_mask_png(root / "masks/s003.png", np.ones((99, 99), bool))
    (root / "masks/s004.png").unlink()
    (root / "signals/s005.dat").unlink()
    write_record(root / "signals/s006", LEADS, _signal(6) / 200, 500.0)
    write_manifest(root, [])
    _change(root, 7, layout="5x5", image_sha256="")
    (root / "scans.csv").write_text((root / "scans.csv").read_text() + "bad row\n")
    assert sorted(_found(root)) == sorted(
        [
            ("s000", "IMG_EMPTY"),
            ("s001", "IMG_MISSING"),
            ("s002", "MASK_EMPTY"),
            ("s003", "MASK_SIZE"),
            ("s004", "IMG_MISSING"),
            ("s005", "SIGNAL_MISSING"),
            ("s006", "UNIT_SUSPECT"),
            ("s007", "LAYOUT_UNKNOWN"),
            ("s007", "SHA256_ABSENT"),
            ("scans.csv row 11", "ROW_INVALID"),
        ]
    )
    assert check_cohort(root).exit_code == 4


def test_rejects_are_rows_of_a_table(root: Path):
    (root / "images/s000.tif").write_bytes(b"")
    (row,) = check_cohort(root).rejects
    assert row["id"] == "s000"
    assert row["code"] == "IMG_EMPTY"
    assert set(row) == {"id", "code", "reason", "wanted", "remedy"}
    assert check_cohort(root).exit_code == 3


def test_a_changed_file_is_an_integrity_problem(root: Path):  # F4
    write_mask_png(root / "masks/s001.png", _page(99)[1])
    assert _found(root) == [("s001", "SHA256_MISMATCH")]
    assert check_cohort(root).exit_code == 4


def test_annotation_is_noted_and_a_bad_one_named_with_its_remedy(root: Path):
    for number in range(3):
        write_marks(root / f"signals/s00{number}", {"II": marked([1.0, 2.0]), "V1": marked([1.0])}, 500.0)
    assert [(note.where, note.code) for note in check_cohort(root).notes] == [
        (f"s00{number}", "HUMAN_ANNOTATION") for number in range(3)
    ]
    (root / "signals/s001.ii").write_bytes(b"no annotation")
    write_marks(root / "signals/s002", {"aVR": marked([1.0, 11.5])}, 500.0)  # the record ends at 10 s
    report = check_cohort(root)
    assert [(problem.where, problem.code) for problem in report.problems] == [
        ("s001", "ANNOTATION_FORMAT"),
        ("s002", "ANNOTATION_OUT_OF_RANGE"),
    ]
    assert report.exit_code == 3
    told = str(report.problems[1])
    assert all(part in told for part in ("s002.avr", "11.590 s", "0 to 10 s", "another rate"))
    assert [(note.where, note.code) for note in report.notes] == [("s000", "HUMAN_ANNOTATION")]
    names = ("s000.ii", "s000.v1", "s001.ii", "s001.v1", "s002.avr", "s002.ii", "s002.v1")
    assert fix_hashes(root) == [f"signals/{name}" for name in names]
    write_marks(root / "signals/s000", {"II": marked([1.0, 2.002])}, 500.0)
    assert ("s000", "SHA256_MISMATCH") in _found(root)


def test_a_path_that_leaves_the_folder_ends_the_check_unread(root: Path, monkeypatch):  # F27
    monkeypatch.setattr(check_module, "check_scan", None)
    text = (root / "scans.csv").read_text().replace("masks/s002.png", "../s002.png")
    (root / "scans.csv").write_text(text)
    report = check_cohort(root)
    assert [problem.code for problem in report.problems] == ["PATH_ESCAPE"]
    assert report.exit_code == 4


def test_missing_folder_and_tables(tmp_path: Path):
    assert {code for _, code in _found(tmp_path / "none")} == {"FILE_MISSING"}
    assert check_cohort(tmp_path).exit_code == 3


def test_blank_pages_are_rejected_and_inverted_ones_noted(root: Path):  # F15, F16
    for number, ink in enumerate((np.zeros(SHAPE, bool), np.ones(SHAPE, bool), ~_page(2)[0])):
        write_binary_tiff(root / f"images/s00{number}.tif", ink)
        _change(
            root,
            number,
            image_sha256=hashlib.sha256((root / f"images/s00{number}.tif").read_bytes()).hexdigest(),
        )
    report = check_cohort(root)
    assert [(p.where, p.code) for p in report.problems] == [("s000", "NO_WAVEFORM"), ("s001", "NO_WAVEFORM")]
    assert [(p.where, p.code) for p in report.notes] == [("s001", "PAGE_INVERTED"), ("s002", "PAGE_INVERTED")]


def test_what_may_be_absent_is_noted(root: Path):
    _change(root, 0, mask=None, signal=None, layout="")
    report = check_cohort(root)
    assert report.exit_code == 0
    assert [note.code for note in report.notes] == ["LAYOUT_ABSENT", "MASK_ABSENT", "SIGNAL_ABSENT"]


def test_gaps_count_only_where_the_layout_prints(root: Path):
    mv = _signal(0)
    mv[LEADS.index("aVR"), :1250] = np.nan  # printed from 2.5 to 5 s
    write_record(root / "signals/s000", LEADS, mv, 500.0)
    write_manifest(root, Cohort.open(root).scans)
    assert _found(root) == []
    mv[LEADS.index("aVR"), 1200:1300] = np.nan
    write_record(root / "signals/s000", LEADS, mv, 500.0)
    write_manifest(root, Cohort.open(root).scans)
    assert _found(root) == [("s000", "SIGNAL_GAP")]


def test_one_file_under_two_ids(root: Path):  # F28
    scans = list(Cohort.open(root).scans)
    copy = dataclasses.replace(scans[1], scan_id="copy", patient_id="p9", image="images/copy.tif")
    (root / "images/copy.tif").write_bytes((root / "images/s001.tif").read_bytes())
    write_scans(root, [*scans, copy])
    assert _found(root) == [("copy", "PAGE_TWICE"), ("copy", "SIGNAL_OF_TWO_PATIENTS")]


def test_the_same_signal_in_another_file_under_another_patient(root: Path):
    scan = dataclasses.replace(_add(root, 7), signal="signals/again")
    write_record(root / "signals/again", tuple(lead.lower() for lead in LEADS[::-1]), _signal(2)[::-1], 500.0)
    scans = [*Cohort.open(root).scans, scan]
    _write(root, scans)
    assert _found(root) == [("s007", "SIGNAL_OF_TWO_PATIENTS")]
    _write(root, [*scans[:4], dataclasses.replace(scan, patient_id="p002")])
    assert _found(root) == []


def _scanned_again(ink: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height, width = ink.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-0.3, 0.3), rng.uniform(0.997, 1.003))
    grey = cv2.warpAffine(ink.astype(np.uint8) * 255, turn, (width, height))
    again = cv2.GaussianBlur(grey, (0, 0), 0.7) > 100
    return again ^ (rng.random(ink.shape) < 0.005)


def test_a_page_scanned_again_under_another_patient(root: Path):
    scan = _add(root, 8, page=(_scanned_again(_page(3)[0], 0), _page(3)[1]))
    _write(root, [*Cohort.open(root).scans, scan])
    assert _found(root) == [("s008", "PAGE_NEARLY_TWICE")]


def test_page_bits_tell_scans_of_one_page_from_other_pages():
    def bits(ink):
        return np.unpackbits(np.frombuffer(page_bits(ink.astype(np.uint8) * 255), np.uint8))

    pages = [_page(seed)[0] for seed in range(30)]
    first = np.array([bits(page) for page in pages])
    again = np.array([bits(_scanned_again(page, seed)) for seed, page in enumerate(pages)])
    assert first.shape == (30, check_module.PAGE_BITS)
    others = (first[:, None] != first[None]).mean(axis=2)[np.triu_indices(30, 1)]
    assert (first != again).mean(axis=1).max() < check_module.NEAR_PAGE_SHARE < others.min()


def _facts(n: int, seed: int = 0) -> list[ScanFacts]:
    rng = np.random.default_rng(seed)
    return [ScanFacts(f"s{i}", f"p{i}", (), (), f"page{i}", rng.bytes(64), f"signal{i}") for i in range(n)]


def test_near_pages_are_found_among_many_in_any_place():
    facts = _facts(2500)
    for earlier, later in ((3, 7), (10, 2400), (1500, 1501)):
        facts[later] = dataclasses.replace(facts[later], page_bits=facts[earlier].page_bits)
    found = {(problem.where, problem.code) for problem in page_problems(facts)}
    assert found == {(f"s{later}", "PAGE_NEARLY_TWICE") for later in (7, 2400, 1501)}
    one_patient = [dataclasses.replace(fact, patient_id="p") for fact in facts]
    assert page_problems(one_patient) == []
    assert page_problems(facts[:1]) == shared_signal_problems(facts[:3]) == []


def test_cohorts_that_share_something():  # E3
    ours, theirs = _facts(3), _facts(3, seed=1)
    theirs = [
        dataclasses.replace(
            fact, scan_id=f"t{i}", patient_id=f"q{i}", page_sha256=f"other{i}", signal_sha256=""
        )
        for i, fact in enumerate(theirs)
    ]
    assert shared_between(ours, theirs, "pseudo") == []
    theirs[0] = dataclasses.replace(theirs[0], patient_id="p1")
    theirs[1] = dataclasses.replace(theirs[1], signal_sha256="signal2")
    theirs[2] = dataclasses.replace(theirs[2], page_sha256="page0")
    found = [(problem.where, problem.code) for problem in shared_between(ours, theirs, "pseudo")]
    assert found == [("s1", "SHARED_PATIENT"), ("s2", "SHARED_SIGNAL"), ("s0", "SHARED_PAGE")]


def test_a_patient_in_two_folds(root: Path):  # F28, E2
    _change(root, 1, patient_id="p000")
    folds = np.array([0, 1, 1, 0])
    report = check_cohort(root, fold_of_scan=folds)
    assert [(p.where, p.code) for p in report.problems] == [("p000", "PATIENT_IN_TWO_FOLDS")]
    assert report.exit_code == 4
    assert fold_problems(Cohort.open(root).scans, np.array([1, 1, 0, 0])) == []


def test_scale_conflicts(root: Path):  # F20
    (root / "geometry").mkdir()
    geometry = Geometry(280, 220, 25.0, 10.0, IDENTITY, (DrawnSegment("I", 0, 0.0, 10.0, 0.0, 30.0),))
    (root / "geometry/s000.json").write_text(geometry.to_json())
    (root / "geometry/s001.json").write_text(dataclasses.replace(geometry, width=300).to_json())
    _change(root, 0, px_per_s=25.4, px_per_mv=11.0)  # 1.6 % passes, 10 % does not
    _change(root, 2, px_per_s=50.0)  # ten seconds do not fit
    assert _found(root) == [("s000", "SCALE_CONFLICT"), ("s001", "GEOMETRY_SIZE"), ("s002", "SCALE_CONFLICT")]
    text = (root / "cohort.yaml").read_text().replace("mm_per_s: 25.0", "mm_per_s: 50.0")
    (root / "cohort.yaml").write_text(text)
    assert ("cohort.yaml", "SCALE_CONFLICT") in _found(root)


def test_processes_change_nothing(root: Path):
    (root / "images/s002.tif").write_bytes(b"")
    seen = []
    alone = check_cohort(root, workers=1, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert check_cohort(root, workers=2) == alone


# Missing hashes


def test_missing_hashes_are_written_and_recorded_ones_stay(root: Path):
    before = Cohort.open(root).content_sha256
    (root / "manifest.csv").unlink()
    _change(root, 0, image_sha256="")
    assert _found(root) == [("s000", "SHA256_ABSENT")]
    written = fix_hashes(root)
    assert written[0] == "images/s000.tif"
    assert len(written) == 1 + 4 * 3
    assert _found(root) == []
    assert Cohort.open(root).content_sha256 == before
    assert fix_hashes(root) == []
    write_mask_png(root / "masks/s001.png", _page(99)[1])
    assert fix_hashes(root) == []
    assert _found(root) == [("s001", "SHA256_MISMATCH")]


def test_a_table_without_the_column_gets_it(root: Path):
    lines = [line.split(",") for line in (root / "scans.csv").read_text().splitlines()]
    (root / "scans.csv").write_text("\n".join(",".join(cells[:3] + cells[4:]) for cells in lines) + "\n")
    assert _found(root) == [("scans.csv", "COLUMN_MISSING")]
    assert len(fix_hashes(root)) == 4
    assert _found(root) == []


def test_nothing_is_written_when_something_cannot_be_read(root: Path):
    _change(root, 0, image_sha256="")
    _change(root, 1, image_sha256="")
    (root / "images/s001.tif").unlink()
    before = (root / "scans.csv").read_bytes()
    with pytest.raises(DataError, match="IMG_MISSING"):
        fix_hashes(root)
    assert (root / "scans.csv").read_bytes() == before
    (root / "scans.csv").write_text(before.decode().replace("images/s001.tif", "/etc/passwd"))
    with pytest.raises(IntegrityError, match="PATH_ESCAPE"):
        fix_hashes(root)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_scans_in_4_gb(tmp_path: Path):
    # How long it takes is told by `make perf` (tests/performance/bench_cohorts.py).
    scans = []
    for number in range(20_000):
        scan = _add(tmp_path, number)
        write_record(tmp_path / scan.signal, LEADS, _signal(number)[:, ::5], 100.0)
        scans.append(scan)
    _write(tmp_path, scans)
    assert check_cohort(tmp_path, workers=2).problems == ()
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    assert sum(each.ru_maxrss for each in usage) < 4 * 1024 * 1024  # kB


def test_a_file_on_a_stale_mount_is_told_and_the_others_are_checked(root: Path, monkeypatch):  # F25
    opened = os.open

    def stale(path, *args, **kwargs):
        if str(path).endswith("s001.tif"):
            raise OSError(errno.ESTALE, "Stale file handle")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", stale)
    report = check_cohort(root, workers=1)
    assert [(problem.where, problem.code) for problem in report.problems] == [("s001", "IMG_UNREADABLE")]
    assert report.exit_code == 3


def test_workers_leave_the_environment_as_it_was(root: Path, monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    before = dict(os.environ)
    assert check_cohort(root, workers=2).problems == ()
    assert dict(os.environ) == before
