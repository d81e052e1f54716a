"""A cohort's pages in one block of bytes, and the patches cut out of it.

1-bit pages and all masks stay packed (124 kB instead of 992 kB for the paper's page), grey pages take one
byte a pixel. The block lies in memory or in a cache file that is read where needed, so that a process with
20,000 scans stays small: the operating system keeps what it can of the file and gives it up when it must.
Patches are cut where the data lies: by numpy on a CPU, by index on a device that holds the whole block.

One page in the block: ink rows | mask rows | waveform pixels up to the end of each row (uint32), each part
starting at a multiple of 8 bytes. Rows are padded to whole bytes, pages to the patch side with paper.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from datamodules.errors import DataError, Problem
from datamodules.patches import PATCH_PX, Int64Array

UInt8Array = NDArray[np.uint8]

# What a store without a cache folder may hold in memory; about 4,000 of the paper's pages.
IN_MEMORY_LIMIT_BYTES = 1 << 30
# Share of a device's free memory the pages may take; the rest belongs to the network.
DEVICE_MEMORY_SHARE = 0.25

_MAGIC = b"INKPAGE1"  # the last character is the version of the file's layout
_PAGE = np.dtype(
    [
        ("height", "<i8"),
        ("width", "<i8"),
        ("ink_bits", "<i8"),
        ("ink", "<i8"),
        ("mask", "<i8"),
        ("row_ends", "<i8"),
        ("stop", "<i8"),
        ("waveform_px", "<i8"),
        ("crc32", "<i8"),
    ]
)


class _Bytes(Protocol):
    """Random access to the block, in memory or in a file."""

    def read(self, start: int, stop: int) -> UInt8Array:
        """Give bytes start to stop, uint8."""


class _Memory:
    def __init__(self, block: bytes | bytearray) -> None:
        self._block = np.frombuffer(block, dtype=np.uint8)

    def read(self, start: int, stop: int) -> UInt8Array:
        return self._block[start:stop]


class _File:
    """Positioned reads: safe after a fork, and unlike a map they never count as the process's memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, stop: int) -> UInt8Array:
        found = np.frombuffer(os.pread(self._descriptor, stop - start, start), dtype=np.uint8)
        if len(found) != stop - start:
            raise DataError(
                Problem(
                    "CACHE_TRUNCATED",
                    str(self._path),
                    f"the file ends before byte {stop}",
                    "the file as it was when the run began",
                    "delete it and run again; it is rebuilt",
                )
            )
        return found

    def __reduce__(self) -> tuple[type[_File], tuple[Path]]:
        return type(self), (self._path,)


class PageStore:
    """Read access to the pages of a cohort.

    Args:
        source: The block of bytes.
        table: (n_pages,) where each page lies in the block.
    """

    def __init__(self, source: _Bytes, table: np.ndarray) -> None:
        self._source = source
        self._table = table
        self.shapes: Int64Array = np.stack([table["height"], table["width"]], axis=1)
        self.waveform_px: Int64Array = table["waveform_px"].copy()

    def __len__(self) -> int:
        return len(self._table)

    @property
    def n_bytes(self) -> int:
        """Size of the block."""
        return int(self._table["stop"][-1]) if len(self._table) else 0

    @property
    def table(self) -> np.ndarray:
        """(n_pages,) record array: where each page lies in the block."""
        return self._table

    def read(self, start: int, stop: int) -> UInt8Array:
        """Give bytes start to stop of the block, uint8."""
        return self._source.read(start, stop)

    def waveform_points(self, pages: Int64Array, ranks: Int64Array) -> Int64Array:
        """Find waveform pixels by their rank on the page, counted row by row.

        Args:
            pages: (n,) page indices.
            ranks: (n,) in 0..waveform_px of the page - 1.

        Returns:
            (n, 2) row and column, as `np.argwhere(mask)[rank]` would give.
        """
        points = np.empty((len(pages), 2), dtype=np.int64)
        for i, (page, rank) in enumerate(zip(self._table[pages], ranks, strict=True)):
            height, width = int(page["height"]), int(page["width"])
            start = int(page["row_ends"])
            ends = self.read(start, start + 4 * height).view("<u4")
            row = int(np.searchsorted(ends, rank, side="right"))
            before = int(ends[row - 1]) if row else 0
            stride = -(-width // 8)
            start = int(page["mask"]) + row * stride
            columns = np.flatnonzero(np.unpackbits(self.read(start, start + stride)))
            points[i] = row, columns[int(rank) - before]
        return points

    def crop(
        self, pages: Int64Array, corners: Int64Array, size_px: int = PATCH_PX
    ) -> tuple[UInt8Array, UInt8Array]:
        """Cut patches on the CPU.

        Args:
            pages: (n,) page indices.
            corners: (n, 2) upper left pixels.
            size_px: Patch side.

        Returns:
            Ink (n, size, size) uint8, 0 = paper, 255 = ink, and masks (n, size, size) uint8 0/1.
        """
        ink = np.empty((len(pages), size_px, size_px), dtype=np.uint8)
        mask = np.empty_like(ink)
        for i, (page, (y, x)) in enumerate(zip(self._table[pages], corners.tolist(), strict=True)):
            width = int(page["width"])
            mask[i] = self._cut(int(page["mask"]), 1, width, y, x, size_px)
            bits = int(page["ink_bits"])
            ink[i] = self._cut(int(page["ink"]), bits, width, y, x, size_px)
            if bits == 1:
                ink[i] *= 255
        return ink, mask

    def _cut(self, offset: int, bits: int, width: int, y: int, x: int, size_px: int) -> UInt8Array:
        stride = _stride(width, bits)
        rows = self.read(offset + y * stride, offset + (y + size_px) * stride).reshape(size_px, stride)
        if bits == 8:
            return rows[:, x : x + size_px]
        first = x // 8
        unpacked = np.unpackbits(rows[:, first : (x + size_px + 7) // 8], axis=1)
        return unpacked[:, x - 8 * first : x - 8 * first + size_px]


class DevicePages:
    """The whole block on one device, patches cut by index.

    Args:
        store: The pages.
        device: Where they are copied to.
    """

    def __init__(self, store: PageStore, device: torch.device) -> None:
        self._block = torch.empty(store.n_bytes, dtype=torch.uint8, device=device)
        chunk = 1 << 26  # the file is never in the process's memory as a whole
        for start in range(0, store.n_bytes, chunk):
            stop = min(start + chunk, store.n_bytes)
            self._block[start:stop] = torch.from_numpy(store.read(start, stop).copy()).to(device)
        table = store.table
        packed = table["ink_bits"] == 1
        columns = {
            "ink": table["ink"],
            "mask": table["mask"],
            "ink_stride": np.where(packed, -(-table["width"] // 8), table["width"]),
            "mask_stride": -(-table["width"] // 8),
            "ink_shift": np.where(packed, 3, 0),  # column to byte: 8 pixels a byte or 1
        }
        self._columns = {name: torch.from_numpy(value.copy()).to(device) for name, value in columns.items()}

    def crop(self, pages: Tensor, corners: Tensor, size_px: int = PATCH_PX) -> tuple[Tensor, Tensor]:
        """Cut patches on the device; equal to `PageStore.crop` at equal indices.

        Args:
            pages: (n,) int64 page indices on the device.
            corners: (n, 2) int64 upper left pixels on the device.
            size_px: Patch side.

        Returns:
            Ink (n, size, size) uint8, 0 = paper, 255 = ink, and masks (n, size, size) uint8 0/1.
        """
        steps = torch.arange(size_px, device=corners.device)
        y = corners[:, 0, None, None] + steps[None, :, None]  # (n, size, 1)
        x = corners[:, 1, None, None] + steps[None, None, :]  # (n, 1, size)
        at = {name: column[pages][:, None, None] for name, column in self._columns.items()}
        bit = (7 - (x & 7)).to(torch.uint8)  # the leftmost pixel is the highest bit
        mask = self._block[at["mask"] + y * at["mask_stride"] + (x >> 3)] >> bit & 1
        ink = self._block[at["ink"] + y * at["ink_stride"] + (x >> at["ink_shift"])]
        return torch.where(at["ink_shift"] == 3, (ink >> bit & 1) * 255, ink), mask


def fits_on(store: PageStore, device: torch.device) -> bool:
    """Tell whether the pages fit on a CUDA device beside the network; False for every other device."""
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return store.n_bytes <= DEVICE_MEMORY_SHARE * free_bytes


def store_in_memory(pages: Iterable[tuple[UInt8Array, UInt8Array]], min_side_px: int = PATCH_PX) -> PageStore:
    """Keep pages in memory.

    Args:
        pages: Ink (H, W) uint8, 255 = ink, and mask (H, W) uint8 0/1 of every page.
        min_side_px: Smaller pages are padded to this side with paper; at least the patch side.

    Returns:
        The store, in the order of `pages`.
    """
    block = bytearray()
    records = []
    for ink, mask in pages:
        encoded, record = _encode(ink, mask, len(block), min_side_px)
        block += encoded
        records.append(record)
    return PageStore(_Memory(block), _table(records))


def store_in_file(
    folder: Path,
    content_key: str,
    pages: Iterable[tuple[UInt8Array, UInt8Array]],
    min_side_px: int = PATCH_PX,
) -> PageStore:
    """Open the cache file of some pages, building it when it is missing or damaged.

    The file is named after its content, written under another name and renamed when complete, and checked
    as a whole when opened. A lock keeps a second process from building the same file.

    Args:
        folder: Cache folder, created when missing.
        content_key: What the pages are made of, for instance the cohort's content hash.
        pages: As for `store_in_memory`; only read when the file has to be built.
        min_side_px: As for `store_in_memory`; part of what `content_key` must name.

    Returns:
        The store, in the order of `pages`.

    Raises:
        DataError: `CACHE_UNWRITABLE` when the file cannot be written.
    """
    name = hashlib.sha256(_MAGIC + content_key.encode()).hexdigest()[:24]
    path = folder / f"pages-{name}.bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            table = _read_table(path)
            if table is None:
                _write(path, pages, min_side_px)
                table = _read_table(path)
    except OSError as error:
        raise _unwritable(folder, str(error)) from error
    if table is None:
        raise _unwritable(folder, f"{path.name} reads back different from what was written")
    return PageStore(_File(path), table)


def _unwritable(folder: Path, got: str) -> DataError:
    return DataError(
        Problem(
            "CACHE_UNWRITABLE",
            str(folder),
            got,
            "a folder with room for the cohort's pages (250 kB for each 1-bit scan)",
            "free some space or give another cache_dir",
        )
    )


def _stride(width: int, bits: int) -> int:
    """Bytes of a row."""
    return width if bits == 8 else -(-width // 8)


def _encode(
    ink: UInt8Array, mask: UInt8Array, offset: int, min_side_px: int
) -> tuple[bytes, tuple[int, ...]]:
    """Lay one page out as bytes; the record says where its parts lie when the page starts at `offset`."""
    missing = [(0, max(0, min_side_px - length)) for length in ink.shape]
    ink, mask = np.pad(ink, missing), np.pad(mask, missing)
    bits = 1 if bool(((ink == 0) | (ink == 255)).all()) else 8
    row_ends = np.cumsum(np.count_nonzero(mask, axis=1)).astype("<u4")
    parts = [
        np.packbits(ink, axis=1).tobytes() if bits == 1 else ink.tobytes(),
        np.packbits(mask, axis=1).tobytes(),
        row_ends.tobytes(),
    ]
    padded = [part + bytes(-len(part) % 8) for part in parts]
    starts = offset + np.cumsum([0, *map(len, padded)])
    block = b"".join(padded)
    return block, (*ink.shape, bits, *starts.tolist(), int(row_ends[-1]), zlib.crc32(block))


def _table(records: list[tuple[int, ...]]) -> np.ndarray:
    return np.array(records, dtype=_PAGE)


def _write(path: Path, pages: Iterable[tuple[UInt8Array, UInt8Array]], min_side_px: int) -> None:
    """Write block, table and footer, one page at a time, and rename when all is on disk."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with unfinished.open("wb") as file:
            records = []
            for ink, mask in pages:
                encoded, record = _encode(ink, mask, file.tell(), min_side_px)
                file.write(encoded)
                records.append(record)
            table = _table(records).tobytes()
            file.write(table + _footer(table))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _footer(table: bytes) -> bytes:
    return len(table).to_bytes(8, "little") + hashlib.sha256(table).digest() + _MAGIC


def _read_table(path: Path) -> np.ndarray | None:
    """Read and check a cache file; None when it is missing or not exactly what was written."""
    if not path.is_file():
        return None
    size = len(_footer(b""))
    with path.open("rb") as file:
        n_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(n_bytes - size, 0))
        footer = file.read()
        start = n_bytes - size - int.from_bytes(footer[:8], "little")
        if start < 0:
            return None
        file.seek(start)
        raw = file.read(n_bytes - size - start)
        if footer != _footer(raw):
            return None
        table = np.frombuffer(raw, dtype=_PAGE)
        file.seek(0)
        return table if all(_intact(file, table)) else None


def _intact(file: BinaryIO, table: np.ndarray) -> Iterator[bool]:
    """Check each page's bytes, read in order."""
    for page in table:
        yield zlib.crc32(file.read(int(page["stop"] - page["ink"]))) == page["crc32"]
