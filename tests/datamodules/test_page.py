import contextlib
import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import imagecodecs  # noqa: F401  (tifffile decodes CCITT through it)
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules import page as page_module
from datamodules.errors import DataError
from datamodules.page import read_mask, read_page, write_binary_tiff, write_colour_png, write_mask_png


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


def _bytes(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _code(source, page=None) -> str:
    with pytest.raises(DataError) as error:
        read_page(source, page)
    (problem,) = error.value.problems
    return problem.code


def _trace(shape=(120, 160)):
    """A page with a wave and a dotted grid."""
    ink = np.zeros(shape, bool)
    ink[::20, ::3] = True
    x = np.arange(shape[1])
    y = (shape[0] / 2 + shape[0] / 3 * np.sin(x / 9)).astype(int)
    ink[y, x] = ink[y + 1, x] = True
    return ink


GREY = np.random.default_rng(3).integers(100, 256, (60, 80), dtype=np.uint8)
SOUND = {
    "raw": _bytes(Image.fromarray(GREY), "TIFF"),
    "lzw": _bytes(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"),
    "deflate": _bytes(Image.fromarray(GREY), "TIFF", compression="tiff_adobe_deflate"),
    "packbits": _bytes(Image.fromarray(GREY), "TIFF", compression="packbits"),
    "group3": _bytes(Image.fromarray(~_trace()), "TIFF", compression="group3"),
    "group4": _bytes(Image.fromarray(~_trace()), "TIFF", compression="group4"),
    "png": _bytes(Image.fromarray(GREY), "PNG"),
    "jpeg": _bytes(Image.fromarray(GREY), "JPEG", quality=95),
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_pages_become_ink(kind: str):
    page = read_page(SOUND[kind])
    expected = 255 - GREY if kind not in ("group3", "group4") else _trace().astype(np.uint8) * 255
    assert page.ink.dtype == np.uint8
    assert np.abs(page.ink.astype(int) - expected).max() <= (12 if kind == "jpeg" else 0)
    assert page.is_binary == (kind in ("group3", "group4"))
    assert page.rgb is None
    assert not page.was_inverted
    assert page.sha256 == hashlib.sha256(SOUND[kind]).hexdigest()


def test_a_path_reads_like_its_bytes(tmp_path: Path):
    write_binary_tiff(tmp_path / "page.tif", _trace())
    assert np.array_equal(read_page(tmp_path / "page.tif").ink, _trace() * np.uint8(255))


def test_empty_stub_and_missing_files(tmp_path: Path):  # F1, F2
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "stub.tif").write_bytes(b"not an image at all " * 5)
    assert _code(tmp_path / "empty.tif") == "IMG_EMPTY"
    assert _code(tmp_path / "stub.tif") == "IMG_FORMAT"
    assert _code(tmp_path / "none.tif") == "IMG_MISSING"
    assert _code(SOUND["raw"][:100]) == "IMG_TRUNCATED"
    assert _code("a\0b.tif") == "IMG_UNREADABLE"


@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.99])
def test_truncated_files_are_refused(kind: str, share: float):  # F3
    content = SOUND[kind]
    assert _code(content[: int(len(content) * share)]) == "IMG_TRUNCATED"


def test_bit_flips_in_group_4_that_the_decoder_sees_are_refused(capfd):  # F5
    content, rng, refused = SOUND["group4"], np.random.default_rng(0), 0
    for _ in range(60):
        flipped = bytearray(content)
        flipped[rng.integers(8, len(content))] ^= 1 << int(rng.integers(8))
        try:
            read_page(bytes(flipped))
        except DataError as error:
            refused += error.problems[0].code == "IMG_DECODE_WARN"
    assert refused > 30
    assert capfd.readouterr().err == ""


def test_text_of_others_on_stderr_is_passed_on(capfd):
    with page_module._decoder_messages() as messages:
        os.write(2, b"hello\nFax4Decode: Bad code word at line 3\n")
    assert messages == ["Fax4Decode: Bad code word at line 3"]
    assert capfd.readouterr().err == "hello\n"


def _declared(width: int, height: int) -> bytes:
    """A small Group-4 file that says it is much larger."""
    tags = [(256, width), (257, height), (258, 1), (259, 4), (262, 0), (273, 8), (278, height), (279, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 12)
        + b"\0\x10\x01\0"
        + struct.pack("<H", len(tags))
        + entries
        + b"\0" * 4
    )


def _declared_png(width: int, height: int) -> bytes:
    png = bytearray(SOUND["png"])
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


@pytest.mark.parametrize("side", [30_000, 13_000, 2**31 - 1])
@pytest.mark.parametrize("declared", [_declared, _declared_png])
def test_bombs_are_refused_from_the_header(declared, side: int):  # F6, F7
    assert _code(declared(side, side)) == "IMG_TOO_LARGE"


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_png_chunk_bombs_are_refused_or_harmless(chunk: bytes):  # F8
    body = b"x\0\0" + zlib.compress(b"\0" * 80_000_000, 9)
    packed = struct.pack(">I", len(body)) + chunk + body + struct.pack(">I", zlib.crc32(chunk + body))
    png = SOUND["png"]
    assert _code(png[:33] + packed + png[33:]) == "IMG_CORRUPT"


def test_tiff_directories_in_a_circle_are_refused():  # F9
    content = bytearray(SOUND["raw"])
    (offset,) = struct.unpack_from("<I", content, 4)
    (n_entries,) = struct.unpack_from("<H", content, offset)
    struct.pack_into("<I", content, offset + 2 + 12 * n_entries, offset)
    assert _code(bytes(content)) == "IMG_FORMAT"


def test_multi_page_needs_an_index():  # F10
    pages = [Image.fromarray(GREY), Image.fromarray(GREY // 2 + 128)]
    content = _bytes(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert _code(content) == "MULTIPAGE"
    assert np.array_equal(read_page(content, 0).ink, 255 - GREY)
    assert np.array_equal(read_page(content, 1).ink, 127 - GREY // 2)
    assert _code(content, 2) == "IMG_PAGE"
    assert _code(content, -1) == "IMG_PAGE"


def test_reduced_previews_are_no_pages():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(GREY, subfiletype=0)
        tiff.write(GREY[::2, ::2], subfiletype=1)
    assert read_page(buffer.getvalue()).ink.shape == GREY.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), (">", False), ("<", True)])
def test_min_is_white_and_min_is_black_give_one_array(dtype, byteorder: str, bigtiff: bool):  # F11, F13
    largest = np.iinfo(dtype).max
    black = GREY.astype(dtype) * (largest // 255)
    pages = []
    for photometric, pixels in (("minisblack", black), ("miniswhite", largest - black)):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, photometric=photometric, byteorder=byteorder, bigtiff=bigtiff)
        pages.append(_read_or_code(buffer.getvalue()))
    black_page, white_page = pages
    assert np.array_equal(black_page, 255 - GREY)
    # Pillow has no big-endian 16-bit MinIsWhite; that is refused, never read the wrong way round.
    assert (
        np.array_equal(white_page, black_page)
        if not isinstance(white_page, str)
        else white_page == "IMG_CORRUPT"
    )


def _read_or_code(content: bytes):
    try:
        return read_page(content).ink
    except DataError as error:
        return error.problems[0].code


def test_one_bit_min_is_white_and_min_is_black_give_one_array():  # F11
    ink = _trace()
    black = read_page(SOUND["group4"])
    raw = _bytes(Image.fromarray(~ink), "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(raw)) as image:
        assert image.tag_v2[262] == 0
    white = read_page(raw)
    assert np.array_equal(black.ink, white.ink)
    assert black.is_binary
    assert white.is_binary


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_orientation_is_applied_once(orientation: int, kind: str):  # F12
    upright = np.full((40, 64), 255, np.uint8)
    upright[:8, :8], upright[:8, -8:] = 0, 100
    # How the sensor saw it: the inverse of what the tag asks viewers to do.
    inverse = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(inverse(upright)))
    options = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif}
    page = read_page(_bytes(image, kind, **options))
    assert page.ink.shape == upright.shape
    assert np.abs(page.ink.astype(int) - (255 - upright)).max() <= (20 if kind == "JPEG" else 0)


def test_pixel_formats_have_one_meaning():  # F13
    grey = Image.fromarray(GREY)
    rgb = Image.merge("RGB", [grey, Image.fromarray(255 - GREY // 4), grey])
    luma = 255 - np.asarray(rgb.convert("L"))
    assert np.array_equal(read_page(_bytes(rgb, "PNG")).ink, luma)
    assert np.array_equal(read_page(_bytes(rgb, "PNG")).rgb, np.asarray(rgb))
    assert read_page(_bytes(grey.convert("RGB"), "PNG")).rgb is None
    sixteen = Image.fromarray(GREY.astype(np.uint16) * 257)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(read_page(_bytes(sixteen, kind)).ink, 255 - GREY)
    palette = rgb.quantize(256)
    assert np.array_equal(read_page(_bytes(palette, "PNG")).rgb, np.asarray(palette.convert("RGB")))
    cmyk = read_page(_bytes(rgb.convert("CMYK"), "TIFF"))
    assert np.abs(cmyk.ink.astype(int) - luma).max() <= 2


def test_transparent_parts_are_paper():  # F13
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[:20] = 0
    expected = 255 - GREY
    expected[:20] = 0
    for mode in ("LA", "RGBA"):
        image = Image.fromarray(GREY * np.uint8(1)).convert(mode)
        image.putalpha(Image.fromarray(alpha))
        for kind in ("PNG", "TIFF"):
            assert np.array_equal(read_page(_bytes(image, kind)).ink, expected)


def test_floats_and_signed_integers_are_refused():  # F13
    for dtype, odd in ((np.float32, 0), (np.float32, np.nan), (np.float32, np.inf), (np.int32, 0)):
        pixels = GREY.astype(dtype)
        pixels[0, 0] = odd
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels)
        assert _code(buffer.getvalue()) == "IMG_MODE"


@pytest.mark.parametrize("shape", [(1, 1), (15, 300), (300, 15)])
def test_tiny_pages_are_refused(shape):  # F14
    assert _code(_bytes(Image.fromarray(np.full(shape, 200, np.uint8)), "PNG")) == "IMG_TOO_SMALL"


@pytest.mark.parametrize(("width", "height"), [(0, 60), (80, 0), (0, 0)])
@pytest.mark.parametrize("declared", [_declared, _declared_png])
def test_pages_without_area_are_refused(declared, width: int, height: int):  # F14
    assert _code(declared(width, height)) == "IMG_CORRUPT"


def test_pages_smaller_than_a_patch_are_read():  # F14
    assert read_page(_bytes(Image.fromarray(GREY), "PNG")).ink.shape == GREY.shape


def test_white_on_black_is_turned_round_once_and_marked():  # F16
    page = read_page(_bytes(Image.fromarray(_trace()), "TIFF", compression="group4"))
    assert page.was_inverted
    assert np.array_equal(page.ink, _trace() * np.uint8(255))
    rgb = np.stack([255 - GREY // 4, GREY, GREY], axis=2)
    inverted = read_page(_bytes(Image.fromarray(255 - rgb), "PNG"))
    assert inverted.was_inverted
    assert np.array_equal(inverted.rgb, rgb)


def test_content_decides_not_the_name(tmp_path: Path):  # F21
    (tmp_path / "page.tif").write_bytes(SOUND["jpeg"])
    assert read_page(tmp_path / "page.tif").ink.shape == GREY.shape


@pytest.mark.parametrize(
    "content",
    [
        b"%PDF-1.7\n",
        b"%!PS-Adobe EPSF",
        b"SIMPLE  =  T",
        b"8BPS\0\1",
        b"<?xml?><svg>",
        b"GIF89a",
        b"RIFF1234WEBP",
        b"BM",
    ],
)
def test_other_formats_never_reach_a_decoder(content: bytes, monkeypatch):  # F22
    monkeypatch.setattr(Image, "open", None)
    assert _code(content + b"\0" * 100) == "IMG_FORMAT"


def test_exotic_tiff_compression_is_refused():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY, compression="zstd")
    assert _code(buffer.getvalue()) == "IMG_FORMAT"


def test_links_pipes_devices_and_folders_are_refused(tmp_path: Path):  # F24
    (tmp_path / "page.png").write_bytes(SOUND["png"])
    (tmp_path / "link.png").symlink_to(tmp_path / "page.png")
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "link.png", tmp_path / "pipe.png", tmp_path, Path("/dev/zero")):
        assert _code(path) == "IMG_NOT_A_FILE"


def test_a_damaged_png_checksum_is_refused():
    png = bytearray(SOUND["png"])
    place = png.find(b"IDAT") + 40
    png[place] ^= 4
    assert _code(bytes(png)) in {"IMG_CORRUPT", "IMG_TRUNCATED"}


def test_dpi_is_kept_when_it_can_be_right():
    assert read_page(_bytes(Image.fromarray(GREY), "PNG", dpi=(200, 200))).dpi == pytest.approx(200, abs=0.1)
    assert read_page(_bytes(Image.fromarray(GREY), "TIFF", dpi=(1, 1))).dpi is None
    assert read_page(SOUND["png"]).dpi is None


def test_masks_have_two_values_and_are_never_turned_round(tmp_path: Path):
    full = np.ones((30, 40), np.uint8)
    write_mask_png(tmp_path / "full.png", full)
    assert np.array_equal(read_mask(tmp_path / "full.png"), full)
    for scale in (1, 255):
        assert read_mask(_bytes(Image.fromarray(full * np.uint8(scale)), "PNG")).max() == 1
    with pytest.raises(DataError, match="MASK_VALUES"):
        read_mask(SOUND["png"])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(SOUND)), st.data())
def test_any_damage_gives_a_page_or_a_coded_refusal(kind: str, data):
    content = bytearray(SOUND[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):  # nothing else may come out
        assert read_page(bytes(content)).ink.ndim == 2
