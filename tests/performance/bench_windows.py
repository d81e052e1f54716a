"""Sliding-window inference against MONAI's, same network, same windows, as ratios in one run.

    python -m tests.performance.bench_windows [--threads 1] [--repeats 3]

MONAI runs as its documentation shows it: the module in evaluation mode, `torch.no_grad`, `mode="constant"`,
overlap 0.5, and its `SlidingWindowInferer`'s default of one window per batch, plus 4 and 32.
The pages' sides are multiples of 64, where both place the same windows.
Budget: 0.5 of MONAI's time, 1e-3 apart.
"""

import argparse
import time
from collections.abc import Callable

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

from models.deeplabv3 import DeepLabV3
from models.fcn import FCN
from models.resunet_cbam import ResUNetCBAM
from models.segmentation import SegmentationModule
from models.windows import OVERLAP_PX, WINDOW_PX, predict_page, prepare

HEIGHT_PX, WIDTH_PX = 896, 1152  # the paper's 886 x 1120, padded so that both place the same 221 windows


def dense_page() -> Tensor:
    """Ink everywhere, like a binary scan of a noisy print: no window is blank."""
    return (torch.rand(HEIGHT_PX, WIDTH_PX, generator=torch.Generator().manual_seed(0)) < 0.1).float()


def sparse_page() -> Tensor:
    """A clean print: four bands of ink, bare paper between and around them."""
    page = dense_page()
    rows = torch.arange(HEIGHT_PX)
    page[(rows % 224) < 128] = 0
    return page


def trained_like(module: SegmentationModule) -> SegmentationModule:
    """Give the batch norms statistics of their own, so that folding them is not a no-op."""
    module.train()
    with torch.no_grad():
        for seed in range(3):
            module((torch.rand(4, 1, 128, 128, generator=torch.Generator().manual_seed(seed)) < 0.1).float())
    return module.eval()


def monai_page(module: SegmentationModule, page: Tensor, batch: int) -> Tensor:
    """MONAI's route to the same probabilities."""
    with torch.no_grad():
        stitched = sliding_window_inference(
            page[None, None],
            (WINDOW_PX, WINDOW_PX),
            batch,
            module.probabilities,
            overlap=OVERLAP_PX / WINDOW_PX,
        )
    return stitched[0, 0]


def best_seconds(routes: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """Least CPU seconds of every route, the routes taking turns so that other load hits all alike."""
    best = dict.fromkeys(routes, float("inf"))
    for _ in range(repeats):
        for name, route in routes.items():
            began = time.process_time()
            route()
            best[name] = min(best[name], time.process_time() - began)
    return best


def main() -> None:
    """Print one line per network and page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    networks = {"ResUNetCBAM-16": ResUNetCBAM(width=16), "FCN-R18": FCN(), "DeepLabV3-R18": DeepLabV3()}
    pages = {"dense": dense_page(), "sparse": sparse_page()}
    for label, module in networks.items():
        trained_like(module)
        ready = prepare(module)
        for page_name, page in pages.items():
            ours = predict_page(ready, page)
            apart = max(float((ours - monai_page(module, page, batch)).abs().max()) for batch in (1, 32))
            routes: dict[str, Callable[[], Tensor]] = {"ours": lambda r=ready, p=page: predict_page(r, p)}
            for batch in (1, 4, 32):
                routes[f"monai/{batch}"] = lambda m=module, p=page, b=batch: monai_page(m, p, b)
            seconds = best_seconds(routes, options.repeats)
            ratios = "  ".join(
                f"of {name} {seconds['ours'] / seconds[name]:.2f}" for name in routes if name != "ours"
            )
            print(
                f"windows {label:15} {page_name:7} ours {seconds['ours']:.2f} s  {ratios}  apart {apart:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
