"""Every command of the README runs."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.shared import inkbeat

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
LINES = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line
]
MAKE_LINES = [line for line in LINES if line.startswith("make ")]
MAKE_LINES += re.findall(r"`(make [^`]+)`", README)
INKBEAT_LINES = [line for line in LINES if line.startswith("inkbeat ")]


def test_every_line_is_a_command_we_know():
    assert LINES
    assert set(LINES) <= {*MAKE_LINES, *INKBEAT_LINES}


@pytest.mark.parametrize("line", sorted(set(MAKE_LINES)))
def test_make_target_exists(line):
    # -n: the targets themselves are the test suite and the benchmark; they are tried by the slow tests.
    done = subprocess.run([*shlex.split(line), "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ci_runs_the_test_commands_that_are_named_here():
    script = (ROOT / ".ci" / "run").read_text()
    targets = re.findall(r"^run \d+ ([\w-]+)", script, re.M)
    assert targets[:2] == ["setup", "test"]
    assert {f"make {target}" for target in targets[1:]} <= set(MAKE_LINES)


def test_commands_of_the_readme_run_one_after_the_other(tmp_path, monkeypatch):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    for line in INKBEAT_LINES:
        code, out, err = inkbeat(*shlex.split(line)[1:])
        assert code == 0, f"{line}\n{out}\n{err}"
    assert (tmp_path / "runs/smoke/report/report.html").is_file()
