"""What went wrong with a user's input, told all at once.

Every refusal carries a code, what was got, what was wanted and the remedy, and the exit code the
command line ends with. They live here, at the bottom of the import order, so that every layer can
raise them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FAULT = "ERROR"  # code of a page on which Inkbeat itself failed


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: Stable, upper-case name, for instance `IMG_EMPTY`.
        where: File, key or id the problem belongs to.
        got: What was found.
        wanted: What would have been right.
        remedy: What the user can do about it.
    """

    code: str
    where: str
    got: str
    wanted: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        parts = [f"{self.code} {self.where}: got {self.got}"]
        if self.wanted:
            parts.append(f"wanted {self.wanted}")
        if self.remedy:
            parts.append(self.remedy)
        return "; ".join(parts)


class InkbeatError(Exception):
    """Base of all refusals; carries every problem of the input, not only the first."""

    exit_code = 1

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[InkbeatError], tuple[tuple[Problem, ...]]]:
        # The default rebuilds from the message alone, and refusals travel between processes.
        return type(self), (self.problems,)


class ConfigError(InkbeatError):
    """The command or a sweep file is wrong; nothing was started."""

    exit_code = 2


class DataError(InkbeatError):
    """An image, a signal or a table cannot be used."""

    exit_code = 3


class IntegrityError(InkbeatError):
    """Content differs from its recorded hash, or a path leaves its root."""

    exit_code = 4


class Interrupted(InkbeatError):
    """Stopped from outside; the work so far is kept and the same command goes on."""

    exit_code = 75
