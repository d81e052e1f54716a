"""Digitize pages that nothing of Inkbeat drew: how the shipped reader does on other people's ECGs.

    python -m tests.performance.digitize_foreign --signals DIR [--pages 60] [--seed 0] [--apart] [--keep DIR]

Pages are drawn from real records in a folder of WFDB by Matplotlib and Pillow alone (`foreign_pages` and
`foreign_paint`): layouts, grids, pens, fonts, resolutions and kinds of file vary from page to page. Nothing
is declared to the reader. Prints one line a page, with what the page looks like and how well it was read,
and ends with how many were read, refused and wrong. Wrong is a page whose leads correlate with the truth by
less than .8 on average, or one of them by less than .5, where they were drawn.

`--apart` draws only pages of several columns, each with paper between them.

`--keep` writes every page, its choices, its truth and what was read as WFDB records, and the reading drawn
onto the page.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from datamodules.layout import LEADS
from datamodules.page import Page, read_page, write_colour_png
from datamodules.signals import RATE_HZ, choose_records, open_signals
from datamodules.wfdb_files import write_record
from lightning_app.digitize.reader import load_reader
from lightning_app.digitize.record import draw_overlay
from lightning_app.digitize.results import Digitized, Refusal
from lightning_app.reader_check import WRONG_PCC, signal_numbers
from tests.performance.foreign_pages import Choices, Drawing, apart, choose, compose
from tests.performance.foreign_paint import drawn_page

WRONG_LEAD_PCC = 0.5


@dataclass(frozen=True)
class Outcome:
    """How one page was read; numbers are NaN where it was not.

    Attributes:
        choices: What it looked like.
        code: Of a refusal; empty if it was read.
        text: The reason of a refusal, or what the page was read as.
        confidence: Of the reading.
        pcc: Mean over the leads.
        worst_pcc: Of the worst lead.
        snr_db: Mean over the leads.
    """

    choices: Choices
    code: str
    text: str
    confidence: float = np.nan
    pcc: float = np.nan
    worst_pcc: float = np.nan
    snr_db: float = np.nan

    @property
    def is_wrong(self) -> bool:
        """Whether it was given out and should not have been."""
        return not self.code and not (self.pcc >= WRONG_PCC and self.worst_pcc >= WRONG_LEAD_PCC)

    def __str__(self) -> str:
        head = f"{self.choices.number:3} [{self.choices}]"
        if self.code:
            return f"{head} REFUSED {self.code}: {self.text}"
        numbers = f"PCC {self.pcc:.3f}, lowest {self.worst_pcc:.3f}, SNR {self.snr_db:.1f} dB"
        return (
            f"{head} {'WRONG' if self.is_wrong else 'read'} {self.text} at {self.confidence:.2f}, {numbers}"
        )


def judged(choices: Choices, drawing: Drawing, result: Digitized | Refusal) -> Outcome:
    """Compare a reading with the page's truth."""
    if isinstance(result, Refusal):
        return Outcome(choices, result.code, result.reason)
    found = signal_numbers(result, drawing.true_mv, choices.shown)
    # A lead that was not read has no correlation, which min() would pass over or not, as it comes.
    worst = found["worst_pcc"] if found["worst_coverage"] > 0 else 0.0
    rows = "" if result.shown.rows == choices.shown.rows else " (other rows)"
    return Outcome(choices, "", result.layout + rows, result.confidence, found["pcc"], worst, found["snr_db"])


def keep(
    folder: Path, choices: Choices, drawing: Drawing, stored: tuple[bytes, str], page: Page,
    result: Digitized | Refusal,
) -> None:  # fmt: skip
    """Write a page, its choices, its truth, what was read, and that drawn onto the page."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{choices.number:03}"
    content, suffix = stored
    (folder / f"{name}{suffix}").write_bytes(content)
    (folder / f"{name}.json").write_text(json.dumps(asdict(choices), indent=1) + "\n")
    write_record(folder / f"{name}_truth", LEADS, drawing.true_mv, RATE_HZ)
    if isinstance(result, Digitized):
        write_record(folder / f"{name}_read", LEADS, result.mv, RATE_HZ)
        picture = draw_overlay(page.ink if page.rgb is None else page.rgb, result.segments)
        write_colour_png(folder / f"{name}_overlay.png", picture)


def summary(outcomes: list[Outcome]) -> Iterator[str]:
    """Lines for people."""
    read = [outcome for outcome in outcomes if not outcome.code]
    refused = Counter(outcome.code for outcome in outcomes if outcome.code)
    wrong = [f"{each.choices.number} at {each.confidence:.2f}" for each in outcomes if each.is_wrong]
    yield f"{len(outcomes)} pages, {len(read)} read, {refused.total()} refused {dict(refused)}"
    yield f"wrong: {len(wrong)} ({', '.join(wrong) or 'none'})"
    by: dict[str, Callable[[Choices], str]] = {
        "all": lambda _: "",
        "route": lambda choices: choices.route,
        "dpi": lambda choices: f"{choices.dpi:3}",
        "levels": lambda choices: "1-bit" if choices.output == "1-bit" else "colour or grey",
        "layout": lambda choices: choices.layout,
        "grid": lambda choices: choices.grid_lines,
        "names": lambda choices: choices.names,
    }
    for what, key in by.items():
        for value in sorted({key(outcome.choices) for outcome in outcomes}):
            yield _line(f"{what} {value}", [each for each in outcomes if key(each.choices) == value])


def _line(what: str, outcomes: list[Outcome]) -> str:
    read = [outcome.pcc for outcome in outcomes if not outcome.code]
    numbers = f"PCC median {np.median(read):.3f}, mean {np.mean(read):.3f}" if read else "no PCC"
    wrong = sum(outcome.is_wrong for outcome in outcomes)
    return f"{what:22} {len(outcomes):3} pages, {len(read):3} read, {wrong:2} wrong, {numbers}"


def main() -> None:
    """Draw, read and judge all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--signals", required=True, help="folder of WFDB records, or `simulated`")
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", action="store_true", help="pages with paper between their columns")
    parser.add_argument("--keep", type=Path, help="folder for pages, truth and overlays")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    source = open_signals(options.signals, options.seed)
    recordings, _ = choose_records(source, options.pages, options.seed, at_least=1)
    reader, outcomes = load_reader(), []
    for number in range(options.pages):
        chosen = choose(number, options.seed)
        choices = apart(chosen, options.seed) if options.apart else chosen
        if choices is None:
            continue
        mv = recordings[number % len(recordings)].mv
        drawing = compose(choices, mv[:, : round(choices.shown.duration_s * RATE_HZ)])
        stored = drawn_page(drawing, choices, options.seed)
        page = read_page(stored[0])
        result, _ = reader.read(page)
        outcomes.append(judged(choices, drawing, result))
        print(outcomes[-1], flush=True)
        if options.keep:
            keep(options.keep, choices, drawing, stored, page, result)
    for line in summary(outcomes):
        print(line)


if __name__ == "__main__":
    main()
