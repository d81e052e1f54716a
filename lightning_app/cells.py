"""The store: one folder per cell, and the folder is the truth.

    RUNS/<sweep>/sweep.json            the current plan: labels and keys, where the cohorts lie
    RUNS/<sweep>/folds.json            which scan is in which fold
    RUNS/<sweep>/cells/<key>/
        spec.json                      what the key is the hash of
        result.json                    written last, by atomic rename: state, artefacts and their SHA-256
        scans.parquet                  one row per scan and test set
        predictions/<set>/<scan>.png   1-bit masks at the sweep's threshold
        metrics.csv                    one row per epoch
        model.safetensors              final weights
        last.ckpt, checkpoints.sha256  last checkpoint and its hash, which is no part of the result:
                                       equal states may be pickled as different bytes
        environment.json, log.txt      where and with what it ran; what was said
        timing.json                    what it spent; apart, because no result may depend on it
        wandb/                         the run as W&B sees it

A cell is done when its `result.json` says so, whatever an engine believes. While a process works on it, it
holds the lock `.lock`; the operating system drops that lock with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datamodules.errors import ConfigError, DataError, InkbeatError, IntegrityError, Problem
from lightning_app.specs import SCHEMA_VERSION, canonical_json, newer_schema

State = Literal["missing", "running", "done", "failed", "interrupted"]

RESULT = "result.json"
SPEC = "spec.json"
WEIGHTS = "model.safetensors"
PROGRESS = "progress.json"
TIMING = "timing.json"
LAST_CHECKPOINT = "last.ckpt"
CHECKPOINT_HASHES = "checkpoints.sha256"
LOCK = ".lock"
RUN_LOCK = ".run.lock"  # of the command that drives the sweep
LOCK_PATIENCE_S = 2.0  # a status query holds the lock shared for an instant


def sha256_of(path: Path) -> str:
    """Hash a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_hashes(folder: Path) -> list[str]:
    """Read which checkpoints a cell has recorded, newest first; empty if it has recorded none."""
    try:
        return (folder / CHECKPOINT_HASHES).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def is_on_record(checkpoint: Path) -> bool:
    """Tell whether a checkpoint is what the cell wrote."""
    return sha256_of(checkpoint) in checkpoint_hashes(checkpoint.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that after any crash it is either the old one or the new one, whole.

    Raises:
        DataError: `DISK_FULL` or `NOT_WRITABLE`; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise DataError(disk_problem(path, error)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException) -> bool:
    """Tell whether there was no room, on the disk or within a quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_problem(path: Path, error: OSError) -> Problem:
    """Turn an error of the file system into a problem with a remedy."""
    if is_disk_full(error):
        return Problem(
            "DISK_FULL", path.name, str(error.strerror), "free space", "free some and run the same again"
        )
    return Problem(
        "NOT_WRITABLE", str(path), str(error.strerror), "a writable folder", "choose another --out"
    )


def write_json(path: Path, value: Any) -> None:
    """Write plain values as indented JSON, durably."""
    write_durably(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        IntegrityError: `RESULT_DAMAGED` if it is not one.
        ConfigError: `SCHEMA_NEWER` if a later release wrote it.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(
            Problem(
                "RESULT_DAMAGED", f"{path.parent.name}/{path.name}", str(error), "JSON", "remove the folder"
            )
        ) from None
    if not isinstance(value, dict):
        raise IntegrityError(Problem("RESULT_DAMAGED", path.name, type(value).__name__, "an object"))
    version = value.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ConfigError(newer_schema(f"{path.parent.name}/{path.name}", version))
    return value


class CellLock:
    """The right to work on one cell, held by one process and dropped with it.

    Args:
        folder: The cell's folder; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._descriptor: int | None = None

    def acquire(self, patience_s: float = LOCK_PATIENCE_S) -> bool:
        """Try to take the lock; False if another process keeps it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + patience_s
        while not _flock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(descriptor)
                return False
            time.sleep(0.02)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def is_locked(folder: Path, name: str = LOCK) -> bool:
    """Tell whether a living process works on the cell, or holds another lock in a folder."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Outcome:
    """What came of a cell so far.

    Attributes:
        state: How far it is.
        result: Its result, where it is done or failed; else empty.
    """

    state: State
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """The folder of one sweep.

    Attributes:
        root: RUNS/<sweep>.
    """

    root: Path

    @cached_property
    def cells(self) -> Path:
        """Folder of the cell folders."""
        return self.root / "cells"

    def folder(self, key: str) -> Path:
        """Folder of one cell."""
        return self.cells / key

    def file(self, key: str, name: str) -> Path:
        """One file of a cell's folder."""
        return self.cells.joinpath(key, name)

    def keys_on_disk(self) -> set[str]:
        """Keys of all cells that have a folder, those of earlier plans included."""
        try:
            with os.scandir(self.cells) as entries:
                return {entry.name for entry in entries if entry.is_dir()}
        except FileNotFoundError:
            return set()

    def state(self, key: str) -> State:
        """Read how far one cell is."""
        return self._outcome(key).state

    def _outcome(self, key: str) -> Outcome:
        folder = self.folder(key)
        if is_locked(folder):
            return Outcome("running")
        result = _result_in(folder)
        if result is not None:
            return Outcome("failed" if result.get("state") == "failed" else "done", result)
        return Outcome("interrupted" if (folder / PROGRESS).is_file() else "missing")

    def is_driven(self) -> bool:
        """Tell whether a command is at work that starts cells."""
        return is_locked(self.root, RUN_LOCK)

    def states(self, keys: Iterable[str]) -> dict[str, State]:
        """Read the states of many cells, looking only into folders that exist."""
        return {key: outcome.state for key, outcome in self.outcomes(keys).items()}

    def outcomes(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """Read states and results of many cells, each file once."""
        present = self.keys_on_disk()
        return {key: self._outcome(key) if key in present else Outcome("missing") for key in keys}

    def result(self, key: str) -> dict[str, Any] | None:
        """Read a cell's result; None if it has none."""
        return _result_in(self.folder(key))

    def progress(self, key: str) -> dict[str, Any]:
        """Read what a running cell last said about itself; empty if nothing."""
        return read_leniently(self.file(key, PROGRESS))

    def timing(self, key: str) -> dict[str, Any]:
        """Read what a cell has spent; empty if it does not say."""
        return read_leniently(self.file(key, TIMING))

    def seconds(self, key: str) -> float | None:
        """Read how long a finished cell took in its last process, s; None if it does not say."""
        value = self.timing(key).get("seconds")
        return float(value) if isinstance(value, int | float) else None

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Record the current plan as sweep.json."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.root / "sweep.json", {"schema_version": SCHEMA_VERSION, **plan})

    def plan(self) -> dict[str, Any]:
        """Read the current plan.

        Raises:
            ConfigError: `NO_SWEEP` if the folder holds none.
        """
        path = self.root / "sweep.json"
        if not path.is_file():
            known = sorted(child.parent.name for child in self.root.glob("*/sweep.json"))
            remedy = f"name one of its sweeps: {', '.join(known)}" if known else "run a sweep first"
            raise ConfigError(
                Problem("NO_SWEEP", str(self.root), "no sweep.json", "the folder RUNS/<sweep>", remedy)
            )
        return read_json(path)


def _result_in(folder: Path) -> dict[str, Any] | None:
    path = folder / RESULT
    return read_json(path) if path.is_file() else None


def read_leniently(path: Path) -> dict[str, Any]:
    """Read a JSON object that nothing depends on; empty if there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def result_of(
    folder: Path, key: str, state: Literal["done", "failed"], artefacts: Iterable[str], **more: Any
) -> dict[str, Any]:
    """Put a result together: every artefact with its hash, and a hash over the result itself."""
    hashes = {name: sha256_of(folder / name) for name in sorted(artefacts) if (folder / name).is_file()}
    result = {"schema_version": SCHEMA_VERSION, "key": key, "state": state, **more, "artefacts": hashes}
    return {**result, "result_sha256": _hash_of_result(result)}


def _hash_of_result(result: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in result.items() if name != "result_sha256"}
    return hashlib.sha256(canonical_json(rest).encode()).hexdigest()


def verify(root: Path) -> tuple[Problem, ...]:
    """Look for results that were changed after they were written.

    Args:
        root: RUNS/<sweep>, or RUNS with several sweeps.

    Returns:
        One problem per difference; empty if everything is as the cells left it.

    Raises:
        ConfigError: If there is no sweep.
    """
    sweeps = (
        [root]
        if (root / "sweep.json").is_file()
        else sorted(path.parent for path in root.glob("*/sweep.json"))
    )
    if not sweeps:
        Store(root).plan()
    return tuple(problem for sweep in sweeps for problem in _verify_sweep(Store(sweep)))


def _verify_sweep(store: Store) -> Iterator[Problem]:
    for key in sorted(store.keys_on_disk()):
        folder = store.folder(key)
        if not (folder / RESULT).is_file():
            continue
        try:
            yield from _verify_cell(folder, key)
        except InkbeatError as error:
            yield from error.problems


def _verify_cell(folder: Path, key: str) -> Iterator[Problem]:
    result = read_json(folder / RESULT)
    if result.get("result_sha256") != _hash_of_result(result) or result.get("key") != key:
        yield _edited(f"{key}/{RESULT}", "content that differs from its own hash")
    for name, expected in result.get("artefacts", {}).items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            yield Problem("PATH_ESCAPE", f"{key}/{RESULT}", name, "a file of the cell")
        elif not path.is_file():
            yield _edited(f"{key}/{name}", "no file")
        elif sha256_of(path) != expected:
            yield _edited(f"{key}/{name}", "content that differs from its recorded hash")
    checkpoint = folder / LAST_CHECKPOINT
    if (
        LAST_CHECKPOINT not in result.get("artefacts", {})
        and checkpoint.is_file()
        and not is_on_record(checkpoint)
    ):
        yield _edited(f"{key}/{LAST_CHECKPOINT}", "content that differs from its recorded hash")
    if (folder / SPEC).is_file() and _key_of_spec(folder / SPEC) != key:
        yield _edited(f"{key}/{SPEC}", "a specification of another key")


def _key_of_spec(path: Path) -> str:
    return hashlib.sha256(canonical_json(read_json(path)).encode()).hexdigest()[:16]


def _edited(where: str, got: str) -> Problem:
    return Problem(
        "RESULT_EDITED", where, got, "what the cell wrote", "remove the cell's folder and run the sweep again"
    )
