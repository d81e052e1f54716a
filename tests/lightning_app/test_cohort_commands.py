"""`inkbeat cohort ...` in this process: what is printed, and the exit codes."""

import csv
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.cohort import Cohort
from datamodules.page import read_page, write_binary_tiff
from datamodules.signals import write_recording
from lightning_app.cli import main
from lightning_app.cohort_commands import cohort
from tests.datamodules.annotation.drawing import binary_page, bumpy_recording


@pytest.fixture
def inkbeat(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["cohort", *map(str, arguments)])
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A folder as a hospital has it: one page with its signal, one with somebody else's."""
    folder = tmp_path_factory.mktemp("scans")
    for name, seed, signal_seed in (("right", 3, 3), ("wrong", 5, 98)):
        _, page, _ = binary_page(seed, "3x4")
        write_binary_tiff(folder / f"{name}.tif", page.image > 0)
        write_recording(folder / name, bumpy_recording(signal_seed))
    return folder


def test_from_a_folder_of_scans_to_masks(scans, tmp_path, inkbeat):
    root = tmp_path / "cohort"
    scale = ("--px-per-s", 100, "--px-per-mv", 40)
    code, out, _ = inkbeat("import", scans, "--out", root, "--layout", "3x4", *scale)
    assert code == 0
    assert "2 scans imported, 0 problems" in out
    code, out, err = inkbeat("annotate", root, "--workers", 1, "--overlays", tmp_path / "look")
    assert code == 3
    assert "2 scans annotated, 1 of them whole" in out
    assert "SCAN_UNRESOLVED  wrong" in err
    assert sorted(path.name for path in (tmp_path / "look").iterdir()) == ["right.png", "wrong.png"]
    assert [scan.mask for scan in Cohort.open(root).scans] == ["masks/right.png", None]
    code, out, _ = inkbeat("check", root, "--workers", 1)
    assert code == 0
    assert "note: MASK_ABSENT 1x" in out


def test_check_lists_every_problem_and_can_write_what_is_missing(scans, tmp_path, inkbeat):
    root = tmp_path / "cohort"
    inkbeat("import", scans, "--out", root)
    table = (root / "scans.csv").read_text().splitlines()
    cells = [line.split(",") for line in table]
    at = cells[0].index("image_sha256")
    good = cells[1][at]
    cells[1][at] = ""
    cells[2][at] = good
    (root / "scans.csv").write_text("\n".join(",".join(row) for row in cells) + "\n")
    code, _, err = inkbeat("check", root, "--workers", 1, "--rejects", tmp_path / "rejects.csv")
    assert code == 4
    assert "SHA256_ABSENT  right" in err
    assert "SHA256_MISMATCH" in err
    with (tmp_path / "rejects.csv").open(newline="") as file:
        assert {row["code"] for row in csv.DictReader(file)} >= {"SHA256_ABSENT", "SHA256_MISMATCH"}
    code, out, err = inkbeat("check", root, "--workers", 1, "--fix-hashes")
    assert code == 4
    assert "hashes written: 1" in out
    assert "SHA256_ABSENT" not in err


@pytest.mark.parametrize("layout", ["=cmd()", "+1", "-1", "@sum"])
def test_rejects_hold_no_cell_that_a_spreadsheet_would_run(scans, tmp_path, inkbeat, layout):  # F30
    inkbeat("import", scans, "--out", tmp_path / "cohort")
    table = tmp_path / "cohort/scans.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"layout": layout} for row in rows)
    rejects = tmp_path / "rejects.csv"
    code, _, _ = inkbeat("check", tmp_path / "cohort", "--workers", 1, "--rejects", rejects)
    assert code == 3
    with rejects.open(newline="") as file:
        told = list(csv.DictReader(file))
    assert {row["reason"] for row in told if row["code"] == "LAYOUT_UNKNOWN"} == {f"'{layout}"}
    assert not any(cell[:1] in "=+-@" for row in told for cell in row.values() if cell)


def test_import_names_what_it_leaves_out(scans, tmp_path, inkbeat):
    shutil.copytree(scans, tmp_path / "scans")
    (tmp_path / "scans/wrong.hea").unlink()
    code, _, err = inkbeat("import", tmp_path / "scans", "--out", tmp_path / "cohort")
    assert code == 3
    assert "SIGNAL_MISSING  wrong" in err


def test_layouts_are_listed_checked_and_drawn(tmp_path, inkbeat):
    code, out, _ = inkbeat("layouts")
    assert code == 0
    assert len(out.splitlines()) == 9
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\nduration_s: 5\nrows: [[I, II], [V1]]\n")
    code, out, _ = inkbeat("layouts", mine, "--draw", tmp_path / "drawn")
    assert code == 0
    assert "I II | V1" in out
    picture = read_page(tmp_path / "drawn/mine.png")
    assert np.ptp(picture.ink) > 100
    mine.write_text("name: mine\nduration_s: 5\nrows: [[I, XX]]\n")
    code, _, err = inkbeat("layouts", mine)
    assert code == 2
    assert "XX" in err


def _documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "cohorts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)```", text, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("inkbeat cohort ")]


@pytest.mark.parametrize("line", _documented())
def test_documented_commands_are_understood(line):
    _, _, name, *arguments = shlex.split(line)
    command = cohort.commands[name]
    assert command.make_context(name, arguments).params


def test_pictures_of_the_document_are_small_and_there():
    folder = Path(__file__).resolve().parents[2] / "docs"
    named = re.findall(r"\]\((images/[\w.-]+)\)", (folder / "cohorts.md").read_text(encoding="utf-8"))
    assert named
    assert all(0 < (folder / name).stat().st_size < 150_000 for name in named)


def test_every_wrong_option_is_told_at_once(inkbeat):
    code, _, err = inkbeat("make", "--kind", "binry", "--scans", 0, "--seed", "x")
    assert code == 2
    for option in ("--kind", "--scans", "--seed", "--out"):
        assert f"'{option}'" in err
