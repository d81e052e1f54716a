"""What the documents say is there, and their examples run."""

import json
import re
import shlex
from pathlib import Path

import pytest

from datamodules.layout import load_layout
from models.conformance import ALWAYS, WHEN_TRAINED
from tests.shared import inkbeat

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


# docs/architectures.md, in an empty folder

ARCHITECTURES = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory):
    """The files of the document, written down as they stand there."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "__init__.py").touch()
    files = re.findall(r"^File `([^`]+)`:\n\n```\w+\n(.*?)```", ARCHITECTURES, re.M | re.S)
    assert len(files) == 4
    for name, text in files:
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def there(users_folder, monkeypatch):
    """The user's folder, as the place where commands are given and Python looks first."""
    monkeypatch.chdir(users_folder)
    monkeypatch.syspath_prepend(users_folder)
    return users_folder


@pytest.mark.usefixtures("there")
def test_the_documented_network_keeps_the_contract():
    blocks = re.findall(r"^```python\n(.*?)```", ARCHITECTURES, re.M | re.S)
    (check,) = [block for block in blocks if "check_segmenter(" in block]
    exec(check, {})


def test_the_documented_sweep_runs(there):
    (commands,) = re.findall(r"^```sh\n(.*?)```", ARCHITECTURES, re.M | re.S)
    for line in commands.splitlines():
        code, out, err = inkbeat(*shlex.split(line)[1:])
        assert code == 0, f"{line}\n{out}\n{err}"
    results = [json.loads(path.read_text()) for path in there.glob("runs/my/cells/*/result.json")]
    assert [result["state"] for result in results] == ["done"]


def test_the_documented_layout_is_read(users_folder):
    layout = load_layout(users_folder / "mypackage" / "layout.yaml")
    assert [segment.stop_s for segment in layout.segments[:6]] == [2, 4, 6, 8, 10, 12]


def test_every_check_of_the_suite_is_documented():
    listed = re.findall(r"^\| `(check_\w+)` \|", ARCHITECTURES, re.M)
    assert listed == [check.__name__ for check in (*ALWAYS, *WHEN_TRAINED)]
