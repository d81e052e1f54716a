"""Recordings made of bumps, and pages of them, in milliseconds."""

import numpy as np

from datamodules.layout import LEADS, load_layout
from datamodules.rendering.binary import render
from datamodules.signals import Recording

RATE_HZ = 500.0


def bumpy_recording(seed: int, seconds: float = 10.0) -> Recording:
    """Twelve leads of beats at uneven intervals, each lead with its own P, QRS and T."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    beats_s = np.cumsum(rng.uniform(0.6, 1.05, 24)) - 0.4
    mv = np.zeros((len(LEADS), time_s.size))
    for lead in range(len(LEADS)):
        waves = (
            (-0.17, 0.025, rng.uniform(0.05, 0.15)),
            (-0.02, 0.008, rng.uniform(-0.3, 0.1)),
            (0.0, 0.011, rng.choice([-1, 1]) * rng.uniform(0.5, 1.4)),
            (0.03, 0.010, rng.uniform(-0.4, 0.1)),
            (0.28, 0.045, rng.uniform(-0.15, 0.35)),
        )
        for beat_s in beats_s:
            for delay_s, width_s, height_mv in waves:
                mv[lead] += height_mv * np.exp(-0.5 * ((time_s - beat_s - delay_s) / width_s) ** 2)
        mv[lead] += 0.05 * np.sin(2 * np.pi * (0.3 * time_s + rng.random()))
    return Recording(f"r{seed}", f"p{seed}", RATE_HZ, mv.astype(np.float32))


def binary_page(seed: int, layout: str = "four_line"):
    """A noisy binary page of `bumpy_recording(seed)`, with the recording and the layout."""
    recording = bumpy_recording(seed)
    shown = load_layout(layout)
    return recording, render(recording, shown, np.random.default_rng(seed)), shown


def true_place(geometry, lead: str, row: int, start_s: float):
    """Scan px of a segment's first sample at 0 mV."""
    (segment,) = [
        s for s in geometry.segments if (s.lead, s.row) == (lead, row) and abs(s.start_s - start_s) < 1e-6
    ]
    return geometry.to_scan([[segment.x0_px, segment.y0_px]])[0]
