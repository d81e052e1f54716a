"""Keeps the truth of a scan out of sight while a page is prepared and predicted (check E5 of the protocol).

A page that is stretched, thinned or normalised by what its own mask says scores better than it would in use,
where there is no mask. So the application predicts with labels hidden, and whoever reads one then is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from datamodules.errors import IntegrityError, Problem

_hidden: ContextVar[bool] = ContextVar("labels_hidden", default=False)


@contextmanager
def labels_hidden() -> Iterator[None]:
    """Refuse every mask, signal and geometry that is asked for inside the block."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def require_visible(scan_id: str, what: str) -> None:
    """Refuse to read a label while labels are hidden.

    Args:
        scan_id: The scan.
        what: What is asked for, for the message.

    Raises:
        IntegrityError: `LEAK_LABEL`.
    """
    if _hidden.get():
        remedy = "fit on the training scans, in setup; a page must be made without its own truth"
        raise IntegrityError(
            Problem("LEAK_LABEL", scan_id, f"its {what} read to make the test page", "no truth", remedy)
        )
