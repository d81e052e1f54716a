"""The printed grid: pitch and direction of its lines, measured over the whole page at once.

A grid is a pair of line families. Each is one comb of peaks in the page's spectrum, and all its ink,
however faint, dotted or broken, adds up coherently there; so the pitch comes out to a few parts in ten
thousand where single lines could not even be seen. What the spectrum cannot tell is whether a plain
comb is the 1 mm or the 5 mm family: `Comb.has_fifth` says when it can, `scale` decides otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.optimize import minimize

MIN_MM_PX = 1.7  # pages down to 1.8 px/mm are read
MAX_CELL_PX = 65.0  # 5 mm at 13 px/mm
MAX_SKEW_DEG = 7.0
MIN_PEAK = 6.0  # peak over the local median of the spectrum's magnitude; noise alone stays below 4.5
MAX_SHEAR_DEG = 1.0
MAX_TURN_OFF_DEG = 1.0
DRIFT_DEG = 2.0
# Peaks that one comb's lines make were at least .49 as high as their neighbours, others mostly below .3.
AS_HIGH = 0.45
NEAR_PITCH = 0.06  # by which the families of a paper differ
MAX_ANISOTROPY = 0.3  # papers, scanners and screens stretch one way: LUDB pages by 4 %, faxes by more
CANDIDATES = 4
LINES_PER_CELL = 5
ENOUGH_PX = 4_000_000  # 8 px/mm on A4: more pixels tell no more of a grid and take longer
BLOCK_PX = 8  # lines are averaged over this length before the transform: they lean by MAX_SKEW_DEG at most

Array = NDArray[np.float32]


class Sense(IntEnum):
    """How much sense a grid makes of the rows drawn on it."""

    NONE = 0
    WITH_PULSES = 1  # if pulses or margins lengthen the rows
    FULL = 2


@dataclass(frozen=True)
class Comb:
    """One family of parallel lines.

    Attributes:
        period_px: Distance of the coarsest lines that repeat, at right angles to them.
        normal: Unit vector (x, y) at right angles to the lines.
        has_fifth: Every fifth line stands out, so `period_px` is 5 mm; None: cannot be told.
        strength: Strongest peak over the spectrum around it.
        harmonics: Multiples of the base frequency that stand out.
    """

    period_px: float
    normal: tuple[float, float]
    has_fifth: bool | None
    strength: float
    harmonics: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Grid:
    """Both families: `x` counts along time (its lines stand), `y` along voltage (its lines lie)."""

    x: Comb | None
    y: Comb | None

    @property
    def skew_deg(self) -> float | None:
        """Turn of the page, positive = clockwise on screen, from the families found; None without any."""
        angles = []
        if self.x is not None:
            angles.append(np.degrees(np.arctan2(self.x.normal[1], self.x.normal[0])))
        if self.y is not None:
            angles.append(np.degrees(np.arctan2(-self.y.normal[0], self.y.normal[1])))
        return float(np.mean(angles)) if angles else None

    @property
    def strength(self) -> float:
        """Strength of the families found, multiplied."""
        return float(np.prod([comb.strength for comb in (self.x, self.y) if comb is not None]))


def measure_grid(
    ink: NDArray[np.uint8],
    trace: NDArray[np.bool_],
    *,
    skew_deg: float | None = None,
    sense: Callable[[Grid], Sense] = lambda grid: Sense.FULL,
    max_shear_deg: float = MAX_SHEAR_DEG,
) -> Grid:
    """Find both line families of a page.

    Args:
        ink: (H, W) uint8, 0 = paper.
        trace: (H, W) bool, pixels that belong to the waveform and are left out.
        skew_deg: Turn of the page as the traces show it, good to a degree. Scanned fine grids make
            moire of their own, at half their turn and as regular as they are; only this tells them apart.
        sense: How much sense a grid makes of the page. Halftone dots form regular lines too; where some
            candidates make sense, the others are not looked at.
        max_shear_deg: How far from a right angle the families may cross.

    Returns:
        The families; a family that is not there, or that is turned by more than 7 degrees, is None.
    """
    flat = _without_trace(ink, trace)
    standing = [_transposed(comb) for comb in _coarse_combs(np.ascontiguousarray(flat.T))]
    best = _best_of(standing, _coarse_combs(flat), skew_deg, sense, max_shear_deg)
    x = None if best.x is None else _transposed(_refined(np.ascontiguousarray(flat.T), _transposed(best.x)))
    y = None if best.y is None else _refined(flat, best.y)
    return Grid(x, y)


def _best_of(
    standing: list[Comb],
    lying: list[Comb],
    skew_deg: float | None,
    sense: Callable[[Grid], Sense],
    max_shear_deg: float,
) -> Grid:
    """The grid among these families, (None, None) if there is none."""

    def leaning_within(within_deg: float, grids: list[Grid]) -> list[Grid]:
        return [grid for grid in grids if _turn_fits(grid, skew_deg, within_deg)]

    crossing = [Grid(x, y) for x in standing for y in lying]
    pairs = [pair for pair in crossing if _agree(pair, max_shear_deg)]
    finer = [pair for cross in crossing for pair in _with_finer(cross) if _agree(pair, max_shear_deg)]
    alone = [Grid(x, None) for x in standing] + [Grid(None, y) for y in lying]
    # Without a partner to vouch for it a family must be beyond doubt.
    alone = [grid for grid in alone if grid.strength > 2 * MIN_PEAK]
    candidates = [leaning_within(MAX_TURN_OFF_DEG, grids) for grids in (pairs, finer, alone)]
    usable = _usable(*candidates, sense=sense)
    if not usable:
        # Traces that drift lean as if the page were turned; then both families must agree that it is not.
        usable = [grid for grid in leaning_within(DRIFT_DEG, pairs) if sense(grid) == Sense.FULL]
    return max(usable, key=lambda grid: grid.strength, default=Grid(None, None))


def no_finer_than_needed(ink: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Shrink a page of more than `ENOUGH_PX`; the factor is 1 for others."""
    factor = min(1.0, (ENOUGH_PX / ink.size) ** 0.5)
    if factor == 1.0:
        return ink, factor
    size = (round(ink.shape[1] * factor), round(ink.shape[0] * factor))
    return np.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), factor


def refined(contrast: Array, comb: Comb, *, standing: bool) -> tuple[Comb, float]:
    """Period and direction of a known family on a part of its page.

    Args:
        contrast: (h, w) float32 of the part, from `local_contrast`.
        comb: The family nearby.
        standing: Whether its lines stand.

    Returns:
        The family there; power of its strongest harmonic over that of noise as strong.
    """
    flat = _faded(np.ascontiguousarray(contrast.T) if standing else contrast)
    found = _refined(flat, _transposed(comb) if standing else comb)
    power = _coherence(flat, found)
    return (_transposed(found) if standing else found), power


def _coherence(flat: Array, comb: Comb) -> float:
    blocks = _block_means(flat)
    h, n = blocks.shape
    fx, fy = np.array(comb.normal) / comb.period_px
    y, x = np.arange(h), (np.arange(n) + 0.5) * BLOCK_PX - 0.5
    powers = [
        abs(np.exp(-2j * np.pi * k * fy * y) @ blocks @ np.exp(-2j * np.pi * k * fx * x)) ** 2
        for k in comb.harmonics
    ]
    return float(max(powers) / (np.square(blocks).sum() + 1e-12))


def _turn_fits(grid: Grid, skew_deg: float | None, within_deg: float) -> bool:
    turn = grid.skew_deg
    assert turn is not None
    return abs(turn) <= MAX_SKEW_DEG and (skew_deg is None or abs(turn - skew_deg) < within_deg)


def _usable(
    pairs: list[Grid], finer: list[Grid], alone: list[Grid], *, sense: Callable[[Grid], Sense]
) -> list[Grid]:
    """The candidates that make the most sense; two families that make some outdo one that makes more."""
    for least in (Sense.FULL, Sense.WITH_PULSES):
        for candidates in (pairs, finer):
            sensible = [grid for grid in candidates if sense(grid) >= least]
            if sensible:
                return sensible
    return [grid for grid in alone if sense(grid) == Sense.FULL] or pairs or alone


def _with_finer(pair: Grid) -> list[Grid]:
    """Both families with the finer one's pitch, where the other was found at twice that.

    Where every other line of a worn grid happens to be darker, that is what repeats. Both must be beyond
    doubt.
    """
    x, y = pair.x, pair.y
    assert x is not None
    assert y is not None
    if min(x.strength, y.strength) <= 2 * MIN_PEAK:
        return []
    return [Grid(half, y) for half in _half(x, y.period_px)] + [
        Grid(x, half) for half in _half(y, x.period_px)
    ]


def _half(comb: Comb, like_px: float) -> list[Comb]:
    """The family at half its period, if that is like the other's and has harmonics of its own."""
    harmonics = tuple(k // 2 for k in comb.harmonics if k % 2 == 0)
    if not harmonics or abs(comb.period_px / 2 / like_px - 1) >= NEAR_PITCH:
        return []
    return [replace(comb, period_px=comb.period_px / 2, has_fifth=None, harmonics=harmonics)]


def _agree(pair: Grid, max_shear_deg: float) -> bool:
    """Same turn, and one pitch or five times it."""
    assert pair.x is not None
    assert pair.y is not None
    turn = abs(Grid(pair.x, None).skew_deg - Grid(None, pair.y).skew_deg)  # type: ignore[operator]
    ratio = pair.x.period_px / pair.y.period_px
    return turn < max_shear_deg and any(abs(ratio / r - 1) < MAX_ANISOTROPY for r in (0.2, 1.0, 5.0))


def _transposed(comb: Comb) -> Comb:
    return replace(comb, normal=(comb.normal[1], comb.normal[0]))


def _without_trace(ink: NDArray[np.uint8], trace: NDArray[np.bool_]) -> Array:
    """(H, W) float32 of zero local mean, the trace blanked out, fading towards the edges."""
    return _faded(local_contrast(ink, trace))


def local_contrast(ink: NDArray[np.uint8], trace: NDArray[np.bool_] | None = None) -> Array:
    """Ink less its mean around, (H, W) float32, 0 on the trace."""
    page = ink.astype(np.float32) / 255
    weight = np.ones_like(page)
    if trace is not None:
        hidden = cv2.dilate(trace.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        weight[hidden] = 0.0
    size = (int(2 * MAX_CELL_PX) | 1, int(2 * MAX_CELL_PX) | 1)
    mean = cv2.blur(page * weight, size) / np.maximum(cv2.blur(weight, size), 1e-3)
    # Solid dark patches (stamps, photos) would rule the spectrum; a grid line is never more than that.
    return np.asarray(np.clip((page - mean) * weight, -0.6, 0.6), dtype=np.float32)


def _faded(contrast: Array) -> Array:
    height, width = contrast.shape
    return np.asarray(contrast * np.outer(_fade(height), _fade(width)), dtype=np.float32)


def _fade(n: int) -> Array:
    edge = max(1, n // 8)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    window = np.ones(n)
    window[:edge], window[n - edge :] = ramp, ramp[::-1]
    return window.astype(np.float32)


def _coarse_combs(flat: Array) -> list[Comb]:
    """Families of (nearly) horizontal lines of a zero-mean page, (H, W) float32, strongest peaks first."""
    blocks = _block_means(flat)  # (H, W / 8)
    combs = [_comb_through(blocks, frequency, slope) for frequency, slope in _strongest_peaks(blocks)]
    return [comb for comb in combs if comb is not None]


def _comb_through(blocks: Array, fy: float, slope: float) -> Comb | None:
    frequency, magnitude = _profile_spectrum(blocks, slope)
    found = _fundamental(frequency, magnitude, fy)
    if found is None:
        return None
    period_y_px, harmonics, has_fifth = found
    strength = max(_peak_near(frequency, magnitude, k / period_y_px) for k in harmonics)
    length = float(np.hypot(1.0, slope))
    return Comb(period_y_px / length, (slope / length, 1 / length), has_fifth, strength, tuple(harmonics))


def _refined(flat: Array, comb: Comb) -> Comb:
    """The same family with period and direction where the summed power of its harmonics peaks."""
    blocks = _block_means(flat)
    slope = comb.normal[0] / comb.normal[1]
    fy, slope = _refine(blocks, comb.normal[1] / comb.period_px, slope, list(comb.harmonics))
    length = float(np.hypot(1.0, slope))
    return replace(comb, period_px=1 / (fy * length), normal=(slope / length, 1 / length))


def _block_means(flat: Array) -> Array:
    h, w = flat.shape
    n = w // BLOCK_PX
    return np.ascontiguousarray(flat[:, : n * BLOCK_PX].reshape(h, n, BLOCK_PX).mean(axis=2))


def _strongest_peaks(blocks: Array) -> list[tuple[float, float]]:
    """(fy, fx / fy) of the sharpest peaks of the 2-D spectrum within the skew allowed."""
    h, n = blocks.shape
    rows, columns = 2 * h, 2 * n
    spectrum = np.abs(np.fft.rfft2(blocks.T, s=(columns, rows)))  # (2n, h + 1): fx, fy
    fy = np.arange(rows // 2 + 1) / rows
    fx = np.fft.fftfreq(columns) / BLOCK_PX
    lean = np.abs(fx)[:, None] <= np.tan(np.radians(MAX_SKEW_DEG)) * fy[None] + 1e-9
    spectrum = np.where(lean, spectrum, 0.0)
    ridge = spectrum.max(axis=0)
    relative = ridge / (_floor(ridge) + 1e-12)
    relative[~_in_band(fy)] = 0.0
    peaks = []
    for _ in range(CANDIDATES):
        best = int(relative.argmax())
        if relative[best] < 0.5 * MIN_PEAK:
            break
        peaks.append((float(fy[best]), float(fx[spectrum[:, best].argmax()] / fy[best])))
        relative[max(0, best - 6) : best + 7] = 0.0
    return peaks


def _in_band(frequency: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.asarray((frequency >= 1 / MAX_CELL_PX) & (frequency <= min(0.49, 1 / MIN_MM_PX)))


def _floor(magnitude: NDArray[np.floating]) -> NDArray[np.floating]:
    """Running median of a spectrum: what the page has there without a grid."""
    size = max(15, len(magnitude) // 16) | 1
    return np.asarray(median_filter(magnitude, size=size, mode="nearest"))


def _profile_spectrum(blocks: Array, slope: float) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Frequency in cycles per px along y and magnitude over its local median, along lines of this slope."""
    h, n = blocks.shape
    rows = 4 * h
    fy = np.arange(rows // 2 + 1) / rows
    spectra = np.fft.rfft(blocks, n=rows, axis=0)  # (rows / 2 + 1, n)
    centre = (np.arange(n) + 0.5) * BLOCK_PX - 0.5
    turned = np.abs((spectra * np.exp(-2j * np.pi * slope * fy[:, None] * centre[None])).sum(axis=1))
    return fy, turned / (_floor(turned) + 1e-12)


def _peak_near(frequency: NDArray[np.floating], magnitude: NDArray[np.floating], at: float) -> float:
    step = frequency[1] - frequency[0]
    centre = round(at / step)
    return float(magnitude[max(0, centre - 2) : centre + 3].max(initial=0.0))


def _fundamental(
    frequency: NDArray[np.floating], magnitude: NDArray[np.floating], fy: float
) -> tuple[float, list[int], bool | None] | None:
    """Longest period with a peak at `fy` whose harmonics are all there, the strong ones, and `has_fifth`."""
    near = np.abs(frequency - fy) <= 3 * frequency[1]
    best = int(np.where(near & _in_band(frequency), magnitude, 0.0).argmax())
    if magnitude[best] < MIN_PEAK:
        return None
    base = 1 / _vertex(frequency, magnitude, best)
    # Every fifth line is what grids have; other multiples come from a strong overtone, or from moire.
    multiples = sorted(range(1, max(1, int(MAX_CELL_PX / base)) + 1), key=lambda m: (m != LINES_PER_CELL, -m))
    for multiple in multiples:
        period = base * multiple
        heights = _heights(frequency, magnitude, period)
        own = [k for k in range(1, len(heights) + 1) if k % multiple]  # those the base does not explain
        if multiple == 1 or (len(own) > 1 and _are_there(heights, own, multiple, magnitude[best])):
            break
    while _is_every_other(frequency, magnitude, period):
        period *= 2
    heights = _heights(frequency, magnitude, period)
    harmonics = [k for k, height in enumerate(heights, start=1) if height > 0.5 * MIN_PEAK]
    return period, harmonics or [1], _fifth_stands_out(heights, period)


def _heights(
    frequency: NDArray[np.floating], magnitude: NDArray[np.floating], period: float, at_least: int = 1
) -> NDArray[np.floating]:
    """Peaks at multiples of a period's frequency: ten, or as many as there are."""
    count = max(at_least, min(10, int(0.49 * period)))
    return np.array([_peak_near(frequency, magnitude, k / period) for k in range(1, count + 1)])


def _is_every_other(frequency: NDArray[np.floating], magnitude: NDArray[np.floating], period: float) -> bool:
    """Whether the peaks of a comb are every other one of twice its period, and those between as high.

    On crisp pages the strongest peak may be the first overtone of the lines; half their period then fits it.
    """
    if 2 * period > MAX_CELL_PX:
        return False
    heights = _heights(frequency, magnitude, 2 * period, at_least=2)
    between, own = np.median(heights[0::2]), np.median(heights[1::2])
    return bool(between > max(MIN_PEAK, AS_HIGH * own))


def _are_there(heights: NDArray[np.floating], own: list[int], multiple: int, base_height: float) -> bool:
    first = heights[[k - 1 for k in own if k < 2 * multiple]]
    # Thin lines stand out little among thick ones' fifths, and where these are all that is seen the strongest
    # peak may be an overtone. A thousandth of its power is what its own skirts leave, and without noise these
    # are long: no larger multiple is taken on such evidence.
    least = 0.03 * heights.max() if multiple <= LINES_PER_CELL else AS_HIGH * base_height
    weakest = np.sort(first)[len(first) // 5]  # one in five may be a zero of the lines' own width
    return bool(np.median(first) > max(0.6 * MIN_PEAK, least) and weakest > 2.5)


def _fifth_stands_out(heights: NDArray[np.floating], period_px: float) -> bool | None:
    if len(heights) < 5 or period_px < 5 * MIN_MM_PX:
        return None if period_px >= 5 * MIN_MM_PX else False
    others = np.delete(heights[:9], 4)
    return True if heights[4] > 1.7 * np.median(others) else None


def _vertex(frequency: NDArray[np.floating], magnitude: NDArray[np.floating], at: int) -> float:
    """Frequency of a peak between its bins, by a parabola through three of them."""
    if not 0 < at < len(magnitude) - 1:
        return float(frequency[at])
    a, b, c = magnitude[at - 1 : at + 2]
    # The highest bin of those searched may lie on the flank of a peak outside them.
    shift = np.clip(0.5 * (a - c) / min(a - 2 * b + c, -1e-12), -1, 1)
    return float(frequency[at] + shift * (frequency[1] - frequency[0]))


def _refine(blocks: Array, frequency: float, slope: float, harmonics: list[int]) -> tuple[float, float]:
    """Frequency along y and slope where the summed power of the harmonics peaks."""
    h, n = blocks.shape
    y = np.arange(h) - (h - 1) / 2
    x = ((np.arange(n) + 0.5) * BLOCK_PX - 0.5) - n * BLOCK_PX / 2
    multiples = np.asarray(harmonics)
    # Peaks narrow with the page: one unit of either variable is a thousandth of a cycle across it.
    unit = np.array([1e-2 / h, 1e-2 / (n * BLOCK_PX)])

    def loss(step: NDArray[np.floating]) -> float:
        fy, fx = np.array([frequency, slope * frequency]) + step * unit
        along_y = np.exp(-2j * np.pi * fy * np.outer(y, multiples)).astype(np.complex64)
        along_x = np.exp(-2j * np.pi * fx * np.outer(x, multiples))
        return -float((np.abs(((blocks.T @ along_y) * along_x).sum(axis=0)) ** 2).sum())

    simplex = np.array([[0, 0], [12, 0], [0, 12]], dtype=float)
    best = minimize(
        loss,
        np.zeros(2),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.05, "fatol": np.inf},
    )
    fy, fx = np.array([frequency, slope * frequency]) + best.x * unit
    return float(fy), float(fx / fy)
