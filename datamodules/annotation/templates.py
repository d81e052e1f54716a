"""Pieces of signal, drawn as a mask at a given scale (Li et al. 2020, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.layout import Segment
from datamodules.rendering.strokes import stamp_mask

MAX_PIECE_S = 2.5
MARGIN_PX = 4
# What runs level for so long is a frame or a streak: in any trace a heart beats meanwhile.
RULE_S = 1.5


@dataclass(frozen=True)
class Piece:
    """At most 2.5 s of one lead; long strips are matched in pieces, which a slight skew does not bend.

    Attributes:
        lead: Name of the lead.
        row: Row of the layout.
        segment: Index of the segment the piece belongs to.
        start_s: First second of the piece within the record.
        time_s: (n,) seconds from `start_s`.
        mv: (n,) finite millivolts.
    """

    lead: str
    row: int
    segment: int
    start_s: float
    time_s: npt.NDArray[np.float64]
    mv: npt.NDArray[np.float64]

    @property
    def middle_s(self) -> float:
        """Seconds from `start_s` to the middle of what is drawn."""
        return float(self.time_s[0] + self.time_s[-1]) / 2


@dataclass(frozen=True)
class Scale:
    """How time and voltage lie on the scan, without position.

    A sample at (t seconds, v millivolts) lies at x = a t + b v, y = c t + d v pixels from the sample at
    (0, 0).

    Attributes:
        a: px per s to the right.
        c: px per s downward; not 0 on a skewed page.
        d: px per mV downward; negative, since up is positive voltage.
    """

    a: float
    c: float
    d: float

    @property
    def b(self) -> float:
        """Px per mV to the right: the voltage axis turns with the time axis."""
        return -self.d * self.c / self.a

    def points(self, piece: Piece) -> npt.NDArray[np.float64]:
        """(n, 2) x and y of the piece's samples relative to its place."""
        return np.stack(
            [self.a * piece.time_s + self.b * piece.mv, self.c * piece.time_s + self.d * piece.mv], axis=1
        )


@dataclass(frozen=True)
class Template:
    """A piece drawn as mask.

    Attributes:
        image: (h, w) uint8 0/1.
        anchor_xy: Pixel of the place (0, 0), which is (start of the piece, 0 mV), within `image`.
    """

    image: npt.NDArray[np.uint8]
    anchor_xy: tuple[int, int]

    @property
    def n_pixels(self) -> int:
        """Number of waveform pixels."""
        return int(self.image.sum())


def cut_pieces(
    segments: tuple[Segment, ...], leads: tuple[str, ...], mv: npt.NDArray[np.floating], rate_hz: float
) -> list[Piece]:
    """Cut what a layout shows into pieces of at most 2.5 s.

    Args:
        segments: The layout's segments.
        leads: Names of the rows of `mv`.
        mv: (n_leads, n) millivolts; NaN where the lead was not recorded.
        rate_hz: Sampling rate.

    Returns:
        The pieces with at least half a second of signal; samples that are NaN are left out at the ends and
        interpolated inside.
    """
    pieces = []
    for index, segment in enumerate(segments):
        n_parts = max(1, int(np.ceil((segment.stop_s - segment.start_s) / MAX_PIECE_S - 1e-6)))
        edges_s = np.linspace(segment.start_s, segment.stop_s, n_parts + 1)
        for start_s, stop_s in pairwise(edges_s):
            first, stop = round(start_s * rate_hz), round(stop_s * rate_hz)
            values = np.asarray(mv[leads.index(segment.lead), first:stop], dtype=np.float64)
            finite = np.flatnonzero(np.isfinite(values))
            if finite.size < 0.5 * rate_hz:
                continue
            inside = np.arange(finite[0], finite[-1] + 1)
            filled = np.interp(inside, finite, values[finite])
            # The time of the first sample that is shown, so that `start_s` stays where the layout says.
            pieces.append(Piece(segment.lead, segment.row, index, float(start_s), inside / rate_hz, filled))
    return pieces


def draw(piece: Piece, scale: Scale, width_px: float) -> Template:
    """Draw a piece of signal as a 0/1 image.

    Args:
        piece: The signal.
        scale: How it lies on the scan.
        width_px: Stroke width.
    """
    return draw_points(scale.points(piece), width_px)


def draw_points(points: npt.NDArray[np.float64], width_px: float) -> Template:
    """Draw a line as a 0/1 image just large enough for it.

    Args:
        points: (n, 2) x and y in px, from left to right.
        width_px: Stroke width.

    Returns:
        The image, and the pixel of it that is the points' (0, 0).
    """
    low = np.floor(points.min(axis=0)).astype(int) - MARGIN_PX
    high = np.ceil(points.max(axis=0)).astype(int) + MARGIN_PX
    image = np.zeros((high[1] - low[1] + 1, high[0] - low[0] + 1), np.uint8)
    stamp_mask(image, points - low, width_px)
    return Template(image, (int(-low[0]), int(-low[1])))


def mean_under(image: npt.NDArray[np.float32], template: Template) -> npt.NDArray[np.float32]:
    """Mean of an image under a template, at every place where it lies wholly on the image.

    Args:
        image: (H, W) float32.
        template: At most as large as the image.

    Returns:
        (H - h + 1, W - w + 1) float32; entry (y, x) belongs to the template's upper left corner there.
    """
    total = cv2.matchTemplate(image, template.image.astype(np.float32), cv2.TM_CCORR)
    return np.asarray(total / np.float32(max(template.n_pixels, 1)), dtype=np.float32)


def without_rules(ink: npt.NDArray[np.float32], px_per_s: float) -> npt.NDArray[np.float32]:
    """Take straight level lines out of a page: frames and streaks, on which a flat lead would fit best.

    Args:
        ink: (H, W) float32 page, 0 = paper, 1 = ink.
        px_per_s: Its scale.

    Returns:
        The page without them. A trace loses what crosses such a line, so this is for finding places only.
    """
    level = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((1, max(3, round(RULE_S * px_per_s))), np.uint8))
    # A line that is a little askew keeps a pixel on each side.
    level = cv2.dilate(level, np.ones((5, 1), np.uint8))
    return np.asarray(np.maximum(ink - level, 0.0), dtype=np.float32)
