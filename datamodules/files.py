"""Reading small YAML files without surprises, and writing files so that a half-written one never shows.

Used for layouts and cohorts; nothing here knows what is in the files.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import yaml

from datamodules.errors import DataError, Problem

YAML_MAX_BYTES = 256 * 1024
YAML_MAX_DEPTH = 16


class _PlainLoader(yaml.SafeLoader):
    """Safe loader that also refuses anchors, repeated keys and deep nesting.

    Aliases are the "billion laughs" of YAML, and a repeated key silently drops the first value.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("an alias (*name); write the value out instead")
        self.depth += 1
        if self.depth > YAML_MAX_DEPTH:
            raise yaml.YAMLError(f"more than {YAML_MAX_DEPTH} levels of nesting")
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.YAMLError(f"the key {', '.join(repeated)} twice")
        return super().construct_mapping(node, deep)


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: File of at most 256 kB, UTF-8, a byte order mark is accepted.

    Returns:
        The mapping, plain Python values only.

    Raises:
        DataError: `FILE_MISSING`, `FILE_UNREADABLE` or `YAML_INVALID`.
    """
    text = read_text(path, YAML_MAX_BYTES)
    try:
        value = yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        got = " ".join(str(error).split())
        raise DataError(
            Problem("YAML_INVALID", path.name, got, "plain YAML", "correct the file at that place")
        ) from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise DataError(
            Problem("YAML_INVALID", path.name, type(value).__name__, "a mapping `key: value`", "see docs")
        )
    return value


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
    if not path.exists():
        raise DataError(Problem("FILE_MISSING", str(path), "no such file", "a file", "check the path"))
    if not path.is_file():
        raise DataError(Problem("FILE_UNREADABLE", str(path), "not a regular file", "a file"))
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(Problem("FILE_TOO_LARGE", path.name, f"{size} bytes", f"at most {max_bytes}"))
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            Problem("FILE_UNREADABLE", path.name, str(error.strerror), "a readable file")
        ) from None
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        got = f"bytes that are not {encoding} at offset {error.start}"
        raise DataError(Problem("FILE_ENCODING", path.name, got, "UTF-8", "save the file as UTF-8")) from None


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
