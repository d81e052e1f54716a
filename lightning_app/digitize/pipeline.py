"""One page from probability to millivolts: the steps of this package in their order.

    probability -> rows -> grid -> straight page -> paths -> pulse and scale -> layout -> traces -> record

Every step is a function of its own with its own test; this file only hands results on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.layout import Layout, load_layout
from datamodules.page import Page
from lightning_app.digitize import confidence
from lightning_app.digitize.calibration import calibrate, px_per_mm
from lightning_app.digitize.followed import Followed, follow_again, follow_page
from lightning_app.digitize.heights import lines_of, probability_of
from lightning_app.digitize.layouts import Hypothesis
from lightning_app.digitize.lead_names import Place, contradiction, find_words, strip_names
from lightning_app.digitize.leads import Calibrated, numbered_rows, read_lead
from lightning_app.digitize.mirror import refuse_if_mirrored
from lightning_app.digitize.record import assemble
from lightning_app.digitize.results import RATE_HZ, Digitized, DigitizeRefusal, Refusal
from lightning_app.digitize.rows import clean_mask, lies_on_its_side, mended, without_frame
from lightning_app.digitize.scale import Declared
from lightning_app.digitize.strips import with_strips, with_strips_confirmed
from lightning_app.digitize.timing import break_times
from lightning_app.digitize.working_scale import WorkingPage, every_ink, resampled

MIN_SIDE_PX = 128
MAX_PX = 2_500_000  # larger pages are read shrunk: 6 px/mm on A4, and within 3 s of processor time

Array = NDArray[np.float32]


def digitize_page(
    page: Page,
    maps: Array,
    *,
    layout: str | Layout | None = None,
    px_per_s: float | None = None,
    px_per_mv: float | None = None,
    mm_per_s: float | None = None,
    mm_per_mv: float | None = None,
    predict: Callable[[NDArray[np.uint8]], Array] | None = None,
) -> Digitized | Refusal:
    """Read a page, or say why not.

    Args:
        page: The page as read.
        maps: (H, W) float32 in [0, 1], waveform probability of each pixel of `page`; or (5, H, W), followed
            by what `models.line_unet` says of lines.
        layout: Name or layout; None: recognised among the known ones.
        px_per_s: Declared pixels per second; checked against the grid where there is one.
        px_per_mv: Declared pixels per millivolt.
        mm_per_s: Declared paper speed.
        mm_per_mv: Declared gain.
        predict: What made the maps out of ink. Asked again for a page that lies on its side, since
            networks learn from upright ones.

    Returns:
        The reading, or a refusal.

    Raises:
        ValueError: If page and maps differ in shape.
        ConfigError: If the layout named does not exist.
    """
    if maps.shape[-2:] != page.ink.shape:
        raise ValueError(f"got maps of shape {maps.shape}, wanted the page's {page.ink.shape}")
    wanted = load_layout(layout) if isinstance(layout, str) else layout
    try:
        declared = Declared(px_per_s, px_per_mv, mm_per_s, mm_per_mv)
        if page.ink.size > MAX_PX:
            return _digitize_shrunk(page, probability_of(maps), wanted, declared, predict)
        return _digitize(page, maps, wanted, declared, predict)
    except DigitizeRefusal as refusal:
        return Refusal(refusal.code, refusal.reason, refusal.remedy, refusal.details, refusal.rows)


def _digitize_shrunk(
    page: Page,
    probability: Array,
    wanted: Layout | None,
    declared: Declared,
    predict: Callable[[NDArray[np.uint8]], Array] | None,
) -> Digitized | Refusal:
    """Read a page of more than `MAX_PX` pixels at a smaller size and give everything in its own pixels.

    Columns that are merged have no halves: such a page is read from its mask alone.
    """
    factor = (MAX_PX / probability.size) ** 0.5
    working = WorkingPage(resampled(page, factor), factor, (probability.shape[0], probability.shape[1]))

    def to_size_of(ink: NDArray[np.uint8], large: Array) -> Array:
        return np.asarray(cv2.resize(large, ink.shape[::-1], interpolation=cv2.INTER_AREA), np.float32)

    def predict_shrunk(ink: NDArray[np.uint8]) -> Array:
        assert predict is not None
        return to_size_of(ink, probability_of(predict(np.ascontiguousarray(np.rot90(page.ink)))))

    return working.back(
        _digitize(
            working.page,
            to_size_of(working.page.ink, probability),
            wanted,
            Declared(**working.declared(declared)),
            predict_shrunk if predict else None,
        )
    )


def _digitize(
    page: Page,
    maps: Array,
    wanted: Layout | None,
    declared: Declared,
    predict: Callable[[NDArray[np.uint8]], Array] | None,
) -> Digitized:
    if min(page.ink.shape) < MIN_SIDE_PX:
        raise DigitizeRefusal(
            "TOO_SMALL",
            f"{page.ink.shape[1]} x {page.ink.shape[0]} px",
            f"scan with at least {MIN_SIDE_PX} px",
        )
    turns = 1 if lies_on_its_side(clean_mask(mended(without_frame(probability_of(maps))))) else 0
    grid_ink, dark = grid_and_dark(page)
    grid_ink, dark = np.rot90(grid_ink, turns), np.rot90(dark, turns)
    if turns:
        maps = _turned(maps) if predict is None else predict(np.ascontiguousarray(np.rot90(page.ink)))
    followed = follow_page(grid_ink, dark, mended(without_frame(probability_of(maps))), lines_of(maps))
    calibrated = calibrate(page, followed, declared, wanted, turns)
    scale, start_px = calibrated.scale, calibrated.start_px
    followed = follow_again(followed, _break_columns(followed, calibrated.chosen, start_px, scale.px_per_s))
    if wanted is None:
        calibrated = _as_printed(followed, calibrated, turns)
    chosen = calibrated.chosen
    checks = dict(chosen.checks)
    laws = confidence.laws_kept(checks)
    stop_px, rim_px = start_px + chosen.layout.paper_s * scale.px_per_s, followed.radius_px + 1
    segments = [read_lead(followed, calibrated, segment, laws, turns) for segment in chosen.layout.segments]
    confidence.refuse_if_doubtful(segments, checks, calibrated.ends)
    if scale.gain_source == "assumed":
        confidence.refuse_if_gain_is_unlikely(segments)
    if not confidence.beyond_doubt(checks):
        refuse_if_mirrored(segments)
    return Digitized(
        mv=assemble(segments, chosen.layout.duration_s),
        rate_hz=RATE_HZ,
        layout=chosen.layout.name,
        layout_source="recognised" if wanted is None else "declared",
        quarter_turns=(turns + 2 * chosen.upside_down) % 4,
        skew_deg=followed.skew_deg,
        scale=scale,
        segments=tuple(segments),
        checks=checks,
        confidence=float(np.mean([segment.confidence for segment in segments])),
        mask=np.rot90(followed.waveform(start_px - rim_px, stop_px + rim_px), -turns),
        start_ms=calibrated.start_ms,
        space_s=chosen.layout.space_s,
    )


def _turned(maps: Array) -> Array:
    """Turn a mask upright; on a page that lies on its side weights are those of no column."""
    return np.ascontiguousarray(np.rot90(probability_of(maps)))


def grid_and_dark(page: Page) -> tuple[NDArray[np.uint8], Array]:
    """Split a page into what shows its grid best and what shows black ink best.

    Args:
        page: The page.

    Returns:
        (H, W) uint8, every ink dark, coloured grids included; (H, W) float32 in [0, 1], black ink only. On a
        page without colour both are its ink.
    """
    if page.rgb is None:
        return page.ink, np.asarray(page.ink / np.float32(255), dtype=np.float32)
    dark: Array = (255 - page.rgb.max(axis=2)).astype(np.float32)
    dark /= 255
    return every_ink(page), dark


def _break_columns(page: Followed, chosen: Hypothesis, start_px: float, px_per_s: float) -> list[list[int]]:
    """Per row the first columns of those leads that are not its first."""
    return [
        [
            column
            for time_s in times_s
            if 0 < (column := int(np.ceil(page.row_to_x(row, start_px + time_s * px_per_s)))) < page.width
        ]
        for row, times_s in enumerate(break_times(chosen))
    ]


def _as_printed(page: Followed, calibrated: Calibrated, turns: int) -> Calibrated:
    """Hold the layout against the lead names on the page, which may say of which leads its strips are.

    Raises:
        DigitizeRefusal: `LAYOUT_UNKNOWN`, with rows that are numbered instead of named.
    """
    scale, start_px, found = calibrated.scale, calibrated.start_px, calibrated.chosen
    paper, rows_px = _without_traces(page), page.rows_v_px
    if found.upside_down:
        paper, rows_px = np.rot90(paper, 2), len(paper) - 1 - rows_px[::-1]
        start_px = paper.shape[1] - 1 - start_px - found.layout.paper_s * scale.px_per_s
    words = find_words(paper, px_per_mm(scale), rows_px)
    place = Place(found.layout, rows_px, start_px, scale.px_per_s)
    printed = strip_names(words, place)
    try:
        if reason := contradiction(words, replace(place, layout=with_strips(found.layout, printed))):
            raise DigitizeRefusal(
                "LAYOUT_UNKNOWN",
                f"its traces would be {found.layout.name}, but {reason}",
                "give the page's layout with --layout",
            )
        chosen = with_strips_confirmed(found, printed)
    except DigitizeRefusal as refusal:
        refusal.rows = numbered_rows(page, scale, calibrated.start_px, turns)
        raise
    return replace(calibrated, chosen=chosen)


def _without_traces(page: Followed) -> NDArray[np.uint8]:
    """(H, W) uint8, 255 = paper: what is left of the straight page without its traces and grid."""
    traces = cv2.dilate(page.waveform(-np.inf, np.inf).astype(np.uint8), np.ones((3, 3), np.uint8))
    share = np.asarray(page.straightening.image(traces.astype(np.float32)), np.float32)
    return np.asarray(255 * (1 - np.where(share > 0.5, 0, page.dark_without_grid)), np.uint8)
