"""Every command of docs/sweeps.md is one that the command line understands."""

import re
import shlex
from pathlib import Path

import pytest

from lightning_app.cli import cli

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines() if line]
LINES += re.findall(r"`((?:inkbeat|make) [^`]+)`", TEXT)
INKBEAT = sorted(
    {line[line.index("inkbeat ") :] for line in LINES if re.match(r"([A-Z_]+=\S+ )*inkbeat ", line)}
)


def test_the_engines_and_agents_are_shown():
    for text in ("--engine ray", "--engine slurm", "--workers", "wandb agent"):
        assert any(text in line for line in LINES), text


@pytest.mark.parametrize("line", INKBEAT)
def test_it_is_understood(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "paper").mkdir(parents=True)  # where a command asks for an existing folder
    command, arguments = cli, shlex.split(line)[1:]
    while hasattr(command, "commands") or hasattr(command, "list_commands"):
        command, arguments = command.get_command(None, arguments[0]), arguments[1:]
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"experiments/\w+\.yaml", TEXT))))
def test_files_named_exist(path):
    assert (ROOT / path).is_file()
