"""Digitize pages of layouts that nobody told the digitizer of: whatever is read of them is under wrong names.

    python -m tests.performance.digitize_unknown_layouts COHORT [--skip N] [--pages N]

Seven layouts, each like a known one but for the order of its chest leads, or six rows of limb leads alone:
the laws hold on nearly all. Pages are drawn from the signals of COHORT's scans by the renderer of kind
`plotted`, in grey or colour, whose lead names can be read; the shipped reader reads them, nothing declared.
Prints one line each and ends with how many were read, and how many were refused by their names alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from datamodules.cohort import Cohort
from datamodules.layout import LEADS, Layout
from datamodules.page import Page, read_page
from datamodules.rendering import plotted
from datamodules.signals import Recording
from lightning_app.digitize.reader import load_reader
from lightning_app.digitize.results import Refusal
from tests.lightning_app.digitize.pages_to_refuse import png

LIMB, CHEST = LEADS[:6], LEADS[6:]
BY_NAMES = "its traces would be"  # how the reason of a refusal begins that names alone decide
SEED = 914


def unknown_layouts() -> list[Layout]:
    """The layouts tried."""
    thirds = tuple(zip(LIMB[:3], LIMB[3:], strict=True))
    swapped = tuple((*limb, CHEST[k + 3], CHEST[k]) for k, limb in enumerate(thirds))
    rows = {
        "3x4, chest by rows": tuple((*limb, *CHEST[2 * k : 2 * k + 2]) for k, limb in enumerate(thirds)),
        "3x4, chest columns swapped": swapped,
        "3x4+1, chest columns swapped": (*swapped, ("II",)),
        "6x2, chest reversed": tuple(zip(LIMB, CHEST[::-1], strict=True)),
        "12x1, chest reversed": tuple((lead,) for lead in (*LIMB, *CHEST[::-1])),
        "6x1": tuple((lead,) for lead in LIMB),
        "6x2, chest odd then even": tuple(zip(LIMB, (*CHEST[::2], *CHEST[1::2]), strict=True)),
    }
    return [Layout(name, 10.0, leads) for name, leads in rows.items()]


def grey_or_colour(recording: Recording, layout: Layout, rng: np.random.Generator) -> tuple[str, Page]:
    """Draw until the page is not of 1 bit; its kind and the page."""
    while (drawn := plotted.render(recording, layout, rng)).is_binary:
        pass
    return drawn.grid, read_page(png(drawn.image))


def main() -> None:
    """Read all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--skip", type=int, default=0, help="scans not to draw from")
    parser.add_argument("--pages", type=int, default=28)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cohort, reader, layouts = Cohort.open(options.cohort), load_reader(), unknown_layouts()
    read = by_names = 0
    for number, scan in enumerate(cohort.scans[options.skip :][: options.pages]):
        layout = layouts[number % len(layouts)]
        rng = np.random.default_rng([SEED, number])
        kind, page = grey_or_colour(cohort.load_signal(scan), layout, rng)
        result, _ = reader.read(page)
        text = f"refused, {result.reason}" if isinstance(result, Refusal) else f"READ as {result.layout}"
        read += not isinstance(result, Refusal)
        by_names += isinstance(result, Refusal) and result.reason.startswith(BY_NAMES)
        print(f"{layout.name:30} {kind:28} {text}", flush=True)
    print(f"{options.pages} pages, {read} read, {by_names} refused by their names alone")


if __name__ == "__main__":
    main()
