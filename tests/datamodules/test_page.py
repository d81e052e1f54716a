from pathlib import Path

import imagecodecs  # noqa: F401  (tifffile decodes CCITT through it)
import numpy as np
import pytest
import tifffile
from PIL import Image

from datamodules.page import write_binary_tiff, write_colour_png, write_mask_png


def _ink(shape=(61, 83), seed=0):
    return np.random.default_rng(seed).random(shape) < 0.2


def test_binary_tiff_is_one_bit_group_4_and_tifffile_reads_the_same(tmp_path: Path):
    ink = _ink()
    path = tmp_path / "page.tif"
    write_binary_tiff(path, ink)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        assert page.compression == tifffile.COMPRESSION.CCITT_T6
        assert page.bitspersample == 1
        pixels = page.asarray()
        black_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    assert np.array_equal(pixels.astype(bool), ~ink if black_is_zero else ink)


def test_binary_tiff_bytes_depend_on_the_pixels_alone(tmp_path: Path):
    for name in ("a.tif", "b.tif"):
        write_binary_tiff(tmp_path / name, _ink())
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_mask_png_is_one_bit_and_round_trips(tmp_path: Path):
    mask = _ink().astype(np.uint8)
    write_mask_png(tmp_path / "mask.png", mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "1"
        assert np.array_equal(np.asarray(image), mask.astype(bool))


def test_colour_png_round_trips(tmp_path: Path):
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_colour_png(tmp_path / "page.png", rgb)
    with Image.open(tmp_path / "page.png") as image:
        assert np.array_equal(np.asarray(image), rgb)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="shape"):
        write_mask_png(tmp_path / "mask.png", np.zeros((2, 2, 2), bool))
    assert list(tmp_path.iterdir()) == []
