"""Where each lead lies on a scan: the numbers between pixels and millivolts.

A page is thought of twice: the ideal page, on which leads run exactly to the right, and the scan, which
is the ideal page stretched, turned and shifted by a 2x3 affine map. Points are (x, y) in pixel-centre
coordinates, x to the right is time, y downward, so a higher voltage has a smaller y.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError, Problem

Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
IDENTITY: Affine = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


@dataclass(frozen=True)
class DrawnSegment:
    """A stretch of one lead as drawn on the ideal page.

    Attributes:
        lead: Name of the lead.
        row: Row of the layout.
        start_s: First second shown, from the start of the record.
        stop_s: End of the stretch; the sample at that time is not part of it.
        x0_px: Ideal column of the sample at `start_s`.
        y0_px: Ideal row of 0 mV.
    """

    lead: str
    row: int
    start_s: float
    stop_s: float
    x0_px: float
    y0_px: float


@dataclass(frozen=True)
class Geometry:
    """Everything that was drawn on one scan and where.

    Attributes:
        width: Columns of the scan.
        height: Rows of the scan.
        px_per_s: Ideal pixels per second.
        px_per_mv: Ideal pixels per millivolt.
        affine: 2x3 map of ideal to scan coordinates.
        segments: The stretches of leads.
    """

    width: int
    height: int
    px_per_s: float
    px_per_mv: float
    affine: Affine
    segments: tuple[DrawnSegment, ...]

    @property
    def scan_px_per_s(self) -> float:
        """Pixels per second as they lie on the scan, along the time axis."""
        return self.px_per_s * math.hypot(self.affine[0][0], self.affine[1][0])

    @property
    def scan_px_per_mv(self) -> float:
        """Pixels per millivolt as they lie on the scan, along the voltage axis."""
        return self.px_per_mv * math.hypot(self.affine[0][1], self.affine[1][1])

    def to_scan(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map ideal points to the scan.

        Args:
            points: (n, 2) ideal (x, y) in px.

        Returns:
            (n, 2) float64 scan (x, y) in px.
        """
        affine = np.asarray(self.affine)
        return np.asarray(np.asarray(points, dtype=np.float64) @ affine[:, :2].T + affine[:, 2])

    def to_ideal(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map scan points back to the ideal page; the inverse of `to_scan`.

        Args:
            points: (n, 2) scan (x, y) in px.

        Returns:
            (n, 2) float64 ideal (x, y) in px.
        """
        affine = np.asarray(self.affine)
        shifted = np.asarray(points, dtype=np.float64) - affine[:, 2]
        return np.asarray(np.linalg.solve(affine[:, :2], shifted.T).T)

    def polyline(
        self, segment: DrawnSegment, lead_mv: npt.NDArray[np.floating], rate_hz: float
    ) -> npt.NDArray[np.float64]:
        """Trace of a segment on the scan, one point per sample.

        Args:
            segment: One of `segments`.
            lead_mv: (n_samples,) mV of that lead, from the start of the record.
            rate_hz: Sampling rate of `lead_mv`.

        Returns:
            (n, 2) float64 scan (x, y) in px of the samples with start_s <= t < stop_s; y is NaN where
            the signal is. Fewer points when the record ends earlier.
        """
        first = math.ceil(segment.start_s * rate_hz - 1e-6)
        stop = math.ceil(segment.stop_s * rate_hz - 1e-6)
        shown_mv = np.asarray(lead_mv, dtype=np.float64)[first:stop]
        time_s = (first + np.arange(shown_mv.size)) / rate_hz
        x_px = segment.x0_px + (time_s - segment.start_s) * self.px_per_s
        y_px = segment.y0_px - shown_mv * self.px_per_mv
        return self.to_scan(np.stack([x_px, y_px], axis=1))

    def to_json(self) -> str:
        """Write as JSON text, exact to the last bit of every number."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "geometry") -> Geometry:
        """Read what `to_json` wrote.

        Args:
            text: JSON text.
            where: File name for the error message.

        Returns:
            The geometry.

        Raises:
            DataError: `GEOMETRY_INVALID`.
        """
        try:
            fields = json.loads(text)
            segments = tuple(DrawnSegment(**segment) for segment in fields.pop("segments"))
            (a, b, c), (d, e, f) = fields.pop("affine")
            return cls(affine=((a, b, c), (d, e, f)), segments=segments, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            wanted = "the JSON of a drawn page"
            raise DataError(Problem("GEOMETRY_INVALID", where, str(error), wanted, "render again")) from None
