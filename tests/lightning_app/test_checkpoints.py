"""Checkpoints: whatever instant a kill falls into, one intact file is found."""

import os

import pytest

from datamodules.errors import DataError
from lightning_app.checkpoints import Checkpoints


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def save(checkpoints, content: bytes) -> None:
    checkpoints.save(lambda path: path.write_bytes(content))


def test_the_newest_checkpoint_is_found(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest_intact() is None
    for content in (b"one", b"two", b"three"):
        save(checkpoints, content)
        assert checkpoints.newest_intact().read_bytes() == content
    assert checkpoints.previous.read_bytes() == b"two"


@pytest.mark.parametrize("damage", [b"", b"thre", b"threX", b"three and more"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, b"two")
    save(checkpoints, b"three")
    checkpoints.last.write_bytes(damage)
    assert checkpoints.newest_intact() == checkpoints.previous
    checkpoints.previous.write_bytes(damage)
    assert checkpoints.newest_intact() is None


@pytest.mark.parametrize("step", range(12))
def test_a_kill_at_any_step_of_saving_leaves_an_intact_checkpoint(tmp_path, monkeypatch, step):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, b"one")
    save(checkpoints, b"two")
    calls = iter(range(100))

    def killing(function):
        def run(*arguments, **options):
            if next(calls) == step:
                raise Killed
            return function(*arguments, **options)

        return run

    path_type = type(tmp_path)
    monkeypatch.setattr(path_type, "replace", killing(path_type.replace))
    monkeypatch.setattr(path_type, "unlink", killing(path_type.unlink))
    monkeypatch.setattr(os, "fsync", killing(os.fsync))
    try:
        save(checkpoints, b"three")
    except Killed:
        pass
    finally:
        monkeypatch.undo()
    found = checkpoints.newest_intact()
    assert found is not None
    assert found.read_bytes() in (b"two", b"three")


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, b"one")

    def write(path):
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    with pytest.raises(DataError, match="DISK_FULL"):
        checkpoints.save(write)
    assert checkpoints.newest_intact().read_bytes() == b"one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints.sha256", "last.ckpt"]
