"""The reader that ships: small, whole, and right on pages of a painter it has never seen."""

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from datamodules.layout import LEADS
from datamodules.page import Page
from lightning_app.digitize.reader import SHIPPED, load_reader
from lightning_app.digitize.results import Digitized
from lightning_app.digitize.working_scale import resampled
from lightning_app.digitize_commands import digitize
from lightning_app.evaluate.signals import record_metrics
from tests.lightning_app.digitize.drawing import as_page, draw, heart

# Thick lines alone: this painter's thin ones would be two thirds of a 1-bit page black.
ONE_BIT = {"binary": True, "grid": ("thick",), "noise": 0.01}


@pytest.fixture(scope="module")
def reader():
    return load_reader()


@pytest.fixture(scope="module")
def truth():
    return heart(seed=3)


def against(read: Digitized, mv: np.ndarray) -> dict[str, float]:
    """Metrics of a reading over what it shows."""
    shown = np.isfinite(read.mv)
    true = np.where(shown, mv[:, : shown.shape[1]], np.nan)
    return record_metrics(
        dict(zip(LEADS, read.mv, strict=True)), dict(zip(LEADS, true, strict=True)), 500.0
    ).overall


def red_on_pink(drawn):
    """The same page in colour: black trace, red grid, pink paper."""
    trace = cv2.merge([drawn.mask * 255] * 3).astype(np.float32) / 255
    grid = (drawn.ink.astype(np.float32) / 255)[..., None] * (1 - trace)
    rgb = np.array([255, 240, 240]) - grid * np.array([30, 150, 150])
    rgb = (rgb * (1 - trace) + 20 * trace).clip(0, 255).astype(np.uint8)
    ink = 255 - cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return Page(ink, rgb, "", False, None, False)


def test_it_is_small_enough_to_ship():
    assert SHIPPED.stat().st_size <= 20e6


@pytest.mark.parametrize("kind", ["1-bit", "grey", "colour", "twice the pixels"])
def test_it_reads_pages_of_every_kind(reader, truth, kind):
    drawn = draw(truth, pulse=True, **ONE_BIT if kind == "1-bit" else {"binary": False})
    page = red_on_pink(drawn) if kind == "colour" else as_page(drawn.ink)
    factor = 2.0 if kind == "twice the pixels" else 1.0
    read, mask = reader.read(resampled(page, factor) if factor > 1 else page)
    assert isinstance(read, Digitized), read
    assert read.layout == "four_line"
    assert read.scale.px_per_s == pytest.approx(factor * drawn.px_per_s, rel=0.01)
    assert read.scale.px_per_mv == pytest.approx(factor * drawn.px_per_mv, rel=0.02)
    assert mask.shape == (round(factor * page.ink.shape[0]), round(factor * page.ink.shape[1]))
    found = against(read, truth)
    assert found["pcc_best_lag"] > (0.85 if kind == "1-bit" else 0.97), found
    # Pulses stand right beside the rows here, and where a row begins behind its pulse is known to 4 px only.
    assert abs(found["lag_ms"]) <= 40.0, found
    assert found["coverage"] == 1.0


def test_it_refuses_what_is_no_page(reader, truth):
    noise = np.random.default_rng(0).integers(0, 256, (886, 1120), dtype=np.uint8)
    for ink in (np.zeros((886, 1120), np.uint8), noise // 2, draw(0 * truth).ink[:, :400]):
        read, _ = reader.read(as_page(ink))
        assert not isinstance(read, Digitized)


def test_digitize_needs_no_weights(truth, tmp_path):
    cv2.imwrite(str(tmp_path / "scan.png"), 255 - draw(truth, pulse=True, **ONE_BIT).ink)
    arguments = [str(tmp_path / "scan.png"), "--out", str(tmp_path / "read")]
    done = CliRunner().invoke(digitize, arguments, standalone_mode=False)
    assert done.return_value == 0, done.output
    assert (tmp_path / "read" / "scan.hea").is_file()
