"""One cell: seed, build, pretrain, fit, test on every set, write the result.

Each stage leaves its outcome in the cell's folder before the next begins (`stages.json` has the hashes), so
a cell that was killed goes on with the stage it was in, and inside a training with the step it was in. What
is drawn at random is keyed to (seed, stage, epoch, step); so the weights, the log and the rows are the same
bytes as without the kill.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import json
import logging
import os
import platform
import shutil
import subprocess
import time
import traceback
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import safetensors.torch
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from datamodules.cohort import Cohort, Scan
from datamodules.errors import DataError, IntegrityError, Interrupted, Problem
from lightning_app.callbacks import (
    SAVE_EVERY_S,
    KeyedRandomness,
    ProgressFile,
    Recorder,
    Row,
    Stop,
    Watch,
    seed_all,
)
from lightning_app.cell_tracking import CellTracking
from lightning_app.cells import (
    PROGRESS,
    RESULT,
    SPEC,
    WEIGHTS,
    CellLock,
    Store,
    is_disk_full,
    read_json,
    read_leniently,
    result_of,
    sha256_of,
    write_durably,
    write_json,
)
from lightning_app.checkpoints import Checkpoints
from lightning_app.engines import EXIT_BUSY, EXIT_DATA, EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, Job, Slot
from lightning_app.engines.cell_process import CELL_PROCESS_VARIABLE
from lightning_app.leakage import NoLeakage, check_training
from lightning_app.prepare import cores
from lightning_app.reading import Reader
from lightning_app.scan_tables import parquet_bytes
from lightning_app.specs import HELD_OUT, CellSpec, Component
from lightning_app.starts import load_start
from lightning_app.testing import accelerator_device, score_pages
from lightning_app.timing import Clock, add, note, note_peak_memory, note_rate
from models.complexity import macs_per_patch, parameters

log = logging.getLogger(__name__)

PRETRAIN, FIT = 0, 1  # numbers of the training stages in keyed randomness
SAVE_EVERY_VARIABLE = "INKBEAT_SAVE_EVERY_S"  # lets a test make checkpoints dense


def run_cell(job: Job, slot: Slot) -> int:
    """Run one cell in this process, from wherever it was left.

    Args:
        job: Which cell.
        slot: Threads to use.

    Returns:
        0 done; 1 failed, the traceback is in result.json; 3 no room or right to write, the last good state
        is kept; 5 another process works on it; 75 stopped, to be resumed.
    """
    folder = Store(job.sweep_dir).folder(job.key)
    lock = CellLock(folder)
    try:
        if not lock.acquire():
            return EXIT_BUSY
        # Whoever planned this cell may have looked before another command, or a job that outlived its
        # driver, finished it.
        if read_leniently(folder / RESULT).get("state") == "done":
            return EXIT_DONE
        _speak_to(folder / "log.txt")
        return _guarded(job, slot, folder)
    except (DataError, OSError) as error:
        if not _cannot_write(error):
            raise
        log.error("%s", error)
        return EXIT_DATA
    finally:
        lock.release()


def _guarded(job: Job, slot: Slot, folder: Path) -> int:
    (folder / RESULT).unlink(missing_ok=True)  # of an earlier failure
    try:
        torch.set_num_threads(slot.threads)
        _Cell(job, slot).run()
        return EXIT_DONE
    except Interrupted:
        log.info("stopped on request; the same command goes on from here")
        return EXIT_INTERRUPTED
    except Exception as error:
        if _cannot_write(error):
            raise
        return _fail(folder, job.key, error)  # a failing cell is a row of the report, the others go on


def _cannot_write(error: Exception) -> bool:
    if isinstance(error, DataError):
        return any(problem.code in ("DISK_FULL", "NOT_WRITABLE") for problem in error.problems)
    return is_disk_full(error)


def _fail(folder: Path, key: str, error: Exception) -> int:
    text = "".join(traceback.format_exception(error)).replace(f"{Path(__file__).parents[1]}{os.sep}", "")
    log.error("%s", text)
    write_json(
        folder / RESULT,
        result_of(folder, key, "failed", [SPEC], **failure(type(error).__name__, error, text)),
    )
    return EXIT_FAILED


def failure(kind: str, message: object, details: str = "") -> dict[str, Any]:
    """Describe what made a cell fail, as result.json holds it."""
    return {"error": {"type": kind, "message": str(message), "traceback": details}}


def _speak_to(path: Path) -> None:
    """Send everything this process says, libraries included, to the cell's log."""
    file = path.open("a", encoding="utf-8", buffering=1)
    if os.environ.get("INKBEAT_LOG_TO_TERMINAL") is None and _is_cell_process():
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    handler = logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler] if _is_cell_process() else [*root.handlers, handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(_is_cell_process())
    # Its notices are about hardware it did not find and products it recommends.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


def _is_cell_process() -> bool:
    import multiprocessing

    return multiprocessing.parent_process() is not None or CELL_PROCESS_VARIABLE in os.environ


class _Cell:
    """The stages of one cell."""

    def __init__(self, job: Job, slot: Slot) -> None:
        self.store = Store(job.sweep_dir)
        self.folder = self.store.folder(job.key)
        self.slot = slot
        self.donor = job.donor
        self.spec = CellSpec.model_validate(read_json(self.folder / SPEC))
        if self.spec.key != job.key:
            raise IntegrityError(
                Problem(
                    "SPEC_EDITED", f"{job.key}/{SPEC}", f"key {self.spec.key}", job.key, "remove the folder"
                )
            )
        plan = self.store.plan()
        self.label = next((cell["model"] for cell in plan["cells"] if cell["key"] == job.key), job.key)
        self.cohorts: dict[str, Path] = {
            entry["id"]: (self.store.root / entry["path"]).resolve() for entry in plan["cohorts"].values()
        }
        self.start = plan.get("start_from")
        self.name = plan["name"]
        self.stages = _Stages(self.folder / "stages.json")
        self.progress = ProgressFile(self.folder)
        if self.spec.trainer.get("strategy") == "ddp":
            torch.set_num_threads(1)  # a pool of threads does not survive the forks to come
        self.stop = Stop()
        self.rows: list[Row] = []
        self.tracking = CellTracking(self.store.root, self.folder, self.name, self.label, self.spec)

    def run(self) -> None:
        self.stop.listen()
        self.progress.write("start")
        started = time.monotonic()
        module = self._build_model()
        if not self.stages.holds("fit", self.folder / WEIGHTS) and not self._take_from_donor():
            self._train(module)
        self._load(module, self.folder / WEIGHTS)
        self.rows = self.stages.read("fit")["rows"]
        self._write_metrics(self.rows)
        self._test(module)
        self._finish(module, started)

    def _build_model(self) -> Any:
        # Seed first, build second: the first weights belong to the seed in the spec.
        seed_all(self.spec.seeds.weights)
        module = class_of(self.spec.model.class_path)(**self.spec.model.init_args)
        if self.spec.start_from is not None:
            load_start(module, (self.store.root / str(self.start)).resolve(), self.spec.start_from)
        return module

    # Training

    def _train(self, module: Any) -> None:
        if module.needs_training:
            if self.spec.pretrain_on is not None:
                self._pretrain(module, self.spec.pretrain_on)
            datamodule = self._datamodule(self.spec.fit_on)
            self._fit(module, datamodule, "fit", FIT, self.spec.training.epochs, self.folder)
        self._save_weights(module, self.folder / WEIGHTS)
        self.stages.record("fit", self.folder / WEIGHTS, rows=self.rows)
        shutil.rmtree(self.folder / "pretrain", ignore_errors=True)

    def _pretrain(self, module: Any, component: Component) -> None:
        """Train on the pseudo scans; only the weights are carried over (the optimizer starts fresh)."""
        folder = self.folder / "pretrain"
        folder.mkdir(exist_ok=True)
        weights = folder / WEIGHTS
        if self.stages.holds("pretrain", weights):
            self._load(module, weights)
            self.rows = self.stages.read("pretrain")["rows"]
            return
        epochs = self.spec.training.pretrain_epochs
        self._fit(module, self._datamodule(component), "pretrain", PRETRAIN, epochs, folder)
        self._save_weights(module, weights)
        self.stages.record("pretrain", weights, rows=self.rows)

    def _fit(self, module: Any, datamodule: Any, stage: str, number: int, epochs: int, folder: Path) -> None:
        checkpoints = Checkpoints(folder)
        recorder = Recorder(
            stage,
            self.rows,
            checkpoints,
            self.spec.fit_key,
            self.stop,
            self._on_epoch,
            float(os.environ.get(SAVE_EVERY_VARIABLE, SAVE_EVERY_S)),
        )
        callbacks = [
            Clock(self.folder),
            KeyedRandomness(self.spec.seeds.weights, number),
            Watch(self.progress, stage, self.stop),
            NoLeakage(stage, self._test_scans),
            recorder,
        ]
        trainer = self._trainer(epochs, callbacks)
        if trainer.strategy.launcher is not None:
            self.stop.pass_on_to(trainer.strategy.launcher.kill)
        resume_from = checkpoints.newest_intact()
        if resume_from is not None:
            log.info("%s goes on from %s", stage, resume_from.name)
        with warnings.catch_warnings():
            _quieten_lightning()
            try:
                trainer.fit(module, datamodule=datamodule, ckpt_path=resume_from, weights_only=True)
            except (SystemExit, ProcessRaisedException, ProcessExitedException):
                # Lightning's own answer to a SIGTERM that came before ours was in place, or a process of
                # several that was stopped.
                self.stop.check()
                raise
        if trainer.num_devices * trainer.num_nodes > 1:
            self._take_rows(checkpoints)
        self.stop.listen()
        self.stop.check()

    def _trainer(self, epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
        arguments: dict[str, Any] = {"accelerator": "auto", "devices": 1, **self.spec.trainer}
        arguments["precision"] = self.spec.training.precision
        if arguments.get("strategy") == "ddp":
            # Lightning would start the command line again for each device; a cell forks itself instead.
            arguments["strategy"] = DDPStrategy(start_method="fork")
        with warnings.catch_warnings():
            _quieten_lightning()
            return pl.Trainer(
                max_epochs=epochs,
                callbacks=callbacks,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                default_root_dir=self.folder,
                **arguments,
            )

    def _take_rows(self, checkpoints: Checkpoints) -> None:
        """Read the rows of a training that ran in processes of its own."""
        state = torch.load(checkpoints.last, weights_only=True, map_location="cpu")["callbacks"]
        self.rows[:] = next(entry["rows"] for name, entry in state.items() if name == Recorder.__qualname__)

    def _on_epoch(self, rows: list[Row]) -> None:
        self.progress.keep(loss=rows[-1].get("train_loss"))
        self.tracking.epoch(rows[-1])
        self._write_metrics(rows)

    def _write_metrics(self, rows: list[Row]) -> None:
        """Write metrics.csv, always whole: after a resume it must not hold epochs that are trained again."""
        names = ["stage", "epoch", "step"]
        names += sorted({name for row in rows for name in row} - set(names))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_durably(self.folder / "metrics.csv", text.getvalue().encode())

    # Testing

    def _test(self, module: Any) -> None:
        """Test on the held-out fold and on every further set; a set that is done is not tested again."""
        device = accelerator_device(dict(self.spec.trainer))
        for name, component in self._sets().items():
            if not self.stages.holds(f"test {name}", *self._tables_of(name)):
                self._test_on(name, component, module, device)

    def _test_scans(self) -> dict[str, list[Scan]]:
        return {name: self._datamodule(component).test_scans() for name, component in self._sets().items()}

    def _sets(self) -> dict[str, Component]:
        return {HELD_OUT: self.spec.fit_on, **{test.name: test for test in self.spec.test_on}}

    def _tables_of(self, name: str) -> tuple[Path, Path]:
        """Where the per-scan rows and the threshold counts of a test set are kept."""
        folder = self.folder / "rows"
        return folder / f"{name}.parquet", folder / f"{name}.thresholds.parquet"

    def _test_on(self, name: str, component: Component, module: Any, device: torch.device) -> None:
        dices: list[float] = []

        def between(number: int, total: int, dice: float, predict_s: float) -> None:
            dices.append(dice)
            add(self.folder, predict_s=predict_s, predicted_pages=1)
            if name == HELD_OUT:
                self.progress.keep(dice=_mean(pd.Series(dices)))
            self.progress.write(f"test {name}", step=number, steps=total)
            self.stop.check()

        predictions = self.folder / "predictions" / name
        datamodule = self._datamodule(component)
        read = self._reader(datamodule) if name == HELD_OUT else None
        tables = score_pages(
            module,
            datamodule,
            self.spec.evaluation,
            device,
            predictions,
            between,
            read,
            self.spec.training.precision,
        )
        for path, table in zip(self._tables_of(name), tables, strict=True):
            table.insert(0, "test_set", name)
            path.parent.mkdir(exist_ok=True)
            write_durably(path, parquet_bytes(table))
        self.stages.record(f"test {name}", *self._tables_of(name))

    def _reader(self, datamodule: Any) -> Reader | None:
        """Give what digitizes the held-out scans, if the datamodule has a cohort with their truth."""
        cohort = getattr(datamodule, "cohort", None)
        if not isinstance(cohort, Cohort):
            return None
        ceiling = self.store.root / "ceiling" / str(self.spec.fit_on.init_args.get("cohort", cohort.name))
        ceiling.mkdir(parents=True, exist_ok=True)
        return Reader(cohort, ceiling)

    # Data

    def _datamodule(self, component: Component) -> Any:
        """Build a datamodule; the cell gives cohort path, fold and seeds where the constructor takes them."""
        kind = class_of(component.class_path)
        accepted = inspect.signature(kind).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
        given = {
            "folds": self.spec.folds.count,
            "fold": self.spec.folds.fold,
            "fold_seed": self.spec.folds.seed,
            "patch_seed": self.spec.seeds.patches,
        }
        arguments: dict[str, Any] = {
            name: value for name, value in given.items() if name in accepted or open_ended
        }
        arguments |= component.init_args
        cohort = arguments.get("cohort")
        if cohort is not None:
            arguments["cohort"] = str(self._checked_cohort(str(cohort)))
        return kind(**arguments)

    def _checked_cohort(self, content_id: str) -> Path:
        path = self.cohorts.get(content_id)
        if path is None:
            raise DataError(
                Problem("COHORT_MISSING", content_id, "not in the sweep's plan", "", "run the sweep again")
            )
        return path

    # Weights and donors

    def _save_weights(self, module: Any, path: Path) -> None:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
        about = {
            "class_path": self.spec.model.class_path,
            "init_args": json.dumps(self.spec.model.init_args, sort_keys=True),
            "threshold": str(self.spec.evaluation.threshold),
            "fit_key": self.spec.fit_key,
        }
        write_durably(path, with_sorted_metadata(safetensors.torch.save(state, metadata=about)))

    def _load(self, module: Any, path: Path) -> None:
        module.load_state_dict(safetensors.torch.load_file(path), strict=True)

    def _take_from_donor(self) -> bool:
        """Take weights, log and equal test sets from a finished cell that differs in its tests only."""
        if self.donor is None:
            return False
        source = self.store.folder(self.donor)
        result = self.store.result(self.donor)
        if result is None or not _is_intact(source, result):
            return False
        theirs = CellSpec.model_validate(read_json(source / SPEC))
        if theirs.fit_key != self.spec.fit_key:
            return False
        self._check_test_sets()
        _copy(source / WEIGHTS, self.folder / WEIGHTS)
        for name in _equal_sets(theirs, self.spec):
            self._take_set(source, name)
        self.stages.record(
            "fit", self.folder / WEIGHTS, rows=_Stages(source / "stages.json").read("fit")["rows"]
        )
        log.info("weights taken from cell %s, which was trained by the same specification", self.donor)
        return True

    def _check_test_sets(self) -> None:
        """Do for weights of another cell what `NoLeakage` does in a training: the test sets may be new."""
        for stage, component in {"pretrain": self.spec.pretrain_on, "fit": self.spec.fit_on}.items():
            if component is not None:
                datamodule = self._datamodule(component)
                datamodule.setup("fit")
                check_training(stage, datamodule, self._test_scans)

    def _take_set(self, source: Path, name: str) -> None:
        tables = self._tables_of(name)
        if not all((source / "rows" / path.name).is_file() for path in tables):
            return
        shutil.copytree(source / "predictions" / name, self.folder / "predictions" / name, dirs_exist_ok=True)
        for path in tables:
            _copy(source / "rows" / path.name, path)
        self.stages.record(f"test {name}", *tables)

    # The end

    def _finish(self, module: Any, started: float) -> None:
        tables = zip(*(self._tables_of(name) for name in self._sets()), strict=True)
        scans, thresholds = (self._labelled([pd.read_parquet(path) for path in paths]) for paths in tables)
        write_durably(self.folder / "scans.parquet", parquet_bytes(scans))
        write_durably(self.folder / "thresholds.parquet", parquet_bytes(thresholds))
        write_json(self.folder / "environment.json", environment(self.slot))
        Checkpoints(self.folder).keep_last_only()
        cost = {"params": parameters(module), "macs": macs_per_patch(module)}
        dice = {name: _mean(group["dice"]) for name, group in scans.groupby("test_set", sort=True)}
        self.progress.write("record")
        self._note_time(started, cost["macs"])
        told = self.store.timing(self.spec.key)
        spent: dict[str, Any] = {name: told[name] for name in ("train_s", "peak_memory_mb") if name in told}
        self.tracking.finish(self.rows, scans, {**cost, **spent, "dice": dice})
        result = result_of(
            self.folder,
            self.spec.key,
            "done",
            self._artefacts(),
            fit_key=self.spec.fit_key,
            **cost,
            dice=dice,
        )
        write_json(self.folder / RESULT, result)
        (self.folder / PROGRESS).unlink(missing_ok=True)

    def _note_time(self, started: float, macs: int) -> None:
        note_peak_memory(self.folder)
        note(self.folder, seconds=time.monotonic() - started, cpu_seconds=time.process_time())
        note_rate(self.folder, macs, self.spec.evaluation.overlap_px)
        on_gpu = torch.cuda.is_available()
        note(
            self.folder,
            machine=torch.cuda.get_device_name(0) if on_gpu else _processor(),
            at_a_time=1 if on_gpu else cores() // self.slot.threads,
        )

    def _labelled(self, tables: list[pd.DataFrame]) -> pd.DataFrame:
        """Join the tables of all test sets and say which cell they are of."""
        table = pd.concat(tables, ignore_index=True)
        labels = {
            "cell": self.spec.key,
            "model": self.label,
            "fold": self.spec.folds.fold,
            "seed": self.spec.seeds.weights,
        }
        for position, (name, value) in enumerate(labels.items()):
            table.insert(position, name, value)
        return table

    def _artefacts(self) -> list[str]:
        found = [SPEC, "scans.parquet", "thresholds.parquet", "metrics.csv", WEIGHTS]
        found += ["environment.json", "stages.json"]
        for pattern in ("predictions/*/*.png", "rows/*.parquet"):
            found += [path.relative_to(self.folder).as_posix() for path in self.folder.glob(pattern)]
        return found


class _Stages:
    """Which stages of a cell are finished, with the hash of what each left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._done: dict[str, Any] = read_json(path) if path.is_file() else {}
        except IntegrityError:
            self._done = {}

    def holds(self, stage: str, *outcomes: Path) -> bool:
        """Tell whether the stage is finished and its outcomes are still what they were."""
        entry = self._done.get(stage)
        return entry is not None and all(
            path.is_file() and sha256_of(path) == entry["sha256"].get(path.name) for path in outcomes
        )

    def read(self, stage: str) -> dict[str, Any]:
        """Give what was recorded with a finished stage."""
        entry: dict[str, Any] = self._done[stage]
        return entry

    def record(self, stage: str, *outcomes: Path, **more: Any) -> None:
        """Note that a stage is finished."""
        self._done[stage] = {"sha256": {path.name: sha256_of(path) for path in outcomes}, **more}
        write_json(self._path, self._done)


def with_sorted_metadata(content: bytes) -> bytes:
    """Make equal weights equal bytes: safetensors writes its metadata in an order that differs by process.

    Args:
        content: A safetensors file: length of the header, 8 bytes little-endian; header in JSON; tensors.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def environment(slot: Slot) -> dict[str, Any]:
    """Describe what a cell ran with: versions, processor, device, code; no names of people or machines."""
    packages = (
        "inkbeat",
        "torch",
        "pytorch-lightning",
        "numpy",
        "opencv-python",
        "segmentation-models-pytorch",
    )
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "threads": slot.threads,
        "packages": {name: version(name) for name in packages},
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def class_of(class_path: str) -> Any:
    """Import a class by its path."""
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _quieten_lightning() -> None:
    """Silence what Lightning says about choices this project made on purpose."""
    for message in (
        ".*does not have many workers.*",
        ".*`training_step` .*no `val_dataloader`.*",
        ".*you defined a `validation_step`.*",
        ".*GPU available but not used.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*is smaller than the logging interval.*",
        ".*`srun` command is available.*",
        ".*treespec, LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def _mean(values: pd.Series[float]) -> float | None:
    mean = values.mean()
    return None if pd.isna(mean) else round(float(mean), 6)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_durably(target, source.read_bytes())


def _is_intact(folder: Path, result: Mapping[str, Any]) -> bool:
    hashes: dict[str, str] = result["artefacts"]
    return result["state"] == "done" and all(
        (folder / name).is_file() and sha256_of(folder / name) == expected
        for name, expected in hashes.items()
    )


def _equal_sets(theirs: CellSpec, ours: CellSpec) -> list[str]:
    if theirs.evaluation != ours.evaluation:
        return []
    same = [test.name for test in ours.test_on if test in theirs.test_on]
    return [HELD_OUT, *same]
