"""Words that people read, the same in every message."""

from __future__ import annotations


def number_of(n: float, noun: str) -> str:
    """Write a number and what it counts, in the plural where there is not exactly one.

    Args:
        n: A whole number.
        noun: In the singular; its plural ends in s.

    Example:
        >>> number_of(1, "cell"), number_of(0, "cell")
        ('1 cell', '0 cells')
    """
    return f"{int(n)} {noun}" if n == 1 else f"{int(n)} {noun}s"
