"""The digitizing stage of a cell: each held-out scan turned into millivolts and scored against its truth.

A scan is read with the layout and scale its cohort declares, as a hospital would that knows its own pages;
recognising them is tested with the digitizer. What does not depend on the model (the parameters of the true
signal, and the ceiling, which is what the drawn mask gives in place of a prediction) is worked out once per
sweep and kept in `RUNS/<sweep>/ceiling/`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.cohort import Cohort, Scan
from datamodules.errors import FAULT, DataError
from datamodules.signals import RATE_HZ, resampled
from lightning_app.ceiling import Known, Values, read_known, write_known
from lightning_app.digitize.results import Digitized
from lightning_app.evaluate.human import human_row
from lightning_app.evaluate.scan_columns import DIGITIZED_OK
from lightning_app.evaluate.scan_rows import parameter_row, signal_row

log = logging.getLogger(__name__)


class Reader:
    """Reads and scores the scans of one cohort.

    Args:
        cohort: The cohort; its scans need a signal and a layout, others are not read.
        folder: Where the ceiling of this cohort is kept.
    """

    def __init__(self, cohort: Cohort, folder: Path) -> None:
        self._cohort = cohort
        self._folder = folder
        self._layouts = cohort.layouts

    def __call__(self, scan: Scan, maps: npt.NDArray[np.float32]) -> dict[str, Any]:
        """Read one scan.

        Args:
            scan: A scan of the cohort.
            maps: What a network says, as for `digitize_page`.

        Returns:
            `digitized`: `read`, a refusal's code, or empty for a scan without truth; and the columns of
            `evaluate.scan_rows` where there is a truth, those of `evaluate.human` where people marked it.
        """
        if not scan.signal or scan.layout not in self._layouts:
            return {"digitized": ""}
        try:
            return self._score(scan, maps, self._known(scan).true) | self._human(scan)
        except DataError as error:  # a truth with gaps, too short or missing: nothing to score against
            log.warning("%s is not scored as a signal: %s", scan.scan_id, error)
            return {"digitized": ""}

    def _score(self, scan: Scan, maps: npt.NDArray[np.float32], true: Values) -> dict[str, Any]:
        state, read_mv = self._read(scan, maps)
        true_mv = resampled(self._cohort.load_signal(scan), RATE_HZ).mv
        return {"digitized": state, **signal_row(read_mv, true_mv, RATE_HZ, self._layouts[scan.layout], true)}

    def _human(self, scan: Scan) -> dict[str, float | str]:
        try:
            marks = self._cohort.load_marks(scan)
        except DataError as error:
            log.warning("%s is not scored against its annotation: %s", scan.scan_id, error)
            return {}
        return human_row(marks, self._layouts[scan.layout]) if marks else {}

    def _read(self, scan: Scan, maps: npt.NDArray[np.float32]) -> tuple[str, npt.NDArray[np.float32] | None]:
        from lightning_app.digitize.pipeline import digitize_page  # a report that is made of rows needs none

        try:
            result = digitize_page(
                self._cohort.load_page(scan),
                maps,
                layout=self._layouts[scan.layout],
                px_per_s=scan.px_per_s,
                px_per_mv=scan.px_per_mv,
            )
        except Exception:
            # One page must not cost a trained cell; it counts as not read, and the log says why.
            log.exception("%s could not be digitized", scan.scan_id)
            return FAULT, None
        return (DIGITIZED_OK, result.mv) if isinstance(result, Digitized) else (result.code, None)

    def _known(self, scan: Scan) -> Known:
        path = self._folder / f"{scan.scan_id}.json"
        if not path.is_file():
            write_known(path, self._work_out(scan))
        return read_known(path)

    def _work_out(self, scan: Scan) -> Known:
        true_mv = resampled(self._cohort.load_signal(scan), RATE_HZ).mv
        true = parameter_row(true_mv, RATE_HZ, self._layouts[scan.layout], "true")
        if scan.mask is None:
            return Known(true, {})
        mask = (self._cohort.load_mask(scan) > 0).astype(np.float32)
        return Known(true, self._score(scan, mask, true))


Read = Callable[[Scan, npt.NDArray[np.float32]], dict[str, Any]]
