"""Model card: the classical way, without learning, as the yardstick of research question 2 (PROTOCOL R34).

What tools did before networks (Li et al. 2020, references 12 and 13): Otsu's threshold, repeated while a
printed grid is still among the dark; median filter where the page is speckled; ruled lines removed by
their length and even spacing; small components removed; then each row of the page traced column by column
for the longest chain of linked runs. No weights, nothing is fitted, every constant is a share of the page or
a stroke width and was set by eye on six colour and six binary pages of one rendering seed.

It sees the whole page at once (`whole_page`): thresholds and rows of a 128-px window would be guesswork.
Meant for clean colour pages turned grey. On pages of another seed (n = 12 each, rendered from PTB-XL): Dice
0.92 on colour pages turned grey (0.85 to 0.97, recall at least 0.94; what is lost is stroke width and
attached pulses), 0.53 on noisy 1-bit scans (0 to 0.85; two of twelve give nothing or nothing right).

    - {class_path: models.classical.ClassicalTracing}

Parameters: 0. Time: about 1 s CPU per page.
"""

from collections.abc import Iterator
from typing import Unpack

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor, nn

from models.segmentation import SegmentationModule, TrainingOptions

Mask = NDArray[np.bool_]
Run = tuple[int, int]  # first and last row of a vertical run

SURE = 8.0  # logit of a found pixel; minus that elsewhere
MAX_INK_SHARE = 0.10  # trace, text and frame; more dark than that is a grid
MAX_OTSU_ROUNDS = 3
SPECKLE_SHARE = 5e-4  # specks per pixel from which a median filter helps more than it harms
MAX_LINE_PX = 3
MIN_LINES = 12  # fewer parallel lines are frames or flat baselines, not a grid
MIN_TRACE_SHARE = 0.06  # of the page's width: narrower components are letters and pulses
MIN_CRUMB_PX = 8  # area of a component worth tracing
MIN_ROW_SHARE = 0.4  # of the page's width: what a row of traces covers at least
MAX_PULSE_SHARE = 0.05  # of the page's width
MAX_STRAIGHT_SHARE = 0.85  # of a row at one height
BRIDGE_COLUMNS = 12  # columns a chain may skip
GAP_COST = 0.15  # per row between linked runs
SKIP_COST = 0.5  # per column skipped
WANDER_COST = 0.004  # per row and column away from the row's baseline


class ClassicalTracing(SegmentationModule):
    """Otsu, median filter, line removal, component filter and column tracing; nothing is trained.

    Args:
        **training: accepted as by every architecture; only `threshold` has a meaning here.
    """

    needs_training = False
    whole_page = True

    def __init__(self, **training: Unpack[TrainingOptions]) -> None:
        super().__init__(**training)

    def build_net(self) -> nn.Module:
        """The tracer as a module without weights."""
        return _Tracer()


class _Tracer(nn.Module):
    """(B, 1, H, W) ink to logits, page by page on the CPU."""

    def forward(self, images: Tensor) -> Tensor:
        pages = (images[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        masks = torch.from_numpy(np.stack([trace_page(page) for page in pages]))
        return torch.where(masks, SURE, -SURE)[:, None].to(images)


def trace_page(ink: NDArray[np.uint8]) -> Mask:
    """Find the waveform of a page.

    Args:
        ink: (H, W) uint8, 0 = paper, 255 = ink.

    Returns:
        (H, W) bool; empty if no row of traces is found.
    """
    ink_only = without_ruled_lines(without_speckle(dark_pixels(ink)))
    wide = wide_components(ink_only, MIN_TRACE_SHARE * ink.shape[1])
    solid = _without_crumbs(ink_only)
    found = np.zeros_like(wide)
    for baseline, first, last in _bands(row_baselines(wide), ink.shape[0]):
        chain = _without_pulses(trace_row(solid[first:last], baseline - first), ink.shape[1])
        for column, (top, bottom) in chain if _is_trace(chain, ink.shape[1]) else ():
            found[first + top : first + bottom + 1, column] = True
    return found


def _without_crumbs(dark: Mask) -> Mask:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= MIN_CRUMB_PX
    keep[0] = False
    kept: Mask = keep[labels]
    return kept


def _without_pulses(chain: list[tuple[int, Run]], width: int) -> list[tuple[int, Run]]:
    """Cut short pieces off both ends of a chain: pulses and letters that stand apart from the trace."""
    breaks = [i for i in range(1, len(chain)) if chain[i][0] - chain[i - 1][0] > 1]
    pieces = [chain[a:b] for a, b in zip([0, *breaks], [*breaks, len(chain)], strict=True)]
    for end in (0, -1):
        while len(pieces) > 1 and len(pieces[end]) < MAX_PULSE_SHARE * width:
            pieces.pop(end)
    return [link for piece in pieces for link in piece]


def _is_trace(chain: list[tuple[int, Run]], width: int) -> bool:
    """A trace is long and moves; a line of text is short, a frame keeps to one height."""
    if len(chain) < MIN_ROW_SHARE * width:
        return False
    middles = np.array([(top + bottom) / 2 for _, (top, bottom) in chain])
    return bool(np.mean(np.abs(middles - np.median(middles)) <= 0.5) < MAX_STRAIGHT_SHARE)


def dark_pixels(ink: NDArray[np.uint8]) -> Mask:
    """Otsu's threshold, again among the dark while they are too many for a trace alone."""
    if np.unique(ink).size <= 2:
        return ink > 127
    values = ink.ravel()
    dark = np.zeros(ink.shape, dtype=bool)
    for _ in range(MAX_OTSU_ROUNDS):
        threshold, _image = cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
        dark = ink > threshold
        values = ink[dark]
        if dark.mean() < MAX_INK_SHARE or np.unique(values).size < 2:
            break
    return dark


def without_speckle(dark: Mask) -> Mask:
    """Median filter of 3 x 3 on a page of many specks; a clean one keeps its thin strokes."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8), connectivity=8)
    specks = np.count_nonzero(stats[1:, cv2.CC_STAT_AREA] <= 3)
    if specks < SPECKLE_SHARE * dark.size:
        return dark
    kept: Mask = cv2.medianBlur(dark.astype(np.uint8), 3) > 0
    return kept


def without_ruled_lines(dark: Mask) -> Mask:
    """Remove thin straight lines that recur across the page, where nothing thicker crosses them."""
    horizontal = _ruled(dark)
    vertical = _ruled(np.ascontiguousarray(dark.T)).T
    kept: Mask = dark & ~horizontal & ~vertical
    return kept


def _ruled(dark: Mask) -> Mask:
    """Pixels of horizontal grid lines."""
    height, width = dark.shape
    # Closed first: a scanned line is dotted. A quarter of the page is longer than a QRS or a flat baseline.
    closed = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((1, 7), np.uint8))
    straight = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((1, max(width // 4, 8)), np.uint8))
    rows = straight.mean(axis=1) > 0.3
    starts = np.flatnonzero(np.diff(rows.astype(np.int8), prepend=0) == 1)
    if starts.size < MIN_LINES:
        return np.zeros_like(dark)
    lengths = _run_lengths(dark)
    # As thick as the lines are: a trace that lies along a thinner line survives.
    thin = lengths <= min(np.median(lengths[rows][dark[rows]]), MAX_LINE_PX)
    near = cv2.dilate(rows.astype(np.uint8)[:, None], np.ones((3, 1), np.uint8)).astype(bool)
    ruled: Mask = dark & thin & near.reshape(height, 1)
    return ruled


def _run_lengths(dark: Mask) -> NDArray[np.int32]:
    """Length of the vertical run each dark pixel lies in."""
    above = np.zeros(dark.shape, np.int32)
    below = np.zeros(dark.shape, np.int32)
    for row in range(dark.shape[0]):
        above[row] = (above[row - 1] + 1 if row else 1) * dark[row]
        below[-1 - row] = (below[-row] + 1 if row else 1) * dark[-1 - row]
    lengths: NDArray[np.int32] = above + below - dark
    return lengths


def wide_components(dark: Mask, min_width_px: float) -> Mask:
    """Keep components at least so wide; small gaps are bridged for the decision only."""
    bridged = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bridged, connectivity=8)
    keep = stats[:, cv2.CC_STAT_WIDTH] >= min_width_px
    keep[0] = False
    kept: Mask = dark & keep[labels]
    return kept


def row_baselines(traces: Mask) -> list[int]:
    """Heights at which rows of traces run: peaks of the share of columns with ink."""
    height = traces.shape[0]
    profile = traces.mean(axis=1)
    window = max(height // 60, 3)
    smooth = np.convolve(np.pad(profile, window), np.ones(window) / window, mode="same")[window:-window]
    if smooth.max(initial=0.0) <= 0:
        return []
    peaks, _ = signal.find_peaks(np.pad(smooth, 1), height=0.25 * smooth.max(), distance=max(height // 20, 1))
    return [int(peak) - 1 for peak in peaks]


def _bands(baselines: list[int], height: int) -> Iterator[tuple[int, int, int]]:
    """Baseline, first and last row of each band; neighbours overlap, because tall waves do."""
    edges = [0, *baselines, height]
    for number, baseline in enumerate(baselines, start=1):
        yield baseline, edges[number - 1], edges[number + 1]


def trace_row(band: Mask, baseline: int) -> list[tuple[int, Run]]:
    """Link vertical runs of ink from column to column into the best chain.

    Args:
        band: (h, W) ink of one row of traces.
        baseline: row of the band around which the trace runs.

    Returns:
        Column and run of every link, left to right; empty for a band without ink.
    """
    runs = [_runs(band[:, column]) for column in range(band.shape[1])]
    scores: list[list[float]] = []
    links: list[list[tuple[int, int] | None]] = []
    for column, here in enumerate(runs):
        scores.append([])
        links.append([])
        for run in here:
            score, link = _best_link(run, column, runs, scores)
            away = max(run[0] - baseline, baseline - run[1], 0)
            scores[-1].append(score + 1.0 - WANDER_COST * away)
            links[-1].append(link)
    ends = [(score, column, index) for column, some in enumerate(scores) for index, score in enumerate(some)]
    chain: list[tuple[int, Run]] = []
    at = max(ends)[1:] if ends else None
    while at is not None:
        chain.append((at[0], runs[at[0]][at[1]]))
        at = links[at[0]][at[1]]
    return chain[::-1]


def _best_link(
    run: Run, column: int, runs: list[list[Run]], scores: list[list[float]]
) -> tuple[float, tuple[int, int] | None]:
    best: tuple[float, tuple[int, int] | None] = (0.0, None)
    for back in range(1, min(BRIDGE_COLUMNS, column) + 1):
        before = column - back
        for index, (top, bottom) in enumerate(runs[before]):
            gap = max(run[0] - bottom, top - run[1], 1) - 1
            score = scores[before][index] - GAP_COST * gap - SKIP_COST * (back - 1)
            if score > best[0]:
                best = (score, (before, index))
    return best


def _runs(column: Mask) -> list[Run]:
    edges = np.flatnonzero(np.diff(column.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(stop) - 1) for first, stop in edges.reshape(-1, 2)]
