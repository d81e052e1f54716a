"""Which lead is printed where and when: page layouts as data.

A layout is a YAML file: `name`, `duration_s` and `rows`, each row a list of leads that share its width.
Row r with k leads shows seconds j*d/k to (j+1)*d/k of its j-th lead. The nine that ship lie in
`datamodules/layouts`: the paper's four_line, six_line and seven_line (Li et al. 2020; PROTOCOL R5) and
the common 3x4, 3x4+1, 3x4+3, 6x2, 6x2+1 and 12x1. A further one is a file, no code: name its path, or put
it into the folder `layouts` of a cohort.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from datamodules.errors import ConfigError, DataError, Problem
from datamodules.yaml_text import read_yaml_mapping

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LAYOUT_FOLDER = Path(__file__).parent / "layouts"
MAX_ROWS = 24
MAX_DURATION_S = 600.0


@dataclass(frozen=True)
class Segment:
    """A stretch of one lead in one row; seconds count from the start of the record.

    Attributes:
        lead: Name of the lead.
        row: Row of the layout.
        start_s: First second shown.
        stop_s: End of the stretch.
        paper_s: Blank paper to its left within its row, in seconds of paper.
    """

    lead: str
    row: int
    start_s: float
    stop_s: float
    paper_s: float = 0.0

    @property
    def left_s(self) -> float:
        """Where it begins on the paper, from the left end of its row."""
        return self.start_s + self.paper_s

    @property
    def right_s(self) -> float:
        """Where it ends on the paper."""
        return self.stop_s + self.paper_s


@dataclass(frozen=True)
class Layout:
    """Rows of leads over a common time.

    Attributes:
        name: What cohorts and reports call it.
        duration_s: Seconds of the record that a row shows.
        rows: Per row, top to bottom, its leads from left to right.
        space_s: Blank paper between two leads of a row, in seconds of paper.
        early_s: What is not drawn at the end of every lead.
    """

    name: str
    duration_s: float
    rows: tuple[tuple[str, ...], ...]
    space_s: float = 0.0
    early_s: float = 0.0

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Every drawn stretch, row by row, left to right."""
        return tuple(
            Segment(
                lead,
                row,
                place * self.duration_s / len(leads),
                (place + 1) * self.duration_s / len(leads) - self.early_s,
                place * self.space_s,
            )
            for row, leads in enumerate(self.rows)
            for place, lead in enumerate(leads)
        )

    @property
    def paper_s(self) -> float:
        """Seconds of paper from the left to the right end of the longest row."""
        return self.duration_s + (self.n_columns - 1) * self.space_s

    @property
    def n_columns(self) -> int:
        """Leads in the longest row."""
        return max(len(leads) for leads in self.rows)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def rhythm_rows(self) -> tuple[int, ...]:
        """Rows of one long lead that an earlier row shows already."""
        return tuple(
            row
            for row, leads in enumerate(self.rows)
            if len(leads) == 1 and any(leads[0] in earlier for earlier in self.rows[:row])
        )


def known_layouts(folder: Path = LAYOUT_FOLDER) -> dict[str, Layout]:
    """Read every layout file of a folder, by default those that ship.

    Args:
        folder: Folder with `*.yaml`.

    Returns:
        Name to layout, sorted by name.

    Raises:
        ConfigError: For every file that is no layout, and for a name that occurs twice.
    """
    return dict(_shipped_layouts()) if folder == LAYOUT_FOLDER else _layouts_in(folder)


@cache
def _shipped_layouts() -> dict[str, Layout]:
    """Read them once: every page that is read asks, and reading takes a tenth of its time."""
    return _layouts_in(LAYOUT_FOLDER)


def _layouts_in(folder: Path) -> dict[str, Layout]:
    layouts: dict[str, Layout] = {}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            layout = read_layout(path)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        if layout.name in layouts:
            problems.append(
                Problem("LAYOUT_TWICE", path.name, f"the name {layout.name} again", "its own name")
            )
        layouts[layout.name] = layout
    if problems:
        raise ConfigError(problems)
    return dict(sorted(layouts.items()))


def load_layout(name_or_path: str | Path) -> Layout:
    """Find a layout by the name of one that ships, or read the file a path names.

    Args:
        name_or_path: For instance `3x4+1`, or `my/layout.yaml`.

    Returns:
        The layout.

    Raises:
        ConfigError: `LAYOUT_UNKNOWN` or `LAYOUT_INVALID`.
    """
    if str(name_or_path).endswith((".yaml", ".yml")):
        return read_layout(Path(name_or_path))
    layouts = known_layouts()
    if str(name_or_path) not in layouts:
        wanted = f"one of {', '.join(layouts)}, or the path of a YAML file"
        raise ConfigError(Problem("LAYOUT_UNKNOWN", "layout", str(name_or_path), wanted))
    return layouts[str(name_or_path)]


def read_layout(path: Path) -> Layout:
    """Read and check one layout file.

    Args:
        path: YAML with `name`, `duration_s`, `rows` and optionally `title`.

    Returns:
        The layout.

    Raises:
        ConfigError: With every problem of the file.
    """
    try:
        fields = read_yaml_mapping(path)
    except DataError as error:
        raise ConfigError(error.problems) from None
    problems = [Problem("LAYOUT_INVALID", path.name, *problem) for problem in _layout_problems(fields)]
    if problems:
        raise ConfigError(problems)
    return Layout(fields["name"], float(fields["duration_s"]), tuple(tuple(row) for row in fields["rows"]))


def _layout_problems(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Collect (got, wanted) for everything wrong in a layout file."""
    problems = [
        (f"the key {key}", "name, title, duration_s, rows")
        for key in fields.keys() - {"name", "title", "duration_s", "rows"}
    ]
    name = fields.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > 64 or not name.isprintable():
        problems.append((f"name {name!r}", "a text of 1 to 64 printable characters"))
    duration_s = fields.get("duration_s")
    is_number = isinstance(duration_s, int | float) and not isinstance(duration_s, bool)
    if not (is_number and 0 < float(str(duration_s)) <= MAX_DURATION_S):
        problems.append((f"duration_s {duration_s!r}", f"seconds above 0, at most {MAX_DURATION_S:g}"))
    rows = fields.get("rows")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS:
        return [*problems, (f"rows {rows!r:.80}", f"a list of 1 to {MAX_ROWS} rows")]
    for number, row in enumerate(rows):
        problems.extend((f"row {number}: {got}", wanted) for got, wanted in _row_problems(row))
    return problems


def _row_problems(row: Any) -> list[tuple[str, str]]:
    if not isinstance(row, list) or not row:
        return [(f"{row!r:.80}", "a list of leads, for instance [I, aVR, V1, V4]")]
    problems = [(f"the lead {lead!r}", f"one of {', '.join(LEADS)}") for lead in row if lead not in LEADS]
    twice = sorted({str(lead) for lead in row if row.count(lead) > 1})
    if twice:
        problems.append((f"{', '.join(twice)} twice", "each lead once in a row"))
    return problems
