"""A cell that was killed leaves what an undisturbed one leaves, byte for byte."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from lightning_app.cells import LOCK, RESULT, SPEC, Store, read_json, result_of, verify, write_json
from tests.lightning_app import cell_runs
from tests.lightning_app.specs_of_tiny import TINY, tiny_with
from tests.shared import wait_for


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    (job,) = cell_runs.planned_jobs(TINY, tmp_path_factory.mktemp("undisturbed"))
    assert cell_runs.run(job) == 0
    started = time.monotonic()
    (again,) = cell_runs.planned_jobs(TINY, tmp_path_factory.mktemp("again"))
    assert cell_runs.run(again) == 0
    assert cell_runs.outcome(again) == cell_runs.outcome(job), "the same cell twice differs"
    return cell_runs.outcome(job), time.monotonic() - started


def test_another_seed_gives_other_weights(undisturbed, tmp_path):
    (job,) = cell_runs.planned_jobs(tiny_with(seeds=[1]), tmp_path)
    assert cell_runs.run(job) == 0
    assert cell_runs.outcome(job)["model.safetensors"] != undisturbed[0]["model.safetensors"]


def test_random_kills_change_nothing(undisturbed, tmp_path):
    expected, seconds = undisturbed
    rng, hit = random.Random(0), 0
    while not hit:  # sooner each time, as the machine may have become faster than it was
        seconds /= 2
        (job,) = cell_runs.planned_jobs(TINY, tmp_path / str(seconds))
        hit = cell_runs.run_with_kills(job, 8, seconds, rng)
        assert cell_runs.outcome(job) == expected
        assert not verify(job.sweep_dir)


def test_a_cell_tells_what_it_spent(tmp_path):
    (job,) = cell_runs.planned_jobs(TINY, tmp_path)
    process = cell_runs.start(job)
    folder = Store(job.sweep_dir).folder(job.key)
    wait_for(lambda: (folder / "metrics.csv").is_file())
    process.kill()
    process.join()
    assert cell_runs.run(job) == 0
    told = Store(job.sweep_dir).timing(job.key)
    # 2 + 3 x 3 steps of one patch of 32 px, a sixteenth of a usual one; an epoch that was trained twice is
    # counted twice, with its time.
    assert 11 <= round(16 * told["trained_patches"], 1) <= 20
    assert told["predicted_pages"] == 2 + 1
    assert told["train_s"] >= 0 < told["predict_s"]
    assert told["peak_memory_mb"] > 50
    flop_per_patch = 2 * 3 * read_json(folder / "result.json")["macs"]
    assert told["train_flop"] == pytest.approx(flop_per_patch * told["trained_patches"])
    assert "timing.json" not in read_json(folder / "result.json")["artefacts"]


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_two_hundred_random_kills_change_nothing(undisturbed, tmp_path):
    expected, seconds = undisturbed
    rng = random.Random(1)
    hit, equal, runs = 0, 0, 0
    while hit < 200:
        (job,) = cell_runs.planned_jobs(TINY, tmp_path / str(runs))
        hit += cell_runs.run_with_kills(job, 20, seconds, rng)
        equal += cell_runs.outcome(job) == expected
        runs += 1
        shutil.rmtree(tmp_path / str(runs - 1))
    print(f"{hit} kills in {runs} cells, {equal} equal")
    assert equal == runs


def started_training(folder):
    return lambda: (folder / "metrics.csv").is_file()


def test_a_request_to_stop_keeps_the_work_and_says_so(undisturbed, tmp_path):
    slow = tiny_with(**{"models.0.init_args": {"channels": 2, "sleep_s": 0.2}})
    (job,) = cell_runs.planned_jobs(slow, tmp_path)
    folder = Store(job.sweep_dir).folder(job.key)
    process = cell_runs.start(job)
    wait_for(started_training(folder))
    process.terminate()
    process.join()
    assert process.exitcode == 75
    assert Store(job.sweep_dir).state(job.key) == "interrupted"
    assert cell_runs.run(job) == 0
    # The sleeping model is another cell, but its weights are drawn and trained alike.
    tensors = "metrics.csv"
    assert cell_runs.outcome(job)[tensors] == undisturbed[0][tensors]


def test_a_second_request_ends_it_at_once(tmp_path):
    slow = tiny_with(**{"models.0.init_args": {"channels": 2, "sleep_s": 5.0}})
    (job,) = cell_runs.planned_jobs(slow, tmp_path)
    folder = Store(job.sweep_dir).folder(job.key)
    process = cell_runs.start(job)
    wait_for(lambda: (folder / "progress.json").is_file())
    time.sleep(0.5)
    process.terminate()
    time.sleep(0.2)
    process.terminate()
    process.join(4)
    assert process.exitcode == 75


def test_a_damaged_checkpoint_is_passed_over(undisturbed, tmp_path):
    slow = tiny_with(**{"models.0.init_args": {"channels": 2, "sleep_s": 0.1}})
    (job,) = cell_runs.planned_jobs(slow, tmp_path)
    folder = Store(job.sweep_dir).folder(job.key)
    process = cell_runs.start(job)
    wait_for(lambda: (folder / "previous.ckpt").is_file())
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (folder / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:-100])
    assert cell_runs.run(job) == 0
    assert "last.ckpt is damaged" in (folder / "log.txt").read_text()
    assert cell_runs.outcome(job)["metrics.csv"] == undisturbed[0]["metrics.csv"]


def test_two_processes_never_work_on_one_cell(tmp_path):
    slow = tiny_with(**{"models.0.init_args": {"channels": 2, "sleep_s": 20.0}})
    (job,) = cell_runs.planned_jobs(slow, tmp_path)
    first = cell_runs.start(job)
    wait_for(lambda: Store(job.sweep_dir).state(job.key) == "running")
    assert cell_runs.run(job) == 5
    first.kill()
    first.join()


def test_a_cell_that_somebody_else_finished_meanwhile_is_left_alone(tmp_path):
    (job,) = cell_runs.planned_jobs(TINY, tmp_path)
    folder = Store(job.sweep_dir).folder(job.key)
    result = result_of(folder, job.key, "done", [SPEC])
    write_json(folder / RESULT, result)
    assert cell_runs.run(job) == 0
    assert {path.name for path in folder.iterdir()} == {SPEC, RESULT, LOCK}
    assert read_json(folder / RESULT) == result


def test_a_failing_cell_leaves_its_traceback(tmp_path):
    failing = tiny_with(**{"models.0.init_args": {"channels": 2, "fail_at": 1}})
    (job,) = cell_runs.planned_jobs(failing, tmp_path)
    assert cell_runs.run(job) == 1
    store = Store(job.sweep_dir)
    assert store.state(job.key) == "failed"
    error = read_json(store.folder(job.key) / "result.json")["error"]
    assert (error["type"], error["message"]) == ("ValueError", "told to fail here")
    assert "tiny.py" in error["traceback"]


def test_two_devices_train_one_cell(tmp_path):
    content = tiny_with(trainer={"accelerator": "cpu", "devices": 2, "strategy": "ddp"})
    (job,) = cell_runs.planned_jobs(content, tmp_path)
    assert cell_runs.run(job) == 0
    folder = Store(job.sweep_dir).folder(job.key)
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 1 + 3
    assert "MEMBER: 2/2" in (folder / "log.txt").read_text()
    assert not verify(job.sweep_dir)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_devices_end_together_and_go_on_together(tmp_path, number):
    devices = {"trainer": {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}}
    content = tiny_with(**{"models.0.init_args": {"channels": 2, "sleep_s": 0.2}}, **devices)
    (whole,) = cell_runs.planned_jobs(content, tmp_path / "whole")
    (parts,) = cell_runs.planned_jobs(content, tmp_path / "parts")
    assert cell_runs.run(whole) == 0
    process = cell_runs.start(parts)
    wait_for(started_training(Store(parts.sweep_dir).folder(parts.key)))
    helpers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == (75 if number == signal.SIGTERM else -number)
    assert not psutil.wait_procs(helpers, timeout=5)[1]
    assert len(helpers) >= 2
    assert cell_runs.run(parts) == 0
    assert cell_runs.outcome(parts) == cell_runs.outcome(whole)


def test_a_cell_takes_the_weights_of_one_that_differs_in_its_tests_only(undisturbed, tmp_path):
    (donor,) = cell_runs.planned_jobs(TINY, tmp_path)
    assert cell_runs.run(donor) == 0
    added = tiny_with()
    added["test_on"].append({**added["test_on"][0], "name": "noisier"})
    (job,) = cell_runs.planned_jobs(added, tmp_path)
    assert job.key != donor.key
    from dataclasses import replace

    assert cell_runs.run(replace(job, donor=donor.key)) == 0
    store = Store(job.sweep_dir)
    assert "weights taken" in (store.folder(job.key) / "log.txt").read_text()
    ours, theirs = cell_runs.outcome(job), cell_runs.outcome(donor)
    assert ours["model.safetensors"] == theirs["model.safetensors"]
    assert set(store.result(job.key)["dice"]) == {"cv", "noisy", "noisier"}
    assert not verify(job.sweep_dir)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_last_good_state(undisturbed, small_disk):
    (job,) = cell_runs.planned_jobs(TINY, small_disk / "runs")
    folder = Store(job.sweep_dir).folder(job.key)
    process = cell_runs.start(job)
    wait_for(lambda: (folder / "last.ckpt").is_file())
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    for half_written in folder.rglob(".*.tmp"):  # the next run clears it away, and would have room for more
        half_written.unlink()
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    before = (folder / "last.ckpt").read_bytes()
    assert cell_runs.run(job) == 3
    assert (folder / "last.ckpt").read_bytes() == before
    assert Store(job.sweep_dir).state(job.key) == "interrupted"
    filler.unlink()
    assert cell_runs.run(job) == 0
    assert cell_runs.outcome(job) == undisturbed[0]


def test_an_edit_of_any_file_is_found(tmp_path):
    (job,) = cell_runs.planned_jobs(TINY, tmp_path)
    assert cell_runs.run(job) == 0
    folder = Store(job.sweep_dir).folder(job.key)
    told_apart = {".lock", "log.txt", "timing.json"}  # no result depends on them
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in told_apart]
    assert len(files) > 12
    for path in files:
        content = path.read_bytes()
        for edited in edits(path.name, content):
            path.unlink() if edited is None else path.write_bytes(edited)
            assert verify(job.sweep_dir), (path.name, edited)
            path.write_bytes(content)
    assert not verify(job.sweep_dir)


def edits(name, content):
    if name == "result.json":  # a better Dice, and the same with its hash taken out
        better = content.replace(b'"cv": 0.', b'"cv": 0.9')
        return [better, better.replace(b'"result_sha256"', b'"note"')]
    if name == "checkpoints.sha256":
        return [b"", None]
    changed = [content[:-1] + bytes([content[-1] ^ 1]), content + b" "]
    return changed if name == "last.ckpt" else [*changed, None]  # a finished cell needs none
