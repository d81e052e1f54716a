"""Weights & Biases: one run per cell, offline unless a key is configured, never in a cell's way.

Offline, a cell's run is written in one go when the cell ends, from what the cell folder holds, so
training pays nothing and a resumed cell leaves one run, not several. Online, epochs are sent as
they end. Whatever the service does (down, slow, out of quota) is noted in the log and the cell goes
on: the cell folder is the truth, W&B is a view of it.

All of W&B's folders lie inside the sweep folder, so `wandb sync` works from there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lightning_app.tracking_mode import Mode, tracking_mode

PROJECT = "inkbeat"
INIT_TIMEOUT_S = 15.0
FINISH_TIMEOUT_S = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunIdentity:
    """What W&B shows of a run.

    Attributes:
        run_id: Deterministic id; the cell's key.
        name: Shown name, for instance `resunet_cbam-fold0-seed0`.
        sweep: Group the run belongs to.
        job_type: `cell` or `report`.
        tags: Architecture, fold, sweep.
        config: The cell's specification as plain JSON types.
    """

    run_id: str
    name: str
    sweep: str
    job_type: str
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Overlay:
    """A page with its prediction and truth.

    Attributes:
        caption: For instance `cv worst binary-0007 dice 0.812`.
        ink: (H, W) uint8, 0 = paper, 255 = ink.
        prediction: (H, W) bool.
        truth: (H, W) bool.
    """

    caption: str
    ink: np.ndarray
    prediction: np.ndarray
    truth: np.ndarray


class Tracker:
    """Records one run; every method returns quickly and never raises.

    Args:
        sweep_dir: Sweep folder; staging and cache folders go to `sweep_dir/wandb`.
        run_dir: Folder the run is written to, as `run_dir/wandb/offline-run-...`.
        identity: What the run is called.
        mode: Overrides the mode found from the environment.
    """

    def __init__(
        self, sweep_dir: Path, run_dir: Path, identity: RunIdentity, mode: Mode | None = None
    ) -> None:
        self.identity = identity
        self.mode: Mode = mode or tracking_mode()
        self._sweep_dir = sweep_dir.resolve()
        self._run_dir = run_dir.resolve()
        self._run: Any = None
        if self.mode == "online":
            self._guard("start", self._open)

    def epoch(self, values: Mapping[str, float]) -> None:
        """Send one epoch's metrics now (online only; offline they are written at the end)."""
        if self._run is not None:
            self._guard("epoch", lambda: self._run.log(dict(values)))

    def finish(
        self,
        epochs: Iterable[Mapping[str, float]] = (),
        tables: Mapping[str, pd.DataFrame] | None = None,
        overlays: Sequence[Overlay] = (),
        figures: Sequence[Path] = (),
        summary: Mapping[str, float] | None = None,
        config: Mapping[str, Any] | None = None,
        exit_code: int = 0,
    ) -> None:
        """Write what the run ends with and close it.

        Args:
            epochs: Per-epoch metrics, each with an `epoch`; used offline only.
            tables: Named tables, for instance the per-scan rows.
            overlays: Pages with prediction and truth.
            figures: PNG files.
            summary: Final numbers.
            config: Added to the configuration, for instance the hash of the weights.
            exit_code: 0 where the cell succeeded.
        """
        if self.mode == "disabled":
            return
        was_live = self._run is not None

        def write() -> None:
            if not was_live:
                self._remove_earlier_runs()
                self._open(force_offline=True)
                for values in epochs:
                    self._run.log(dict(values))
            self._write_end(tables or {}, overlays, figures, summary or {}, config or {})

        self._guard("write", write)
        if self._run is not None:
            self._guard(
                "finish", lambda: _within(FINISH_TIMEOUT_S, lambda: self._run.finish(exit_code=exit_code))
            )
            self._run = None

    def _open(self, force_offline: bool = False) -> None:
        _point_folders_at(self._sweep_dir, self._run_dir)
        import wandb

        identity = self.identity
        mode: Mode = "offline" if force_offline else "online"
        wandb.setup(wandb.Settings(mode=mode))  # or W&B's own usage reports go by the environment
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=identity.run_id,
            name=identity.name,
            group=identity.sweep,
            job_type=identity.job_type,
            tags=list(identity.tags),
            config=dict(identity.config),
            dir=str(self._run_dir),  # of the environment wandb takes the one that it met first
            mode=mode,
            resume=None if force_offline else "allow",
            settings=wandb.Settings(
                init_timeout=INIT_TIMEOUT_S,
                console="off",
                disable_git=True,
                save_code=False,
                silent=True,
                x_disable_meta=True,  # host, user and paths of the machine stay at home
                x_disable_stats=True,
                x_save_requirements=False,  # takes longer than the rest, and environment.json has them
            ),
        )
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    def _write_end(
        self,
        tables: Mapping[str, pd.DataFrame],
        overlays: Sequence[Overlay],
        figures: Sequence[Path],
        summary: Mapping[str, float],
        config: Mapping[str, Any],
    ) -> None:
        import wandb

        final: dict[str, Any] = {name: wandb.Table(dataframe=table) for name, table in tables.items()}
        if overlays:
            final["overlays"] = [_overlay_image(overlay) for overlay in overlays]
        final |= {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
        if final:
            self._run.log(final)
        self._run.config.update(dict(config), allow_val_change=True)
        self._run.summary.update(dict(summary))

    def _remove_earlier_runs(self) -> None:
        # A cell that was killed and resumed has one run, the one of its whole history.
        for folder in (self._run_dir / "wandb").glob(f"offline-run-*-{self.identity.run_id}"):
            shutil.rmtree(folder, ignore_errors=True)

    def _guard(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - no failure of a dashboard may cost a training run
            log.warning("W&B %s failed, the cell goes on without it: %s", what, error)
            if self._run is None and self.mode == "online":
                self.mode = "offline"
                _forget_failed_start()


def _within(seconds: float, action: Callable[[], None]) -> None:
    """Run `action`, giving up after `seconds`; what it could not send stays on disk for a later sync."""
    worker = threading.Thread(target=action, daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        raise TimeoutError(f"nothing heard for {seconds:.0f} s; sync it later with: inkbeat wandb sync RUNS")


def _forget_failed_start() -> None:
    # The background service keeps the id of a run whose start timed out and refuses it a second time.
    import wandb

    with contextlib.suppress(Exception):
        _within(FINISH_TIMEOUT_S, lambda: wandb.teardown(exit_code=1))


def _point_folders_at(sweep_dir: Path, run_dir: Path) -> None:
    shared = sweep_dir / "wandb"
    folders = {
        "WANDB_DIR": run_dir,
        "WANDB_DATA_DIR": shared / "data",
        "WANDB_CACHE_DIR": shared / "cache",
        "WANDB_CONFIG_DIR": shared / "config",
        "WANDB_ARTIFACT_DIR": shared / "artifacts",
    }
    for variable, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(folder)


def _overlay_image(overlay: Overlay) -> Any:
    import wandb

    labels = {1: "waveform"}
    return wandb.Image(
        255 - overlay.ink,
        caption=overlay.caption,
        masks={
            "prediction": {"mask_data": overlay.prediction.astype(np.uint8), "class_labels": labels},
            "truth": {"mask_data": overlay.truth.astype(np.uint8), "class_labels": labels},
        },
    )


def offline_runs(sweep_dir: Path) -> list[Path]:
    """Return the offline run folders below a sweep folder, oldest name first."""
    return sorted(path for path in sweep_dir.rglob("wandb/offline-run-*") if path.is_dir())
