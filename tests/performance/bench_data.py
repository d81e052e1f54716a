"""What training data costs, as ratios in one run.

    python -m tests.performance.bench_data [--threads 1] [--pages 500] [--cuda]

Waiting for data is the time to draw and cut a batch, over the time of a whole step: of the width-16 network
with 16 patches, or with --cuda of the paper's network (width 64, 64 patches, bf16). Everything is drawn on
synthetic pages of the paper's size. Budget of waiting: 2 % of a step.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch

from datamodules.page_store import DevicePages, PageStore, store_in_file, store_in_memory
from datamodules.scans import PatchBatches, unit_range
from models.resunet_cbam import ResUNetCBAM

HEIGHT_PX, WIDTH_PX = 886, 1120


def drawn_pages(n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pages with four wavy lines and speckle."""
    rng = np.random.default_rng(0)
    speckle = (rng.random((HEIGHT_PX, WIDTH_PX)) < 0.1).astype(np.uint8)
    x = np.arange(60, 1060)
    for i in range(n):
        mask = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
        for centre in (110, 330, 550, 770):
            y = np.round(centre + 40 * np.sin(x / 20 + i)).astype(int)
            mask[y, x] = mask[y + 1, x] = mask[y + 2, x] = 1
        yield (np.roll(speckle, i) | mask) * np.uint8(255), mask


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Least wall-clock seconds of one call."""
    best = float("inf")
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def plain_crops(images: np.ndarray, pages: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Cut patches out of unpacked uint8 pages, as a loader without packing would."""
    return np.stack([images[p, y : y + 128, x : x + 128] for p, (y, x) in zip(pages, corners, strict=True)])


def row(name: str, value: float, unit: str, budget: str = "") -> None:
    """Print one line of the table."""
    print(f"{name:<62} {value:9.3f} {unit:<6} {budget}")


def bench_batch(store: PageStore, device: torch.device, width: int, batch_size: int) -> None:
    """Time drawing and cutting against a training step."""
    batches = PatchBatches(
        store, np.arange(len(store)), patch_seed=0, batch_size=batch_size, patches_per_scan=64
    )
    on_device = DevicePages(store, device)
    steps = iter(range(10**9))

    def draw() -> dict[str, torch.Tensor]:
        return batches.batch(0, next(steps) % len(batches))

    fixed = draw()
    pages, corners = fixed["pages"], fixed["corners"]

    def cut() -> dict[str, torch.Tensor]:
        ink, mask = store.crop(pages.numpy(), corners.numpy())
        return unit_range(torch.from_numpy(ink), torch.from_numpy(mask))

    def gather() -> dict[str, torch.Tensor]:
        return unit_range(*on_device.crop(pages.to(device), corners.to(device)))

    module = ResUNetCBAM(width=width).to(device).train()
    optimizer = module.configure_optimizers()
    assert optimizer is not None
    precision = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    def step() -> None:
        batch = ready
        with precision:
            loss = module.loss(module(batch["image"]), batch["mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    ready = gather()
    draw_s, cut_s, gather_s = (seconds(work, 20, device) for work in (draw, cut, gather))
    step_s = seconds(step, 2 if device.type == "cpu" else 20, device)
    unpacked = np.stack([ink for ink, _ in drawn_pages(len(store))])
    plain_s = 2 * seconds(lambda: plain_crops(unpacked, pages.numpy(), corners.numpy()), 20, device)
    fetch_s = draw_s + (cut_s if device.type == "cpu" else gather_s)
    row(f"step, ResUNet-CBAM width {width}, batch {batch_size}, {device.type}", step_s * 1e3, "ms")
    row("draw coordinates of a batch", draw_s * 1e3, "ms")
    row("waiting for data, share of step time", 100 * fetch_s / (fetch_s + step_s), "%", "budget 2")
    row("numpy crops of packed pages / gather by index on this device", cut_s / gather_s, "ratio")
    row("numpy crops of packed pages / slices of unpacked pages", cut_s / plain_s, "ratio")
    row("memory of packed pages / unpacked pages", store.n_bytes / (2 * unpacked.nbytes), "ratio")


def bench_file(n_pages: int) -> None:
    """Time the cache file, and what a process that reads all of it grows by."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        store = store_in_file(Path(folder), "bench", drawn_pages(n_pages))
        build_s = time.perf_counter() - began
        began = time.perf_counter()
        store = store_in_file(Path(folder), "bench", iter(()))
        open_s = time.perf_counter() - began
        before = psutil.Process().memory_info().rss
        batches = PatchBatches(store, np.arange(n_pages), patch_seed=0, batch_size=64, patches_per_scan=4)
        began = time.perf_counter()
        for batch in batches:
            store.crop(batch["pages"].numpy(), batch["corners"].numpy())
        file_s = (time.perf_counter() - began) / len(batches)
        grown = psutil.Process().memory_info().rss - before
        row(f"cache file of {n_pages} pages", store.n_bytes / 2**20, "MiB")
        row("  build, per page (drawing the page included)", build_s / n_pages * 1e3, "ms")
        row("  open and check, per 1,000 pages", open_s / n_pages * 1e6, "ms")
        row("  draw and cut a batch from the file", file_s * 1e3, "ms")
        row(
            "  growth of the process over the file's size",
            grown / store.n_bytes,
            "ratio",
            "20,000 scans: 4 GB",
        )


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--cuda", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if options.cuda else "cpu")
    store = store_in_memory(drawn_pages(20))
    if options.cuda:
        bench_batch(store, device, width=64, batch_size=64)
    else:
        bench_batch(store, device, width=16, batch_size=16)
    bench_file(options.pages)


if __name__ == "__main__":
    main()
