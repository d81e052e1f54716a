import json
import sys

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
import wfdb
from click.testing import CliRunner

from datamodules.errors import ConfigError
from lightning_app import digitize_commands
from lightning_app.digitize.reader import load_reader
from lightning_app.digitize.record_names import record_name
from lightning_app.digitize_commands import digitize
from models.resunet_cbam import ResUNetCBAM
from tests.lightning_app.digitize.drawing import draw, heart

MODEL = {"class_path": "models.resunet_cbam.ResUNetCBAM", "init_args": {"width": 16}}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    drawn = draw(heart(seed=1), pulse=True)
    cv2.imwrite(str(folder / "scan.png"), 255 - drawn.ink)
    cv2.imwrite(str(folder / "mask.png"), 255 * drawn.mask)
    cv2.imwrite(str(folder / "blank.png"), np.full((400, 500), 255, np.uint8))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def cell(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "cell"
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps({"model": MODEL, "evaluation": {"overlap_px": 64}}))
    safetensors.torch.save_file(ResUNetCBAM(width=16).state_dict(), folder / "model.safetensors")
    return folder


def run(*arguments):
    return CliRunner().invoke(digitize, [str(a) for a in arguments], standalone_mode=False)


def test_a_page_becomes_files(page, tmp_path):
    done = run(page / "scan.png", "--mask", page / "mask.png", "--out", tmp_path / "out")
    assert done.return_value == 0, done.output
    assert "four_line" in done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"scan.{end}" for end in ("hea", "dat", "json", "mask.png", "overlay.png")}
    assert wfdb.rdrecord(str(tmp_path / "out" / "scan")).sig_len == 5000


def test_json_is_what_the_file_says(page, tmp_path):
    done = run(page / "scan.png", "--mask", page / "mask.png", "--out", tmp_path, "--json")
    (printed,) = json.loads(done.output)["images"]
    assert (printed.pop("image"), printed.pop("name")) == ("scan.png", "scan")
    assert printed == json.loads((tmp_path / "scan.json").read_text())
    assert printed["scale"]["mm_per_s"] == 25


def test_a_record_can_be_read_whatever_its_image_is_called(page, tmp_path):
    image = tmp_path / "Müller 2021.05.03.png"
    image.write_bytes((page / "scan.png").read_bytes())
    done = run(image, "--mask", page / "mask.png", "--out", tmp_path / "out")
    assert done.return_value == 0, done.output
    assert wfdb.rdrecord(str(tmp_path / "out" / "Muller_2021_05_03")).sig_len == 5000
    assert len({record_name(name) for name in ("心电图一", "心电图二")}) == 2


def test_one_bad_image_never_stops_the_batch(page, cell, tmp_path):
    images = [page / name for name in ("broken.png", "absent.png", "blank.png")]
    done = run(*images, "--weights", cell, "--out", tmp_path, "--json")
    assert done.return_value == 3
    codes = [image["refusal"]["code"] for image in json.loads(done.output)["images"]]
    assert codes[0].startswith("IMG_")
    assert codes[1].startswith("IMG_")
    assert codes[2] in {"NO_WAVEFORM", "SCALE_UNKNOWN"}  # an untrained network sees waveform anywhere
    assert {path.name for path in tmp_path.glob("*.json")} == {"broken.json", "absent.json", "blank.json"}


def test_a_fault_of_ours_on_one_page_never_stops_the_batch(page, cell, tmp_path, monkeypatch):
    def fails_once(read, calls=[]):  # noqa: B006 - remembers its calls
        def reads(page):
            calls.append(page)
            if len(calls) == 1:
                raise IndexError("index 7 is out of bounds")
            return read(page)

        return reads

    reading = digitize_commands._reading
    monkeypatch.setattr(digitize_commands, "_reading", lambda *given: fails_once(reading(*given)))
    (tmp_path / "other.png").write_bytes((page / "scan.png").read_bytes())
    done = run(
        page / "scan.png", tmp_path / "other.png", "--weights", cell, "--out", tmp_path / "out", "--json"
    )
    first, second = json.loads(done.output)["images"]
    assert first["refusal"]["code"] == "ERROR"
    assert first["refusal"]["reason"] == "IndexError: index 7 is out of bounds"
    assert "in reads" in json.loads((tmp_path / "out" / "scan.json").read_text())["details"]["traceback"]
    assert second.get("refusal", {}).get("code") != "ERROR"
    assert done.return_value == 1


def test_an_image_that_is_not_there_is_told_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it now fails
    monkeypatch.delitem(sys.modules, "lightning_app.digitize.reader", raising=False)
    done = run(tmp_path / "absent.png", "--out", tmp_path)
    assert done.return_value == 3, done.exception
    assert "IMG_MISSING" in done.output


def test_options_are_checked_before_any_work(page, tmp_path):
    scan, mask = page / "scan.png", page / "mask.png"
    for arguments, code in [
        ((scan, "--mask", mask, "--weights", page), "TWO_READERS"),
        ((scan, page / "blank.png", "--mask", mask), "MASK_FOR_MANY"),
        ((scan, scan, "--weights", page), "NAME_TWICE"),
        ((page / "a b.png", page / "a.b.png", "--weights", page), "NAME_TWICE"),
        ((scan, "--weights", page), "WEIGHTS_MISSING"),
        ((scan, "--mask", mask, "--layout", "five_line"), "LAYOUT_UNKNOWN"),
    ]:
        done = run(*arguments, "--out", tmp_path / "out")
        assert isinstance(done.exception, ConfigError)
        assert code in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_cell_becomes_its_network_again(cell):
    ink = (np.random.default_rng(0).random((130, 150)) > 0.9).astype(np.uint8) * 255
    by_folder, by_file = load_reader(cell).predict(ink), load_reader(cell / "model.safetensors").predict(ink)
    assert by_folder.shape == (1, *ink.shape)
    assert by_folder.dtype == np.float32
    assert np.array_equal(by_folder, by_file)


def test_weights_of_another_network_are_refused(cell):
    other = {"model": {**MODEL, "init_args": {"width": 32}}}
    (cell / "spec.json").write_text(json.dumps(other))
    with pytest.raises(ConfigError, match="WEIGHTS_MISMATCH"):
        load_reader(cell)
    (cell / "spec.json").write_text("{}")
    with pytest.raises(ConfigError, match="SPEC_INVALID"):
        load_reader(cell)
    (cell / "spec.json").unlink()
    with pytest.raises(ConfigError, match="SPEC_MISSING"):
        load_reader(cell)
