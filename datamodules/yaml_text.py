"""YAML as sweeps, cohorts and layouts use it: plain values only, scalars read as YAML 1.2 reads them.

PyYAML follows YAML 1.1, where `lr: 1e-3` is a string and `name: off` is False; both are traps in a file
that people write by hand. Anchors are refused (a kilobyte of them can stand for gigabytes), and so are
tags, repeated keys and deep nesting.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from datamodules.errors import DataError, Problem
from datamodules.files import read_text

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20

_FLOAT = re.compile(
    r"^[-+]?(\d+(\.\d*)?([eE][-+]?\d+)|\d+\.\d*|\.\d+([eE][-+]?\d+)?|\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)
_BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")


class YamlTextError(Exception):
    """The text is not the plain YAML that is wanted; the message tells where."""


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise YamlTextError(f"{_line(self.peek_event())}: an alias (*name); write the value out instead")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise YamlTextError(f"more than {MAX_DEPTH} levels of nesting")
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise YamlTextError(f"{_line(node)}: the key {', '.join(repeated)} twice")
        return super().construct_mapping(node, deep)


def _line(marked: Any) -> str:
    return f"line {marked.start_mark.line + 1}"


def _use_yaml_1_2_scalars() -> None:
    kept = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    _Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in kept]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    _Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tTfF"))


_use_yaml_1_2_scalars()


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: File of at most 1 MB, UTF-8, or UTF-16 with a byte order mark.

    Returns:
        The mapping, plain Python values only.

    Raises:
        DataError: What `read_text` raises, or `YAML_INVALID`.
    """
    try:
        value = parse_yaml(read_text(path, MAX_BYTES))
    except YamlTextError as error:
        raise DataError(_invalid(path, str(error))) from None
    if not isinstance(value, dict):
        got = "nothing" if value is None else f"a {type(value).__name__}"
        raise DataError(_invalid(path, got, "keys and values"))
    wrong = [key for key in value if not isinstance(key, str)]
    if wrong:
        raise DataError(_invalid(path, f"the key {wrong[0]!r}", "keys that are words"))
    return value


def _invalid(path: Path, got: str, wanted: str = "plain YAML") -> Problem:
    return Problem("YAML_INVALID", path.name, got, wanted, "correct the file at that place")


def parse_yaml(text: str) -> Any:
    """Read one YAML document.

    Args:
        text: At most 1 MB.

    Returns:
        Dicts, lists, strings, numbers, booleans and None.

    Raises:
        YamlTextError: If it is not plain YAML.

    Example:
        >>> parse_yaml("lr: 1e-3")
        {'lr': 0.001}
    """
    if len(text) > MAX_BYTES:
        raise YamlTextError(f"{len(text)} characters, more than {MAX_BYTES}")
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise YamlTextError(" ".join(str(error).split())) from None
