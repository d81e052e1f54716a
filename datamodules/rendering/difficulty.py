"""How hard a rendered page is, as named and documented numbers.

A Dice coefficient means something only together with the pages it was measured on. Every number that
decides how noisy a page is stands in one frozen `Difficulty` whose name is written into the cohort, and
`RENDER_VERSION` changes whenever the same numbers would draw other pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Part of every recipe: pages of two versions are two cohorts, and results on them do not compare.
RENDER_VERSION = 1

GridKind = Literal[
    "dissolved", "solid", "thin_only", "thick_only", "dotted_lines", "dots", "dashed", "halftone", "none"
]
Range = tuple[float, float]


@dataclass(frozen=True)
class Difficulty:
    """Ranges a page is drawn from; all draws are uniform unless said otherwise.

    Attributes:
        name: Written into `cohort.yaml` and shown in reports.
        height_px: Rows of a page.
        width_px: Columns of a page.
        nominal_px_per_mm: Scale of most pages.
        nominal_share: Share of pages at that scale, the others lie in `px_per_mm`.
        px_per_mm: Pixels per paper millimetre along time.
        aspect: Millimetres are this much taller than wide; 1 on pages of nominal scale.
        mm_per_s: Paper speed.
        mm_per_mv: Gain.
        stretch: Paper stretch per axis, a factor.
        skew_deg: Largest turn of the page to either side.
        strokes_px: Nominal stroke widths, drawn evenly; the mask has this width.
        stroke_wander: Ink stroke over nominal width, along the trace.
        trace_solidity: Chance that a pixel well inside the trace is ink.
        steep_fade: Share of the stroke's width that is lost on a vertical stroke.
        gaps_per_s: Breaks per second of trace.
        gap_px: Diameter of a break.
        blots_per_s: Places per second of trace where ink ran.
        ink_run: Largest share of the page where ink ran by a pixel.
        grids: Kinds of grid and their weights.
        grid_density: Share of black pixels that a line grid drifts between over the page.
        thick_line_px: Width of the 5 mm lines.
        thin_line_px: Width of the 1 mm lines.
        thick_breaks: Breaks per 5 mm line.
        speckle: Share of pixels that flip to ink anywhere.
        salt: Share of ink pixels that flip to paper.
        margin_px: Scanner's margin beside the paper, where there is one.
        shadow_share: Share of margins with a black shadow along a part of them.
        streak_share: Share of pages with one to three lines along the scanner's travel.
        header_blocks: Number of text blocks above the traces, inclusive.
        between_notes: Number of notes between the traces, inclusive.
    """

    name: str
    height_px: int = 886  # Li et al. 2020, section 2.1: 886 x 1120
    width_px: int = 1120
    nominal_px_per_mm: float = 4.0  # 100 px/s and 40 px/mV, the preset ge-page of PROTOCOL R3
    nominal_share: float = 0.5
    # Ten seconds end inside 1120 px up to 4.27 px/mm; the lower end is 80 px/s.
    px_per_mm: Range = (3.2, 4.27)
    aspect: Range = (0.94, 1.17)
    mm_per_s: float = 25.0
    mm_per_mv: float = 10.0
    stretch: Range = (0.97, 1.03)
    skew_deg: float = 0.7
    strokes_px: tuple[float, ...] = (1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 4.0)
    stroke_wander: Range = (0.8, 1.4)
    trace_solidity: Range = (0.9, 1.0)
    steep_fade: Range = (0.05, 0.55)
    gaps_per_s: Range = (0.2, 2.0)
    gap_px: Range = (1.0, 4.5)
    blots_per_s: Range = (0.0, 0.5)
    ink_run: float = 0.25
    grids: tuple[tuple[GridKind, float], ...] = (
        ("dissolved", 0.44),
        ("solid", 0.14),
        ("thin_only", 0.06),
        ("thick_only", 0.08),
        ("dotted_lines", 0.06),
        ("dots", 0.06),
        ("dashed", 0.04),
        ("halftone", 0.08),
        ("none", 0.04),
    )
    grid_density: Range = (0.05, 0.35)
    thick_line_px: Range = (1.0, 2.6)
    thin_line_px: Range = (0.7, 1.3)
    thick_breaks: Range = (0.3, 3.0)
    speckle: Range = (0.0005, 0.012)
    salt: Range = (0.0, 0.04)
    margin_px: Range = (4.0, 46.0)
    shadow_share: float = 0.2
    streak_share: float = 0.15
    header_blocks: tuple[int, int] = (1, 3)
    between_notes: tuple[int, int] = (0, 4)


# The noise level of Li et al. 2020, Fig. 2D, and the geometry of a GE page scanned at 4 px/mm.
NOMINAL = Difficulty("paper-2d")

# Both scales as the paper states them, 50 mm/s and 10 mm/mV, 10 s in 1000 px (PROTOCOL R3).
LITERAL_50 = Difficulty(
    "literal-50",
    nominal_px_per_mm=2.0,
    px_per_mm=(1.7, 2.13),
    nominal_share=1.0,
    mm_per_s=50.0,
    thin_line_px=(0.4, 0.7),
)

# For training a reader of unknown pages: 80 to 130 px/s, where ten seconds do not fit and eight are shown.
WIDE = Difficulty(
    "wide",
    nominal_share=0.2,
    px_per_mm=(3.2, 5.2),
    aspect=(0.8, 1.2),
    stretch=(0.96, 1.04),
    skew_deg=1.0,
    strokes_px=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
    header_blocks=(0, 3),
    between_notes=(0, 8),
)

DIFFICULTIES = {difficulty.name: difficulty for difficulty in (NOMINAL, LITERAL_50, WIDE)}
