"""What digitizing a page gives: a reading with everything needed to trust it, or a refusal that says why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RefusalCode = Literal[
    "TOO_SMALL", "NO_WAVEFORM", "SCALE_UNKNOWN", "SCALE_CONFLICT", "LAYOUT_UNKNOWN", "LOW_CONFIDENCE"
]
RATE_HZ = 500.0


class DigitizeRefusal(Exception):
    """Raised inside the steps; `pipeline.digitize_page` turns it into a `Refusal`."""

    def __init__(self, code: RefusalCode, reason: str, remedy: str, **details: Any) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason, self.remedy, self.details = code, reason, remedy, details


@dataclass(frozen=True)
class Refusal:
    """A page that is not read.

    Attributes:
        code: Stable name of the reason: a `RefusalCode`, or what was wrong with the file.
        reason: What was found, for people.
        remedy: What may help.
        details: What was measured until then.
    """

    code: str
    reason: str
    remedy: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """Pixels per second and per millivolt on the straight page, and how they came about.

    Attributes:
        px_per_s: Pixels per second.
        px_per_mv: Pixels per millivolt.
        time_source: `grid`, `pulse` or `declared`.
        voltage_source: `grid`, `pulse` or `declared`.
        mm_per_s: Paper speed, None without a grid.
        mm_per_mv: Gain, None without a grid.
        px_per_mm: (x, y) pixels per millimetre, None without a grid.
        assumptions: What could not be measured and was taken for granted.
    """

    px_per_s: float
    px_per_mv: float
    time_source: str
    voltage_source: str
    mm_per_s: float | None = None
    mm_per_mv: float | None = None
    px_per_mm: tuple[float, float] | None = None
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmentReading:
    """One stretch of one lead as read.

    Attributes:
        lead: Its name.
        row: Row of the page, from the top of the upright page.
        start_s: First second of the record it shows.
        stop_s: End of the stretch.
        mv: (n,) float32 mV at 500 Hz; sample i lies at start_s + i / 500. NaN in gaps.
        coverage: Share of samples that are not NaN.
        confidence: 0 to 1, see `confidence`.
        gaps_s: Gaps longer than 20 ms, (start, stop) in seconds of the record.
        path_px: (m, 2) x and y on the page as read, for the overlay; NaN rows part pieces.
    """

    lead: str
    row: int
    start_s: float
    stop_s: float
    mv: NDArray[np.float32]
    coverage: float
    confidence: float
    gaps_s: tuple[tuple[float, float], ...]
    path_px: NDArray[np.float64]


@dataclass(frozen=True)
class Digitized:
    """A page that was read.

    Attributes:
        mv: (12, n) float32 mV at `rate_hz`, leads in the usual order, NaN where nothing was drawn.
        rate_hz: 500.
        layout: Name of the layout.
        layout_source: `recognised` or `declared`.
        quarter_turns: Quarter turns, counter-clockwise, that make the page upright: 0 to 3.
        skew_deg: Turn that was left and taken out, positive = clockwise.
        scale: Pixels to units.
        segments: Every stretch read, in the layout's order.
        checks: Page checks that need no truth, name to value in [.., 1], 1 = perfect.
        confidence: 0 to 1 for the page.
        mask: (H, W) bool, waveform of the page as read.
    """

    mv: NDArray[np.float32]
    rate_hz: float
    layout: str
    layout_source: str
    quarter_turns: int
    skew_deg: float
    scale: Scale
    segments: tuple[SegmentReading, ...]
    checks: dict[str, float]
    confidence: float
    mask: NDArray[np.bool_]
