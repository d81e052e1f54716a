"""Lines of traces for training: where they run, begin and end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.cohort import Cohort
from datamodules.rendering.make import make_cohort
from datamodules.traced import HALVES, TracedScans, Traces, cut, mean_heights, stacked, traces_of
from models import heights as models_heights


def evenly(x0, x1, n, of_x):
    x = np.linspace(x0, x1, n)
    return np.stack([x, of_x(x)], axis=1)


def test_the_mean_over_half_a_column_is_that_of_a_fine_line():
    line = evenly(10.2, 30.7, 103, lambda x: 20 + 8 * np.sin(x))
    heights = mean_heights(line, 40)
    fine = evenly(10.2, 30.7, 200_001, lambda x: np.interp(x, *line.T))
    for half in range(2 * 12, 2 * 28):
        left = half / HALVES - 0.5
        inside = (fine[:, 0] >= left) & (fine[:, 0] < left + 1 / HALVES)
        assert heights[half] == pytest.approx(fine[inside, 1].mean(), abs=0.1)
    known = np.flatnonzero(np.isfinite(heights))
    assert known[0] in (21, 22)  # the line begins at 10.2: in the second half of column 10
    assert known[-1] in (61, 62)


def test_gaps_and_what_lies_beside_the_page_have_no_height():
    line = evenly(-5.0, 50.0, 276, lambda x: np.where((x > 20) & (x < 25), np.nan, 7.0))
    heights = mean_heights(line, 30)
    assert heights.shape == (60,)
    assert np.isnan(heights[42:50]).all()
    assert (heights[[0, 20, 38, 54, 59]] == 7.0).all()


def test_both_sides_count_halves_alike():
    assert HALVES == models_heights.HALVES


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort.open(make_cohort("binary", 3, 0, "simulated", tmp_path_factory.mktemp("lines") / "cohort"))


def test_lines_lie_on_the_mask_and_end_where_it_does(cohort):
    for scan in cohort.scans:
        traces, mask = traces_of(cohort, scan), cohort.load_mask(scan)
        assert traces.is_known
        for line, begin, stop in zip(traces.heights, traces.begins, traces.stops, strict=True):
            halves = np.flatnonzero(np.isfinite(line))
            on_mask = mask[np.round(line[halves]).astype(int), halves // HALVES]
            assert on_mask.mean() > 0.98
            assert halves[0] / HALVES - 0.5 == pytest.approx(begin[0], abs=0.6)
            assert halves[-1] / HALVES == pytest.approx(stop[0], abs=0.6)
            for x, y in (begin, stop):
                row, column = round(float(y)), round(float(x))
                assert mask[row - 1 : row + 2, column - 1 : column + 2].any()


def test_a_bent_page_is_not_known(cohort):
    bent = replace(cohort, provenance={**cohort.provenance, "geometry_off_px": {"binary-00001": 3.1}})
    known = [traces_of(bent, scan).is_known for scan in bent.scans]
    assert known == [True, False, True]
    assert traces_of(bent, bent.scans[1]).heights.size == 0


def test_a_patch_has_the_lines_that_are_on_it():
    page = Traces(
        heights=np.stack([np.full(80, 10.0), np.full(80, 300.0), np.arange(80.0) / 4]).astype(np.float32),
        begins=np.array([[0, 10], [0, 300], [0, 0]], np.float32),
        stops=np.array([[39.5, 10], [39.5, 300], [39.5, 19.75]], np.float32),
        is_known=True,
    )
    patch = cut(page, (5, 30), 32)
    assert patch.heights.shape == (2, 64)
    assert (patch.heights[0, :20] == 5.0).all()
    assert np.isnan(patch.heights[:, 20:]).all(), "beside the page"
    assert patch.heights[1, :3].tolist() == [10.0, 10.25, 10.5]
    assert np.isnan(patch.begins).all()
    assert patch.stops[0].tolist() == [9.5, 5.0]
    assert patch.stops[1].tolist() == [9.5, 14.75]


def test_batches_are_filled_up_to_the_most_lines(cohort):
    nothing = np.empty((0, 2), np.float32)
    bare = Traces(np.empty((0, 0), np.float32), nothing, nothing, is_known=False)
    full = traces_of(cohort, cohort.scans[0])
    patch = cut(full, (150, 100), 256)
    batch = stacked([cut(bare, (0, 0), 256), patch])
    assert len(patch.heights) > 1
    assert batch["heights"].shape == (2, len(patch.heights), 512)
    assert batch["heights"][0].isnan().all()
    np.testing.assert_array_equal(batch["heights"][1], patch.heights)
    assert batch["begins"].shape == batch["stops"].shape == (2, len(patch.heights), 2)
    assert batch["is_traced"].tolist() == [False, True]
    assert stacked([cut(bare, (0, 0), 32)])["heights"].shape == (1, 1, 64)


def test_patches_come_with_the_lines_drawn_on_them(cohort):
    module = TracedScans(str(cohort.root), folds=3, batch_size=8, patches_per_scan=4)
    module.setup("fit")
    coordinates = next(iter(module.train_dataloader()))
    batch = module.on_after_batch_transfer(module.on_before_batch_transfer(coordinates, 0), 0)
    n, rows, halves = batch["heights"].shape
    assert (n, halves) == (len(batch["image"]), 2 * batch["image"].shape[-1])
    assert batch["begins"].shape == batch["stops"].shape == (n, rows, 2)
    assert batch["is_traced"].all()
    patch, row, half = torch.nonzero(batch["heights"].isfinite(), as_tuple=True)
    y = batch["heights"][patch, row, half].round().long()
    assert batch["mask"][patch, 0, y, half // HALVES].mean() > 0.98
