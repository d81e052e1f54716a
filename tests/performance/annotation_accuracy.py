"""How well `inkbeat cohort annotate` finds known signals: `python -m tests.performance.annotation_accuracy`.

Pages of real recordings (PTB-XL of ../shared) are rendered with known places, in all nine layouts, and looked
for with the scale before stretching, so up to 3 % off on both axes. Besides the right signal: another
patient's, three leads of another patient, and two leads of one patient under each other's names, of which
none may be accepted. `coloured` are the six pages of ../shared, turned grey and thresholded to 1 bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from datamodules.annotation.matching import Annotation, LeadMatch, annotate_page
from datamodules.layout import LEADS, Layout, known_layouts
from datamodules.page import read_page
from datamodules.rendering import binary
from datamodules.rendering.make import as_printed
from datamodules.rendering.pages import RenderedPage
from datamodules.signals import Recording, choose_records, open_signals, to_recording
from datamodules.wfdb_files import read_record
from tests.shared import SHARED

TRIALS = ("declared", "undeclared", "stranger", "three", "swapped", "coloured")
STEP = 0.01  # of amplitude; of time it is 0.005 (PROTOCOL R11)


@dataclass
class Tally:
    """What one kind of trial gave."""

    pages: int = 0
    leads: int = 0
    found: int = 0
    wrong: int = 0
    wrong_accepted: int = 0
    other_layout: int = 0
    place_px: list[float] = field(default_factory=list)
    time_off: list[float] = field(default_factory=list)
    amplitude_off: list[float] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)  # of right leads
    wrong_gaps: list[float] = field(default_factory=list)
    page_gaps: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.pages} pages, {self.found} of {self.leads} right leads resolved, "
            f"{self.wrong_accepted} of {self.wrong} wrong ones accepted, {self.other_layout} other layouts, "
            f"CPU a page {np.mean(self.cpu_s):.2f} s, at most {max(self.cpu_s):.2f} s"
        ]
        for what, gaps in (
            ("right leads", self.gaps),
            ("wrong leads", self.wrong_gaps),
            ("pages", self.page_gaps),
        ):
            if len(gaps):
                lines.append(f"  gaps of {what}: {np.nanmin(gaps):.3f} to {np.nanmax(gaps):.3f}")
        if self.time_off:
            lines.append(
                f"  place off by {max(self.place_px):.2f} px at most, "
                f"{np.mean(np.array(self.place_px) <= 1):.4f} within 1; "
                f"time scale {100 * max(self.time_off):.3f} % at most; amplitude "
                f"{100 * max(self.amplitude_off):.2f} % at most, "
                f"{np.mean(np.array(self.amplitude_off) <= STEP):.4f} within a step"
                + (f"; Dice {np.mean(self.dice):.4f}, lowest {min(self.dice):.3f}" if self.dice else "")
            )
        return "\n".join(lines)


def main() -> None:
    """Run the trials named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=27)
    parser.add_argument("--first", type=int, default=0, help="number of the first page")
    parser.add_argument("--trial", choices=TRIALS, action="append")
    parser.add_argument("--details", action="store_true", help="a line per page and per wrongly judged lead")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    numbers = range(options.first, options.first + options.pages)
    for trial in options.trial or TRIALS:
        tally = Tally()
        if trial == "coloured":
            _try_coloured(tally)
            print(f"{trial}: {tally}", flush=True)
            continue
        for number, page, recording, layout, other in _pages(numbers):
            _try(trial, tally, number, page, recording, layout, other, options.details)
        print(f"{trial}: {tally}", flush=True)


def _pages(numbers: range) -> Iterator[tuple[int, RenderedPage, Recording, Layout, Recording]]:
    """Page, its recording and layout, and the recording of another patient; each keyed to its number."""
    layouts = list(known_layouts().values())
    records, _ = choose_records(open_signals(SHARED / "signals" / "ptbxl", 0), 250, 0, (0.0, 1.0), at_least=1)
    for number in numbers:
        layout = layouts[number % len(layouts)]
        recording = as_printed(records[number % len(records)], layout.duration_s)
        other = as_printed(records[(number + 125) % len(records)], layout.duration_s)
        yield (
            number,
            binary.render(recording, layout, np.random.default_rng([7, number])),
            recording,
            layout,
            other,
        )


def _try(
    trial: str,
    tally: Tally,
    number: int,
    page: RenderedPage,
    recording: Recording,
    layout: Layout,
    other: Recording,
    details: bool,
) -> None:
    given, wrong_leads = _given(trial, number, recording, other)
    tried = list(known_layouts().values()) if trial == "undeclared" else [layout]
    started = time.process_time()
    found = annotate_page(page.image, given, tried, page.geometry.px_per_s, page.geometry.px_per_mv)
    tally.cpu_s.append(time.process_time() - started)
    tally.pages += 1
    tally.other_layout += found.layout.name != layout.name
    tally.page_gaps.append(found.page_gap)
    for lead in found.leads:
        is_wrong = lead.segment.lead in wrong_leads
        tally.wrong += is_wrong
        tally.leads += not is_wrong
        tally.found += lead.is_resolved and not is_wrong
        tally.wrong_accepted += lead.is_resolved and is_wrong
        (tally.wrong_gaps if is_wrong else tally.gaps).append(lead.gap)
        if details and lead.is_resolved == is_wrong:
            judged = "accepted" if lead.is_resolved else lead.reason
            print(f"  {number} {layout.name} {lead.segment} {judged} gap {lead.gap:.3f} {page.grid}")
        if lead.is_resolved and not is_wrong and found.layout.name == layout.name:
            tally.place_px.append(_distance_px(page, lead))
    if not wrong_leads and found.geometry is not None:
        _measure(tally, number, page, found, details)


def _try_coloured(tally: Tally) -> None:
    folder = SHARED / "pages" / "ludb"
    drawn = json.loads((folder / "geometry.json").read_text())
    for path in sorted(folder.glob("*.png")):
        grey = read_page(path).ink
        recording = to_recording(read_record(path.with_suffix("")), path.stem)
        for ink in (grey, np.asarray(cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)[1])):
            started = time.process_time()
            found = annotate_page(
                ink, recording, list(known_layouts().values()), drawn["px_per_s"], drawn["px_per_mV"]
            )
            tally.cpu_s.append(time.process_time() - started)
            tally.pages += 1
            tally.other_layout += found.layout.name != "3x4+1"
            tally.page_gaps.append(found.page_gap)
            tally.time_off.append(abs(found.time_scale - 1))
            tally.amplitude_off.append(abs(found.amplitude_scale - 1))
            for lead in found.leads:
                tally.leads += 1
                tally.found += lead.is_resolved
                tally.gaps.append(lead.gap)
                x_px = drawn["x0"] + lead.segment.start_s * drawn["px_per_s"]
                off_px = (lead.x_px - x_px, lead.y_px - drawn["rows_baseline_y"][lead.segment.row])
                tally.place_px.append(float(np.abs(off_px).max()))


def _given(
    trial: str, number: int, recording: Recording, other: Recording
) -> tuple[Recording, frozenset[str]]:
    """The recording that is looked for, and which of its leads are not the ones on the page."""
    rng = np.random.default_rng([8, number])
    if trial == "stranger":
        return other, frozenset(LEADS)
    if trial in ("declared", "undeclared"):
        return recording, frozenset()
    leads = rng.choice(len(LEADS), 3 if trial == "three" else 2, replace=False)
    mv = recording.mv.copy()
    mv[leads] = other.mv[leads] if trial == "three" else recording.mv[leads[::-1]]
    return dataclasses.replace(recording, mv=mv), frozenset(LEADS[lead] for lead in leads)


def _distance_px(page: RenderedPage, lead: LeadMatch) -> float:
    segment = lead.segment
    true = next(
        s
        for s in page.geometry.segments
        if (s.lead, s.row) == (segment.lead, segment.row) and abs(s.start_s - segment.start_s) < 1e-6
    )
    place = page.geometry.to_scan([[true.x0_px, true.y0_px]])[0]
    return float(np.abs(place - (lead.x_px, lead.y_px)).max())


def _measure(tally: Tally, number: int, page: RenderedPage, found: Annotation, details: bool) -> None:
    assert found.geometry is not None
    tally.time_off.append(abs(found.geometry.scan_px_per_s / page.geometry.scan_px_per_s - 1))
    tally.amplitude_off.append(abs(found.geometry.scan_px_per_mv / page.geometry.scan_px_per_mv - 1))
    tally.dice.append(2 * float((found.mask & page.mask).sum()) / float(found.mask.sum() + page.mask.sum()))
    if details:
        amplitude = found.geometry.scan_px_per_mv / page.geometry.scan_px_per_mv - 1
        print(
            f"  {number} {found.layout.name} stroke {page.stroke_px:g} found {found.stroke_px:.2f} "
            f"{page.grid} amplitude {100 * amplitude:.2f} % Dice {tally.dice[-1]:.3f} "
            f"CPU {tally.cpu_s[-1]:.2f} s"
        )


if __name__ == "__main__":
    main()
