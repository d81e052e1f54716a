"""The one place that reads and writes pages.

In memory a page is ink: uint8, 0 = paper, 255 = ink, whatever the file's photometric interpretation.
Only TIFF, PNG and JPEG are read, told by their content and never by their name; everything a file claims
about its size is checked before its pixels are touched, and what a decoder complains about is a reason to
refuse the page (PROTOCOL F1 to F26).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
import struct
import tempfile
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from datamodules.errors import DataError, Problem
from datamodules.files import write_atomic

MAX_PIXELS = 50_000_000
MAX_FILE_BYTES = 256 * 1024 * 1024
MIN_SIDE_PX = 16
MAX_TIFF_PAGES = 1000
MAX_TIFF_ENTRIES = 1024
INVERTED_ABOVE = 0.5  # mean ink; no grid or halftone makes a page of paper darker than this
DPI_RANGE = (30.0, 4800.0)

# TIFF tags and the compressions that scanners write: none, CCITT RLE, G3, G4, LZW, JPEG, deflate, PackBits.
_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = (
    254,
    259,
    262,
    273,
    279,
    324,
    325,
)
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_DECODER_LINE = re.compile(r"^(Fax|TIFF|_TIFF|LZW|ZIP|JPEG|PackBits|Dump)\w*:")
_STDERR_LOCK = threading.Lock()

Ink = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Page:
    """A page as read.

    Attributes:
        ink: (H, W) uint8, 0 = paper, 255 = ink; of a colour page, the darkness of its luma.
        rgb: (H, W, 3) uint8 of a page in colour, else None.
        sha256: Of the very bytes that were decoded.
        is_binary: Whether ink is 0 and 255 only.
        dpi: Dots per inch along x as the file says, None if it does not or cannot be right.
        was_inverted: Whether the page came as white on black and was turned round.
    """

    ink: Ink
    rgb: npt.NDArray[np.uint8] | None
    sha256: str
    is_binary: bool
    dpi: float | None
    was_inverted: bool


def read_page(source: Path | str | bytes, page: int | None = None, *, where: str = "") -> Page:
    """Read one page from a TIFF, PNG or JPEG file.

    Grey keeps its 8 bits, 16 bits are rounded to 8, palette and CMYK become RGB, transparent parts become
    white paper, EXIF and TIFF orientation is applied. A page that is mostly ink is white on black; it is
    inverted and marked so.

    Args:
        source: Path, or the bytes of the file.
        page: Which page, from 0; needed if there are several. Reduced previews do not count.
        where: Name for the error message instead of the file's.

    Returns:
        The page.

    Raises:
        DataError: `IMG_MISSING`, `IMG_NOT_A_FILE`, `IMG_UNREADABLE`, `IMG_EMPTY`, `IMG_FORMAT`,
            `IMG_TRUNCATED`, `IMG_CORRUPT`, `IMG_DECODE_WARN`, `IMG_MODE`, `IMG_TOO_LARGE`, `IMG_TOO_SMALL`,
            `IMG_PAGE` or `MULTIPAGE`.
    """
    where = where or ("bytes" if isinstance(source, bytes) else Path(source).name)
    content = source if isinstance(source, bytes) else read_image_bytes(Path(source), where=where)
    image = _decoded(content, page, where)
    ink, rgb = _ink_and_rgb(image, where)
    is_black_and_white = image.mode == "1"
    mean = np.count_nonzero(ink) / ink.size if is_black_and_white else float(ink.mean()) / 255
    was_inverted = mean > INVERTED_ABOVE
    if was_inverted:
        ink, rgb = 255 - ink, None if rgb is None else 255 - rgb
    is_binary = is_black_and_white or (rgb is None and bool(((ink == 0) | (ink == 255)).all()))
    return Page(ink, rgb, hashlib.sha256(content).hexdigest(), is_binary, _dpi(image), was_inverted)


def read_mask(source: Path | str | bytes, *, where: str = "") -> npt.NDArray[np.uint8]:
    """Read a mask: two values only, white = waveform, never turned round.

    Args:
        source: Path, or the bytes of the file.
        where: Name for the error message instead of the file's.

    Returns:
        (H, W) uint8, 0 and 1.

    Raises:
        DataError: The codes of `read_page`, and `MASK_VALUES` if it has grey or colour.
    """
    where = where or ("bytes" if isinstance(source, bytes) else Path(source).name)
    content = source if isinstance(source, bytes) else read_image_bytes(Path(source), where=where)
    image = _decoded(content, None, where)
    if image.mode == "1":
        return np.asarray(_white(image) & 1, dtype=np.uint8)
    values = np.unique(np.asarray(image)) if image.mode == "L" else np.array([])
    if values.size == 0 or not (set(values.tolist()) <= {0, 255} or set(values.tolist()) <= {0, 1}):
        _refuse("MASK_VALUES", where, f"mode {image.mode}, {values.size} values", "1 bit, white = waveform")
    return (np.asarray(image) > 0).astype(np.uint8)


def read_image_bytes(path: Path, *, where: str = "") -> bytes:
    """Read a regular file whole, without following a link and without ever waiting for a device.

    Args:
        path: The file.
        where: Name for the error message instead of the file's.

    Returns:
        Its bytes, which are then both hashed and decoded, so that no exchange in between goes unseen.

    Raises:
        DataError: `IMG_MISSING`, `IMG_NOT_A_FILE`, `IMG_UNREADABLE`, `IMG_EMPTY` or `IMG_TOO_LARGE`.
    """
    where = where or path.name
    try:
        # O_NONBLOCK: opening a named pipe would wait for a writer for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        _refuse("IMG_MISSING", where, "no such file", "an image", "check the path")
    except (OSError, ValueError) as error:
        code = "IMG_NOT_A_FILE" if path.is_symlink() else "IMG_UNREADABLE"
        _refuse(code, where, getattr(error, "strerror", None) or str(error), "a regular file")
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        _refuse("IMG_NOT_A_FILE", where, "a folder, pipe or device", "a regular file")
    with os.fdopen(handle, "rb") as stream:
        if status.st_size > MAX_FILE_BYTES:
            _refuse("IMG_TOO_LARGE", where, f"{status.st_size} bytes", f"at most {MAX_FILE_BYTES}")
        try:
            content = stream.read()
        except OSError as error:
            _refuse("IMG_UNREADABLE", where, str(error.strerror), "a readable file")
    if not content:
        _refuse("IMG_EMPTY", where, "0 bytes", "an image", "copy the file again")
    return content


def _refuse(code: str, where: str, got: str, wanted: str = "", remedy: str = "") -> NoReturn:
    raise DataError(Problem(code, where, got, wanted, remedy)) from None


def _kind(content: bytes, where: str) -> str:
    """Tell the format from the first bytes: a suffix may lie (F21), and no decoder sees the rest (F22)."""
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0"):  # Pillow has no big-endian BigTIFF
        return "TIFF"
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if content[:3] == b"\xff\xd8\xff":
        return "JPEG"
    names = {
        b"%PDF": "PDF",
        b"%!PS": "PostScript",
        b"8BPS": "PSD",
        b"SIMP": "FITS",
        b"GIF8": "GIF",
        b"RIFF": "WebP",
    }
    if b"<svg" in content[:1024].lower():
        got = "SVG"
    else:
        got = names.get(content[:4], f"{len(content)} bytes that start with {content[:8].hex()}")
    _refuse("IMG_FORMAT", where, got, "TIFF, PNG or JPEG", "export the page as TIFF or PNG, 200 dpi or more")


def _decoded(content: bytes, page: int | None, where: str) -> Image.Image:
    """Decode one page with Pillow behind our own checks; orientation is applied once."""
    kind = _kind(content, where)
    frames = _tiff_frames(content, where) if kind == "TIFF" else [0]
    frame = _frame(frames, page, where)
    if kind == "JPEG" and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        _refuse("IMG_TRUNCATED", where, "a JPEG without end", "the whole file", "copy the file again")
    # Only libtiff speaks on standard error; to listen takes a file, so the others are spared it.
    listen: contextlib.AbstractContextManager[list[str]]
    listen = _decoder_messages() if kind == "TIFF" else contextlib.nullcontext([])
    with warnings.catch_warnings(), listen as messages:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)
        try:
            image = _opened(content, kind, frame, where)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            _refuse("IMG_TOO_LARGE", where, str(error), f"at most {MAX_PIXELS} pixels")
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 (decoders raise errors of any kind on damaged files)
            code = "IMG_TRUNCATED" if "truncated" in str(error).lower() else "IMG_CORRUPT"
            got = f"{type(error).__name__}: {error}"
            _refuse(code, where, got, f"a sound {kind} file", "copy or scan it again")
    if messages:
        got = f"{len(messages)} complaints of the decoder, first: {messages[0]}"
        _refuse("IMG_DECODE_WARN", where, got, "a sound file", "copy or scan it again")
    return image


def _opened(content: bytes, kind: str, frame: int, where: str) -> Image.Image:
    if kind == "PNG":
        # Pillow stops at the last pixel; verify reads on and compares the checksum of every chunk.
        Image.open(io.BytesIO(content), formats=("PNG",)).verify()
    image = Image.open(io.BytesIO(content), formats=(kind,))
    if frame:
        image.seek(frame)
    if kind == "PNG" and getattr(image, "n_frames", 1) > 1:
        _refuse("MULTIPAGE", where, "an animated PNG", "one page")
    width, height = image.size
    if width * height > MAX_PIXELS:
        _refuse(
            "IMG_TOO_LARGE", where, f"{width} x {height}", f"at most {MAX_PIXELS} pixels", "scan at 300 dpi"
        )
    if min(width, height) < MIN_SIDE_PX:
        _refuse("IMG_TOO_SMALL", where, f"{width} x {height}", f"{MIN_SIDE_PX} pixels a side or more")
    if image.mode in ("I;16", "I;16L", "I;16B") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        image.info["min_is_white"] = True  # Pillow turns 1-bit and 8-bit pages round, not these
    image.load()
    if kind != "TIFF":  # of those, loading has turned the page already
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _frame(frames: list[int], page: int | None, where: str) -> int:
    if page is None and len(frames) > 1:
        remedy = "name one in the column `page`, from 0"
        _refuse("MULTIPAGE", where, f"{len(frames)} pages", "one page", remedy)
    if not 0 <= (page or 0) < len(frames):
        _refuse("IMG_PAGE", where, f"page {page}", f"0 to {len(frames) - 1}")
    return frames[page or 0]


def _tiff_frames(content: bytes, where: str) -> list[int]:
    """Walk the directories of a TIFF; returns the numbers of those that are full pages.

    Done here and not left to the decoder: a directory chain may loop (F9), strips may lie beyond the end of
    a truncated file (F3), and libtiff would be asked for codecs no scanner uses.
    """
    try:
        directories = list(_tiff_directories(content, where))
    except struct.error:
        _refuse("IMG_TRUNCATED", where, "a TIFF directory beyond the end of the file", "the whole file")
    for tags in directories:
        compression = (tags.get(_COMPRESSION) or (1,))[0]
        if compression not in _COMPRESSIONS:
            wanted = "none, CCITT, LZW, JPEG, deflate or PackBits"
            _refuse("IMG_FORMAT", where, f"TIFF compression {compression}", wanted)
        starts = tags.get(_STRIPS) or tags.get(_TILES) or ()
        sizes = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
        if not starts or any(start + size > len(content) for start, size in zip(starts, sizes, strict=False)):
            remedy = "copy the file again"
            _refuse("IMG_TRUNCATED", where, "pixels beyond the end of the file", "the whole file", remedy)
    full = [number for number, tags in enumerate(directories) if not (tags.get(_SUBFILE) or (0,))[0] & 0b101]
    return full or [0]


def _tiff_directories(content: bytes, where: str) -> Iterator[dict[int, tuple[int, ...]]]:
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:3] == b"+"
    count_type, entry_size, offset_type, inline = ("Q", 20, "Q", 8) if big else ("H", 12, "I", 4)
    offset = struct.unpack_from(order + offset_type, content, 8 if big else 4)[0]
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) >= MAX_TIFF_PAGES:
            got = "TIFF directories in a circle" if offset in seen else f"more than {MAX_TIFF_PAGES} pages"
            _refuse("IMG_FORMAT", where, got, "a TIFF with one page")
        seen.add(offset)
        n_entries = struct.unpack_from(order + count_type, content, offset)[0]
        if n_entries > MAX_TIFF_ENTRIES:
            _refuse("IMG_FORMAT", where, f"{n_entries} TIFF tags", f"at most {MAX_TIFF_ENTRIES}")
        offset += struct.calcsize(count_type)
        entries = [offset + number * entry_size for number in range(n_entries)]
        yield dict(_tiff_values(content, entry, order, offset_type, inline) for entry in entries)
        offset = struct.unpack_from(order + offset_type, content, offset + n_entries * entry_size)[0]
    if not seen:
        _refuse("IMG_TRUNCATED", where, "a TIFF without a page", "the whole file")


def _tiff_values(
    content: bytes, entry: int, order: str, offset_type: str, inline: int
) -> tuple[int, tuple[int, ...]]:
    """Read tag and unsigned integers of one entry; other types give no values."""
    tag, kind, count = struct.unpack_from(f"{order}HH{offset_type}", content, entry)
    if kind not in _TIFF_TYPES:
        return tag, ()
    place = entry + 4 + inline
    n_bytes = count * struct.calcsize(_TIFF_TYPES[kind])
    if n_bytes > inline:
        place = struct.unpack_from(order + offset_type, content, place)[0]
    if place + n_bytes > len(content):  # before unpack: count may claim billions
        raise struct.error
    return tag, struct.unpack_from(f"{order}{count}{_TIFF_TYPES[kind]}", content, place)


@contextlib.contextmanager
def _decoder_messages() -> Iterator[list[str]]:
    """Collect what libtiff prints while pages are decoded.

    Of a damaged Group-4 page libtiff tells nothing but text on file descriptor 2 (F5: 271 of 300 single-bit
    flips gave text and another image, none an error). Lines of others are passed on.
    """
    messages: list[str] = []
    with _STDERR_LOCK, tempfile.TemporaryFile() as capture:
        try:
            kept = os.dup(2)
        except OSError:  # a daemon without standard error
            yield messages
            return
        try:
            os.dup2(capture.fileno(), 2)
            yield messages
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            capture.seek(0)
            for line in capture.read().decode(errors="replace").splitlines():
                if _DECODER_LINE.match(line):
                    messages.append(line)
                else:
                    os.write(2, f"{line}\n".encode())


def _ink_and_rgb(image: Image.Image, where: str) -> tuple[Ink, npt.NDArray[np.uint8] | None]:
    """Bring any pixel format to ink, and to RGB if it has colour."""
    if image.mode == "1":
        return ~_white(image), None
    if image.mode == "L":
        return 255 - np.asarray(image), None
    if image.mode in ("I;16", "I;16L", "I;16B"):
        values = np.asarray(image).astype(np.uint32)
        grey = ((values + 128) // 257).astype(np.uint8)
        return (grey if image.info.get("min_is_white") else 255 - grey), None
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        image = _on_paper(image)
    elif image.mode in ("P", "CMYK", "YCbCr"):
        image = image.convert("RGB")
    if image.mode != "RGB":
        wanted = "1, 8 or 16 bit grey, palette, RGB(A) or CMYK"
        _refuse("IMG_MODE", where, f"pixels of mode {image.mode}", wanted, "convert the page to 8 bit")
    rgb = np.asarray(image)
    is_grey = bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())
    return 255 - np.asarray(image.convert("L")), None if is_grey else rgb


def _white(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Pixels of a 1-bit image, 255 = white; so are the bytes of the booleans that Pillow hands out."""
    return np.asarray(image).view(np.uint8)


def _on_paper(image: Image.Image) -> Image.Image:
    """Lay a page with transparent parts on white paper."""
    premultiplied = {"La": "LA", "RGBa": "RGBA"}
    rgba = image.convert(premultiplied.get(image.mode, image.mode)).convert("RGBA")
    paper = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(paper, rgba).convert("RGB")


def _dpi(image: Image.Image) -> float | None:
    try:
        dpi = float(image.info["dpi"][0])
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return dpi if DPI_RANGE[0] <= dpi <= DPI_RANGE[1] else None


def write_binary_tiff(path: Path, ink: npt.NDArray[np.bool_]) -> None:
    """Write a 1-bit page as the scanners of the paper do: TIFF, CCITT Group 4.

    Args:
        path: File to write.
        ink: (H, W) bool, True = ink.

    The bytes depend on the pixels alone. Pillow writes it, since tifffile has no Group-4 encoder.
    """
    write_atomic(path, _encoded(Image.fromarray(~_as_bool(ink)), "TIFF", compression="group4"))


def write_mask_png(path: Path, mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> None:
    """Write a mask as 1-bit PNG, 1 (white) = waveform.

    Args:
        path: File to write.
        mask: (H, W) bool or 0/1.
    """
    write_atomic(path, _encoded(Image.fromarray(_as_bool(mask)), "PNG"))


def write_colour_png(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write a colour or grey page as PNG.

    Args:
        path: File to write.
        rgb: (H, W, 3) or (H, W) uint8, white = paper.
    """
    # Level 3: half the time of the default for 3 % more bytes on a gridded page.
    write_atomic(path, _encoded(Image.fromarray(rgb), "PNG", compress_level=3))


def write_jpeg(path: Path, pixels: npt.NDArray[np.uint8], quality: int) -> None:
    """Write a grey or colour page as JPEG.

    Args:
        path: File to write.
        pixels: (H, W) or (H, W, 3) uint8, white = paper.
        quality: 1 to 95.
    """
    write_atomic(path, _encoded(Image.fromarray(pixels), "JPEG", quality=quality))


def _as_bool(pixels: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    if pixels.ndim != 2:
        raise ValueError(f"got shape {pixels.shape}, wanted (H, W)")
    return np.ascontiguousarray(pixels, dtype=np.bool_)


def _encoded(image: Image.Image, kind: str, **options: int | str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
