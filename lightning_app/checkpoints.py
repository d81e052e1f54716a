"""Checkpoints that survive a kill at any instant.

Three files: `last.ckpt`, `previous.ckpt` and `checkpoints.sha256` with the hashes of both. The hash of the
new checkpoint is written down before the new file takes its name, so whatever step a kill falls into, at
least one of the two files has a hash on the list. A file that has none (truncated, edited, half-written) is
passed over.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import DataError
from lightning_app.cells import (
    CHECKPOINT_HASHES,
    LAST_CHECKPOINT,
    checkpoint_hashes,
    disk_problem,
    is_on_record,
    sha256_of,
    sync_folder,
    write_durably,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one cell.

    Attributes:
        folder: The cell's folder.
    """

    folder: Path

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / LAST_CHECKPOINT

    @property
    def previous(self) -> Path:
        """The one before it."""
        return self.folder / "previous.ckpt"

    @property
    def _hashes(self) -> Path:
        return self.folder / CHECKPOINT_HASHES

    def save(self, write: Callable[[Path], None]) -> None:
        """Write a new checkpoint.

        Args:
            write: Writes it to the path it is given.

        Raises:
            DataError: `DISK_FULL` or `NOT_WRITABLE`; the last good checkpoint is still there.
        """
        fresh = self.folder / ".last.ckpt.tmp"
        try:
            write(fresh)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            known = checkpoint_hashes(self.folder)[:1]
            write_durably(self._hashes, "\n".join([sha256_of(fresh), *known, ""]).encode())
            if self.last.exists():
                self.last.replace(self.previous)
            fresh.replace(self.last)
            sync_folder(self.folder)
        except OSError as error:
            raise DataError(disk_problem(self.last, error)) from None
        except RuntimeError as error:
            if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
                raise
            # torch's file writer reports a full disk without errno.
            full = OSError(errno.ENOSPC, str(error).splitlines()[0])
            raise DataError(disk_problem(self.last, full)) from None
        finally:
            fresh.unlink(missing_ok=True)

    def newest_intact(self) -> Path | None:
        """Find the checkpoint to go on from; None if there is none, and says what it passed over."""
        for path in (self.last, self.previous):
            if not path.is_file():
                continue
            if is_on_record(path):
                return path
            log.warning("%s is damaged (its hash is not on record); falling back", path.name)
        return None

    def keep_last_only(self) -> None:
        """Drop what only a resume needs."""
        self.previous.unlink(missing_ok=True)
