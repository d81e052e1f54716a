"""What digitizing a page gives: a reading with everything needed to trust it, or a refusal that says why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.layout import Layout

RefusalCode = Literal[
    "TOO_SMALL", "NO_WAVEFORM", "SCALE_UNKNOWN", "SCALE_CONFLICT", "LAYOUT_UNKNOWN", "LOW_CONFIDENCE"
]
RATE_HZ = 500.0


class DigitizeRefusal(Exception):
    """Raised inside the steps; `pipeline.digitize_page` turns it into a `Refusal`."""

    def __init__(self, code: RefusalCode, reason: str, remedy: str, **details: Any) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason, self.remedy, self.details = code, reason, remedy, details
        self.rows: NumberedRows | None = None


@dataclass(frozen=True)
class NumberedRows:
    """The rows of a page whose layout is not known, from top to bottom as the page lies.

    Attributes:
        rows: Each from its first to its last second; their leads are called `row 1` and so on.
        scale: Of the page.
    """

    rows: tuple[SegmentReading, ...]
    scale: Scale


@dataclass(frozen=True)
class Refusal:
    """A page that is not read.

    Attributes:
        code: Stable name of the reason: a `RefusalCode`, or what was wrong with the file.
        reason: What was found, for people.
        remedy: What may help.
        details: What was measured until then.
        rows: What the page shows, numbered, if nothing but its layout is unknown.
    """

    code: str
    reason: str
    remedy: str
    details: dict[str, Any] = field(default_factory=dict)
    rows: NumberedRows | None = None


@dataclass(frozen=True)
class Scale:
    """Pixels per second and per millivolt on the straight page, and how they came about.

    Attributes:
        px_per_s: Pixels per second.
        px_per_mv: Pixels per millivolt.
        time_source: `grid`, `pulse`, `print` or `declared`.
        voltage_source: `grid`, `pulse`, `print` or `declared`.
        mm_per_s: Paper speed, None without a grid.
        mm_per_mv: Gain, None without a grid.
        px_per_mm: (x, y) pixels per millimetre, None without a grid.
        assumptions: What could not be measured and was taken for granted.
        gain_source: Who says so many mm/mV: `pulse`, `print`, `declared` or `assumed`; None without a grid.
    """

    px_per_s: float
    px_per_mv: float
    time_source: str
    voltage_source: str
    mm_per_s: float | None = None
    mm_per_mv: float | None = None
    px_per_mm: tuple[float, float] | None = None
    assumptions: tuple[str, ...] = ()
    gain_source: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What speaks for one stretch of one lead.

    Attributes:
        ink: Share of its columns with ink, each times its probability, which is enough at .5.
        own: Share of its power in columns that it shares with no other row.
        slim: 1 for a band as thick as the pen, 0 for one swollen by something that touches it.
        laws: How well the page keeps the laws of its leads; .5 where it has none.
        ends: Share of the page's rows that agree on where the record begins.
        size_px: Standard deviation of the trace, px: a flat lead drowns in the pixels' rounding.
        start_ms: Standard deviation of where the record may begin.
    """

    ink: float
    own: float
    slim: float
    laws: float
    ends: float
    size_px: float
    start_ms: float

    @property
    def features(self) -> tuple[float, ...]:
        """1 and the seven numbers as the logistic function takes them; each more is better."""
        size = float(np.log(np.clip(self.size_px, 0.5, 8.0)))
        start = -float(np.log(np.clip(self.start_ms, 1.0, 20.0)))
        return (1.0, self.ink, self.own, self.slim, self.laws, self.ends, size, start)


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
        evidence: What `confidence` follows from.
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
    evidence: Evidence | None = None


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
        confidence: Mean of its stretches'.
        mask: (H, W) bool, waveform of the page as read.
        start_ms: Standard deviation of where the record may begin, ms.
        was_flattened: Whether perspective was taken out first.
        space_s: Blank paper between two leads of a row, in seconds of paper.
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
    start_ms: float
    was_flattened: bool = False
    space_s: float = 0.0

    @property
    def shown(self) -> Layout:
        """What the page shows: its layout as read."""
        rows: dict[int, list[SegmentReading]] = {}
        for segment in self.segments:
            rows.setdefault(segment.row, []).append(segment)
        return Layout(
            self.layout,
            self.mv.shape[1] / self.rate_hz,
            tuple(
                tuple(part.lead for part in sorted(rows[row], key=lambda part: part.start_s))
                for row in sorted(rows)
            ),
        )
