"""A whole page from overlapping windows: probabilities averaged where windows overlap.

Fast without changing the result: batch norms are folded into the convolutions before them, features lie
channels-last, batches fit the processor's cache, and windows of bare paper are computed once.
"""

import copy
import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval
from torch.utils.hooks import RemovableHandle

from models.segmentation import SegmentationModule

WINDOW_PX = 128  # Li et al. 2020, section 2.3
OVERLAP_PX = 64  # Li et al. 2020, section 2.3
CPU_BATCH = 4  # measured: four width-16 windows stay in the second-level cache, 32 take twice the time each
GPU_BATCH = 64
FOLD_TOLERANCE = 1e-4  # of a logit, relative to the largest; folding only reorders float32 roundings


def window_starts(length_px: int, size_px: int = WINDOW_PX, overlap_px: int = OVERLAP_PX) -> list[int]:
    """First pixel of every window along one axis; the last window is shifted inside (PROTOCOL R26).

    Args:
        length_px: length of the axis; shorter than size_px gives one window (the page is padded).
        size_px: side of a window.
        overlap_px: pixels that neighbours share, below size_px.

    Raises:
        ValueError: if a length is not positive or the overlap is not in 0..size_px - 1.

    Example:
        >>> window_starts(300)
        [0, 64, 128, 172]
    """
    if length_px < 1 or size_px < 1:
        raise ValueError(f"got length_px {length_px}, size_px {size_px}; wanted both above 0")
    if not 0 <= overlap_px < size_px:
        raise ValueError(f"got overlap_px {overlap_px}; wanted 0 to size_px - 1 ({size_px - 1})")
    last = max(length_px - size_px, 0)
    return [*range(0, last, size_px - overlap_px), last]


def to_mask(probability: Tensor, threshold: float) -> Tensor:
    """Boolean mask of the pixels at or above the threshold (exactly 0.15 is waveform, PROTOCOL R26)."""
    return probability >= threshold


class InferenceCopy(nn.Module):
    """A module made ready for many pages: evaluation mode, norms folded, channels last."""

    def __init__(self, module: SegmentationModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, windows: Tensor) -> Tensor:
        """Maps (B, C, H, W) float32, the probability first, of windows (B, 1, H, W) float32."""
        return self.module.maps(windows)


def prepare(module: SegmentationModule) -> InferenceCopy:
    """A copy of the module for inference; the module itself stays as it is.

    Worth keeping when many pages follow; `predict_page` makes one per call otherwise.
    """
    ready = _detached_copy(module).eval()
    if module.needs_training:
        _fold_batch_norms(ready)
        ready.to(memory_format=torch.channels_last)
    return InferenceCopy(ready)


def predict_page(
    module: SegmentationModule | InferenceCopy,
    page: Tensor | NDArray[np.generic],
    *,
    size_px: int | None = None,
    overlap_px: int = OVERLAP_PX,
    batch: int | None = None,
) -> Tensor:
    """Probability of waveform for every pixel of a page (Li et al. 2020, section 2.3).

    Arguments and errors are those of `predict_maps`, whose first map this is.

    Returns:
        (H, W) float32 in [0, 1] on the CPU.
    """
    return predict_maps(module, page, size_px=size_px, overlap_px=overlap_px, batch=batch)[0]


@torch.inference_mode()
def predict_maps(
    module: SegmentationModule | InferenceCopy,
    page: Tensor | NDArray[np.generic],
    *,
    size_px: int | None = None,
    overlap_px: int = OVERLAP_PX,
    batch: int | None = None,
) -> Tensor:
    """All that a model says of every pixel of a page, see `SegmentationModule.maps`.

    Windows are averaged as probabilities, not logits, and divided by how many cover a pixel. The sums are
    kept in float64, so neither order nor number of windows rounds a constant away from itself.

    Args:
        module: a model, or the result of `prepare`; computes where its weights lie.
        page: (H, W) ink, uint8 in 0..255 or float32 in 0..1, 0 = paper; padded with paper if
            smaller than size_px.
        size_px: side of a window; None takes the model's own (`SegmentationModule.window_px`).
        overlap_px: pixels that neighbouring windows share.
        batch: windows per forward pass; None chooses for the device. No effect on the result beyond
            float32 rounding (1e-5).

    Returns:
        (C, H, W) float32 on the CPU; the first map is the probability of waveform, in [0, 1].

    Raises:
        ValueError: for a page that is not (H, W), or impossible window sizes.
        TypeError: for a page that is neither uint8 nor floating point.
    """
    ready = module if isinstance(module, InferenceCopy) else prepare(module)
    size_px = size_px or ready.module.window_px
    device = ready.module.device
    ink = _as_ink(page).to(device)
    if ready.module.whole_page:
        whole: Tensor = ready(ink[None, None])[0]
        return whole.float().cpu()
    height, width = ink.shape
    padded = nn.functional.pad(ink, (0, max(size_px - width, 0), 0, max(size_px - height, 0)))
    rows = window_starts(height, size_px, overlap_px)
    columns = window_starts(width, size_px, overlap_px)
    if batch is None:
        same_pixels = (WINDOW_PX / size_px) ** 2
        batch = max(1, int((CPU_BATCH if device.type == "cpu" else GPU_BATCH) * same_pixels))
    # float64 is what makes the sums exact; Apple's GPUs do not have it.
    precision = torch.float32 if device.type == "mps" else torch.float64
    total: Tensor | None = None
    corners = list(itertools.product(rows, columns))
    for some, maps in _window_maps(ready, padded, corners, size_px, batch):
        if total is None:
            total = torch.zeros(maps.shape[1], *padded.shape, dtype=precision, device=device)
        for (row, column), of_window in zip(some, maps, strict=True):
            total[:, row : row + size_px, column : column + size_px] += of_window
    assert total is not None, "a page has one window at least"
    counts = torch.outer(
        _coverage(rows, padded.shape[0], size_px), _coverage(columns, padded.shape[1], size_px)
    )
    return (total.cpu() / counts)[:, :height, :width].float()


def _window_maps(
    ready: InferenceCopy, page: Tensor, corners: list[tuple[int, int]], size_px: int, batch: int
) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    """Yield (corners, maps (n, C, size_px, size_px)) until every window was seen."""
    views = page.unfold(0, size_px, 1).unfold(1, size_px, 1)  # a view of all windows, no copy
    # One read-back for the whole page instead of one per window.
    inked = torch.stack([views[corner].any() for corner in corners]).tolist()
    bare = [corner for corner, ink in zip(corners, inked, strict=True) if not ink]
    if bare:
        paper = ready(page.new_zeros(1, 1, size_px, size_px))
        yield bare, paper.expand(len(bare), -1, -1, -1)
    todo = [corner for corner, ink in zip(corners, inked, strict=True) if ink]
    for start in range(0, len(todo), batch):
        some = todo[start : start + batch]
        yield some, ready(torch.stack([views[corner] for corner in some]).unsqueeze(1))


def _coverage(starts: list[int], length_px: int, size_px: int) -> Tensor:
    """How many windows cover each pixel of one axis: (length_px,) float64."""
    counts = torch.zeros(length_px, dtype=torch.float64)
    for start in starts:
        counts[start : start + size_px] += 1
    return counts


def _as_ink(page: Tensor | NDArray[np.generic]) -> Tensor:
    ink = torch.as_tensor(page)
    if ink.ndim != 2 or ink.numel() == 0:
        raise ValueError(f"got a page of shape {tuple(ink.shape)}; wanted (H, W) with pixels in it")
    if ink.dtype == torch.uint8:
        return ink.float() / 255
    if not ink.is_floating_point():
        raise TypeError(f"got a page of {ink.dtype}; wanted uint8 in 0..255 or floating point in 0..1")
    return ink.float()


def _detached_copy(module: SegmentationModule) -> SegmentationModule:
    """A deep copy without the trainer, which holds loggers and loaders that must not be copied."""
    trainer, module._trainer = module._trainer, None
    try:
        return copy.deepcopy(module)
    finally:
        module._trainer = trainer


def _fold_batch_norms(module: SegmentationModule) -> None:
    """Fold, in place, every batch norm whose input is a convolution's output; keep all if the result differs.

    Which norm follows which convolution is seen from one forward pass rather than from the code, so any
    network works. Where a convolution's output is used twice the folded network would differ: then nothing
    is folded.
    """
    probe = torch.rand(2, 1, WINDOW_PX, WINDOW_PX, generator=torch.Generator().manual_seed(0)).to(
        module.device
    )
    with torch.no_grad():
        wanted = module(probe)
        plain = dict(module.named_modules())
        pairs = _convolution_norm_pairs(module, probe)
        for convolution, norm in pairs:
            fused = fuse_conv_bn_eval(plain[convolution], plain[norm])
            module.set_submodule(convolution, fused)
            module.set_submodule(norm, nn.Identity())
        if torch.allclose(module(probe), wanted, rtol=0.0, atol=FOLD_TOLERANCE * float(wanted.abs().max())):
            return
        for name in itertools.chain.from_iterable(pairs):
            module.set_submodule(name, plain[name])


def _convolution_norm_pairs(module: nn.Module, probe: Tensor) -> list[tuple[str, str]]:
    """Names of (convolution, batch norm), both used once, where the norm reads what the convolution wrote."""
    made_by: dict[int, str] = {}
    outputs: list[Tensor] = []  # alive until the end: the id of a freed tensor would be given out again
    calls: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] += 1
            if isinstance(layer, nn.Conv2d):
                made_by[id(output)] = name
                outputs.append(output)
            elif id(inputs[0]) in made_by:
                pairs.append((made_by[id(inputs[0])], name))

        return layer.register_forward_hook(hook)

    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    handles = [watch(name, layer) for name, layer in layers]
    try:
        module(probe)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs if calls[pair[0]] == 1 and calls[pair[1]] == 1]
