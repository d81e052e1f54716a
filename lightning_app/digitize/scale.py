"""Pixels per second and per millivolt, from the grid, the calibration pulse, the print, or as declared.

The grid gives pixels per millimetre; which of its lines are millimetres, and how many of them make a
second, is settled by the length of the rows, which every known layout fixes at ten seconds. The pulse gives
the gain, else what is printed. Two sources that disagree are a refusal, never an average (PROTOCOL R3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_app.digitize.grid import Comb, Grid, Sense
from lightning_app.digitize.printed import NOTHING_SAID, Said
from lightning_app.digitize.pulse import Pulse
from lightning_app.digitize.results import DigitizeRefusal, Scale

SPEEDS_MM_S = (25.0, 50.0)
GAINS_MM_MV = (10.0, 5.0, 20.0)
PULSE_S = 0.2
PULSE_MM = 5.0
DURATION_S = 10.0
LENGTH_TOLERANCE = 0.03  # of a row's length; its ends are drawn to a pixel or two
WITH_PULSES = 0.1  # by which two pulses and their lines lengthen a row
DECLARED_TOLERANCE = 0.03
PULSE_TOLERANCE = 0.12  # of a pulse's width: a few px, drawn with a pen as thick
MAX_ANISOTROPY = 1.3
SAME_MM = 0.005  # families of a square grid differ by less


@dataclass(frozen=True)
class Declared:
    """What the user says about the page; None = to be measured."""

    px_per_s: float | None = None
    px_per_mv: float | None = None
    mm_per_s: float | None = None
    mm_per_mv: float | None = None


def mm_candidates(grid: Grid) -> list[tuple[float, float]]:
    """(x, y) px/mm that a grid may stand for, squarest first.

    Several where it does not show which lines are 5 mm. A family that is missing is taken to have the other's
    pitch.
    """
    standing = _mm_of(grid.x) if grid.x is not None else []
    lying = _mm_of(grid.y) if grid.y is not None else []
    if grid.x is None:
        return [(mm, mm) for mm in lying]
    if grid.y is None:
        return [(mm, mm) for mm in standing]
    pairs = [(x, y) for x in standing for y in lying + _parts_like(grid.y, standing)]
    pairs += [(x, y) for x in _parts_like(grid.x, lying) for y in lying]
    return sorted((mm for mm in pairs if _anisotropy(mm) < np.log(MAX_ANISOTROPY)), key=_anisotropy)


def _anisotropy(mm: tuple[float, float]) -> float:
    return float(abs(np.log(mm[0] / mm[1])))


def _parts_like(comb: Comb, others_mm: list[float]) -> list[float]:
    """Second to fourth parts of a period that are the other family's millimetre.

    Every so many pixels dots fall on the same fraction of one, so each second to fourth row may stand out.
    """
    parts = [comb.period_px / n for n in (2, 3, 4) if comb.has_fifth is None]
    return [part for part in parts if any(abs(part / mm - 1) < SAME_MM for mm in others_mm)]


def likely_mm(grid: Grid, row_px: float) -> list[tuple[float, float]]:
    """Those `mm_candidates` with which rows of this length last about ten seconds; all if none does."""
    candidates = mm_candidates(grid)
    fits = [
        mm for mm in candidates if any(abs(row_px / (mm[0] * v * DURATION_S) - 1) < 0.08 for v in SPEEDS_MM_S)
    ]
    return fits or candidates


def expected_row_px(grid: Grid) -> list[float]:
    """Lengths of ten seconds on this grid, at the usual speeds."""
    return [mm_x * speed * DURATION_S for mm_x, _ in mm_candidates(grid) for speed in SPEEDS_MM_S]


def sense_of(grid: Grid, row_px: float) -> Sense:
    """How well rows of this length last ten seconds on this grid at one of the usual speeds.

    Args:
        grid: One that may be the page's.
        row_px: Length of its rows, pulses and all.
    """
    longer = [row_px / expected_px - 1 for expected_px in expected_row_px(grid)]
    if any(abs(by) < LENGTH_TOLERANCE for by in longer):
        return Sense.FULL
    return Sense.WITH_PULSES if any(0 < by < WITH_PULSES for by in longer) else Sense.NONE


def _mm_of(comb: Comb) -> list[float]:
    if comb.has_fifth is True:
        return [comb.period_px / 5]
    if comb.has_fifth is False:
        return [comb.period_px]
    return [comb.period_px / 5, comb.period_px]


def settle_scale(
    grid: Grid, pulse: Pulse | None, row_px: float | None, declared: Declared, said: Said = NOTHING_SAID
) -> Scale:
    """Combine everything that is known about the scale of a straight page.

    Args:
        grid: Its line families.
        pulse: Its calibration pulse, if one was found.
        row_px: Length of its rows from the first to the last second, if both ends are seen.
        declared: The user's numbers.
        said: What its print says.

    Returns:
        The scale.

    Raises:
        DigitizeRefusal: `SCALE_UNKNOWN` or `SCALE_CONFLICT`.
    """
    candidates = mm_candidates(grid)
    if not candidates:
        return _without_grid(pulse, row_px, declared, said)
    tolerance = LENGTH_TOLERANCE if grid.x is not None else MAX_ANISOTROPY - 1
    (mm_x, mm_y), speed, assumptions = _speed(candidates, row_px, declared, tolerance)
    if declared.px_per_s is None and declared.mm_per_s is None:
        if pulse is not None or said.mm_per_mv:
            mm_x, mm_y, speed = _no_finer_than_printed(mm_x, mm_y, speed, said)
        _check_printed_speed(said, speed)
    gain, gain_source = _gain(mm_y, pulse, declared, said)
    _check_pulse_height(pulse, mm_y, gain)
    _check_pulse_width(pulse, mm_x, speed)
    if grid.x is None and row_px is not None and declared.px_per_s is None:
        # Only the lying lines are seen, and papers stretch: the rows' length is the better measure of time.
        mm_x = row_px / (speed * DURATION_S)
    if grid.y is None:
        assumptions = (*assumptions, "square millimetres: only the standing grid lines were found")
    if gain_source == "assumed":
        assumptions = (*assumptions, f"{gain:g} mm/mV: no calibration pulse and no printed gain was found")
    px_per_s = _agreed(declared.px_per_s, mm_x * speed, "px/s")
    px_per_mv = _agreed(declared.px_per_mv, mm_y * gain, "px/mV")
    return Scale(
        px_per_s=px_per_s,
        px_per_mv=px_per_mv,
        time_source="grid" if declared.px_per_s is None else "declared",
        voltage_source="grid" if declared.px_per_mv is None else "declared",
        mm_per_s=speed,
        mm_per_mv=gain,
        px_per_mm=(mm_x, mm_y),
        assumptions=assumptions,
        gain_source=gain_source,
    )


def _speed(
    candidates: list[tuple[float, float]], row_px: float | None, declared: Declared, tolerance: float
) -> tuple[tuple[float, float], float, tuple[str, ...]]:
    """Which lines are millimetres and how many make a second."""
    speeds = SPEEDS_MM_S if declared.mm_per_s is None else (declared.mm_per_s,)
    pairs = [(mm, speed) for mm in candidates for speed in speeds]
    if row_px is not None:
        length_px = row_px
        fits = [(abs(mm[0] * speed * DURATION_S / length_px - 1), mm, speed) for mm, speed in pairs]
        off, mm, speed = min(fits, key=lambda fit: (fit[0], _anisotropy(fit[1])))
        if off <= tolerance:
            return mm, speed, ()
        if declared.px_per_s is None:
            raise DigitizeRefusal(
                "SCALE_CONFLICT",
                f"rows are {length_px:.0f} px long; by the grid that is "
                f"{length_px / (mm[0] * speed):.2f} s at {speed:g} mm/s, and no known layout shows that",
                "give --px-per-s and --px-per-mv, or scan the whole page",
                row_px=length_px,
                px_per_mm=mm,
            )
    if declared.px_per_s is not None:
        off, mm, speed = min((abs(mm[0] * speed / declared.px_per_s - 1), mm, speed) for mm, speed in pairs)
        return mm, speed, ()
    return candidates[0], speeds[0], (f"{speeds[0]:g} mm/s",)


def _gain(mm_y: float, pulse: Pulse | None, declared: Declared, said: Said) -> tuple[float, str]:
    """Millimetres per millivolt, and who says so."""
    if declared.mm_per_mv is not None:
        return declared.mm_per_mv, "declared"
    if declared.px_per_mv is not None:
        return _nearest_gain(declared.px_per_mv / mm_y), "declared"
    if pulse is not None:
        return _nearest_gain(pulse.height_px / mm_y), "pulse"
    printed = _printed_gain(said)
    return (GAINS_MM_MV[0], "assumed") if printed is None else (printed, "print")


def _nearest_gain(mm_per_mv: float) -> float:
    return min(GAINS_MM_MV, key=lambda gain: abs(mm_per_mv / gain - 1))


def _printed_gain(said: Said) -> float | None:
    if len(said.mm_per_mv) > 1:
        raise DigitizeRefusal(
            "SCALE_CONFLICT",
            "the page prints " + " and ".join(f"{gain:g}" for gain in said.mm_per_mv) + " mm/mV",
            "give the gain with --mm-per-mv",
        )
    return said.mm_per_mv[0] if said.mm_per_mv else None


def _no_finer_than_printed(
    mm_x: float, mm_y: float, speed_mm_s: float, said: Said
) -> tuple[float, float, float]:
    """Millimetres and speed, where a grid was found half as wide as it is and the print tells.

    Thick lines at every fifth and thin ones in between may look as if they stood twice as close. Ten seconds
    then fit at 50 mm/s as well as at 25, and are as many pixels; only the gain depends on which it is.
    """
    if said.mm_per_s == SPEEDS_MM_S[:1] and speed_mm_s == 2 * SPEEDS_MM_S[0]:
        return 2 * mm_x, 2 * mm_y, SPEEDS_MM_S[0]
    return mm_x, mm_y, speed_mm_s


def _check_printed_speed(said: Said, speed_mm_s: float) -> None:
    if said.mm_per_s and speed_mm_s not in said.mm_per_s:
        raise DigitizeRefusal(
            "SCALE_CONFLICT",
            f"the page prints {said.mm_per_s[0]:g} mm/s; ten seconds fit its grid at {speed_mm_s:g} mm/s",
            "give --px-per-s and --px-per-mv, or scan the whole page",
        )


def _check_pulse_height(pulse: Pulse | None, mm_y: float, gain: float) -> None:
    if pulse is not None and abs(pulse.height_px / (gain * mm_y) - 1) > PULSE_TOLERANCE:
        raise DigitizeRefusal(
            "SCALE_CONFLICT",
            f"the calibration pulse is {pulse.height_px / mm_y:.1f} mm high, wanted {gain:g} mm",
            "give --px-per-s and --px-per-mv",
        )


def _check_pulse_width(pulse: Pulse | None, mm_x: float, speed_mm_s: float) -> None:
    px_per_s = mm_x * speed_mm_s
    # At 50 mm/s some carts still draw the five millimetres of 25 mm/s.
    expected_px = {PULSE_S * px_per_s, PULSE_MM * mm_x}
    if pulse is None or any(abs(pulse.width_px / px - 1) <= PULSE_TOLERANCE for px in expected_px):
        return
    raise DigitizeRefusal(
        "SCALE_CONFLICT",
        f"the calibration pulse is {pulse.width_px:.0f} px wide, {pulse.width_px / px_per_s:.2f} s by "
        f"grid and row length, wanted {PULSE_S} s",
        "give --px-per-s and --px-per-mv",
    )


def _agreed(declared: float | None, measured: float, unit: str) -> float:
    """The declared number where there is one, after checking it against the measured one."""
    if declared is None:
        return measured
    if abs(declared / measured - 1) > DECLARED_TOLERANCE:
        raise DigitizeRefusal(
            "SCALE_CONFLICT",
            f"{declared:g} {unit} declared, {measured:.2f} measured on the grid",
            "leave the option out or correct it",
        )
    return declared


def _without_grid(pulse: Pulse | None, row_px: float | None, declared: Declared, said: Said) -> Scale:
    px_per_s, time_source = declared.px_per_s, "declared"
    px_per_mv, voltage_source = declared.px_per_mv, "declared"
    assumptions: tuple[str, ...] = ()
    if pulse is not None:
        by_pulse = pulse.width_px / PULSE_S
        if (
            px_per_s is None
            and row_px is not None
            and abs(by_pulse * DURATION_S / row_px - 1) <= PULSE_TOLERANCE
        ):
            # The pulse tells that rows last ten seconds; they are fifty times longer and so more exact.
            px_per_s, time_source = row_px / DURATION_S, "pulse"
        if px_per_mv is None:
            px_per_mv, voltage_source = pulse.height_px, "pulse"
    elif px_per_s is None and px_per_mv is None and row_px is not None:
        px_per_s, px_per_mv = row_px / DURATION_S, _printed_px_per_mv(row_px / DURATION_S, said)
        time_source = voltage_source = "print"
        assumptions = ("rows of ten seconds and square millimetres: neither grid nor pulse was found",)
    if px_per_s is None or px_per_mv is None:
        raise DigitizeRefusal(
            "SCALE_UNKNOWN",
            "no grid"
            + (" and no calibration pulse" if pulse is None else ", and the pulse does not fit the rows"),
            "give --px-per-s and --px-per-mv",
        )
    return Scale(px_per_s, px_per_mv, time_source, voltage_source, assumptions=assumptions)


def _printed_px_per_mv(px_per_s: float, said: Said) -> float | None:
    """Pixels per millivolt of a page that prints both its scales, from one of them."""
    gain = _printed_gain(said)
    if gain is None or len(said.mm_per_s) != 1:
        return None
    return gain * px_per_s / said.mm_per_s[0]
