"""Draws the report's figures. Pure: tables and arrays in, figures out; equal input gives equal bytes.

Only object-oriented matplotlib is used (no pyplot), so nothing depends on a backend or on what was drawn
before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lightning_app.report.tables import counted

Ink = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Layers = Sequence[tuple[npt.NDArray[np.float32], str]]  # cover in [0, 1] and the colour it is painted with

TEXT = "#24292f"  # these two are replaced by the page's own colours where a figure is embedded
GRID = "#d0d7de"
PALETTE = ("#2f6fde", "#d9730d", "#2e9e6b", "#9a5fd0", "#c2405f", "#7a8450", "#3aa5b5", "#8c6d46")
RIGHT, FALSE_ALARM, MISSED = "#16181d", "#e8590c", "#1f7ae0"
ZOOM_PX = 256
MAX_NAMES_IN_PLOT = 4  # more models than that are numbered, with a key above
ZOOM_SCALE = 1.5
PANEL_PX = round(ZOOM_PX * ZOOM_SCALE)  # height of every panel of Fig. 4
GAP_PX, TITLE_PX, HEAD_PX = 12, 30, 34
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "inkbeat",  # the default draws ids from the clock
}


@dataclass(frozen=True)
class Example:
    """One page of Fig. 4.

    Attributes:
        title: For instance `best · binary-0007 · Dice 0.951`.
        ink: (H, W) uint8, 0 = paper, 255 = ink.
        truth: (H, W) bool.
        prediction: (H, W) bool.
    """

    title: str
    ink: Ink
    truth: Mask
    prediction: Mask


def family_colours(families: Mapping[str, str]) -> dict[str, str]:
    """Give models of one class the same colour; families in order of appearance.

    Args:
        families: Class path by label.
    """
    order = list(dict.fromkeys(families.values()))
    return {label: PALETTE[order.index(family) % len(PALETTE)] for label, family in families.items()}


def ranking_figure(table: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """Draw Fig. 5A: mean Dice of every model in cross-validation, best on top.

    Args:
        table: Rows of the benchmark table of one test set, in the order to draw.
        colours: By model.

    Returns:
        The figure.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 1.1 + 0.42 * len(table)), layout="constrained")
        axes = figure.subplots()
        y = np.arange(len(table))[::-1]
        axes.barh(y, table["dice_mean"], height=0.62, color=[colours[m] for m in table["model"]], alpha=0.88)
        _whiskers(axes, table, y)
        for at, row in zip(y, table.itertuples(), strict=True):
            axes.text(1.03, at, _interval_text(row), va="center", fontsize=8.5)  # beside all grid lines
        axes.set_yticks(y, table["model"])
        axes.tick_params(axis="y", length=0)
        _dice_axis(axes, "x", 1.36)
        axes.set_xlabel(
            f"Dice, mean over {_count_text(table)}; whiskers: 95 % interval over patients", loc="left"
        )
    return figure


def generalization_figure(
    table: pd.DataFrame, test_sets: Mapping[str, str], colours: Mapping[str, str]
) -> Figure:
    """Draw Fig. 5B: mean Dice on the further test sets, one group of bars per set.

    Args:
        table: Rows of the benchmark table for the models to show.
        test_sets: Name -> shown label, in the order to draw.
        colours: By model.

    Returns:
        The figure.
    """
    models = list(dict.fromkeys(table["model"]))
    width = 0.8 / len(models)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(6.4, 1.5 * len(test_sets) + 1.2), 3.7), layout="constrained")
        axes = figure.subplots()
        for i, model in enumerate(models):
            own = table[table["model"] == model].set_index("test_set").reindex(list(test_sets))
            x = np.arange(len(own)) + (i - (len(models) - 1) / 2) * width
            shade = _shade(models, model, colours)
            axes.bar(x, own["dice_mean"], width=width * 0.9, color=shade, alpha=0.88, label=model)
            _whiskers(axes, own, x, vertical=True)
            for at, mean, high in zip(x, own["dice_mean"], own["dice_ci_high"], strict=True):
                if np.isfinite(mean):
                    top = np.nanmax([mean, high])
                    axes.text(at, top + 0.015, f"{mean:.2f}", ha="center", fontsize=7.5)
        axes.set_xticks(np.arange(len(test_sets)), list(test_sets.values()))
        axes.tick_params(axis="x", length=0)
        _dice_axis(axes, "y", 1.08)
        axes.set_ylabel("Dice, mean over scans")
        axes.set_xlabel(f"{_count_text(table)} per set; whiskers: 95 % interval over patients")
        figure.legend(loc="outside upper left", ncols=min(4, len(models)), fontsize=8.5)
    return figure


def cost_figure(table: pd.DataFrame, costs: Mapping[str, str], colours: Mapping[str, str]) -> Figure:
    """Draw quality against cost: Dice over each known cost, logarithmic.

    Args:
        table: Rows of the benchmark table in cross-validation.
        costs: Column -> axis label; each column holds positive numbers.
        colours: By model.

    Returns:
        The figure.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(min(12.0, 4.6 * len(costs) + 0.6), 4.1), layout="constrained")
        panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
        names = {model: model for model in table["model"]}
        if len(names) > MAX_NAMES_IN_PLOT:
            names = {model: str(i) for i, model in enumerate(names, start=1)}
            key = [
                Line2D([], [], marker="o", ls="", color=colours[m], label=f"{i}  {m}")
                for m, i in names.items()
            ]
            figure.legend(handles=key, loc="outside upper center", ncols=5, fontsize=8.5)
        for axes, (column, label) in zip(panels, costs.items(), strict=True):
            for row in table.to_dict("records"):
                x, y = row[column], row["dice_mean"]
                error = np.nan_to_num([[y - row["dice_ci_low"]], [row["dice_ci_high"] - y]])
                axes.errorbar(x, y, yerr=error, fmt="o", ms=6.5, color=colours[row["model"]], elinewidth=1.2)
            _name_points(axes, table, column, names)
            _cost_axis(axes, table[column])
            axes.margins(x=0.12, y=0.15)
            axes.grid(visible=True, axis="y")
            axes.set_axisbelow(True)
            axes.set_xlabel(label)
        panels[0].set_ylim(bottom=max(0.0, panels[0].get_ylim()[0]))  # shared by all panels
        panels[0].set_ylabel(f"Dice, mean over {_count_text(table)}\nwith 95 % interval over patients")
    return figure


def threshold_figure(curves: pd.DataFrame, threshold: float, colours: Mapping[str, str]) -> Figure:
    """Draw Dice against threshold, one line per model (R27).

    Args:
        curves: `model, threshold, dice, n_scans`, models in the order of the legend.
        threshold: The sweep's own.
        colours: By model.

    Returns:
        The figure.
    """
    models = list(dict.fromkeys(curves["model"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.axvline(threshold, color=GRID, linewidth=1.6, zorder=0)
        axes.annotate(
            f"threshold of this sweep: {threshold:g}",
            (threshold, 1.02),
            xytext=(0, 4),
            textcoords="offset points",
            annotation_clip=False,
            fontsize=8.5,
        )
        for i, model in enumerate(models):
            own = curves[curves["model"] == model]
            shade = _shade(models, model, colours)
            style = ("-", "--", ":", "-.")[i % 4] if len(models) > len(set(colours.values())) else "-"
            axes.plot(own["threshold"], own["dice"], style, color=shade, linewidth=1.8, label=model)
        axes.set_xlim(0, 1)
        _dice_axis(axes, "y", 1.02)
        axes.set_xlabel("probability from which a pixel counts as waveform")
        axes.set_ylabel(f"Dice, mean over {int(curves['n_scans'].max())} held-out scans")
        figure.legend(loc="outside right upper", fontsize=8.5)
    return figure


def triplet_picture(examples: Sequence[Example]) -> Image.Image:
    """Draw Fig. 4 for one model: scan, truth and prediction of a few pages, whole and zoomed.

    Args:
        examples: One row each.

    Returns:
        RGB picture, 1.5 screen pixels per scan pixel where zoomed.
    """
    rows = [_triplet(example) for example in examples]
    width = max(sum(panel.shape[1] + GAP_PX for panel in row) for row in rows) - GAP_PX
    row_px = TITLE_PX + PANEL_PX + GAP_PX
    picture = Image.new("RGB", (width, HEAD_PX + row_px * len(rows) - GAP_PX), "white")
    _write_head(picture, [panel.shape[1] for panel in rows[0]])
    for i, (example, row) in enumerate(zip(examples, rows, strict=True)):
        top, left = HEAD_PX + i * row_px, 0
        ImageDraw.Draw(picture).text((0, top + 6), example.title, font=_font(15), fill=TEXT)
        for panel in row:
            picture.paste(Image.fromarray(panel), (left, top + TITLE_PX))
            left += panel.shape[1] + GAP_PX
    return ImageOps.expand(picture, GAP_PX, "white")  # or a viewer's frame touches titles and legend


def _triplet(example: Example) -> list[npt.NDArray[np.uint8]]:
    """Six panels of one page, (PANEL_PX, w, 3) each: three whole, three zoomed."""
    top, left = zoom_corner(example.prediction, example.truth)
    window = np.s_[top : top + ZOOM_PX, left : left + ZOOM_PX]
    pictures: tuple[Layers, ...] = (
        [((example.ink / 255).astype(np.float32), RIGHT)],
        [(example.truth.astype(np.float32), RIGHT)],
        compare(example.prediction, example.truth),
    )
    scale = PANEL_PX / example.truth.shape[0]
    whole = [_framed(_page_picture(layers, scale), top, left, scale) for layers in pictures]
    zoomed = [_zoom_picture([(layer[window], colour) for layer, colour in layers]) for layers in pictures]
    return [_outlined(panel) for panel in (*whole, *zoomed)]


def _write_head(picture: Image.Image, widths: Sequence[int]) -> None:
    draw, left = ImageDraw.Draw(picture), 0
    names = ("scan", "truth", "prediction", "zoom: scan", "zoom: truth", "zoom: prediction")
    for width, name in zip(widths, names, strict=True):
        draw.text((left + width / 2, 12), name, font=_font(17, bold=True), fill=TEXT, anchor="mm")
        left += width + GAP_PX
    legend = (("missed", MISSED), ("false alarm", FALSE_ALARM), ("waveform found", RIGHT))
    right = picture.width
    for text, colour in legend:
        draw.text((right, HEAD_PX + 14), text, font=_font(15), fill=TEXT, anchor="rm")
        right -= round(draw.textlength(text, font=_font(15))) + 22
        draw.rectangle((right, HEAD_PX + 7, right + 14, HEAD_PX + 21), fill=colour)
        right -= 20


def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / name, size_px)


def _framed(panel: npt.NDArray[np.uint8], top: int, left: int, scale: float) -> npt.NDArray[np.uint8]:
    """Mark the zoomed window on a whole page."""
    corners = np.rint(np.array([left, top, left + ZOOM_PX, top + ZOOM_PX]) * scale).astype(int)
    x0, y0, x1, y1 = (int(c) for c in corners)
    return np.asarray(cv2.rectangle(panel, (x0, y0), (x1, y1), (194, 64, 95), 2), dtype=np.uint8)


def _outlined(panel: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    panel[[0, -1]] = panel[:, [0, -1]] = (208, 215, 222)
    return panel


def compare(prediction: Mask, truth: Mask) -> Layers:
    """Split a prediction into found, false and missed pixels, each with its colour."""
    parts = ((prediction & truth, RIGHT), (prediction & ~truth, FALSE_ALARM), (truth & ~prediction, MISSED))
    return [(part.astype(np.float32), colour) for part, colour in parts]


def blend(layers: Layers) -> npt.NDArray[np.uint8]:
    """Paint layers on white paper.

    Args:
        layers: (H, W) cover in [0, 1] and the colour it is painted with, lowest first.

    Returns:
        (H, W, 3) uint8.
    """
    picture = np.full((*layers[0][0].shape, 3), 255, dtype=np.float32)
    for cover, colour in layers:
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float32)
        picture += cover[..., None] * (rgb - picture)
    return np.rint(picture).astype(np.uint8)


def zoom_corner(prediction: Mask, truth: Mask, size_px: int = ZOOM_PX) -> tuple[int, int]:
    """Find the window worth looking at: most waveform and most errors.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.
        size_px: Side of the window.

    Returns:
        Row and column of its top left corner; 0 along an axis shorter than the window.
    """
    interest = truth.astype(np.float32) + 2 * (prediction ^ truth)
    sums = np.pad(interest.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = truth.shape
    tops = np.arange(0, max(1, height - size_px + 1), 8)
    lefts = np.arange(0, max(1, width - size_px + 1), 8)
    bottoms, rights = np.minimum(tops + size_px, height), np.minimum(lefts + size_px, width)
    inside = sums[np.ix_(bottoms, rights)] - sums[np.ix_(tops, rights)]
    inside -= sums[np.ix_(bottoms, lefts)] - sums[np.ix_(tops, lefts)]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(tops[row]), int(lefts[column])


def mask_margins(example: Example, margin_px: int = 40) -> Example:
    """Blank what lies above and below the leads, where a page carries names and dates.

    Args:
        example: Of a cohort that was not drawn by us.
        margin_px: Kept around the outermost waveform.

    Returns:
        The same page with header and footer as plain paper.
    """
    rows = np.flatnonzero(example.truth.any(axis=1))
    keep = np.zeros(example.truth.shape, dtype=bool)
    if len(rows):
        keep[max(0, rows[0] - margin_px) : rows[-1] + 1 + margin_px] = True
    ink = np.where(keep, example.ink, 0).astype(np.uint8)
    return Example(example.title, ink, example.truth, example.prediction & keep)


def save_figure(figure: Figure, stem: Path) -> None:
    """Write STEM.png and STEM.svg; equal figures give equal bytes.

    Args:
        figure: What to write.
        stem: Path without suffix.
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": stem.name}):
        figure.savefig(stem.with_suffix(".svg"), metadata=NO_METADATA, transparent=True)
        figure.set_layout_engine("none")  # everything has its place now; finding it costs as much as drawing
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None}, dpi=160, facecolor="white")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG with a palette: few colours are in these pictures, and it is a third of the size."""
    few = picture.quantize(160, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, compress_level=9)


def _page_picture(layers: Layers, scale: float) -> npt.NDArray[np.uint8]:
    """Resize a page so that thin strokes stay visible: area means, strengthened where it shrinks."""
    size = (max(1, round(layers[0][0].shape[1] * scale)), PANEL_PX)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = [(np.asarray(cv2.resize(layer, size, interpolation=method)), colour) for layer, colour in layers]
    strength = max(1.0, 0.4 + 0.6 / scale)
    return blend([(np.clip(layer * strength, 0, 1).astype(np.float32), colour) for layer, colour in small])


def _zoom_picture(layers: Layers) -> npt.NDArray[np.uint8]:
    """Enlarge a window to the panel's size; a page smaller than the window is filled up with paper."""
    window = blend(layers)
    short = [(0, ZOOM_PX - side) for side in window.shape[:2]]
    square = np.pad(window, (*short, (0, 0)), constant_values=255)
    enlarged = cv2.resize(square, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, dtype=np.uint8)


def _cost_axis(axes: Axes, values: pd.Series[float]) -> None:
    """Logarithmic where the models differ by more than a factor of four; ticks in three digits and a unit."""
    if values.max() > 4 * values.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def _whiskers(axes: Axes, table: pd.DataFrame, at: npt.NDArray[Any], *, vertical: bool = False) -> None:
    mean = table["dice_mean"].to_numpy(dtype=float)
    ends = np.array([mean - table["dice_ci_low"], table["dice_ci_high"] - mean], dtype=float)
    known = np.isfinite(ends).all(axis=0)
    where = {"x": at[known], "y": mean[known], "yerr": np.maximum(ends[:, known], 0)}
    if not vertical:
        where = {"x": mean[known], "y": at[known], "xerr": np.maximum(ends[:, known], 0)}
    axes.errorbar(**where, fmt="none", ecolor=TEXT, elinewidth=1.1, capsize=2.5)


def _interval_text(row: Any) -> str:
    if not np.isfinite(row.dice_ci_low):
        return f"{row.dice_mean:.3f} (n = {row.n_scans}, no interval)"
    return f"{row.dice_mean:.3f} [{row.dice_ci_low:.3f}, {row.dice_ci_high:.3f}]"


def _count_text(table: pd.DataFrame) -> str:
    def span(column: str) -> str:
        low, high = int(table[column].min()), int(table[column].max())
        return f"{low}" if low == high else f"{low} to {high}"

    if table[["n_scans", "n_patients"]].nunique().max() == 1:
        return f"n = {counted(table['n_scans'].iloc[0], table['n_patients'].iloc[0])}"
    return f"n = {span('n_scans')} scans of {span('n_patients')} patients"


def _dice_axis(axes: Axes, which: str, end: float) -> None:
    ticks = np.linspace(0, 1, 6)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x" if which == "x" else "y")
    if which == "x":
        axes.set_xlim(0, end)
        axes.set_xticks(ticks)
        axes.spines["bottom"].set_bounds(0, 1)
    else:
        axes.set_ylim(0, end)
        axes.set_yticks(ticks)
        axes.spines["left"].set_bounds(0, 1)


def _shade(models: Sequence[str], model: str, colours: Mapping[str, str]) -> tuple[float, float, float]:
    """Tell models of one family apart by lightness."""
    family = [name for name in models if colours[name] == colours[model]]
    lighter = 0.55 * family.index(model) / max(1, len(family))
    rgb = [int(colours[model][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (value + lighter * (1 - value) for value in rgb)
    return r, g, b


def _name_points(axes: Axes, table: pd.DataFrame, column: str, names: Mapping[str, str]) -> None:
    """Write the model's name or number beside each point: towards the middle, away from its neighbour."""
    value = np.log(table[column]) if axes.get_xscale() == "log" else table[column]
    lefts = (value > (value.min() + value.max()) / 2).to_numpy()
    heights = table["dice_mean"].to_numpy()
    for row, left, height in zip(table.to_dict("records"), lefts, heights, strict=True):
        away = heights[lefts == left] - height
        away = away[away != 0]
        is_below = away.size > 0 and away[np.abs(away).argmin()] > 0
        axes.annotate(
            names[row["model"]],
            (row[column], height),
            xytext=(-7 if left else 7, -6 if is_below else 6),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top" if is_below else "bottom",
            fontsize=8,
        )
