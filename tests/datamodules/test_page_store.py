"""Patches come out of the packed pages exactly as a plain slice of the page would give them."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch

from datamodules.errors import DataError
from datamodules.page_store import DevicePages, PageStore, fits_on, store_in_file, store_in_memory
from datamodules.patches import PATCH_PX


def drawn_pages(n=5, seed=0):
    """Pages of different sizes, odd widths, 1-bit and grey, and one smaller than a patch."""
    rng = np.random.default_rng(seed)
    shapes = [(200, 300), (131, 129), (128, 128), (60, 411), (257, 90), (300, 331)]
    for i in range(n):
        shape = shapes[i % len(shapes)]
        mask = (rng.random(shape) < 0.1).astype(np.uint8)
        grey = rng.integers(0, 256, shape, dtype=np.uint8)
        yield (grey if i % 2 else np.where(grey < 60, 255, 0).astype(np.uint8)), mask


def random_indices(store, n=200):
    rng = np.random.default_rng(1)
    pages = rng.integers(0, len(store), n)
    corners = rng.integers(0, store.shapes[pages] - PATCH_PX, endpoint=True)
    return pages, corners


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path) -> PageStore:
    if request.param == "memory":
        return store_in_memory(drawn_pages())
    return store_in_file(tmp_path, "a cohort", drawn_pages())


def test_crops_are_plain_slices_of_the_pages(store):
    pages, corners = random_indices(store)
    ink, mask = store.crop(pages, corners)
    originals = list(drawn_pages())
    for i, (page, (y, x)) in enumerate(zip(pages, corners, strict=True)):
        for cut, original in zip((ink[i], mask[i]), originals[page], strict=True):
            wanted = np.zeros((PATCH_PX, PATCH_PX), dtype=np.uint8)  # paper beyond a small page
            piece = original[y : y + PATCH_PX, x : x + PATCH_PX]
            wanted[: piece.shape[0], : piece.shape[1]] = piece
            np.testing.assert_array_equal(cut, wanted)


def test_pages_are_padded_to_larger_patches_too():
    store = store_in_memory(drawn_pages(), min_side_px=192)
    assert store.shapes.min() == 192
    ink, mask = store.crop(np.arange(5), np.zeros((5, 2), dtype=np.int64), 192)
    for i, (page, waveform) in enumerate(drawn_pages()):
        height, width = (min(192, side) for side in page.shape)
        np.testing.assert_array_equal(ink[i, :height, :width], page[:height, :width])
        np.testing.assert_array_equal(mask[i, :height, :width], waveform[:height, :width])
        assert not ink[i, height:].any()
        assert not ink[i, :, width:].any()


def test_the_gather_by_index_equals_the_numpy_crops(store):
    pages, corners = random_indices(store)
    on_device = DevicePages(store, torch.device("cpu"))
    gathered = on_device.crop(torch.from_numpy(pages), torch.from_numpy(corners))
    for by_index, by_slice in zip(gathered, store.crop(pages, corners), strict=True):
        assert by_index.dtype == torch.uint8
        np.testing.assert_array_equal(by_index.numpy(), by_slice)


@pytest.mark.gpu
def test_the_gather_on_a_gpu_equals_the_numpy_crops(store):
    device = torch.device("cuda")
    assert fits_on(store, device)
    pages, corners = random_indices(store)
    gathered = DevicePages(store, device).crop(
        torch.from_numpy(pages).to(device), torch.from_numpy(corners).to(device)
    )
    for by_index, by_slice in zip(gathered, store.crop(pages, corners), strict=True):
        np.testing.assert_array_equal(by_index.cpu().numpy(), by_slice)


def test_waveform_points_are_those_of_argwhere(store):
    for page, (_, mask) in enumerate(drawn_pages()):
        everywhere = np.argwhere(mask)
        assert store.waveform_px[page] == len(everywhere)
        ranks = np.arange(len(everywhere))
        found = store.waveform_points(np.full(len(ranks), page), ranks)
        np.testing.assert_array_equal(found, everywhere)


def test_binary_pages_are_packed_and_grey_ones_are_not():
    ink = np.zeros((886, 1120), dtype=np.uint8)
    binary = store_in_memory([(ink, ink)]).n_bytes
    ink[0, 0] = 100
    grey = store_in_memory([(ink, np.zeros_like(ink))]).n_bytes
    assert binary == pytest.approx(2 * 886 * 1120 / 8 + 4 * 886, abs=16)
    assert grey == pytest.approx(binary + 886 * 1120 * 7 / 8, abs=16)


def test_a_cache_file_is_built_once_and_then_only_opened(tmp_path):
    built = store_in_file(tmp_path, "a", drawn_pages())

    def never():
        raise AssertionError("the pages were decoded again")
        yield

    opened = store_in_file(tmp_path, "a", never())
    pages, corners = random_indices(built)
    for first, second in zip(built.crop(pages, corners), opened.crop(pages, corners), strict=True):
        np.testing.assert_array_equal(first, second)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".bin", ".lock"]


def test_other_content_gets_another_file(tmp_path):
    store_in_file(tmp_path, "a", drawn_pages(seed=0))
    other = store_in_file(tmp_path, "b", drawn_pages(seed=9))
    assert len(list(tmp_path.glob("*.bin"))) == 2
    np.testing.assert_array_equal(
        other.crop(np.array([2]), np.array([[0, 0]]))[0][0], list(drawn_pages(seed=9))[2][0]
    )


@pytest.mark.parametrize(
    "damage", ["flip_first", "flip_middle", "flip_table", "cut", "empty", "older", "longer"]
)
def test_a_damaged_cache_file_is_rebuilt(tmp_path, damage):
    store_in_file(tmp_path, "a", drawn_pages())
    (path,) = tmp_path.glob("*.bin")
    right = path.read_bytes()
    raw = bytearray(right)
    if damage == "flip_first":
        raw[0] ^= 1
    elif damage == "flip_middle":
        raw[len(raw) // 2] ^= 16
    elif damage == "flip_table":
        raw[-100] ^= 1
    elif damage == "cut":
        raw = raw[: len(raw) // 2]
    elif damage == "empty":
        raw = bytearray()
    elif damage == "older":
        raw[-1] = ord("0")
    else:
        raw += b"\0" * 8
    path.write_bytes(raw)
    store_in_file(tmp_path, "a", drawn_pages())
    assert path.read_bytes() == right


def test_a_failure_while_building_leaves_no_file(tmp_path):
    def failing():
        yield from drawn_pages(2)
        raise ValueError("page 3 is broken")

    with pytest.raises(ValueError, match="page 3"):
        store_in_file(tmp_path, "a", failing())
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="CACHE_UNWRITABLE"):
        store_in_file(tmp_path / "file" / "cache", "a", drawn_pages())


def test_a_file_that_shrinks_under_a_run_is_noticed(tmp_path):
    store = store_in_file(tmp_path, "a", drawn_pages())
    (path,) = tmp_path.glob("*.bin")
    with path.open("r+b") as file:
        file.truncate(10)
    with pytest.raises(DataError, match="CACHE_TRUNCATED"):
        store.crop(np.array([3]), np.array([[0, 0]]))


def _build(folder):
    return len(store_in_file(folder, "a", drawn_pages()))


def test_processes_may_build_the_same_file_at_once(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_build, [tmp_path] * 8) == [5] * 8
    assert len(list(tmp_path.glob("*.bin"))) == 1


def test_a_file_store_travels_to_another_process_by_its_path(tmp_path):
    store = store_in_file(tmp_path, "a", drawn_pages())
    copy = pickle.loads(pickle.dumps(store))
    pages, corners = random_indices(store)
    np.testing.assert_array_equal(copy.crop(pages, corners)[0], store.crop(pages, corners)[0])


def test_a_cpu_never_holds_a_second_copy():
    assert not fits_on(store_in_memory(drawn_pages()), torch.device("cpu"))
