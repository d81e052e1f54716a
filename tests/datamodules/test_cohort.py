import dataclasses
import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from datamodules.cohort import Cohort, Scan, parse_scans, write_cohort, write_manifest, write_scans
from datamodules.errors import DataError, IntegrityError
from datamodules.geometry import IDENTITY, DrawnSegment, Geometry
from datamodules.labels import labels_hidden
from datamodules.layout import LEADS
from datamodules.page import read_image_bytes, write_binary_tiff, write_colour_png, write_mask_png
from datamodules.wave_marks import write_marks
from datamodules.wfdb_files import write_record
from tests.datamodules.rendering.recordings import marked

HEADER = "scan_id,patient_id,image,image_sha256,signal,layout"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ink(seed: int, shape=(64, 96)):
    return np.random.default_rng(seed).random(shape) < 0.1


def _write(root: Path, n: int = 3) -> tuple[Scan, ...]:
    """A sound cohort of tiny pages; patients p0 and p0, then one each."""
    scans = []
    for number in range(n):
        scan_id = f"s{number}"
        write_binary_tiff(root / f"images/{scan_id}.tif", _ink(number))
        write_mask_png(root / f"masks/{scan_id}.png", _ink(number + 100))
        mv = np.random.default_rng(number).normal(0, 0.3, (12, 5000)).astype(np.float32)
        write_record(root / f"signals/{scan_id}", LEADS, mv, 500.0)
        geometry = Geometry(96, 64, 10.0, 4.0, IDENTITY, (DrawnSegment("I", 0, 0.0, 10.0, 0.0, 30.0),))
        (root / "geometry").mkdir(exist_ok=True)
        (root / f"geometry/{scan_id}.json").write_text(geometry.to_json())
        sha256 = _sha256(root / f"images/{scan_id}.tif")
        scans.append(
            Scan(
                scan_id,
                f"p{max(number - 1, 0)}",
                f"images/{scan_id}.tif",
                sha256,
                f"signals/{scan_id}",
                "four_line",
                f"masks/{scan_id}.png",
                None,
                10.0,
                4.0,
            )
        )
    defaults = {"px_per_s": 10.0, "px_per_mv": 4.0, "mm_per_s": 25.0, "mm_per_mv": 10.0}
    write_cohort(root, "tiny", scans, licence="CC0-1.0", provenance={"text": "drawn"}, defaults=defaults)
    return tuple(scans)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _write(tmp_path / "cohort")
    return tmp_path / "cohort"


def _problems(root: Path, kind=DataError) -> list[str]:
    with pytest.raises(kind) as error:
        Cohort.open(root)
    return [problem.code for problem in error.value.problems]


def _rows(root: Path, *rows: str, header: str = HEADER) -> None:
    (root / "scans.csv").write_text("\n".join([header, *rows]) + "\n")


# Sound cohorts


def test_what_is_written_is_read(root: Path):
    cohort = Cohort.open(root)
    scan = cohort.scans[1]
    assert (cohort.name, cohort.licence, cohort.provenance) == ("tiny", "CC0-1.0", {"text": "drawn"})
    assert cohort.defaults["mm_per_s"] == 25
    assert scan == _write(root)[1]
    assert np.array_equal(cohort.load_image(scan), _ink(1) * np.uint8(255))
    assert np.array_equal(cohort.load_mask(scan), _ink(101))
    assert cohort.load_rgb(scan).shape == (64, 96, 3)
    assert np.array_equal(cohort.load_rgb(scan)[..., 1], 255 - cohort.load_image(scan))
    recording = cohort.load_signal(scan)
    assert (recording.record_id, recording.patient_id, recording.rate_hz) == ("s1", "p0", 500)
    assert recording.mv.shape == (12, 5000)
    geometry = cohort.load_geometry(scan)
    assert geometry is not None
    assert geometry.px_per_s == 10
    assert cohort.scan("s2") is cohort.scans[2]
    with pytest.raises(DataError, match="SCAN_UNKNOWN"):
        cohort.scan("s9")


def test_colour_pages_keep_their_colour(root: Path):
    rgb = np.random.default_rng(0).integers(128, 256, (64, 96, 3), dtype=np.uint8)
    write_colour_png(root / "images/c.png", rgb)
    _rows(root, "c,p9,images/c.png,,,")
    cohort = Cohort.open(root)
    assert np.array_equal(cohort.load_rgb(cohort.scans[0]), rgb)
    assert cohort.load_image(cohort.scans[0]).shape == (64, 96)


def test_optional_cells_may_be_empty(root: Path):
    _rows(root, "s0,p0,images/s0.tif,,,")
    cohort = Cohort.open(root)
    (scan,) = cohort.scans
    assert scan == Scan("s0", "p0", "images/s0.tif", "", None, "", None, None, 10.0, 4.0)
    with pytest.raises(DataError, match="MASK_MISSING"):
        cohort.load_mask(scan)
    with pytest.raises(DataError, match="SIGNAL_MISSING"):
        cohort.load_signal(scan)
    (root / "geometry/s0.json").unlink()
    assert cohort.load_geometry(scan) is None


def test_a_row_overrides_the_default_scale(root: Path):
    _rows(root, "s0,p0,images/s0.tif,,signals/s0.hea,,12.5,", header=HEADER + ",px_per_s,px_per_mv")
    (scan,) = Cohort.open(root).scans
    assert (scan.px_per_s, scan.px_per_mv, scan.signal) == (12.5, 4.0, "signals/s0")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_of_any_spreadsheet_are_read(root: Path, delimiter: str, encoding: str, newline: str):  # F30
    expected = Cohort.open(root).scans
    text = (root / "scans.csv").read_text().replace(",", delimiter).replace("\n", newline)
    (root / "scans.csv").write_bytes(text.encode(encoding))
    assert Cohort.open(root).scans == expected


@pytest.mark.parametrize("scan_id", ["a,b", "it's", "日本語", "scan 🫀", "a;b", "1"])
def test_odd_but_sound_ids_round_trip(root: Path, scan_id: str):  # F26
    scan = dataclasses.replace(Cohort.open(root).scans[0], scan_id=scan_id, patient_id="Müller, A")
    write_scans(root, [scan])
    assert Cohort.open(root).scans == (scan,)


def test_own_layouts_are_known(root: Path):
    (root / "layouts").mkdir()
    (root / "layouts/mine.yaml").write_text("name: mine\nduration_s: 10\nrows: [[I]]\n")
    assert {"mine", "3x4"} <= Cohort.open(root).layouts.keys()


# Refusals


def test_missing_folder_and_files(tmp_path: Path, root: Path):
    assert _problems(tmp_path / "none") == ["COHORT_MISSING"]
    assert _problems(tmp_path) == ["FILE_MISSING", "FILE_MISSING"]
    (root / "scans.csv").write_text("")
    assert _problems(root) == ["TABLE_INVALID"]
    _rows(root)
    assert _problems(root) == ["COHORT_EMPTY"]


def test_every_problem_is_told_at_once(root: Path):  # F29
    (root / "cohort.yaml").write_text(
        "name: 3\nschema_version: 1\ndefaults: {px_per_s: -1, dpi: 3}\nextra: 1\n"
    )
    _rows(
        root,
        "s0,p0,images/s0.tif,xyz,,,0",
        "../x,p0,images/s1.tif,,,,",
        "s2,=cmd(),images/s1.tif,,,,one",
        "s3,p3",
        header=HEADER + ",px_per_s",
    )
    codes = _problems(root)
    assert codes.count("COHORT_INVALID") == 4
    assert codes[4:] == [
        "SHA256_INVALID",
        "SCALE_INVALID",
        "ID_INVALID",
        "PATIENT_INVALID",
        "SCALE_INVALID",
        "ROW_INVALID",
    ]


def test_missing_unknown_and_doubled_columns(root: Path):  # F29
    _rows(root, header="scan_id,patient_id,image,signal,signal,px_per_mV")
    assert _problems(root) == ["COLUMN_MISSING", "COLUMN_MISSING", "COLUMN_TWICE", "COLUMN_UNKNOWN"]


def test_a_newer_schema_is_refused_with_its_version(root: Path):  # F33
    (root / "cohort.yaml").write_text("schema_version: 2\nname: x\nlayers: []\n")
    with pytest.raises(DataError, match=r"SCHEMA_NEWER.*schema_version 2"):
        Cohort.open(root)


@pytest.mark.parametrize(
    "scan_id",
    [
        "",
        "-rf",
        ".hidden",
        "=1+1",
        "+1",
        "@x",
        "a/b",
        "a\\b",
        "x" * 129,
        "é" * 65,
        "a\tb",
        "a\x7fb",
        "a:b",
        "~x",
        "a|b",
    ],
)
def test_ids_that_cannot_name_files_are_refused(root: Path, scan_id: str):  # F26, F30
    write_scans(root, [dataclasses.replace(Cohort.open(root).scans[0], scan_id=scan_id)])
    codes = _problems(root)
    assert codes == ["ID_INVALID"]


def test_an_id_with_a_line_break_is_refused(root: Path):  # F26
    write_scans(root, [dataclasses.replace(Cohort.open(root).scans[0], scan_id="a\nb")])
    assert _problems(root) == ["ID_INVALID"]


def test_doubled_ids_and_images_are_refused(root: Path):  # F28
    _rows(root, "s0,p0,images/s0.tif,,,", "S0,p0,images/s1.tif,,,", "s2,p0,images/./s0.tif,,,")
    assert _problems(root) == ["ID_TWICE", "IMAGE_TWICE"]


def test_pages_of_one_file_are_different_images(root: Path):
    _rows(root, "s0,p0,images/s0.tif,,,,0", "s1,p0,images/s0.tif,,,,1", header=HEADER + ",page")
    assert [scan.page for scan in Cohort.open(root).scans] == [0, 1]
    _rows(root, "s0,p0,images/s0.tif,,,,-1", header=HEADER + ",page")
    assert _problems(root) == ["PAGE_INVALID"]


ESCAPES = [
    "../x.tif",
    "images/../../x.tif",
    "/etc/passwd",
    "\\\\server\\x.tif",
    "C:/x.tif",
    "c:x.tif",
    "images\\..\\x.tif",
    "file:///etc/passwd",
    "~/x.tif",
    "images/s0.tif#frag",
    "images/s0.tif?x=1",
]


@pytest.mark.parametrize("column", ["image", "signal", "mask"])
@pytest.mark.parametrize("path", ESCAPES)
def test_paths_that_leave_the_folder_are_refused_and_nothing_is_read(
    root: Path, path: str, column: str, monkeypatch
):
    # F27
    monkeypatch.setattr("datamodules.cohort.read_image_bytes", None)
    cells = {"image": "images/s0.tif", "signal": "", "mask": "", column: f'"{path}"'}
    _rows(root, f"s0,p0,{cells['image']},,{cells['signal']},,{cells['mask']}", header=HEADER + ",mask")
    with pytest.raises(IntegrityError, match="PATH_ESCAPE") as error:
        Cohort.open(root)
    assert error.value.exit_code == 4


def test_links_that_lead_out_are_refused(root: Path, tmp_path: Path):  # F27
    outside = tmp_path / "outside"
    shutil.copytree(root / "signals", outside)
    (root / "images/link.tif").symlink_to(outside / "s0.dat")
    _rows(root, "s0,p0,images/link.tif,,,")
    assert _problems(root, IntegrityError) == ["PATH_ESCAPE"]
    (root / "elsewhere").symlink_to(outside)
    _rows(root, "s0,p0,images/s0.tif,,elsewhere/s0,")
    assert _problems(root, IntegrityError) == ["PATH_ESCAPE"]
    (root / "signals/s0.dat").unlink()
    (root / "signals/s0.dat").symlink_to(outside / "s0.dat")
    _rows(root, "s0,p0,images/s0.tif,,signals/s0,")
    assert _problems(root, IntegrityError) == ["PATH_ESCAPE"]


def test_a_link_made_after_opening_is_refused_on_loading(root: Path, tmp_path: Path):  # F27
    cohort = Cohort.open(root)
    shutil.move(root / "masks", tmp_path / "masks")
    (root / "masks").symlink_to(tmp_path / "masks")
    with pytest.raises(IntegrityError, match="PATH_ESCAPE"):
        cohort.load_mask(cohort.scans[0])


def test_a_header_that_names_a_file_elsewhere_is_refused(root: Path):  # F27
    cohort = Cohort.open(root)
    header = root / "signals/s0.hea"
    write_manifest(root, ())
    header.write_text(header.read_text().replace("s0.dat", "../../s0.dat"))
    with pytest.raises(IntegrityError, match="PATH_ESCAPE"):
        cohort.load_signal(cohort.scans[0])


# Hashes


@pytest.mark.parametrize(
    ("path", "load"),
    [
        ("images/s0.tif", "load_image"),
        ("masks/s0.png", "load_mask"),
        ("signals/s0.dat", "load_signal"),
        ("signals/s0.hea", "load_signal"),
        ("geometry/s0.json", "load_geometry"),
    ],
)
def test_one_flipped_bit_in_a_listed_file_is_noticed(root: Path, path: str, load: str):  # F4
    cohort = Cohort.open(root)
    content = bytearray((root / path).read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(60):
        place, bit = int(rng.integers(len(content))), int(rng.integers(7))
        content[place] ^= 1 << bit
        (root / path).write_bytes(bytes(content))
        with pytest.raises((IntegrityError, DataError)) as error:
            getattr(cohort, load)(cohort.scans[0])
        if path != "signals/s0.hea" and path != "geometry/s0.json":  # damaged text may fail to parse before
            assert [problem.code for problem in error.value.problems] == ["SHA256_MISMATCH"]
        content[place] ^= 1 << bit


def test_the_hash_is_that_of_the_decoded_bytes(root: Path, monkeypatch):  # F23
    cohort = Cohort.open(root)

    def replaced_after_reading(path: Path, *, where: str = "") -> bytes:
        content = read_image_bytes(path, where=where)
        write_binary_tiff(path, _ink(77))
        return content

    monkeypatch.setattr("datamodules.cohort.read_image_bytes", replaced_after_reading)
    assert np.array_equal(cohort.load_image(cohort.scans[0]), _ink(0) * np.uint8(255))
    with pytest.raises(IntegrityError, match="SHA256_MISMATCH"):
        cohort.load_image(cohort.scans[0])


def test_content_hash_follows_content_and_not_the_place(root: Path, tmp_path: Path):
    before = Cohort.open(root).content_sha256
    shutil.copytree(root, tmp_path / "copy")
    assert Cohort.open(tmp_path / "copy").content_sha256 == before
    scans = Cohort.open(root).scans
    write_scans(root, scans[::-1])
    assert Cohort.open(root).content_sha256 == before
    for path in ("masks/s0.png", "signals/s1.dat", "geometry/s2.json"):
        changed = tmp_path / "copy" / path
        content = changed.read_bytes()
        changed.write_bytes(content + b"\n")
        write_manifest(tmp_path / "copy", scans)
        assert Cohort.open(tmp_path / "copy").content_sha256 != before
        changed.write_bytes(content)
    write_manifest(tmp_path / "copy", scans)
    assert Cohort.open(tmp_path / "copy").content_sha256 == before


def test_annotation_is_hashed_like_any_other_file(root: Path):
    plain, scans = Cohort.open(root).content_sha256, Cohort.open(root).scans
    write_marks(root / "signals/s0", {"II": marked([1.0, 2.0])}, 500.0)
    write_manifest(root, scans)
    cohort = Cohort.open(root)
    assert cohort.content_sha256 != plain
    assert "signals/s0.ii" in cohort.files_of(scans[0])
    assert set(cohort.load_marks(scans[0])) == {"II"}
    assert cohort.load_marks(scans[1]) == {}
    write_marks(root / "signals/s0", {"II": marked([1.0, 2.002])}, 500.0)
    with pytest.raises(IntegrityError, match="SHA256_MISMATCH"):
        Cohort.open(root).load_marks(scans[0])


def test_annotation_is_a_label(root: Path):  # E5
    cohort = Cohort.open(root)
    with labels_hidden(), pytest.raises(IntegrityError, match="LEAK_LABEL"):
        cohort.load_marks(cohort.scans[0])


def test_annotation_behind_a_link_that_leads_out_is_refused(root: Path, tmp_path: Path):  # F27
    write_marks(tmp_path / "s0", {"II": marked([1.0])}, 500.0)
    (root / "signals/s0.ii").symlink_to(tmp_path / "s0.ii")
    cohort = Cohort.open(root)
    with pytest.raises(IntegrityError, match="PATH_ESCAPE"):
        cohort.load_marks(cohort.scans[0])


def test_content_hash_is_the_same_with_and_without_recorded_hashes(root: Path):
    before = Cohort.open(root).content_sha256
    (root / "manifest.csv").unlink()
    assert Cohort.open(root).content_sha256 == before
    write_scans(root, [dataclasses.replace(scan, layout="3x4") for scan in Cohort.open(root).scans])
    assert Cohort.open(root).content_sha256 != before


def test_a_manifest_of_another_kind_is_refused(root: Path):
    (root / "manifest.csv").write_text("a,b\n")
    cohort = Cohort.open(root)
    with pytest.raises(DataError, match="MANIFEST_INVALID"):
        cohort.load_mask(cohort.scans[0])


def test_scans_without_hash_column_are_read_where_that_is_allowed(root: Path):
    _rows(root, "s0,p0,images/s0.tif,,", header="scan_id,patient_id,image,signal,layout")
    assert _problems(root) == ["COLUMN_MISSING"]
    (scan,), problems = parse_scans(root, {}, needs_hashes=False)
    assert scan.image_sha256 == ""
    assert problems == []


def test_a_cohort_survives_pickling(root: Path):
    cohort = Cohort.open(root)
    again = pickle.loads(pickle.dumps(cohort))
    assert again == cohort
    assert np.array_equal(again.load_mask(again.scans[0]), cohort.load_mask(cohort.scans[0]))


def test_twenty_thousand_rows_open_in_seconds(tmp_path: Path):
    rows = [
        f"s{number:05d},p{number},images/s{number:05d}.tif,{'0' * 64},signals/s{number:05d},3x4,masks/s.png"
        for number in range(20_000)
    ]
    _rows(tmp_path, *rows, header=HEADER + ",mask")
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump({"schema_version": 1, "name": "large"}))
    assert len(Cohort.open(tmp_path).scans) == 20_000
