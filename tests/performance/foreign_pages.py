"""Pages as the software of carts and people's own scripts draw them, by nothing that Inkbeat draws with.

Everything is composed here in millimetres from the upper left corner of the paper, as strokes and texts;
`foreign_paint` draws it. What a page looks like follows from its number and a seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from datamodules.layout import LEADS, Layout, Segment
from datamodules.signals import RATE_HZ

Colour = tuple[int, int, int]
Points = NDArray[np.float64]  # (n, 2) x and y, mm
Route = Literal["matplotlib", "pillow"]
GridLines = Literal["1+5 mm", "5 mm", "1 mm", "dots", "none"]
Output = Literal["png", "jpeg", "grey", "1-bit"]
Side = Literal["left", "right", "none"]
NamePlace = Literal["above", "beside", "under"]
T = TypeVar("T")

PAPERS = {"A4": (297.0, 210.0), "letter": (279.4, 215.9)}
GRIDS: dict[str, tuple[Colour, Colour]] = {  # thin and thick lines
    "pink": ((255, 214, 220), (246, 160, 176)),
    "red": ((250, 180, 175), (222, 84, 80)),
    "orange": ((255, 222, 180), (243, 160, 78)),
    "grey": ((222, 222, 222), (160, 160, 160)),
    "blue": ((208, 222, 246), (130, 160, 220)),
    "brown": ((228, 210, 192), (178, 138, 104)),
    "green": ((208, 236, 208), (122, 190, 126)),
}
INKS: dict[str, Colour] = {"black": (0, 0, 0), "blue": (16, 24, 140), "dark red": (120, 10, 16)}
PULSE_S, PULSE_FOOT_MM = 0.2, 1.5
THIRDS = tuple(tuple(LEADS[row + 3 * column] for column in range(4)) for row in range(3))
SIXTHS = tuple((LEADS[row], LEADS[row + 6]) for row in range(6))
TWELVE = tuple((lead,) for lead in LEADS)
LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "3x4": THIRDS,
    "3x4+1": (*THIRDS, ("II",)),
    "3x4+3": (*THIRDS, ("II",), ("V1",), ("V5",)),
    "6x2": SIXTHS,
    "12x1": TWELVE,
    "3x4+V5": (*THIRDS, ("V5",)),
    "3x4+V2": (*THIRDS, ("V2",)),
}
LAYOUT_WEIGHTS = (0.16, 0.34, 0.12, 0.15, 0.13, 0.05, 0.05)


@dataclass(frozen=True)
class Choices:
    """What one page looks like.

    Attributes:
        number: Of the page.
        route: What draws it.
        paper: `A4` or `letter`, landscape.
        dpi: Pixels per inch.
        layout: Rows of leads, by a key of `LAYOUTS`.
        mm_per_s: Paper speed; at 50 a page shows 5 s.
        mm_per_mv: Gain.
        pulse: Where a calibration pulse stands in every row.
        names: Where lead names stand to their traces.
        grid: Colour of the grid.
        grid_lines: Which of its lines are drawn.
        is_grid_aligned: Whether a thick line begins the record.
        ink: Of traces and text.
        pen_mm: Width of a trace.
        gap_s: What is left out at the end of every lead.
        column_gap_mm: Paper between the columns.
        row_pitch_mm: Between rows, where the page has room.
        has_separators: Whether ticks part the leads of a row.
        has_header: Whether a title is printed.
        has_table: Whether the patient's data are.
        has_footer: Whether speed and gain are.
        output: Kind of file.
        quality: Of a JPEG.
        threshold: Below which grey is black in 1 bit.
        turn_deg: How far the page lies turned.
        lean: How far its corners are off, as a share of its width.
        shade: Share of light that one side lacks.
        blur_px: Sigma of a blur.
    """

    number: int
    route: Route
    paper: str
    dpi: int
    layout: str
    mm_per_s: float
    mm_per_mv: float
    pulse: Side
    names: NamePlace
    grid: str
    grid_lines: GridLines
    is_grid_aligned: bool
    ink: str
    pen_mm: float
    gap_s: float
    column_gap_mm: float
    row_pitch_mm: float
    has_separators: bool
    has_header: bool
    has_table: bool
    has_footer: bool
    output: Output
    quality: int
    threshold: int
    turn_deg: float
    lean: float
    shade: float
    blur_px: float

    @property
    def px_per_mm(self) -> float:
        """Resolution."""
        return self.dpi / 25.4

    @property
    def shown(self) -> Layout:
        """Which lead is drawn when."""
        return Layout(self.layout, 250.0 / self.mm_per_s, LAYOUTS[self.layout])

    def __str__(self) -> str:
        grid = "no grid" if self.grid_lines == "none" else f"{self.grid} {self.grid_lines}"
        harm = [
            f"{value:.2g} {what}"
            for what, value in (("deg", self.turn_deg), ("lean", self.lean), ("shade", self.shade))
            if value
        ]
        output = f"jpeg {self.quality}" if self.output == "jpeg" else self.output
        return ", ".join(
            [
                f"{self.route} {self.dpi} dpi {output} {self.layout} {self.mm_per_s:g}/{self.mm_per_mv:g}",
                grid,
                f"{self.ink} {self.pen_mm:.2f} mm",
                f"pulse {self.pulse}",
                f"names {self.names}",
                *harm,
            ]
        )


@dataclass(frozen=True)
class Strokes:
    """Open lines of one colour and width."""

    paths: Sequence[Points]
    colour: Colour
    width_mm: float


@dataclass(frozen=True)
class Text:
    """One line of text; x and y are the left end (`l`) or the right end (`r`) of its base line."""

    x_mm: float
    y_mm: float
    text: str
    height_mm: float
    side: Literal["l", "r"] = "l"


@dataclass(frozen=True)
class Drawing:
    """A page ready to be drawn.

    Attributes:
        size_mm: Width and height of the paper.
        strokes: From the lowest layer up.
        texts: On top of them.
        ink: Colour of the texts.
        traces: Where every lead was drawn.
        true_mv: (12, n) mV at 500 Hz that the page shows, NaN where it shows nothing.
    """

    size_mm: tuple[float, float]
    strokes: tuple[Strokes, ...]
    texts: tuple[Text, ...]
    ink: Colour
    traces: tuple[tuple[Segment, Points], ...]
    true_mv: NDArray[np.float32]


def one_of(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """Draw one option."""
    return options[int(rng.choice(len(options), p=weights))]


def choose(number: int, seed: int) -> Choices:
    """Decide what a page looks like."""
    rng = np.random.default_rng([seed, number])
    layout = one_of(rng, tuple(LAYOUTS), LAYOUT_WEIGHTS)
    paper = one_of(rng, tuple(PAPERS))
    names: NamePlace = one_of(rng, ("above", "beside", "under"), (0.6, 0.25, 0.15))
    lines: GridLines = one_of(rng, ("1+5 mm", "5 mm", "1 mm", "dots", "none"), (0.6, 0.12, 0.08, 0.1, 0.1))
    output: Output = one_of(rng, ("png", "jpeg", "grey", "1-bit"), (0.35, 0.3, 0.15, 0.2))
    gains = ((5.0, 10.0), (0.3, 0.7)) if layout in ("6x2", "12x1") else ((5.0, 10.0, 20.0), (0.1, 0.8, 0.1))
    # Without a grid, or with one that 1 bit may lose, only a pulse tells the scale.
    needs_pulse = lines == "none" or output == "1-bit"
    pulse: Side = one_of(
        rng, ("left", "right", "none"), (0.7, 0.3, 0.0) if needs_pulse else (0.45, 0.2, 0.35)
    )
    has_room = paper == "A4" and len(LAYOUTS[layout][0]) > 1
    beside_mm = rng.uniform(6.0, 8.0) if names == "beside" and has_room else 0.0
    return Choices(
        number=number,
        route=one_of(rng, ("matplotlib", "pillow")),
        paper=paper,
        dpi=int(one_of(rng, (100, 120, 150, 200, 250, 300))),
        layout=layout,
        mm_per_s=50.0 if rng.random() < 0.04 else 25.0,
        mm_per_mv=one_of(rng, *gains),
        pulse=pulse,
        names=names,
        grid=one_of(rng, tuple(GRIDS)),
        grid_lines=lines,
        is_grid_aligned=bool(rng.random() < 0.5),
        ink=one_of(rng, tuple(INKS), (0.7, 0.2, 0.1)),
        pen_mm=float(rng.uniform(0.2, 0.45)),
        gap_s=float(rng.uniform(0.0, 0.2)) if rng.random() < 0.4 else 0.0,
        column_gap_mm=float(beside_mm),
        row_pitch_mm=float(rng.uniform(25.0, 45.0)),
        has_separators=bool(rng.random() < 0.35),
        has_header=bool(rng.random() < 0.7),
        has_table=bool(rng.random() < 0.5),
        has_footer=bool(rng.random() < 0.7),
        output=output,
        quality=int(rng.integers(60, 96)),
        threshold=int(rng.integers(110, 200)),
        turn_deg=float(rng.uniform(-2.0, 2.0)) if rng.random() < 0.35 else 0.0,
        lean=float(rng.uniform(0.003, 0.012)) if rng.random() < 0.1 else 0.0,
        shade=float(rng.uniform(0.1, 0.3)) if rng.random() < 0.15 else 0.0,
        blur_px=float(rng.uniform(0.3, 0.8)) if rng.random() < 0.3 else 0.0,
    )


def apart(choices: Choices, seed: int) -> Choices | None:
    """The same page with paper between its columns, 1.5 to 13 mm; None if it has a single one."""
    if len(choices.shown.rows[0]) == 1:
        return None
    gap_mm = float(np.random.default_rng([seed, choices.number, 7]).uniform(1.5, 13.0))
    return replace(choices, paper="A4", column_gap_mm=gap_mm, mm_per_s=25.0)


@dataclass(frozen=True)
class Frame:
    """Where rows and columns lie, mm; row and column count from 0."""

    left: float
    top: float
    pitch: float
    column: float
    gap: float

    def x(self, column: int) -> float:
        """Where a column begins."""
        return self.left + column * (self.column + self.gap)

    def y(self, row: int) -> float:
        """Where a row has 0 mV."""
        return self.top + (row + 0.5) * self.pitch


def frame_of(choices: Choices) -> Frame:
    """Centre the rows from left to right, and hang them below the header."""
    width, height = PAPERS[choices.paper]
    n_columns, n_rows = len(choices.shown.rows[0]), choices.shown.n_rows
    before = (9.0 if choices.names == "beside" else 0.0) + (
        _pulse_mm(choices) if choices.pulse == "left" else 0
    )
    after = _pulse_mm(choices) if choices.pulse == "right" else 0.0
    gap = min(choices.column_gap_mm, max(0.0, (width - 258.0 - before - after) / max(1, n_columns - 1)))
    total = before + 250.0 + gap * (n_columns - 1) + after
    top = 8.0 + (9.0 if choices.has_header else 0.0) + (16.0 if choices.has_table else 0.0)
    pitch = min(choices.row_pitch_mm, (height - top - 10.0) / n_rows)
    return Frame((width - total) / 2 + before, top, pitch, 250.0 / n_columns, gap)


def _pulse_mm(choices: Choices) -> float:
    return PULSE_S * choices.mm_per_s + 2 * PULSE_FOOT_MM


def compose(choices: Choices, mv: NDArray[np.float32]) -> Drawing:
    """Lay out a page.

    Args:
        choices: What it looks like.
        mv: (12, n) mV at 500 Hz in the order of `LEADS`, as long as the page shows.

    Returns:
        What to draw, and what it shows.
    """
    frame = frame_of(choices)
    shown_mv = mv - np.median(mv, axis=1, keepdims=True)
    traces = tuple(_traces(choices, frame, shown_mv))
    ink = INKS[choices.ink]
    pen = [path for _, path in traces] + list(_pulses(choices, frame))
    strokes = (
        *_grid(choices, frame),
        Strokes(pen, ink, choices.pen_mm),
        Strokes(list(_separators(choices, frame)), ink, choices.pen_mm),
    )
    texts = (*_names(choices, frame), *_print(choices))
    return Drawing(PAPERS[choices.paper], strokes, texts, ink, traces, _truth(choices, shown_mv))


def _samples(choices: Choices, segment: Segment) -> slice:
    """Those of a lead that a stretch shows."""
    return slice(round(segment.start_s * RATE_HZ), round((segment.stop_s - choices.gap_s) * RATE_HZ))


def _column(choices: Choices, segment: Segment) -> int:
    return choices.shown.rows[segment.row].index(segment.lead)


def _traces(choices: Choices, frame: Frame, mv: NDArray[np.float32]) -> Iterator[tuple[Segment, Points]]:
    for segment in choices.shown.segments:
        part = mv[LEADS.index(segment.lead), _samples(choices, segment)]
        seconds = np.arange(part.size) / RATE_HZ
        x = frame.x(_column(choices, segment)) + seconds * choices.mm_per_s
        yield segment, np.stack([x, frame.y(segment.row) - part * choices.mm_per_mv], axis=1)


def _truth(choices: Choices, mv: NDArray[np.float32]) -> NDArray[np.float32]:
    true = np.full((len(LEADS), round(choices.shown.duration_s * RATE_HZ)), np.nan, np.float32)
    for segment in choices.shown.segments:
        lead, where = LEADS.index(segment.lead), _samples(choices, segment)
        true[lead, where] = mv[lead, where]
    return true


def _pulses(choices: Choices, frame: Frame) -> Iterator[Points]:
    if choices.pulse == "none":
        return
    n_columns = len(choices.shown.rows[0])
    at = frame.left - _pulse_mm(choices) if choices.pulse == "left" else frame.x(n_columns) - frame.gap
    foot, top = PULSE_FOOT_MM, PULSE_FOOT_MM + PULSE_S * choices.mm_per_s
    x = at + np.array([0.0, foot, foot, top, top, top + foot])
    for row in range(choices.shown.n_rows):
        yield np.stack([x, frame.y(row) - choices.mm_per_mv * np.array([0, 0, 1, 1, 0, 0])], axis=1)


def _separators(choices: Choices, frame: Frame) -> Iterator[Points]:
    if not choices.has_separators:
        return
    half = min(4.0, frame.pitch / 4)
    for row, leads in enumerate(choices.shown.rows):
        for column in range(1, len(leads)):
            x, y = frame.x(column) - frame.gap / 2, frame.y(row)
            yield np.array([[x, y - half], [x, y + half]])


def _names(choices: Choices, frame: Frame) -> Iterator[Text]:
    off = min(8.0, 0.38 * frame.pitch)
    for segment in choices.shown.segments:
        column, y = _column(choices, segment), frame.y(segment.row)
        if choices.names != "beside" or (column and not frame.gap):
            down = off + 2.0 if choices.names == "under" else -off
            yield Text(frame.x(column) + 1.5, y + down, segment.lead, 3.2)
        else:
            pulse = _pulse_mm(choices) if choices.pulse == "left" and not column else 0.0
            yield Text(frame.x(column) - pulse - 1.0, y + 1.2, segment.lead, 2.8, "r")


def _print(choices: Choices) -> Iterator[Text]:
    """Header, table of the patient and footer."""
    y = 8.0
    if choices.has_header:
        yield Text(12.0, y + 2.0, f"12-lead ECG   No. {1000 + choices.number}", 4.5)
        y += 9.0
    if choices.has_table:
        cells = (
            ("Name: Doe, Jo", "HR 72 bpm", "P axis 45"),
            ("Age: 54   Sex: F", "PR 160 ms", "QRS axis 30"),
            ("ID: 00417", "QRS 92 ms", "T axis 38"),
        )
        for row, line in enumerate(cells):
            for column, text in enumerate(line):
                yield Text(12.0 + 62.0 * column, y + 4.5 * row, text, 2.8)
    if choices.has_footer:
        speed = f"{choices.mm_per_s:g} mm/s   {choices.mm_per_mv:g} mm/mV   0.05-150 Hz"
        yield Text(12.0, PAPERS[choices.paper][1] - 5.0, speed, 2.8)


def _grid(choices: Choices, frame: Frame) -> Iterator[Strokes]:
    if choices.grid_lines == "none":
        return
    width, height = PAPERS[choices.paper]
    origin = (frame.left % 5.0, frame.y(0) % 5.0) if choices.is_grid_aligned else (0.0, 0.0)
    box = (4.0, frame.top - 2.0, width - 4.0, min(height - 3.0, frame.y(choices.shown.n_rows) + 2.0))
    thin, thick = GRIDS[choices.grid]
    if choices.grid_lines == "dots":
        yield Strokes(list(_dots(box, origin)), thick, 0.2)
    if choices.grid_lines in ("1+5 mm", "1 mm"):
        yield Strokes(list(_lines(box, origin, 1.0)), thin if choices.grid_lines != "1 mm" else thick, 0.12)
    if choices.grid_lines in ("1+5 mm", "5 mm"):
        yield Strokes(list(_lines(box, origin, 5.0)), thick, 0.2)


def _ticks(low: float, high: float, origin: float, step: float) -> Points:
    return np.arange(origin + np.ceil((low - origin) / step) * step, high, step)


def _lines(
    box: tuple[float, float, float, float], origin: tuple[float, float], step: float
) -> Iterator[Points]:
    left, top, right, bottom = box
    for x in _ticks(left, right, origin[0], step):
        yield np.array([[x, top], [x, bottom]])
    for y in _ticks(top, bottom, origin[1], step):
        yield np.array([[left, y], [right, y]])


def _dots(box: tuple[float, float, float, float], origin: tuple[float, float]) -> Iterator[Points]:
    left, top, right, bottom = box
    for x in _ticks(left, right, origin[0], 1.0):
        for y in _ticks(top, bottom, origin[1], 1.0):
            yield np.array([[x, y], [x + 0.2, y]])
