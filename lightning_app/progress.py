"""How far a sweep is, on a terminal as a live table, elsewhere as plain lines."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lightning_app.cells import State, Store

LINE_EVERY_S = 20.0
ROWS_SHOWN = 30
QUIET_S = 10.0


@dataclass
class Board:
    """What is known of every cell of a sweep.

    Attributes:
        store: The sweep's folder.
        cells: Rows `key, model, fold, seed` of the plan.
        states: State by key; `missing` is a cell still waiting.
        slots: Cells that run at a time, for the estimate of time left.
        exit_codes: How the processes of this run ended, by key.
    """

    store: Store
    cells: list[dict[str, Any]]
    states: dict[str, State]
    slots: int = 1
    exit_codes: dict[str, int | None] = field(default_factory=dict)
    started_at: float = field(default_factory=time.monotonic)
    _results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read every state again from the folders."""
        self.states = self.store.states(cell["key"] for cell in self.cells)

    def keys(self, state: State) -> list[str]:
        """Keys of the cells in a state, in the order of the plan."""
        return [cell["key"] for cell in self.cells if self.states[cell["key"]] == state]

    def result(self, key: str) -> dict[str, Any]:
        """Result of a finished cell, read once."""
        if key not in self._results:
            self._results[key] = self.store.result(key) or {}
        return self._results[key]

    def name(self, key: str) -> str:
        """How people call a cell."""
        cell = next(cell for cell in self.cells if cell["key"] == key)
        return f"{cell['model']} fold {cell['fold']} seed {cell['seed']}"

    def counts(self) -> str:
        """Summary in one line."""
        shown: tuple[tuple[State, str], ...] = (
            ("done", "done"),
            ("running", "running"),
            ("missing", "queued"),
            ("interrupted", "interrupted"),
            ("failed", "failed"),
        )
        numbers = [(len(self.keys(state)), word) for state, word in shown]
        return ", ".join(f"{number} {word}" for number, word in numbers if number) or "no cells"

    def left_s(self, progress: Mapping[str, Mapping[str, Any]]) -> float | None:
        """Estimate the seconds left from the cells done so far, else from those at work; None before."""
        waiting = len(self.keys("missing")) + len(self.keys("interrupted"))
        done = [self.store.seconds(key) for key in self.keys("done")]
        known = [seconds for seconds in done if seconds is not None]
        known = known or [seconds for values in progress.values() if (seconds := _whole_s(values))]
        if waiting and not known:
            return None
        mean_s = sum(known) / len(known) if known else 0.0
        running_s = sum(float(values.get("left_s") or 0.0) for values in progress.values())
        return (running_s + waiting * mean_s) / max(1, self.slots, len(progress))


def _whole_s(progress: Mapping[str, Any]) -> float | None:
    """Estimate how long a stage takes from its first to its last step; None if it does not say."""
    step, steps, left_s = (progress.get(name) for name in ("step", "steps", "left_s"))
    return left_s * steps / (steps - step) if left_s and step is not None and steps > step else None


def duration(seconds: float) -> str:
    """Write a time span for people.

    Example:
        >>> duration(75.2), duration(7300)
        ('1 min 15 s', '2 h 01 min')
    """
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest_min:02d} min"
    return f"{minutes} min {rest_s:02d} s" if minutes else f"{rest_s} s"


def board_table(board: Board) -> RenderableType:
    """Lay the board out: cells at work, then one line per model, then the counts."""
    progress = {key: board.store.progress(key) for key in board.keys("running")}
    working = Table(
        "running", "fold", "seed", "stage", "epoch", "loss", "Dice", "left", box=None, pad_edge=False
    )
    cells = {cell["key"]: cell for cell in board.cells}
    for key, values in list(progress.items())[:ROWS_SHOWN]:
        cell = cells[key]
        working.add_row(cell["model"], str(cell["fold"]), str(cell["seed"]), *_stage_columns(values))
    parts: list[RenderableType] = [working] if progress else []
    parts.append(_model_table(board))
    left_s = board.left_s(progress)
    spent = f" · {duration(time.monotonic() - board.started_at)} so far" if progress else ""
    left = (
        f", about {duration(left_s)} left"
        if left_s is not None and (progress or board.keys("missing"))
        else ""
    )
    parts.append(Text(f"{board.counts()}{spent}{left}"))
    return Group(*parts)


def _stage_columns(values: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    epoch = f"{values['epoch'] + 1}/{values['epochs']}" if "epoch" in values else ""
    if not epoch and "steps" in values:
        epoch = f"{values['step']}/{values['steps']}"
    left_s = values.get("left_s")
    return (
        str(values.get("stage", "start")),
        epoch,
        _number(values.get("loss")),
        _number(values.get("dice")),
        duration(left_s) if left_s is not None else "",
    )


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def _model_table(board: Board) -> Table:
    table = Table("model", "done", "failed", "Dice (held-out)", box=None, pad_edge=False)
    for model in dict.fromkeys(cell["model"] for cell in board.cells):
        keys = [cell["key"] for cell in board.cells if cell["model"] == model]
        done = [key for key in keys if board.states[key] == "done"]
        failed = sum(board.states[key] == "failed" for key in keys)
        dices = [value for key in done if (value := board.result(key).get("dice", {}).get("cv")) is not None]
        mean = _number(sum(dices) / len(dices)) if dices else ""
        table.add_row(model, f"{len(done)}/{len(keys)}", str(failed) if failed else "", mean)
    return table


class View:
    """Shows a board while a sweep runs.

    Args:
        board: What is shown; whoever runs the sweep changes its states.
        live: Redraw a table in place; plain lines otherwise.
    """

    def __init__(self, board: Board, live: bool | None = None) -> None:
        self.board = board
        self._console = Console(file=sys.stdout, highlight=False)
        self._live: Live | None = None
        self._ended = threading.Event()
        self._lines: threading.Thread | None = None
        self._is_live = self._console.is_terminal if live is None else live

    def __enter__(self) -> View:
        if self._is_live:
            self._live = Live(
                get_renderable=lambda: board_table(self.board), console=self._console, refresh_per_second=2
            )
            self._live.start()
        else:
            self._lines = threading.Thread(target=self._print_lines, name="progress", daemon=True)
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()
        if self._lines is not None:
            self._lines.join()

    def say(self, text: str) -> None:
        """Print a line, above the table where there is one."""
        self._console.print(text, soft_wrap=True, markup=False)

    def _print_lines(self) -> None:
        while not self._ended.wait(LINE_EVERY_S):
            for key in self.board.keys("running"):
                stage, epoch, loss, dice, left = _stage_columns(self.board.store.progress(key))
                details = [
                    stage,
                    epoch,
                    loss and f"loss {loss}",
                    dice and f"Dice {dice}",
                    left and f"{left} left",
                ]
                self.say(f"  {self.board.name(key)}: {', '.join(part for part in details if part)}")


def watch(board: Board, every_s: float = 1.0, quiet_s: float = QUIET_S) -> None:
    """Follow a sweep that runs elsewhere until it is over.

    It is over when every cell has ended, or when for `quiet_s` no cell is at work and no command is that
    starts them: between two cells there is an instant without either where agents share a sweep.
    """
    board.refresh()
    busy_at = time.monotonic()
    with View(board):
        while board.keys("missing") or board.keys("interrupted") or board.keys("running"):
            if board.keys("running") or board.store.is_driven():
                busy_at = time.monotonic()
            elif time.monotonic() - busy_at >= quiet_s:
                break
            time.sleep(every_s)
            board.refresh()
