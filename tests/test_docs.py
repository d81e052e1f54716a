"""What the documents say is there, and their examples run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`((?:[\w.]+/)+[\w.]+\.(?:py|yaml))(?::(\w+))?`", PROTOCOL)))


def test_every_requirement_says_paper_code_assumption_and_outcome():
    sections = dict(re.findall(r"^### (R\d+): .*\n((?:- .*\n)+)", PROTOCOL, re.M))
    assert list(sections) == [f"R{number}" for number in range(1, 37)]
    for name, text in sections.items():
        starts = [line.partition(":")[0] for line in text.splitlines()]
        assert starts == ["- Paper", "- Code", "- Assumed", "- Came out"], name


def test_every_check_stands_in_the_table():
    assert re.findall(r"^\| (E\d+) \|", PROTOCOL, re.M) == [f"E{number}" for number in range(1, 15)]


@pytest.mark.parametrize(("path", "name"), PLACES)
def test_places_named_in_the_protocol_exist(path, name):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert not name or re.search(rf"^\s*(?:def|class|async def) {name}\b|^{name}\b.*=", source, re.M), name
