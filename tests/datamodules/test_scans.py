"""The datamodules under Lightning: keyed batches, exact resume, shared batches, splits that do not leak."""

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import datamodules.scans
from datamodules.errors import ConfigError, DataError, IntegrityError
from datamodules.leakage import check_disjoint
from datamodules.patches import PATCH_PX, batch_bounds, draw_patch_corners, rng_for, scan_order
from datamodules.scans import BinaryScans, ColourScans, PatchBatches, PseudoScans, ScanDataModule
from tests.datamodules.tiny_cohort import write_tiny_cohort

# Lightning 2.6.6 under torch 2.13: its own use of a deprecated name, nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")

N_SCANS, PER_SCAN, BATCH = 7, 5, 4
LAST_STEP = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_cohort(tmp_path_factory.mktemp("cohort"), n_scans=N_SCANS)


@pytest.fixture(scope="module")
def colour_folder(tmp_path_factory):
    return write_tiny_cohort(tmp_path_factory.mktemp("colour"), n_scans=2, colour=True)


def scans_of(folder, **options):
    return BinaryScans(
        str(folder), **{"fold": None, "batch_size": BATCH, "patches_per_scan": PER_SCAN} | options
    )


def drawn(folder, epoch, step, **options):
    module = scans_of(folder, **options)
    module.setup("fit")
    return {name: value.numpy() for name, value in module.train_dataloader().batch(epoch, step).items()}


class Recorder(pl.LightningModule):
    """The smallest thing Lightning trains; it keeps a copy of every batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen = {}

    def training_step(self, batch, batch_idx):
        self.seen[self.current_epoch, batch_idx] = {name: value.clone() for name, value in batch.items()}
        few = np.s_[..., ::16, ::16]
        return (self.weight * batch["image"][few] - batch["mask"][few]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Plug(pl.Callback):
    """Saves a checkpoint at one moment and pulls the plug."""

    def __init__(self, moment, path, epoch, step):
        self.moment, self.path, self.at = moment, path, (epoch, step)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.moment == "batch end":
            self._pull(trainer, batch_idx)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.moment == "batch start":
            self._pull(trainer, batch_idx)

    def on_train_epoch_end(self, trainer, module):
        if self.moment == "epoch end":
            self._pull(trainer, LAST_STEP)

    def _pull(self, trainer, step):
        if (trainer.current_epoch, step) == self.at:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def fit(folder, tmp_path, epochs, callbacks=(), ckpt_path=None, **trainer_options):
    torch.manual_seed(0)
    module = Recorder()
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_epochs": epochs}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": tmp_path}
    trainer = pl.Trainer(**options | quiet | trainer_options, callbacks=list(callbacks))
    try:
        trainer.fit(module, datamodule=scans_of(folder), ckpt_path=ckpt_path)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        assert callbacks
    return module


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in ("image", "mask"))


# Draws


@pytest.mark.parametrize("side_px", [PATCH_PX, 48])
def test_batches_agree_with_a_plain_loop_over_whole_pages(folder, side_px):
    module = scans_of(folder, patch_seed=3, patch_px=side_px)
    module.setup("fit")
    batches = module.train_dataloader()
    scans = module.train_scans()
    masks = [module.mask(scan) for scan in scans]
    order = scan_order(N_SCANS, PER_SCAN, rng_for(3, 2))
    bounds = batch_bounds(N_SCANS * PER_SCAN, BATCH)
    for step in range(len(batches)):
        chosen = order[bounds[step] : bounds[step + 1]]
        rng = rng_for(3, 2, step)
        everywhere = [np.argwhere(masks[i]) for i in chosen]
        points = np.array([points[rng.integers(len(points))] for points in everywhere])
        shapes = np.array([masks[i].shape for i in chosen])
        corners = draw_patch_corners(points, shapes, rng, size_px=side_px)
        batch = batches.batch(2, step)
        np.testing.assert_array_equal(batch["corners"], corners)
        got = module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)
        for i, scan, (y, x) in zip(range(len(chosen)), chosen, corners, strict=True):
            window = np.s_[y : y + side_px, x : x + side_px]
            np.testing.assert_array_equal(got["mask"][i, 0], masks[scan][window])
            np.testing.assert_array_equal(
                got["image"][i, 0], module.page(scans[scan])[window] / np.float32(255)
            )


def test_a_batch_depends_on_seed_epoch_and_step_alone(folder):
    keys = list(itertools.product((0, 1), (0, 1), (0, 4)))
    batches = {key: drawn(folder, key[1], key[2], patch_seed=key[0]) for key in keys}
    for first, second in itertools.combinations(keys, 2):
        equal = all(
            np.array_equal(batches[first][name], batches[second][name]) for name in ("pages", "corners")
        )
        assert not equal, (first, second)
    again = drawn(folder, 1, 4, patch_seed=1)
    np.testing.assert_array_equal(again["corners"], batches[1, 1, 4]["corners"])


def test_batches_may_be_asked_for_in_any_order(folder):
    module = scans_of(folder)
    module.setup("fit")
    batches = module.train_dataloader()
    forward = {(e, s): batches.batch(e, s)["corners"] for e in (0, 1) for s in range(len(batches))}
    for (epoch, step), corners in reversed(forward.items()):
        assert torch.equal(batches.batch(epoch, step)["corners"], corners)


def test_every_scan_gives_its_quota_each_epoch(folder):
    module = scans_of(folder)
    module.setup("fit")
    batches = module.train_dataloader()
    batches.set_epoch(3)
    pages = torch.cat([batch["pages"] for batch in batches])
    assert torch.bincount(pages).tolist() == [PER_SCAN] * N_SCANS


def test_every_patch_holds_waveform_when_the_reach_is_half_a_patch(folder):
    module = scans_of(folder, reach_px=PATCH_PX // 2 - 1)
    module.setup("fit")
    for batch in module.train_dataloader():
        got = module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)
        assert (got["mask"].amax(dim=(1, 2, 3)) == 1).all()


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batches_of_one_device(folder, world_size):
    module = scans_of(folder)
    module.setup("fit")
    options = {"patch_seed": 0, "batch_size": BATCH, "patches_per_scan": PER_SCAN}
    whole = PatchBatches(module._store, module._pages, **options)
    shares = [
        PatchBatches(module._store, module._pages, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    for step in range(len(whole)):
        wanted = whole.batch(1, step)
        parts = [share.batch(1, step) for share in shares]
        together = sorted(
            (int(page), *corner.tolist())
            for part in parts
            for page, corner in zip(part["pages"], part["corners"], strict=True)
        )
        assert together == sorted(
            (int(page), *corner.tolist())
            for page, corner in zip(wanted["pages"], wanted["corners"], strict=True)
        )
        sizes = [len(part["pages"]) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1


# Lightning


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    return fit(folder, tmp_path_factory.mktemp("run"), epochs=2)


def test_lightning_gives_every_epoch_its_own_keyed_batches(folder, undisturbed):
    seen = undisturbed.seen
    n_steps = len(batch_bounds(N_SCANS * PER_SCAN, BATCH)) - 1
    assert n_steps == LAST_STEP + 1
    assert sorted(seen) == [(epoch, step) for epoch in range(2) for step in range(n_steps)]
    module = scans_of(folder)
    module.setup("fit")
    for (epoch, step), batch in seen.items():
        wanted = module.train_dataloader().batch(epoch, step)
        wanted = module.on_after_batch_transfer(module.on_before_batch_transfer(wanted, 0), 0)
        assert same(batch, wanted), (epoch, step)


@pytest.mark.parametrize(
    ("moment", "epoch", "step"),
    [
        *[("batch start", 0, 3), ("batch start", 1, 0), ("batch start", 1, LAST_STEP)],
        *[("batch end", 0, LAST_STEP), ("batch end", 1, 0), ("batch end", 1, 3)],
        ("epoch end", 0, LAST_STEP),
    ],
)
def test_a_resumed_run_sees_the_batches_of_the_uninterrupted_one(
    folder, tmp_path, undisturbed, moment, epoch, step
):
    path = tmp_path / "last.ckpt"
    first = fit(folder, tmp_path, epochs=2, callbacks=[Plug(moment, path, epoch, step)])
    resumed = fit(folder, tmp_path, epochs=2, ckpt_path=path)
    assert len(first.seen) < len(undisturbed.seen)
    assert set(first.seen) | set(resumed.seen) == set(undisturbed.seen)
    for run in (first, resumed):
        for key, batch in run.seen.items():
            assert same(batch, undisturbed.seen[key]), key
    for name, weights in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weights), name


def test_a_double_precision_trainer_gets_doubles(folder, tmp_path):
    batch = fit(folder, tmp_path, epochs=1, precision="64-true").seen[0, 0]
    assert batch["image"].dtype == torch.float64


TWO_PROCESSES = """
import sys, pathlib, torch
import pytorch_lightning as pl
from tests.datamodules.test_scans import Recorder, scans_of

class Keeper(Recorder):
    def on_fit_end(self):
        torch.save(self.seen, pathlib.Path(sys.argv[2]) / f"{self.global_rank}.pt")

pl.Trainer(accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=2, logger=False,
           enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
           default_root_dir=sys.argv[2]).fit(Keeper(), datamodule=scans_of(sys.argv[1]))
"""


@pytest.mark.slow
def test_two_processes_train_on_the_patches_of_one_device(folder, tmp_path, undisturbed):
    alone = undisturbed.seen
    command = [sys.executable, "-c", TWO_PROCESSES, str(folder), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for key, batch in alone.items():
        for name, whole in batch.items():
            assert torch.equal(shares[0][key][name], whole[0::2])
            assert torch.equal(shares[1][key][name], whole[1::2])
    assert [sorted(share) for share in shares] == [sorted(alone)] * 2


# Splits


def test_folds_test_every_scan_once_and_never_train_on_a_tested_patient(folder):
    tested = []
    for fold in range(3):
        module = scans_of(folder, folds=3, fold=fold)
        module.setup("fit")
        train, test = module.train_scans(), module.test_scans()
        assert not {scan.patient_id for scan in train} & {scan.patient_id for scan in test}
        assert len(train) + len(test) == N_SCANS
        tested += [scan.scan_id for scan in test]
    assert sorted(tested) == sorted(scan.scan_id for scan in scans_of(folder).cohort.scans)


def test_without_a_fold_the_stage_decides_what_the_scans_are_for(folder):
    module = scans_of(folder)
    assert len(module.test_scans()) == N_SCANS
    module.setup("fit")
    assert (len(module.train_scans()), module.test_scans()) == (N_SCANS, [])
    with pytest.raises(IntegrityError, match="already trained on"):
        module.setup("test")


def test_a_split_that_shares_a_patient_is_refused(folder, monkeypatch):
    def planted(patients, strata, n_folds, seed):
        return np.arange(len(patients)) % 2  # by scan, not by patient

    monkeypatch.setattr(datamodules.scans, "make_folds", planted)
    with pytest.raises(IntegrityError, match="LEAK_PATIENT") as error:
        scans_of(folder, folds=2, fold=0).setup("fit")
    assert len(error.value.problems) == N_SCANS // 2  # every patient with two scans
    assert error.value.exit_code == 4


def test_the_same_picture_under_two_patients_is_refused(folder):
    scans = scans_of(folder).cohort.scans
    twin = replace(scans[1], image_sha256=scans[0].image_sha256, page=scans[0].page)
    with pytest.raises(IntegrityError, match="LEAK_IMAGE"):
        check_disjoint([scans[0]], [twin], "here")
    check_disjoint(scans[:2], scans[2:], "here")


# The page side and errors


def test_pages_and_masks_are_those_of_the_cohort(folder):
    module = scans_of(folder)
    for scan in module.test_scans():
        np.testing.assert_array_equal(module.page(scan), module.cohort.load_image(scan))
        np.testing.assert_array_equal(module.mask(scan), module.cohort.load_mask(scan))


def test_colour_pages_are_grey_with_noise_keyed_to_the_scan(colour_folder):
    clean, noisy, again = (ColourScans(str(colour_folder), amount=amount) for amount in (0.0, 0.1, 0.1))
    for scan in clean.test_scans():
        grey = clean.page(scan)
        assert len(np.unique(grey)) > 2
        changed = noisy.page(scan) != grey
        assert 0.05 < changed.mean() <= 0.1
        np.testing.assert_array_equal(noisy.page(scan), again.page(scan))
    binary = ColourScans(str(colour_folder), amount=0.1, binarize=True)
    assert set(np.unique(binary.page(binary.test_scans()[0]))) == {0, 255}


def test_colour_pages_are_not_for_training(colour_folder):
    with pytest.raises(ConfigError, match="TEST_ONLY"):
        ColourScans(str(colour_folder)).setup("fit")


def test_pseudo_scans_all_train(folder):
    module = PseudoScans(str(folder))
    module.setup("fit")
    assert (len(module.train_scans()), module.test_scans()) == (N_SCANS, [])


def test_all_wrong_arguments_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        BinaryScans(
            str(tmp_path), folds=1, fold=7, patch_seed=-1, batch_size=0, patches_per_scan=0, reach_px=-1
        )
    assert [problem.where for problem in error.value.problems] == [
        *("cohort", "folds", "fold", "patch_seed", "batch_size", "patches_per_scan", "reach_px")
    ]
    with pytest.raises(ConfigError, match="amount"):
        ColourScans(str(tmp_path), amount=1.5)


def test_all_unusable_scans_are_told_at_once(tmp_path):
    folder = write_tiny_cohort(tmp_path, n_scans=4, empty_masks=(1, 3))
    with pytest.raises(DataError) as error:
        scans_of(folder).setup("fit")
    assert [problem.code for problem in error.value.problems] == ["MASK_EMPTY", "MASK_EMPTY"]
    folder = write_tiny_cohort(tmp_path / "other", n_scans=4, no_masks=(0, 2))
    with pytest.raises(DataError) as error:
        scans_of(folder).setup("fit")
    assert [problem.code for problem in error.value.problems] == ["MASK_MISSING", "MASK_MISSING"]


def test_a_cache_folder_is_shared_by_all_folds_and_changes_nothing(folder, tmp_path):
    for fold in (0, 1):
        plain, cached = (
            scans_of(folder, folds=3, fold=fold, cache_dir=cache) for cache in (None, str(tmp_path / "cache"))
        )
        batches = []
        for module in (plain, cached):
            module.setup("fit")
            batch = module.train_dataloader().batch(0, 0)
            batches.append(module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0))
        assert same(*batches)
    assert len(list((tmp_path / "cache").glob("*.bin"))) == 1


def test_a_cohort_too_large_for_memory_goes_to_a_file_beside_it(tmp_path, monkeypatch):
    folder = write_tiny_cohort(tmp_path, n_scans=3)
    monkeypatch.setattr(datamodules.scans, "IN_MEMORY_LIMIT_BYTES", 1)
    scans_of(folder).setup("fit")
    assert len(list((folder / "cache").glob("pages-*.bin"))) == 1


def test_the_device_path_gives_the_same_batches(folder, monkeypatch):
    plain, by_index = scans_of(folder), scans_of(folder)
    monkeypatch.setattr(
        by_index, "_pages_on_device", lambda store: datamodules.scans.DevicePages(store, torch.device("cpu"))
    )
    batches = []
    for module in (plain, by_index):
        module.setup("fit")
        batch = module.train_dataloader().batch(0, 1)
        batches.append(module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0))
    assert same(*batches)


@pytest.mark.parametrize("cls", [BinaryScans, PseudoScans, ColourScans, ScanDataModule])
def test_hparams_build_the_module_again(cls, folder):
    module = cls(str(folder))
    again = cls(**module.hparams)
    assert dict(again.hparams) == dict(module.hparams)
    assert all(isinstance(value, int | float | str | None) for value in module.hparams.values())
