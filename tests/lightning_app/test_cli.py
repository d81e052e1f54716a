"""The command line as a user meets it: exit codes, messages, quickness, a sweep stopped and resumed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.lightning_app.specs_of_tiny import TINY, tiny_with
from tests.lightning_app.sweeps import sweep_with
from tests.shared import PATIENCE_S, inkbeat, wait_for

ROOT = Path(__file__).resolve().parents[2]
# Without git: somebody may commit while a test runs, and a report names the commit.
ENVIRONMENT = {
    **os.environ,
    "WANDB_MODE": "disabled",
    "INKBEAT_SAVE_EVERY_S": "0",
    "GIT_DIR": os.devnull,
}


def start(*arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "lightning_app", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def apart(*arguments) -> tuple[int, str, str]:
    """Run a command in a process of its own."""
    process = start(*arguments)
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def written(folder: Path, content, name: str = "sweep.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def run_lightly(*arguments) -> str:
    """Run a command to its good end, make sure that it imported nothing heavy, and give its output."""
    code = (
        "import sys\nfrom lightning_app.cli import main\n"
        f"try:\n    main({[str(argument) for argument in arguments]!r})\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'pytorch_lightning', 'pandas', 'matplotlib', 'wandb', 'skimage'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["plan", "SWEEP"], ["status", "RUNS"]])
def test_light_commands_import_nothing_heavy(tmp_path, arguments):
    sweep = written(tmp_path, sweep_with())
    runs = tmp_path / "runs"
    (runs / "tiny").mkdir(parents=True)
    (runs / "tiny" / "sweep.json").write_text('{"schema_version": 1, "name": "tiny", "cells": []}')
    places = {"SWEEP": str(sweep), "RUNS": str(runs)}
    arguments = [places.get(argument, argument) for argument in arguments]
    run_lightly(*arguments)


def test_plan_shows_every_cell_as_json(tmp_path):
    code, out, _ = inkbeat("plan", written(tmp_path, sweep_with()), "--out", tmp_path / "runs", "--json")
    assert code == 0
    planned = json.loads(out)["cells"]
    assert len(planned) == 4
    assert {"key", "model", "fold", "seed", "state"} == set(planned[0])
    assert {cell["state"] for cell in planned} == {"missing"}
    assert not (tmp_path / "runs").exists()


def test_every_problem_is_printed_at_once_without_a_traceback(tmp_path):  # F29, F32
    wrong = sweep_with(**{"training.epochs": 0, "folds.cuont": 3, "models.0.class_path": "models.fcn.FNC"})
    code, out, err = inkbeat("run", written(tmp_path, wrong), "--out", tmp_path / "runs")
    assert code == 2
    assert all(word in err for word in ("training.epochs", "folds.cuont", "did you mean models.fcn.FCN"))
    assert "Traceback" not in err + out
    assert not (tmp_path / "runs").exists()


def test_a_traceback_is_there_for_the_asking(tmp_path):
    code, _, err = inkbeat("plan", tmp_path / "none.yaml", "--debug")
    assert code == 2
    assert "Traceback" in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["plan", "none.yaml"], 2),
        (["unknown"], 2),
        (["run"], 2),
        (["status", "nowhere"], 2),
        (["verify", "nowhere"], 2),
        (["report", "nowhere"], 2),
        (["run", "SWEEP", "--set", "signals=nowhere"], 3),
        (["run", "SWEEP", "--workers", "0"], 2),
        (["run", "SWEEP", "--engine", "cloud"], 2),
        (["run", "SWEEP", "--out", "/proc/nothing"], 2),
    ],
)
def test_bad_input_ends_with_its_exit_code(tmp_path, arguments, code):
    sweep = written(tmp_path, sweep_with())
    got, out, err = inkbeat(*(str(sweep) if argument == "SWEEP" else argument for argument in arguments))
    assert got == code, err
    assert "Traceback" not in out + err
    assert err.strip()


def test_a_cohort_that_is_not_there_is_told_before_any_work(tmp_path):
    content = sweep_with(**{"cohorts.binary": {"path": "no/such/cohort"}})
    code, _, err = inkbeat("run", written(tmp_path, content), "--out", tmp_path / "runs")
    assert (code, "no/such/cohort" in err) == (3, True)
    assert not (tmp_path / "runs").exists()


# One sweep's life: three models, of which one fails.

SLOW = {"channels": 2, "sleep_s": 0.3}


def life() -> dict:
    content = tiny_with(**{"models.0.init_args": SLOW})
    failing = {**TINY["models"][0], "init_args": {"channels": 2, "fail_at": 1}, "name": "failing"}
    other = {**TINY["models"][0], "init_args": {"channels": 3, "sleep_s": 0.3}, "name": "other"}
    content["models"] += [failing, other]
    return content


def states(sweep, runs) -> dict[str, str]:
    _, out, _ = inkbeat("plan", sweep, "--out", runs, "--json")
    return {cell["model"]: cell["state"] for cell in json.loads(out)["cells"]}


def report_hashes(runs: Path) -> dict[str, str]:
    files = [path for path in (runs / "tiny" / "report").rglob("*") if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name[0] != "."}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep = written(folder, life())
    code, out, err = inkbeat("run", sweep, "--out", folder / "runs", "--workers", "2")
    return sweep, folder / "runs", code, out, err


def test_a_failing_cell_fails_alone(undisturbed):
    sweep, runs, code, out, _ = undisturbed
    assert code == 1
    assert states(sweep, runs) == {"TinyNet": "done", "failing": "failed", "other": "done"}
    assert "told to fail here" in out
    assert "report.html" in out
    _, shown, _ = inkbeat("status", runs)
    assert "told to fail here" in shown


def test_a_second_run_runs_only_what_is_missing(undisturbed):
    sweep, runs, *_ = undisturbed
    code, out, _ = inkbeat(
        "run", sweep, "--out", runs, "--workers", "2", "--set", "models.1.init_args.fail_at=-1"
    )
    assert code == 0
    assert out.count("started") == 1
    assert "3 done" in out
    # Nothing is left to do, and that is found out in a blink.
    out = run_lightly("run", sweep, "--out", runs, "--set", "models.1.init_args.fail_at=-1")
    assert out.count("started") == 0


def test_verify_finds_an_edit(undisturbed):
    _, runs, *_ = undisturbed
    assert inkbeat("verify", runs)[0] == 0
    path = next(runs.glob("tiny/cells/*/metrics.csv"))
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    code, _, err = inkbeat("verify", runs)
    path.write_bytes(before)
    assert (code, "metrics.csv" in err) == (4, True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_stopped_and_killed_sweep_ends_as_an_undisturbed_one(tmp_path):
    sweep = written(tmp_path, life())
    whole, ours = tmp_path / "whole", tmp_path / "runs"
    healed = ("--workers", "2", "--set", "models.1.init_args.fail_at=-1")
    arguments = ("run", sweep, "--out", ours, *healed)

    process = start(*arguments)
    wait_for(lambda: process.poll() is not None or list(ours.glob("tiny/cells/*/metrics.csv")))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 75
    assert "run the same command" in process.communicate()[1]

    process = start(*arguments)
    wait_for(
        lambda: (
            process.poll() is not None
            or any("fit" in path.read_text() for path in ours.glob("tiny/cells/*/metrics.csv"))
        )
    )
    assert apart(*arguments)[0] == 2, "a second driver on the same sweep is refused"
    process.kill()
    process.communicate()

    code, out, err = apart(*arguments)
    assert code == 0, err + out
    assert apart("run", sweep, "--out", whole, *healed)[0] == 0
    assert report_hashes(ours) == report_hashes(whole)
