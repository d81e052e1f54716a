"""Digitize what a new user may bring, whole pages and wrong ones: every answer must be right or a refusal.

    python -m tests.performance.digitize_trial [--layouts NAME...] [--jobs N] [--overlays FOLDER]

Pages are painted by the tests' own painter from a simulated heart, with their trace as the map, nothing
declared unless the trial says so: every layout as 1-bit, grey and colour page, at 25 and 50 mm/s, turned by 1
and by 180 degrees, lying on its side, without a grid (with pulse, and without anything), mirrored both ways,
cut in half, with its halves exchanged, both without and with lead names, with a wrong scale declared; and a
blank page, a photo, a page of text and a bar chart. Prints one line each and ends with the number of wrong
answers, which is the exit code.

Right: the true layout, and leads that correlate with the truth by .9 on average over the page and .7 each
(12x1 pages, where neighbours overlap, by .85 and .4), px/mV within 5 %. The upper half of a page may be
a whole page of another layout, 3x4 of 3x4+3: it is right, too, if its leads are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.layout import known_layouts
from datamodules.page import Page
from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.record import draw_overlay
from lightning_app.digitize.results import Digitized, Refusal
from tests.lightning_app.digitize.drawing import LEADS, as_page, draw, heart

MV = heart(seed=1)
FAST = {"px_per_mm": 2.0, "px_per_mv": 20.0, "grid": ("thick",)}  # 50 mm/s
NAMED = {"names": True, "binary": False, "grid_ink": 0.25}


@dataclass(frozen=True)
class Trial:
    """One page to try.

    Attributes:
        name: What is tried.
        layout: Layout drawn; empty for what is no page.
        drawn: Options of the painter.
        change: What is done to page and map after painting.
        declared: What the user says.
        wrong: It must be refused.
        colour: Painted on a pink grid as a colour page.
    """

    name: str
    layout: str
    drawn: dict[str, Any] = field(default_factory=dict)
    change: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    declared: dict[str, float] = field(default_factory=dict)
    wrong: bool = False
    colour: bool = False


def upside_down(image: NDArray[Any]) -> NDArray[Any]:
    """Turn by 180 degrees."""
    return image[::-1, ::-1]


def on_its_side(image: NDArray[Any]) -> NDArray[Any]:
    """Turn by 90 degrees."""
    return np.rot90(image)


def left_half(image: NDArray[Any]) -> NDArray[Any]:
    """Cut the right half off."""
    return image[:, : image.shape[1] // 2]


def upper_half(image: NDArray[Any]) -> NDArray[Any]:
    """Cut the lower half off."""
    return image[: image.shape[0] // 2]


def exchanged(image: NDArray[Any]) -> NDArray[Any]:
    """Cut the page into an upper and a lower half and exchange them: rows under each other's names."""
    middle = image.shape[0] // 2
    return np.concatenate([image[middle:], image[:middle]])


def trials(layouts: list[str]) -> Iterator[Trial]:
    """Everything tried."""
    for name in layouts:
        yield Trial("1-bit", name)
        yield Trial("1-bit, pulse", name, {"pulse": True})
        yield Trial("grey", name, {"binary": False, "grid_ink": 0.25})
        yield Trial("colour", name, {"binary": False, "grid_ink": 0.4}, colour=True)
        yield Trial("50 mm/s", name, FAST)
        yield Trial("turned by 1 degree", name, {"degrees": 1.0})
        yield Trial("turned by 180 degrees", name, change=upside_down)
        yield Trial("on its side", name, change=on_its_side)
        yield Trial("no grid, pulse", name, {"grid": (), "pulse": True})
        yield Trial(
            "no grid, scale declared", name, {"grid": ()}, declared={"px_per_s": 100, "px_per_mv": 40}
        )
        yield Trial("8 px/mm", name, {
            "px_per_s": 200, "px_per_mv": 80, "px_per_mm": 8, "width": 2240, "height": 1772, "stroke_px": 5.0,
        })  # fmt: skip
        yield Trial("nothing to tell the scale", name, {"grid": ()}, wrong=True)
        yield Trial("wrong px/s declared", name, declared={"px_per_s": 80}, wrong=True)
        yield Trial("mirrored", name, change=np.fliplr, wrong=True)
        yield Trial("over head", name, change=np.flipud, wrong=True)
        yield Trial("left half", name, change=left_half, wrong=True)
        yield Trial("upper half", name, change=upper_half, wrong=True)
        yield Trial("halves exchanged", name, change=exchanged, wrong=True)
        yield Trial("grey, named", name, NAMED)
        yield Trial("turned by 180 degrees, named", name, NAMED, upside_down)
        yield Trial("upper half, named", name, NAMED, upper_half, wrong=True)
        yield Trial("halves exchanged, named", name, NAMED, exchanged, wrong=True)
    for other in ("blank", "photo", "text", "bars"):
        yield Trial(other, "", wrong=True)


def painted(trial: Trial) -> tuple[Page, NDArray[np.float32]]:
    """Page and map of a trial."""
    if not trial.layout:
        ink = other_page(trial.name)
        return as_page(ink), (ink > 127).astype(np.float32)
    page = draw(MV, known_layouts()[trial.layout].rows, **trial.drawn)
    change = trial.change or (lambda image: image)
    ink, mask = np.ascontiguousarray(change(page.ink)), np.ascontiguousarray(change(page.mask))
    if not trial.colour:
        return as_page(ink), mask.astype(np.float32)
    # The grid's ink is pink, the trace black.
    pale = np.repeat((255 - ink)[:, :, None], 3, axis=2)
    pale[:, :, 0] = np.where(mask > 0, pale[:, :, 0], 255)
    grey = 255 - cv2.cvtColor(pale, cv2.COLOR_RGB2GRAY)
    return replace(as_page(grey), rgb=pale), mask.astype(np.float32)


def other_page(name: str) -> NDArray[np.uint8]:
    """Something that is no ECG."""
    ink = np.zeros((886, 1120), np.uint8)
    if name == "photo":
        y, x = np.mgrid[:886, :1120]
        ink = (127 + 80 * np.sin(x / 37 + np.sin(y / 23)) + 40 * np.cos(y / 11)).astype(np.uint8)
    if name == "text":
        for line in range(30):
            text = "Thirty lines of a letter that has nothing to do with hearts"
            cv2.putText(ink, text, (60, 40 + 28 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)
    if name == "bars":
        for bar in range(12):
            cv2.rectangle(ink, (80 + 80 * bar, 800), (130 + 80 * bar, 200 + 40 * (bar % 5)), 255, 3)
        cv2.line(ink, (50, 800), (1080, 800), 255, 3)
    return ink


def answer(trial: Trial) -> tuple[str, Digitized | Refusal, Page]:
    """`right`, `refused` or `WRONG` with what was found."""
    page, probability = painted(trial)
    result = digitize_page(page, probability, **trial.declared)
    if isinstance(result, Refusal):
        return f"refused, {result.code}: {result.reason}", result, page
    is_part = trial.change is upper_half
    if trial.wrong and not is_part:
        return f"WRONG: read, {judged(result)}", result, page
    pcc = lead_pcc(result)
    mean, each = (0.85, 0.4) if trial.layout == "12x1" else (0.9, 0.7)
    true_px_per_mv = float(trial.drawn.get("px_per_mv", 40.0))
    good = (
        (is_part or result.layout == trial.layout)
        and pcc.mean() >= mean
        and pcc.min() >= each
        and abs(result.scale.px_per_mv / true_px_per_mv - 1) < 0.05
    )
    return f"{'right' if good else 'WRONG'}: {judged(result)}", result, page


def judged(result: Digitized) -> str:
    """What was read, in a line."""
    pcc = lead_pcc(result)
    return (
        f"{result.layout}, {result.scale.px_per_s:.1f} px/s, {result.scale.px_per_mv:.1f} px/mV, PCC mean "
        f"{pcc.mean():.3f}, least {pcc.min():.3f}, confidence {result.confidence:.2f}"
    )


def lead_pcc(result: Digitized) -> NDArray[np.float64]:
    """Correlation of every stretch with the truth."""
    found = []
    for segment in result.segments:
        true = MV[LEADS.index(segment.lead), round(segment.start_s * 500) :][: len(segment.mv)]
        read = segment.mv[: len(true)]
        there = np.isfinite(read)
        pcc = float(np.corrcoef(read[there], true[there])[0, 1]) if there.sum() > 10 else 0.0
        found.append(pcc)
    return np.nan_to_num(np.array(found))


def main() -> int:
    """Try everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layouts", nargs="+", default=sorted(known_layouts()))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--overlays", type=Path, help="folder for the overlay of every page read")
    options = parser.parse_args()
    tried = list(trials(options.layouts))
    wrong = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for trial, (text, result, page) in zip(tried, pool.map(answer, tried), strict=True):
            print(f"{trial.layout or '-':10} {trial.name:28} {text}", flush=True)
            wrong += text.startswith("WRONG")
            if options.overlays and isinstance(result, Digitized):
                options.overlays.mkdir(parents=True, exist_ok=True)
                shown = draw_overlay(page.rgb if page.rgb is not None else page.ink, result.segments)
                name = f"{trial.layout}-{trial.name}".replace("/", "").replace(" ", "-")
                cv2.imwrite(str(options.overlays / f"{name}.png"), shown[:, :, ::-1])
    print(f"{len(tried)} tried, {wrong} wrong")
    return min(wrong, 100)


if __name__ == "__main__":
    sys.exit(main())
