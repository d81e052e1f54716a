"""How widely the pages of kinds `varied` and `faxed` vary, as named and documented numbers.

A reader of unknown pages is trained on them: every property is drawn anew for every page, over ranges wider
than any one device or clinic shows, so that the network can lean on nothing but the look of a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from datamodules.rendering.difficulty import GridKind, Range

# `wide` is the kind `binary` at its widest; `chance` to `diffused` are further ways to one bit a pixel;
# `reduced` and `enlarged` are 1-bit pages brought to another size, which makes them grey.
Finish = Literal[
    "wide", "chance", "global", "otsu", "adaptive", "ordered", "diffused", "grey", "colour", "reduced",
    "enlarged",
]  # fmt: skip


@dataclass(frozen=True)
class Variety:
    """Ranges a page is drawn from; draws are uniform unless said otherwise, shares are of all pages.

    Attributes:
        name: Part of every recipe; changes whenever the same seed draws other pixels.
        finishes: How pages end up, and their weights: 1 bit in seven ways and then resampled in two, grey,
            colour.
        shipped_layout_share: Share of pages with a layout that ships; the others get a random one.
        random_rows: Rows of a random layout, inclusive.
        random_columns: Leads per row of a random layout, inclusive.
        early_share: Share of pages on which every lead stops before its time.
        early_s: How long before.
        space_share: Share of pages with paper between the leads of a row.
        space_s: How much, in seconds of paper.
        px_per_mm: Scale along time.
        aspect: Millimetres are this much taller than wide, on half of the pages.
        mm_per_s: Paper speeds and their weights.
        mm_per_mv: Gains and their weights.
        max_side_px: Longest width and height; pages that need more show fewer seconds.
        row_mm: Distance of rows, on pages of up to 4, up to 7 and more rows.
        header_px: Space above the rows of a whole page.
        foot_px: Space below them.
        strip_share: Share of pages cut closely around the traces.
        strokes_px: Stroke widths and their weights; never wider than a millimetre.
        hair_grids: Kinds of grid under strokes up to 1.2 px on half of such pages: the hardest to read.
        grids: Kinds of grid and their weights.
        thin_line_px: Width of the 1 mm lines.
        thick_line_px: Width of the 5 mm lines, at least that of the thin ones.
        grid_over_trace: Darkness of the grid over that of the trace, on 1-bit pages.
        grid_contrast: Least step of brightness from trace to grid, on grey and colour pages.
        trace_level: Brightness of the darkest part of a trace.
        stroke_wander: Ink stroke over nominal width, along the trace.
        steep_fade: Share of width and strength that is lost on a vertical stroke.
        gaps_per_s: Breaks per second of trace.
        gap_px: Diameter of a break.
        skew_deg: Standard deviation of the turn on most pages.
        large_skew_share: Share of pages turned evenly up to `large_skew_deg`.
        large_skew_deg: Largest turn to either side.
        perspective_share: Share of pages with perspective.
        perspective: Largest shift of a page's corner over its side.
        curl_share: Share of pages that bend.
        curl_px: Height of the bend's waves.
        notes: Short notes between the traces.
        text_blocks: Blocks of text above and below the rows.
        blur_share: Share of grey, colour and binarized pages out of focus.
        blur_px: Standard deviation of that blur.
        coarse_share: Share of pages scanned coarsely and enlarged.
        coarse_px_per_mm: Their scale before.
        fine_share: Share of 1-bit pages scanned at twice the scale and reduced.
        fine_factor: Scale of pages that were 1-bit and then reduced to grey, over their scale now.
        jpeg_share: Share of grey and colour pages stored as JPEG; half as many 1-bit pages were one before.
        jpeg_quality: Of those.
        contrast: Factor on the darkness of everything printed, on a third of grey and colour pages.
        noise: Standard deviation of the sensor's noise, levels.
        light: Largest loss of light over the page.
        damage_share: Share of pages with each of: fold, stain, shadow, fax lines, bleeding, halftone, holes.
        speckle: Share of pixels of 1-bit pages that flip to ink.
        salt: Share of ink pixels of 1-bit pages that flip to paper.
        readable: Least share of ink on the mask, and least excess over the share right beside it, in a
            square of a 1-bit page.
        readable_share: Share of the trace in such squares; below that nobody could tell the trace, and the
            page is binarized more gently, in the end without its damage.
    """

    name: str = "varied-2"
    finishes: tuple[tuple[Finish, float], ...] = (
        ("wide", 0.10),
        ("chance", 0.12),
        ("global", 0.10),
        ("otsu", 0.04),
        ("adaptive", 0.06),
        ("ordered", 0.04),
        ("diffused", 0.04),
        ("grey", 0.25),
        ("colour", 0.25),
    )
    shipped_layout_share: float = 0.7
    random_rows: tuple[int, int] = (1, 12)
    random_columns: tuple[int, int] = (1, 4)
    early_share: float = 0.25
    early_s: Range = (0.004, 0.2)
    space_share: float = 0.25
    space_s: Range = (0.02, 0.6)
    px_per_mm: Range = (3.0, 6.0)
    aspect: Range = (0.85, 1.2)
    mm_per_s: tuple[tuple[float, float], ...] = ((25.0, 0.85), (50.0, 0.15))
    mm_per_mv: tuple[tuple[float, float], ...] = ((10.0, 0.8), (5.0, 0.1), (20.0, 0.1))
    max_side_px: tuple[int, int] = (1500, 1200)
    row_mm: tuple[Range, Range, Range] = ((20.0, 36.0), (15.0, 26.0), (9.0, 17.0))
    header_px: Range = (30.0, 280.0)
    foot_px: Range = (15.0, 130.0)
    strip_share: float = 0.25
    strokes_px: tuple[tuple[float, float], ...] = (
        (0.8, 0.08),
        (1.0, 0.13),
        (1.2, 0.11),
        (1.5, 0.15),
        (2.0, 0.19),
        (2.5, 0.13),
        (3.0, 0.10),
        (4.0, 0.06),
        (5.0, 0.03),
        (6.0, 0.02),
    )
    hair_grids: tuple[GridKind, ...] = ("dotted_lines", "dots", "dashed")
    grids: tuple[tuple[GridKind, float], ...] = (
        ("solid", 0.34),
        ("dissolved", 0.1),
        ("thin_only", 0.1),
        ("thick_only", 0.1),
        ("dotted_lines", 0.11),
        ("dots", 0.09),
        ("dashed", 0.06),
        ("halftone", 0.04),
        ("none", 0.06),
    )
    thin_line_px: Range = (0.5, 1.6)
    thick_line_px: Range = (0.7, 3.0)
    grid_over_trace: Range = (0.2, 1.0)
    grid_contrast: float = 40.0
    trace_level: Range = (0.0, 110.0)
    stroke_wander: Range = (0.85, 1.3)
    steep_fade: Range = (0.0, 0.45)
    gaps_per_s: Range = (0.0, 1.5)
    gap_px: Range = (1.0, 4.0)
    skew_deg: float = 0.6
    large_skew_share: float = 0.1
    large_skew_deg: float = 5.0
    perspective_share: float = 0.15
    perspective: float = 0.02
    curl_share: float = 0.2
    curl_px: Range = (1.0, 6.0)
    notes: tuple[int, int] = (0, 10)
    text_blocks: tuple[int, int] = (0, 7)
    blur_share: float = 0.4
    blur_px: Range = (0.4, 1.3)
    coarse_share: float = 0.12
    coarse_px_per_mm: Range = (1.8, 2.5)
    fine_share: float = 0.2
    fine_factor: Range = (1.2, 2.6)
    jpeg_share: float = 0.6
    jpeg_quality: tuple[int, int] = (25, 95)
    contrast: Range = (0.4, 1.0)
    noise: Range = (0.0, 9.0)
    light: Range = (0.0, 0.35)
    damage_share: float = 0.08
    speckle: Range = (0.0, 0.008)
    salt: Range = (0.0, 0.03)
    readable: Range = (0.55, 0.35)
    readable_share: float = 0.85


VARIED = Variety()

# What a reader learns last: three quarters are 1-bit pages, half of all as noisy as the paper's.
FAXED = replace(
    VARIED,
    name="faxed-2",
    finishes=(
        ("wide", 0.36),
        ("chance", 0.14),
        ("global", 0.07),
        ("otsu", 0.03),
        ("adaptive", 0.05),
        ("ordered", 0.02),
        ("diffused", 0.02),
        ("reduced", 0.07),
        ("enlarged", 0.05),
        ("grey", 0.09),
        ("colour", 0.10),
    ),
    shipped_layout_share=0.8,
)

VARIETIES: Mapping[str, Variety] = {"varied": VARIED, "faxed": FAXED}
