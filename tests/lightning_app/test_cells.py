"""The store: states, locks, durable writes, and finding what was edited."""

import json
import os
import subprocess
import sys

import pytest

from datamodules.errors import ConfigError, DataError, IntegrityError
from lightning_app.cells import (
    PROGRESS,
    RESULT,
    SPEC,
    CellLock,
    Store,
    is_locked,
    read_json,
    result_of,
    verify,
    write_durably,
    write_json,
)
from lightning_app.specs import SCHEMA_VERSION, cells, check_sweep
from tests.lightning_app.specs_of_tiny import TINY


@pytest.fixture
def store(tmp_path):
    """A sweep of one finished cell."""
    store = Store(tmp_path / "tiny")
    (cell,) = cells(check_sweep(TINY), {})
    store.write_plan({"name": "tiny", "cells": [{"key": cell.key, "model": "TinyNet", "fold": 0, "seed": 0}]})
    folder = store.folder(cell.key)
    folder.mkdir(parents=True)
    write_json(folder / SPEC, cell.spec.model_dump(mode="json"))
    (folder / "scans.parquet").write_bytes(b"rows")
    result = result_of(folder, cell.key, "done", [SPEC, "scans.parquet", "not-there"], dice={"cv": 0.5})
    write_json(folder / RESULT, result)
    return store


def only_key(store):
    (key,) = store.keys_on_disk()
    return key


def test_states_follow_the_folder(store):
    key = only_key(store)
    folder = store.folder(key)
    assert store.states([key, "other"]) == {key: "done", "other": "missing"}
    write_json(folder / RESULT, {**read_json(folder / RESULT), "state": "failed"})
    assert store.state(key) == "failed"
    (folder / RESULT).unlink()
    assert store.state(key) == "missing"
    (folder / PROGRESS).write_text("{}")
    assert store.state(key) == "interrupted"
    lock = CellLock(folder)
    assert lock.acquire()
    assert store.state(key) == "running"
    lock.release()
    assert store.state(key) == "interrupted"


def test_a_lock_has_one_holder_and_falls_with_its_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from lightning_app.cells import CellLock;"
        f"print(CellLock(Path({str(tmp_path)!r})).acquire(), flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip() == "True"
    assert is_locked(tmp_path)
    assert not CellLock(tmp_path).acquire(patience_s=0.1)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not is_locked(tmp_path)
    assert CellLock(tmp_path).acquire(patience_s=0.1)


def test_an_untouched_store_verifies(store):
    assert verify(store.root) == ()
    assert verify(store.root.parent) == ()


def edit_rows(folder):
    (folder / "scans.parquet").write_bytes(b"rowz")


def remove_rows(folder):
    (folder / "scans.parquet").unlink()


def edit_number(folder):
    text = (folder / RESULT).read_text()
    (folder / RESULT).write_text(text.replace("0.5", "0.9"))


def edit_spec_and_its_hash(folder):
    spec = read_json(folder / SPEC)
    spec["training"]["epochs"] += 1
    write_json(folder / SPEC, spec)
    result = read_json(folder / RESULT)
    write_json(
        folder / RESULT, result_of(folder, result["key"], "done", result["artefacts"], dice=result["dice"])
    )


def point_outside(folder):
    result = read_json(folder / RESULT)
    write_json(folder / RESULT, {**result, "artefacts": {"../../../etc/passwd": "0"}})


def truncate(folder):
    (folder / RESULT).write_text((folder / RESULT).read_text()[:20])


@pytest.mark.parametrize(
    "edit", [edit_rows, remove_rows, edit_number, edit_spec_and_its_hash, point_outside, truncate]
)
def test_every_edit_is_found(store, edit):
    edit(store.folder(only_key(store)))
    assert verify(store.root)


def test_results_of_a_newer_release_are_refused(store):
    folder = store.folder(only_key(store))
    write_json(folder / RESULT, {"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(ConfigError, match="SCHEMA_NEWER"):
        store.result(only_key(store))


def test_a_folder_without_a_sweep_says_which_there_are(store):
    with pytest.raises(ConfigError, match="tiny"):
        Store(store.root.parent).plan()


def test_a_damaged_result_is_an_integrity_error(store):
    truncate(store.folder(only_key(store)))
    with pytest.raises(IntegrityError, match="RESULT_DAMAGED"):
        store.result(only_key(store))


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_durably(path, b"old")

    def no_space(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DataError, match="DISK_FULL"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [child.name for child in tmp_path.iterdir()] == ["file"]


def test_ten_thousand_states_are_read_in_a_second(tmp_path):
    store = Store(tmp_path)
    keys = [f"{number:016x}" for number in range(10_000)]
    for key in keys[:300]:
        store.folder(key).mkdir(parents=True)
        (store.folder(key) / RESULT).write_text(json.dumps({"state": "done"}))
    states = store.states(keys)
    assert sum(state == "done" for state in states.values()) == 300
