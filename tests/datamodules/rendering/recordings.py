"""Recordings drawn by code, for the tests of the generator."""

from __future__ import annotations

import numpy as np

from datamodules.layout import LEADS
from datamodules.signals import Recording
from datamodules.wave_marks import LeadMarks


def beats(seed: int = 0, duration_s: float = 10.0, rate_hz: float = 500.0) -> Recording:
    """Twelve leads with P, QRS and T of different heights and some wander; no two leads are alike."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    phase_s = (time_s + rng.uniform(0, 0.8)) % 0.8 - 0.3
    waves = (
        (-0.16, 0.03, 0.15),
        (-0.025, 0.009, -0.2),
        (0.0, 0.012, 1.2),
        (0.03, 0.010, -0.4),
        (0.25, 0.05, 0.3),
    )
    mv = np.zeros((len(LEADS), time_s.size))
    for lead in mv:
        for centre_s, width_s, height_mv in waves:
            lead += rng.uniform(-1, 1) * height_mv * np.exp(-(((phase_s - centre_s) / width_s) ** 2))
        lead += 0.1 * np.sin(2 * np.pi * (0.3 * time_s + rng.random()))
    return Recording(f"beats-{seed}", f"patient-{seed}", rate_hz, np.round(mv, 3).astype(np.float32))


def marked(qrs_s, *, pr_s=0.16, qrs_width_s=0.09) -> LeadMarks:
    """Marks as LUDB has them: P, QRS and T of each beat, but no P before the first, no T after the last."""
    waves = []
    for number, onset_s in enumerate(qrs_s):
        if number:
            waves.append((onset_s - pr_s, "p", 0.1))
        waves.append((onset_s, "N", qrs_width_s))
        if number < len(qrs_s) - 1:
            waves.append((onset_s + 0.2, "t", 0.15))
    times_s = [time for onset, _, width in waves for time in (onset, onset + width / 2, onset + width)]
    symbols = [symbol for _, peak, _ in waves for symbol in ("(", peak, ")")]
    return LeadMarks(np.array(times_s), tuple(symbols))
