"""Where the digitizer loses: every lead of rendered cohorts read without declarations, and why it fell short.

    python -m tests.performance.digitize_breakdown COHORT... [--map mask|damaged|weights] [--weights FILE]

Make cohorts with `inkbeat cohort make --signals DIR --layout ...`. With `--map mask` the drawn mask stands
in for a network, `damaged` spoils it as `tests.performance.damaged_maps` does, `weights` asks one.

Every page gets one line when it is refused or misread, every lead below .96 one line with its cause, and the
end sums both up. Causes, the first that applies:

    layout    read under another layout or another way up
    scale     px/s off by more than 0.4 %, or px/mV by more than 3 %
    place     best lag brings .005 or more: the start of the record is off
    gap       less than 95 % of the samples were read
    trace     more than 2 % of the path lies further than the pen from where the lead was drawn
    fine      none of these: what the resolution, the pen and the map's rim leave
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.cohort import Cohort, Scan
from datamodules.layout import LEADS
from datamodules.page import Page
from datamodules.signals import RATE_HZ, resampled
from lightning_app.digitize.pipeline import digitize_page
from lightning_app.digitize.results import Digitized, Evidence, Refusal, SegmentReading
from lightning_app.evaluate.signals import best_lag, coverage, pcc
from tests.performance.damaged_maps import damaged

Map = NDArray[np.float32]
GOOD_PCC = 0.96
CLOSE_PCC = 0.985  # a better lag is not looked for above
TRACE_PX = 3.0


@dataclass(frozen=True)
class Lead:
    """One stretch of one lead: how well it was read, and why not better."""

    lead: str
    pcc: float
    coverage: float
    confidence: float
    evidence: Evidence
    cause: str


@dataclass(frozen=True)
class PageReading:
    """One page of a cohort: its leads, or why it was refused."""

    scan_id: str
    layout: str
    refusal: str
    leads: tuple[Lead, ...]
    confidence: float
    seconds: float

    @property
    def pcc(self) -> float:
        """Mean over the leads."""
        return float(np.mean([lead.pcc for lead in self.leads])) if self.leads else np.nan


def read_pages(
    cohort: Cohort, mapped: Callable[[Cohort, Scan, Page], Map], jobs: int = 2, limit: int | None = None
) -> Iterator[PageReading]:
    """Read every scan of a cohort, nothing declared.

    Args:
        cohort: Rendered, with geometry, masks and signals.
        mapped: Probability map of a page.
        jobs: Processes.
        limit: Only so many scans.
    """
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(read_one, cohort, mapped), cohort.scans[:limit])


def read_one(cohort: Cohort, mapped: Callable[[Cohort, Scan, Page], Map], scan: Scan) -> PageReading:
    """Read and judge one scan."""
    page = cohort.load_page(scan)
    probability = mapped(cohort, scan, page)
    begun = time.process_time()
    result = digitize_page(page, probability)
    seconds = time.process_time() - begun
    if isinstance(result, Refusal):
        return PageReading(scan.scan_id, scan.layout, f"{result.code}: {result.reason}", (), 0.0, seconds)
    truth = Truth(cohort, scan)
    leads = tuple(judged(truth, result, segment) for segment in result.segments)
    return PageReading(scan.scan_id, scan.layout, "", leads, result.confidence, seconds)


class Truth:
    """What a rendered scan shows: signal, geometry, layout."""

    def __init__(self, cohort: Cohort, scan: Scan) -> None:
        recording, geometry = cohort.load_signal(scan), cohort.load_geometry(scan)
        assert geometry is not None
        self.layout, self.recording, self.geometry = scan.layout, recording, geometry
        self.mv = resampled(recording, RATE_HZ).mv

    def line_px(self, segment: SegmentReading) -> NDArray[np.float64]:
        """(n, 2) where a stretch was drawn."""
        drawn = next(s for s in self.geometry.segments if (s.lead, s.row) == (segment.lead, segment.row))
        return self.geometry.polyline(
            drawn, self.recording.mv[LEADS.index(segment.lead)], self.recording.rate_hz
        )


def judged(truth: Truth, result: Digitized, segment: SegmentReading) -> Lead:
    """Compare one stretch with its truth and name what is wrong with it."""
    first = round(segment.start_s * RATE_HZ)
    true = truth.mv[LEADS.index(segment.lead), first : first + len(segment.mv)]
    read = segment.mv[: len(true)]
    r = float(np.nan_to_num(pcc(read, true)))
    covered = coverage(read, true)
    assert segment.evidence is not None
    cause = _cause(truth, result, segment, read, true, r)
    return Lead(segment.lead, r, covered, segment.confidence, segment.evidence, cause)


def _cause(
    truth: Truth, result: Digitized, segment: SegmentReading,
    read: NDArray[np.float32], true: NDArray[np.floating], r: float,
) -> str:  # fmt: skip
    if (result.layout, result.quarter_turns) != (truth.layout, 0):
        return "layout"
    off_s = abs(result.scale.px_per_s / truth.geometry.scan_px_per_s - 1)
    off_mv = abs(result.scale.px_per_mv / truth.geometry.scan_px_per_mv - 1)
    if off_s > 0.004 or off_mv > 0.03:
        return f"scale ({off_s:.1%}, {off_mv:.1%})"
    if r < CLOSE_PCC and best_lag(read, true, RATE_HZ)[1] > r + 0.005:
        return "place"
    if coverage(read, true) < 0.95:
        return "gap"
    return "trace" if share_astray(segment.path_px, truth.line_px(segment)) > 0.02 else "fine"


def share_astray(path_px: NDArray[np.float64], line_px: NDArray[np.float64]) -> float:
    """Share of a path's columns that lie further than `TRACE_PX` from a line, both (n, 2)."""
    path = path_px[np.isfinite(path_px).all(axis=1)]
    x = np.round(line_px[:, 0]).astype(int)
    columns = np.unique(x)
    firsts = np.searchsorted(x, columns)
    low = np.array([line_px[max(0, a - 2) : a + 8, 1].min() for a in firsts])
    high = np.array([line_px[max(0, a - 2) : a + 8, 1].max() for a in firsts])
    at = np.clip(np.searchsorted(columns, np.round(path[:, 0])), 0, len(columns) - 1)
    off = np.maximum(low[at] - path[:, 1], path[:, 1] - high[at])
    return float(np.mean(off > TRACE_PX)) if len(off) else 1.0


def mask_map(cohort: Cohort, scan: Scan, page: Page) -> Map:
    """The drawn mask."""
    return (cohort.load_mask(scan) > 0).astype(np.float32)


def damaged_map(seed: int, cohort: Cohort, scan: Scan, page: Page) -> Map:
    """The drawn mask, spoilt."""
    return damaged(mask_map(cohort, scan, page), page.ink, seed, scan.scan_id)


def weights_map(weights: Path, cohort: Cohort, scan: Scan, page: Page) -> Map:
    """What a network sees."""
    from lightning_app.digitize.reader import load_reader

    return load_reader(weights).predict(page.ink)


def summary(pages: list[PageReading]) -> Iterator[str]:
    """Lines for people: pages refused, leads short, numbers of those read."""
    for page in pages:
        if page.refusal:
            yield f"{page.scan_id} {page.layout}: {page.refusal}"
        for lead in page.leads:
            if lead.pcc < GOOD_PCC:
                yield (
                    f"{page.scan_id} {page.layout} {lead.lead}: PCC {lead.pcc:.3f}, "
                    f"coverage {lead.coverage:.2f}, confidence {lead.confidence:.2f} "
                    f"of page {page.confidence:.2f}, {lead.cause}"
                )
    read = [page for page in pages if not page.refusal]
    causes = Counter(lead.cause.split()[0] for page in read for lead in page.leads if lead.pcc < GOOD_PCC)
    lost = Counter[str]()
    for page in read:
        for lead in page.leads:
            lost[lead.cause.split()[0]] += 1 - lead.pcc
    n_leads = sum(len(page.leads) for page in read)
    means = np.array([page.pcc for page in read])
    yield f"{len(read)} of {len(pages)} pages read, {n_leads} leads"
    if not read:
        return
    low, mid = np.quantile(means, [0.05, 0.5])
    yield f"PCC over pages: mean {means.mean():.4f}, median {mid:.4f}, 5 % {low:.4f}"
    leads = np.array([lead.pcc for page in read for lead in page.leads])
    covered = np.mean([lead.coverage >= 0.95 for page in read for lead in page.leads])
    yield (
        f"leads: mean {leads.mean():.4f}, below .96 {np.mean(leads < 0.96):.1%}, "
        f"below .9 {np.mean(leads < 0.9):.1%}, coverage of .95 {covered:.1%}"
    )
    yield f"leads below .96 by cause: {dict(causes.most_common())}"
    yield f"what the mean lacks of 1, by cause: { {c: round(v / n_leads, 4) for c, v in lost.most_common()} }"
    seconds = [page.seconds for page in pages]
    yield f"CPU s a page: mean {np.mean(seconds):.2f}, most {max(seconds):.2f}"


def main() -> None:
    """Print the breakdown of every cohort named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohorts", nargs="+", type=Path)
    parser.add_argument("--map", choices=("mask", "damaged", "weights"), default="mask")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--limit", type=int, help="only so many scans of each cohort")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    maps = {
        "mask": mask_map,
        "damaged": partial(damaged_map, options.seed),
        "weights": partial(weights_map, options.weights),
    }
    for folder in options.cohorts:
        print(f"== {folder.name}, {options.map}")
        pages = list(read_pages(Cohort.open(folder), maps[options.map], options.jobs, options.limit))
        for line in summary(pages):
            print(line)


if __name__ == "__main__":
    main()
