"""Reading text files without surprises, and writing files so that a half-written one never shows.

Nothing here knows what is in the files.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from datamodules.errors import DataError, Problem


def read_text(path: Path, max_bytes: int) -> str:
    """Read a regular text file whole.

    Args:
        path: The file; UTF-8, or UTF-16 with a byte order mark.
        max_bytes: Larger files are refused from their size alone.

    Returns:
        The text without byte order mark.

    Raises:
        DataError: `FILE_MISSING`, `FILE_UNREADABLE`, `FILE_TOO_LARGE` or `FILE_ENCODING`.
    """
    return as_text(read_bytes(path, max_bytes), path.name)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a regular file whole.

    Args:
        path: The file.
        max_bytes: Larger files are refused from their size alone.

    Raises:
        DataError: `FILE_MISSING`, `FILE_UNREADABLE` or `FILE_TOO_LARGE`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise DataError(Problem("FILE_UNREADABLE", str(path), "not a regular file", "a file"))
        if status.st_size > max_bytes:
            got = f"{status.st_size} bytes"
            raise DataError(Problem("FILE_TOO_LARGE", path.name, got, f"at most {max_bytes}"))
        return path.read_bytes()
    except FileNotFoundError:
        problem = Problem("FILE_MISSING", str(path), "no such file", "a file", "check the path")
    except OSError as error:
        problem = Problem("FILE_UNREADABLE", path.name, str(error.strerror), "a readable file")
    raise DataError(problem)


def as_text(content: bytes, name: str) -> str:
    """Decode a text file: UTF-8, or UTF-16 with a byte order mark.

    Args:
        content: Its bytes.
        name: Its name, for the refusal.

    Raises:
        DataError: `FILE_ENCODING`.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        got = f"bytes that are not {encoding} at offset {error.start}"
        raise DataError(Problem("FILE_ENCODING", name, got, "UTF-8", "save the file as UTF-8")) from None


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that readers see all of it or nothing.

    Args:
        path: Final name; its folder is made when missing.
        content: The bytes of the file.

    Raises:
        OSError: If the disk is full or not writable; no partial file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(6)}"
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
