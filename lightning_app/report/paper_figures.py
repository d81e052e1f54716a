"""Draws the figures of Li et al. 2020 that need no trained network, from pages of our own generator.

Figures 1 and 3 are diagrams of our pipeline and our network; shapes in figure 3 are read off the network
itself. Figures 2 and S1 to S3 show rendered pages. Equal signals and seed give equal bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from datamodules import degrade
from datamodules.layout import LEADS, load_layout
from datamodules.rendering import binary, colour, pseudo
from datamodules.rendering.make import COLOUR_LAYOUTS, PAPER_LAYOUTS, as_printed
from datamodules.rendering.pages import RenderedPage, traces
from datamodules.signals import Recording, choose_records, open_signals
from lightning_app.report.figures import GRID, PALETTE, RIGHT, STYLE, TEXT, save_figure

UInt8 = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]  # x, y, width, height in the units of a diagram

FILL, BLUE, GREEN, ORANGE = "#f6f8fa", PALETTE[0], PALETTE[2], PALETTE[1]
CROP_PX = (250, 420)  # rows and columns of a detail
ABOVE_PX = 24  # kept above and left of the first trace
PATCH_PX = 128
WIDTH = 64  # of the network in Fig. 3: the paper's


def draw_paper_figure(number: str, folder: Path, signals: str = "simulated", seed: int = 0) -> Path:
    """Draw a figure and write it.

    Args:
        number: `1`, `2`, `3`, `s1`, `s2` or `s3`.
        folder: Where to; exists.
        signals: `simulated`, or a folder of WFDB records.
        seed: Of the pages.

    Returns:
        The PNG; an SVG lies beside it.

    Raises:
        DataError: If the signals cannot be used.
    """
    draw: Mapping[str, tuple[int, Callable[[list[Recording], int], Figure]]] = {
        "1": (1, pipelines),
        "2": (1, noise_classes),
        "3": (1, framework),
        "s1": (1, layouts),
        "s2": (1, pseudo_steps),
        "s3": (3, colour_pages),
    }
    n_recordings, draw_one = draw[number]
    recordings, _ = choose_records(open_signals(signals, seed), n_recordings, seed)
    stem = folder / f"fig{number}"
    with mpl.rc_context(STYLE):
        save_figure(draw_one([as_printed(one, 10.0) for one in recordings], seed), stem)
    return stem.with_suffix(".png")


# Figures of pages


def noise_classes(recordings: Sequence[Recording], seed: int) -> Figure:
    """Fig. 2: one recording in the four classes of noise.

    B and C are made of A: its brightest channel holds no coloured grid, its luma all of it. D is another
    scan, as the network meets it.

    Args:
        recordings: One.
        seed: Of the pages.
    """
    in_colour = colour.render(recordings[0], load_layout("3x4+1"), _rng(seed, 2))
    scan = binary.render(recordings[0], load_layout("four_line"), _rng(seed, 3))
    rgb = in_colour.image
    pictures = {
        "A  colour: grid and trace differ by colour": _detail(rgb, in_colour),
        "B  grey, no grid": _detail(rgb.max(axis=2), in_colour),
        "C  grey, even grid": _detail(255 - degrade.grey_ink(rgb), in_colour),
        "D  1 bit, uneven grid": _detail(255 - scan.image, scan),
    }
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(2, 2).ravel(), pictures.items(), strict=True):
        _show(axes, picture, title)
    return figure


def layouts(recordings: Sequence[Recording], seed: int) -> Figure:
    """Fig. S1: the paper's three layouts, as scanned and taken apart into leads.

    Args:
        recordings: One.
        seed: Of the pages.
    """
    figure = Figure(figsize=(12.6, 7.0), layout="constrained")
    panels = figure.subplots(2, len(PAPER_LAYOUTS))
    for column, (name, count) in enumerate(PAPER_LAYOUTS.items()):
        page = binary.render(recordings[0], load_layout(name), _rng(seed, column))
        scans = "scan" if count == 1 else "scans"
        _show(panels[0, column], 255 - page.image, f"{name.replace('_', '-')}: {count} {scans} of 96")
        _show_leads(panels[1, column], page, recordings[0])
    return figure


def _show_leads(axes: Axes, page: RenderedPage, recording: Recording) -> None:
    _show(axes, np.full_like(page.image, 255), "")
    for segment, points in zip(page.geometry.segments, traces(recording, page.geometry), strict=True):
        shade = PALETTE[LEADS.index(segment.lead) % 6]
        axes.plot(points[:, 0], points[:, 1], color=shade, linewidth=0.7)
        x, y = points[0, 0] + 4, float(np.median(points[:, 1])) - 26
        axes.text(x, y, segment.lead, fontsize=8, color=shade, fontweight="bold")


def pseudo_steps(recordings: Sequence[Recording], seed: int) -> Figure:
    """Fig. S2: how a pseudo scan comes about, from stroke over grid to noise.

    Args:
        recordings: One.
        seed: Of the pages.
    """
    layout = load_layout("four_line")

    def page(grid: Any, amount: float, stroke_px: float) -> RenderedPage:
        return pseudo.render(recordings[0], layout, _rng(seed, 0), pseudo.Variant(grid, amount, stroke_px))

    strokes = {f"stroke {px:g} px": 255 - 255 * page("thin", 0.0, px).mask for px in pseudo.STROKES_PX}
    plain = page("thin", 0.0, 2.0)
    grids = {"no grid": 255 - 255 * plain.mask}
    grids |= {f"{grid} grid": 255 - page(grid, 0.0, 2.0).image for grid in pseudo.GRID_LINE_PX}
    noise = {
        f"thick grid, {amount:.0%} noise": 255 - page("thick", amount, 2.0).image
        for amount in pseudo.NOISE_AMOUNTS
    }
    figure = Figure(figsize=(10.6, 6.8), layout="constrained")
    panels = figure.subplots(3, 3)
    for row, pictures in enumerate((strokes, grids, noise)):
        for axes, (title, picture) in zip(panels[row], pictures.items(), strict=True):
            _show(axes, _detail(picture, plain), title)
    return figure


def colour_pages(recordings: Sequence[Recording], seed: int) -> Figure:
    """Fig. S3: colour pages as they come, as the network sees them, and their truth.

    Args:
        recordings: One per row.
        seed: Of the pages.
    """
    drawn = [
        colour.render(recording, load_layout(COLOUR_LAYOUTS[row]), _rng(seed, row))
        for row, recording in enumerate(recordings)
    ]
    heights = [page.image.shape[0] / page.image.shape[1] for page in drawn]
    figure = Figure(figsize=(12.6, 3.2 * sum(heights) + 0.4), layout="constrained")
    panels = figure.subplots(len(drawn), 4, squeeze=False, height_ratios=heights)
    for row, page in enumerate(drawn):
        ink = degrade.grey_ink(page.image)
        noisy = degrade.pepper_and_salt(ink, 0.05, seed, f"figure-{row}")
        pictures = {
            "colour page": page.image,
            "grey": 255 - ink,
            "grey, 5 % noise": 255 - noisy,
            "truth": 255 - 255 * page.mask,
        }
        for axes, (title, picture) in zip(panels[row], pictures.items(), strict=True):
            _show(axes, picture, "" if row else title)
    return figure


def _rng(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, 0xF16, number])


def _detail(picture: UInt8, page: RenderedPage) -> UInt8:
    """Cut the same busy place out of every picture of a page."""
    rows = np.flatnonzero(page.mask.any(axis=1))
    columns = np.flatnonzero(page.mask.any(axis=0))
    top = min(max(0, int(rows[0]) - ABOVE_PX), max(0, picture.shape[0] - CROP_PX[0]))
    left = min(max(0, int(columns[0]) - ABOVE_PX), max(0, picture.shape[1] - CROP_PX[1]))
    return picture[top : top + CROP_PX[0], left : left + CROP_PX[1]]


def _show(axes: Axes, picture: UInt8, title: str) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9.5, loc="left", color=TEXT)
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID)


# Diagrams


def pipelines(recordings: Sequence[Recording], seed: int) -> Figure:
    """Fig. 1: the steps of older methods above, ours below; dashed is training only.

    Args:
        recordings: One, for the thumbnails.
        seed: Of its page.
    """
    page = binary.render(recordings[0], load_layout("four_line"), _rng(seed, 0))
    scan, mask = _detail(255 - page.image, page), _detail(255 - 255 * page.mask, page)
    figure = Figure(figsize=(12.0, 5.6))
    axes = _canvas(figure, 120.0, 56.0)
    axes.text(
        1, 53.5, "A   Older methods: every step hangs on the one before", fontsize=11, fontweight="bold"
    )
    _picture(axes, scan, (1, 38, 18, 11), "scan")
    steps = (
        "find the\ntraced region",
        "take the\ngrid away",
        "mend and clean\nthe trace",
        "follow it\nto numbers",
    )
    for number, text in enumerate(steps):
        _box(axes, (24 + 20 * number, 39, 15, 9), text, ORANGE)
        _arrow(axes, (19.5 if not number else 19 + 20 * number, 43.5), (23.7 + 20 * number, 43.5))
    _arrow(axes, (99.2, 43.5), (103.5, 43.5))
    axes.text(104.2, 43.5, "signal", fontsize=10, va="center")
    axes.text(1, 32.5, "B   Here: one network from scan to trace", fontsize=11, fontweight="bold")
    _picture(axes, scan, (1, 17, 18, 11), "scan")
    _box(axes, (27, 17.5, 20, 10), "network on 128 px\npatches, averaged\nwhere they overlap", BLUE)
    _picture(axes, mask, (55, 17, 18, 11), "mask")
    _box(axes, (80, 18, 17, 9), "rows, scale, layout,\ntrace, calibration", GREEN)
    for start, stop in ((19.5, 26.7), (47.3, 54.5), (73.5, 79.7), (97.3, 103.5)):
        _arrow(axes, (start, 22.5), (stop, 22.5))
    axes.text(104.2, 22.5, "signal with confidence,\nor a reason why not", fontsize=10, va="center")
    _box(axes, (1, 2, 18, 8), "digital signal", TEXT)
    _box(axes, (27, 2, 20, 8), "placed on the page:\ndrawn, or matched", TEXT)
    _box(axes, (55, 2, 18, 8), "true mask", TEXT)
    _arrow(axes, (19.3, 6), (26.7, 6), dashed=True)
    _arrow(axes, (47.3, 6), (54.7, 6), dashed=True)
    _arrow(axes, (64, 10.3), (64, 14.6), dashed=True)
    _arrow(axes, (55.0, 10.3), (47.0, 17.2), dashed=True)
    axes.text(66, 12.2, "compare: Dice", fontsize=8.5)
    axes.text(43.4, 12.2, "train", fontsize=8.5, ha="right")
    axes.text(80, 5.2, "solid: reading a scan\ndashed: training and testing only", fontsize=9, va="center")
    return figure


def framework(recordings: Sequence[Recording], seed: int) -> Figure:
    """Fig. 3: the network with the shapes it really has; height = side of the map, width = channels.

    Args:
        recordings: One, for patch and mask.
        seed: Of its page.
    """
    stages = network_shapes()
    page = binary.render(recordings[0], load_layout("four_line"), _rng(seed, 0))
    middle = [int(at[len(at) // 3]) for at in np.nonzero(page.mask)]
    top, left = (
        min(max(0, at - PATCH_PX // 2), side - PATCH_PX)
        for at, side in zip(middle, page.mask.shape, strict=True)
    )
    patch = np.s_[top : top + PATCH_PX, left : left + PATCH_PX]
    figure = Figure(figsize=(12.6, 6.2))
    axes = _canvas(figure, 126.0, 62.0)
    _picture(axes, (255 - page.image)[patch], (1, 33, 13, 13), "patch, 128 x 128")
    _picture(axes, (255 - 255 * page.mask)[patch], (112, 33, 13, 13), "mask, 128 x 128")
    n = len(stages)
    centres = np.linspace(24, 102, n)
    boxes = []
    for index, (name, channels, side_px) in enumerate(stages):
        depth = min(index, n - 1 - index)
        height, width = 3.0 + 17 * side_px / PATCH_PX, 2.0 + 1.1 * np.log2(channels / 32)
        boxes.append(
            (float(centres[index] - width / 2), 47.5 - 9.0 * depth - height / 2, float(width), height)
        )
        shade = BLUE if index < n // 2 else GREEN if index > n // 2 else ORANGE
        _bar(axes, boxes[-1], shade)
        x, y = float(centres[index]), boxes[-1][1] - 0.8
        axes.text(x, y, f"{channels}\n{side_px} x {side_px}", fontsize=8, ha="center", va="top")
        axes.text(x, boxes[-1][1] + height + 0.6, name, fontsize=8, ha="center", va="bottom")
    for index in range(n // 2):
        left_box, right_box = boxes[index], boxes[n - 1 - index]
        y = left_box[1] + 0.8 * left_box[3]
        _arrow(axes, (left_box[0] + left_box[2] + 0.3, y), (right_box[0] - 0.3, y), colour=GRID)
    for one, other in itertools.pairwise(boxes):
        start = (one[0] + one[2] + 0.2, one[1] + one[3] / 2)
        _arrow(axes, start, (other[0] - 0.2, other[1] + other[3] / 2))
    _arrow(axes, (14.5, 39.5), (boxes[0][0] - 0.3, 44))
    _arrow(axes, (boxes[-1][0] + boxes[-1][2] + 0.3, 44), (111.5, 39.5))
    legend = (
        (BLUE, "stem, then residual blocks with CBAM; the first convolution of each has stride 2"),
        (ORANGE, "deepest block"),
        (
            GREEN,
            "bilinear x 2, 3 x 3 convolution, concatenation with the skip (grey), residual block with CBAM",
        ),
    )
    for row, (shade, text) in enumerate(legend):
        _bar(axes, (1.0, 5.6 - 2.4 * row, 1.6, 1.4), shade)
        axes.text(3.6, 6.3 - 2.4 * row, text, fontsize=8.5, va="center")
    return figure


def network_shapes(width: int = WIDTH) -> list[tuple[str, int, int]]:
    """Read the network's maps off the network: (name, channels, side in px) from stem to last stage.

    Args:
        width: Of the network.
    """
    import torch

    from models.resunet_cbam import ResUNetCBAM

    shapes: list[tuple[int, int]] = []
    with torch.device("meta"), torch.no_grad():
        net = ResUNetCBAM(width=width).eval().net
        parts = {
            name: part
            for name, part in net.named_modules()
            if name == "stem" or name.rpartition(".")[0] in ("down", "up")
        }
        for part in parts.values():
            part.register_forward_hook(lambda _, __, out: shapes.append((out.shape[1], out.shape[-1])))
        net(torch.zeros(1, 1, PATCH_PX, PATCH_PX))
    names = [_stage_name(name) for name in parts]
    return [(name, channels, side_px) for name, (channels, side_px) in zip(names, shapes, strict=True)]


def _stage_name(module: str) -> str:
    """Turn `down.0` into `down 1`."""
    kind, _, number = module.partition(".")
    return f"{kind} {int(number) + 1}" if number else "stem 7 x 7"


def _canvas(figure: Figure, width: float, height: float) -> Axes:
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    return axes


def _picture(axes: Axes, picture: UInt8, box: Box, title: str) -> None:
    x, y, width, height = box
    axes.imshow(
        picture, cmap="gray", vmin=0, vmax=255, extent=(x, x + width, y, y + height), aspect="auto",
        interpolation="antialiased", zorder=2,
    )  # fmt: skip
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=GRID, linewidth=1.0, zorder=3))
    axes.text(x + width / 2, y - 0.8, title, fontsize=9, ha="center", va="top")


def _box(axes: Axes, box: Box, text: str, colour: str) -> None:
    x, y, width, height = box
    style = "round,pad=0,rounding_size=1.2"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=FILL, edgecolor=colour, linewidth=1.6)
    )
    axes.text(x + width / 2, y + height / 2, text, fontsize=9, ha="center", va="center", color=RIGHT)


def _bar(axes: Axes, box: Box, colour: str) -> None:
    x, y, width, height = box
    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="none", alpha=0.85, zorder=3))


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    stop: tuple[float, float],
    *,
    dashed: bool = False,
    colour: str = TEXT,
) -> None:
    style = (0, (3, 2)) if dashed else "-"
    axes.add_patch(
        FancyArrowPatch(
            start, stop, arrowstyle="-|>", mutation_scale=11, linewidth=1.2, linestyle=style, color=colour,
            shrinkA=0, shrinkB=0,
        )
    )  # fmt: skip
