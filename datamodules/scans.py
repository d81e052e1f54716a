"""LightningDataModules over cohorts: patches to train on, whole pages to test on.

The training loader yields coordinates only. The pixels are gathered where they lie, in the two transfer
hooks: by numpy before the transfer, or by index on a CUDA device that holds all pages. A batch depends on
the patch seed, the epoch and the step alone, so a resumed run sees what the uninterrupted one would have
seen, and several devices share the patches that one device would get.

Batch contract: {"image": (B, 1, P, P) float32, 0 = paper, 1 = ink; "mask": same shape, 0/1}; P is 128 unless
a sweep says `patch_px`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules import degrade
from datamodules.cohort import Cohort, Scan
from datamodules.errors import ConfigError, DataError, InkbeatError, Problem
from datamodules.folds import make_folds
from datamodules.leakage import check_disjoint
from datamodules.page_store import (
    IN_MEMORY_LIMIT_BYTES,
    DevicePages,
    PageStore,
    fits_on,
    store_in_file,
    store_in_memory,
)
from datamodules.patches import (
    PATCH_PX,
    PATCHES_PER_SCAN,
    REACH_PX,
    Int64Array,
    batch_bounds,
    draw_patch_corners,
    rng_for,
    scan_order,
)

UInt8Array = NDArray[np.uint8]
Batch = dict[str, Tensor]

MAX_SEED = 2**32 - 1


class PatchBatches:
    """The loader of an epoch's patch coordinates.

    A plain iterable, not a `DataLoader`: into a `DataLoader` Lightning injects a distributed sampler, which
    shuffles again and repeats some patches, and there is nothing here for worker processes to do.

    Args:
        store: Pages the patches are drawn on.
        pages: (n,) int64 indices of the training scans in the store.
        patch_seed: Seed of the patch stream.
        batch_size: Most patches a batch may have, over all processes together.
        patches_per_scan: Patches each scan gives in an epoch.
        reach_px: Largest distance of a patch centre from its waveform point, per axis.
        rank: This process, 0..world_size - 1; it takes every world_size-th patch of each batch.
        world_size: Processes that share each batch.
        size_px: Patch side.
        first_step: Asked when an epoch begins: the step it begins at, above 0 after a resume.
    """

    def __init__(
        self,
        store: PageStore,
        pages: Int64Array,
        *,
        patch_seed: int,
        batch_size: int,
        patches_per_scan: int,
        reach_px: int = REACH_PX,
        rank: int = 0,
        world_size: int = 1,
        size_px: int = PATCH_PX,
        first_step: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._pages = pages
        self._patch_seed = patch_seed
        self._patches_per_scan = patches_per_scan
        self._reach_px, self._size_px = reach_px, size_px
        self._bounds = batch_bounds(len(pages) * patches_per_scan, batch_size)
        self._share = slice(rank, None, world_size)
        self._first_step = first_step
        self._epoch = 0
        self._order: tuple[int, NDArray[np.int32]] = (-1, np.empty(0, dtype=np.int32))

    @property
    def sampler(self) -> PatchBatches:
        """The object that Lightning tells the epoch to."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Batch]:
        # A generator on purpose: Lightning makes the iterator before it tells the epoch and restores its
        # counters; the line below runs only when the first batch is asked for.
        for step in range(self._first_step(), len(self)):
            yield self.batch(self._epoch, step)

    def state_dict(self) -> dict[str, int]:
        """Keep nothing: the position is Lightning's own counter; having this method says "resumable"."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take nothing, see `state_dict`."""

    def batch(self, epoch: int, step: int) -> Batch:
        """Draw this process's share of one batch.

        Args:
            epoch: Epoch counted from 0.
            step: Batch within the epoch counted from 0.

        Returns:
            `pages` (b,) int64 store indices and `corners` (b, 2) int64.
        """
        drawn = self._order_of(epoch)[self._bounds[step] : self._bounds[step + 1]]
        pages = self._pages[drawn]
        rng = rng_for(self._patch_seed, epoch, step)
        ranks = rng.integers(self._store.waveform_px[pages])
        points = self._store.waveform_points(pages, ranks)
        corners = draw_patch_corners(
            points, self._store.shapes[pages], rng, size_px=self._size_px, reach_px=self._reach_px
        )
        # The whole batch is drawn in every process, so that the patches do not depend on how many there are.
        return {
            "pages": torch.from_numpy(pages[self._share]),
            "corners": torch.from_numpy(np.ascontiguousarray(corners[self._share])),
        }

    def smallest_share(self) -> int:
        """Fewest patches a process gets in a batch."""
        return int(np.diff(self._bounds).min()) // (self._share.step or 1)

    def _order_of(self, epoch: int) -> NDArray[np.int32]:
        if self._order[0] != epoch:
            rng = rng_for(self._patch_seed, epoch)
            self._order = (epoch, scan_order(len(self._pages), self._patches_per_scan, rng))
        return self._order[1]


class ScanDataModule(pl.LightningDataModule):
    """Scans of one cohort, split by patient into a training side and a test side.

    A subclass changes what a page looks like by overriding `page`.

    Args:
        cohort: Folder of the cohort.
        folds: Number of folds.
        fold: Fold held out for testing. None: no split; every scan trains after `setup("fit")`, every scan
            is tested after `setup("test")`.
        fold_seed: Seed of the folds.
        patch_seed: Seed of the patch stream.
        batch_size: Most patches of a batch, over all devices together.
        patches_per_scan: Patches each training scan gives in an epoch.
        reach_px: Largest distance of a patch centre from its waveform point, per axis. With the paper's 128
            about a seventh of the patches of our pages hold no waveform, with 64 none (R22).
        patch_px: Side of a patch; 128 in the paper, larger for networks that need more context.
        cache_dir: Folder for a cache file of the pages, shared by all folds. None: the pages are kept in
            memory, or in `cache` inside the cohort when they are too many for that.

    Raises:
        ConfigError: With every wrong argument.
    """

    def __init__(
        self,
        cohort: str,
        folds: int = 5,
        fold: int | None = 0,
        fold_seed: int = 0,
        patch_seed: int = 0,
        batch_size: int = 64,
        patches_per_scan: int = PATCHES_PER_SCAN,
        reach_px: int = REACH_PX,
        patch_px: int = PATCH_PX,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        # Only the arguments of the class itself: with those of the base added it could not be built again.
        self.save_hyperparameters(*inspect.signature(type(self)).parameters, logger=False)
        self._folder = Path(cohort)
        self._folds, self._fold, self._fold_seed = folds, fold, fold_seed
        self._patch_seed, self._batch_size = patch_seed, batch_size
        self._patches_per_scan, self._reach_px, self._patch_px = patches_per_scan, reach_px, patch_px
        self._cache_dir = Path(cache_dir) if cache_dir else None
        _raise_config(self._wrong_arguments())
        self._cohort: Cohort | None = None
        self._train: tuple[Scan, ...] = ()
        self._test: tuple[Scan, ...] = ()
        self._store: PageStore | None = None
        self._pages = np.empty(0, dtype=np.int64)
        self._device_pages: DevicePages | None = None

    # The test side: whole pages.

    def test_scans(self) -> list[Scan]:
        """Give the scans to test on; sets the test side up when nothing was set up before."""
        if self._cohort is None:
            self.setup("test")
        return list(self._test)

    def train_scans(self) -> list[Scan]:
        """Give the scans the patches are drawn from, after `setup`."""
        return list(self._train)

    def page(self, scan: Scan) -> UInt8Array:
        """Read one page as the network sees it.

        Args:
            scan: A scan of the cohort.

        Returns:
            (H, W) uint8 ink, 0 = paper, 255 = ink.
        """
        return self.cohort.load_image(scan)

    def mask(self, scan: Scan) -> UInt8Array:
        """Read the true waveform of one page.

        Args:
            scan: A scan of the cohort.

        Returns:
            (H, W) uint8, 1 = waveform.
        """
        return self.cohort.load_mask(scan)

    @property
    def cohort(self) -> Cohort:
        """The cohort, opened on first use."""
        if self._cohort is None:
            self._cohort = Cohort.open(self._folder)
        return self._cohort

    # The training side: patches.

    def setup(self, stage: str | None = None) -> None:
        """Split the cohort; for "fit" also load the pages.

        Args:
            stage: "fit", "test" or another of Lightning's stages; None means all.

        Raises:
            DataError: With every scan that cannot be trained on.
            IntegrityError: When training and test share a patient or a page.
        """
        fits = stage in ("fit", None)
        if self._fold is None and self._train and not fits:
            # Without a fold both sides are all scans, so one object serves only one of them.
            check_disjoint(self._train, self.cohort.scans, f"{self._folder}, already trained on")
        self._train, self._test = self._split(fits)
        check_disjoint(self._train, self._test, f"{self._folder}, fold {self._fold} of {self._folds}")
        if fits and self._store is None:
            self._store, self._pages = self._load_pages()

    def teardown(self, stage: str) -> None:
        """Let go of the pages after training; the test side stays usable."""
        if stage == "fit":
            self._store = self._device_pages = None

    def train_dataloader(self) -> PatchBatches:
        """Give the batches of patch coordinates, this process's share of each.

        Raises:
            ConfigError: `BATCH_TOO_SMALL` when a batch has fewer patches than there are processes.
        """
        assert self._store is not None, "Lightning calls setup('fit') first"
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = PatchBatches(
            self._store,
            self._pages,
            patch_seed=self._patch_seed,
            batch_size=self._batch_size,
            patches_per_scan=self._patches_per_scan,
            reach_px=self._reach_px,
            rank=rank,
            world_size=world_size,
            size_px=self._patch_px,
            first_step=self._first_step,
        )
        if batches.smallest_share() < 1:
            _raise_config([_wrong("batch_size", self._batch_size, f"{world_size} or more, one a device")])
        self._device_pages = self._pages_on_device(self._store)
        return batches

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Cut the patches on the CPU, unless the device holds the pages itself."""
        if self._device_pages is not None:
            return batch
        assert self._store is not None
        ink, mask = self._store.crop(batch["pages"].numpy(), batch["corners"].numpy(), self._patch_px)
        return {"image": torch.from_numpy(ink), "mask": torch.from_numpy(mask)}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Cut the patches on the device if it holds the pages, and bring them to 0..1."""
        if self._device_pages is not None:
            ink, mask = self._device_pages.crop(batch["pages"], batch["corners"], self._patch_px)
        else:
            ink, mask = batch["image"], batch["mask"]
        batch = unit_range(ink, mask)
        # Lightning converted the coordinates before; a trainer in another precision wants its own floats.
        converted: Batch = self.trainer.precision_plugin.convert_input(batch) if self.trainer else batch
        return converted

    def _pages_on_device(self, store: PageStore) -> DevicePages | None:
        """Put the pages on the trainer's device if it is one that can hold them."""
        if self.trainer is None or not fits_on(store, self.trainer.strategy.root_device):
            return None
        return DevicePages(store, self.trainer.strategy.root_device)

    def _first_step(self) -> int:
        # What Lightning will call the batch index: above 0 only when it resumes inside an epoch.
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if self.trainer else 0

    def _split(self, fits: bool) -> tuple[tuple[Scan, ...], tuple[Scan, ...]]:
        scans = self.cohort.scans
        if self._fold is None:
            return (scans, ()) if fits else ((), scans)
        patients, layouts = [scan.patient_id for scan in scans], [scan.layout for scan in scans]
        held_out = make_folds(patients, layouts, self._folds, self._fold_seed) == self._fold
        train = tuple(scan for scan, out in zip(scans, held_out, strict=True) if not out)
        return train, tuple(scan for scan, out in zip(scans, held_out, strict=True) if out)

    def _load_pages(self) -> tuple[PageStore, Int64Array]:
        """Load the pages of the training scans, or open the cache file of the whole cohort."""
        _raise_data([_no_mask(scan) for scan in self._train if scan.mask is None])
        folder = self._cache_folder()
        if folder is None:
            scans = self._train
            store = store_in_memory(self._read_pages(scans), self._patch_px)
        else:  # all folds share one file
            scans = tuple(scan for scan in self.cohort.scans if scan.mask is not None)
            store = store_in_file(folder, self._content_key(), self._read_pages(scans), self._patch_px)
        position = {scan.scan_id: i for i, scan in enumerate(scans)}
        pages = np.array([position[scan.scan_id] for scan in self._train], dtype=np.int64)
        _raise_data(
            [
                _no_waveform(scan)
                for scan, n in zip(self._train, store.waveform_px[pages], strict=True)
                if n == 0
            ]
        )
        return store, pages

    def _cache_folder(self) -> Path | None:
        if self._cache_dir is not None or not self._train:
            return self._cache_dir
        first = store_in_memory(self._read_pages(self._train[:1])).n_bytes
        return self.cohort.root / "cache" if first * len(self._train) > IN_MEMORY_LIMIT_BYTES else None

    def _content_key(self) -> str:
        """Name everything the cached pixels depend on: the cohort, the class and its own arguments."""
        shared = inspect.signature(ScanDataModule).parameters
        own = {key: value for key, value in self.hparams.items() if key not in shared}
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"{self.cohort.content_sha256} {kind} {own} padded to {self._patch_px}"

    def _read_pages(self, scans: Sequence[Scan]) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        """Read pages and masks one by one; problems are collected and raised at the end."""
        problems: list[Problem] = []
        for scan in scans:
            try:
                page, mask = self.page(scan), self.mask(scan)
            except InkbeatError as error:
                problems += error.problems
                continue
            if page.shape != mask.shape:
                problems.append(_other_size(scan, page, mask))
            elif not problems:
                yield page, mask
        _raise_data(problems)

    def _wrong_arguments(self) -> list[Problem]:
        problems = []
        if not (self._folder / "cohort.yaml").is_file():
            problems.append(
                _wrong("cohort", str(self._folder), "a folder with cohort.yaml", "see `inkbeat cohort make`")
            )
        if self._fold is not None:
            if self._folds < 2:
                problems.append(_wrong("folds", self._folds, "2 or more"))
            if not 0 <= self._fold < self._folds:
                problems.append(_wrong("fold", self._fold, f"0..{self._folds - 1}, or null for no split"))
        for name, seed in (("fold_seed", self._fold_seed), ("patch_seed", self._patch_seed)):
            if not 0 <= seed <= MAX_SEED:
                problems.append(_wrong(name, seed, f"0..{MAX_SEED}"))
        for name, count in (("batch_size", self._batch_size), ("patches_per_scan", self._patches_per_scan)):
            if count < 1:
                problems.append(_wrong(name, count, "1 or more"))
        if self._patch_px < 16:
            problems.append(_wrong("patch_px", self._patch_px, "16 or more"))
        if self._reach_px < 0:
            problems.append(_wrong("reach_px", self._reach_px, "0 or more"))
        return problems


class BinaryScans(ScanDataModule):
    """Scans of the type the network is made for: one fold is held out, the rest trains (R25)."""


class PseudoScans(ScanDataModule):
    """Pseudo-noisy scans for pre-training (R15-R17): every scan trains.

    Args:
        cohort: Folder of the cohort.
        patch_seed: Seed of the patch stream.
        batch_size: Most patches of a batch, over all devices together.
        patches_per_scan: Patches each scan gives in an epoch.
        reach_px: As for `ScanDataModule`.
        cache_dir: As for `ScanDataModule`.
    """

    def __init__(
        self,
        cohort: str,
        patch_seed: int = 0,
        batch_size: int = 64,
        patches_per_scan: int = PATCHES_PER_SCAN,
        reach_px: int = REACH_PX,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(
            cohort,
            fold=None,
            patch_seed=patch_seed,
            batch_size=batch_size,
            patches_per_scan=patches_per_scan,
            reach_px=reach_px,
            cache_dir=cache_dir,
        )


class ColourScans(ScanDataModule):
    """Pages of another type, turned grey and made noisy; for testing only (R7, R33).

    Args:
        cohort: Folder of the cohort.
        amount: Share of pixels replaced by pepper and salt, half of them salt.
        seed: Seed of the noise, which is keyed to (seed, scan).
        binarize: Split the page at Otsu's threshold last: the second arm of R33.

    Raises:
        ConfigError: With every wrong argument.
    """

    def __init__(self, cohort: str, amount: float = 0.0, seed: int = 0, binarize: bool = False) -> None:
        self._amount, self._noise_seed, self._binarize = amount, seed, binarize
        super().__init__(cohort, fold=None)

    def setup(self, stage: str | None = None) -> None:
        """Take every scan as test scan.

        Raises:
            ConfigError: `TEST_ONLY` when asked to train.
        """
        if stage == "fit":
            raise ConfigError(
                Problem(
                    "TEST_ONLY",
                    type(self).__qualname__,
                    "an entry under fit_on",
                    "an entry under test_on",
                    "train on datamodules.scans.BinaryScans",
                )
            )
        super().setup("test")

    def page(self, scan: Scan) -> UInt8Array:
        """Read one page, grey, with its noise.

        Args:
            scan: A scan of the cohort.

        Returns:
            (H, W) uint8 ink, 0 = paper, 255 = ink.
        """
        ink = degrade.grey_ink(self.cohort.load_rgb(scan))
        if self._amount:
            ink = degrade.pepper_and_salt(ink, self._amount, self._noise_seed, scan.scan_id)
        return degrade.binarize(ink) if self._binarize else ink

    def _wrong_arguments(self) -> list[Problem]:
        problems = super()._wrong_arguments()
        if not 0.0 <= self._amount <= 1.0:
            problems.append(_wrong("amount", self._amount, "a share in 0..1"))
        if not 0 <= self._noise_seed <= MAX_SEED:
            problems.append(_wrong("seed", self._noise_seed, f"0..{MAX_SEED}"))
        return problems


def unit_range(ink: Tensor, mask: Tensor) -> Batch:
    """Bring patches to the batch contract.

    Args:
        ink: (B, H, W) uint8, 255 = ink.
        mask: (B, H, W) uint8, 1 = waveform.

    Returns:
        `image` (B, 1, H, W) float32 in 0..1 and `mask` (B, 1, H, W) float32, 0 or 1.
    """
    # Divided by a tensor on the device: by a number, CUDA multiplies with its rounded reciprocal instead.
    full = torch.full((), 255.0, device=ink.device)
    return {"image": (ink.float() / full).unsqueeze(1), "mask": mask.float().unsqueeze(1)}


def _wrong(name: str, got: object, wanted: str, remedy: str = "") -> Problem:
    return Problem("DATAMODULE_ARGUMENT", name, str(got), wanted, remedy)


def _no_mask(scan: Scan) -> Problem:
    return Problem(
        "MASK_MISSING", scan.scan_id, "no mask", "a mask for every training scan", "inkbeat cohort annotate"
    )


def _no_waveform(scan: Scan) -> Problem:
    return Problem(
        "MASK_EMPTY", scan.scan_id, "a mask without waveform", "at least one pixel", "annotate again"
    )


def _other_size(scan: Scan, page: UInt8Array, mask: UInt8Array) -> Problem:
    return Problem(
        "MASK_SIZE", scan.scan_id, f"mask {mask.shape}", f"the page's size {page.shape}", "annotate again"
    )


def _raise_config(problems: list[Problem]) -> None:
    if problems:
        raise ConfigError(problems)


def _raise_data(problems: list[Problem]) -> None:
    if problems:
        raise DataError(problems)
