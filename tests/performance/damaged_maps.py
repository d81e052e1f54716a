"""Probability maps as a half-trained network gives them, made from a drawn mask and the page's own ink.

What such a network does wrong, each drawn anew for every page:

- its map is soft, and unequally sure over the page;
- steep strokes, which are thin and rare, are fainter than level ones, or missing;
- there are breaks, some of them longer than a QRS complex is wide;
- letters, pulses and pieces of grid lines are taken for trace, here surely, there faintly;
- next to such ink the trace itself is swollen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Damage:
    """How a map is spoilt.

    Attributes:
        blur_px: Sigma of its softness.
        unsure: Share of its height that it loses where it is least sure.
        steep_loss: Share of its height that a vertical stroke loses.
        breaks_per_mpx: Breaks per million pixels of page.
        break_px: Their longest length along the trace.
        letters: Share of the components of other ink that are taken for trace.
        lines: Share of the page where other ink is taken for trace.
        swollen: Share of the trace that is thickened by a pixel.
    """

    blur_px: float
    unsure: float
    steep_loss: float
    breaks_per_mpx: float
    break_px: float
    letters: float
    lines: float
    swollen: float


def draw_damage(rng: np.random.Generator) -> Damage:
    """Draw how badly a page is spoilt, from hardly to badly."""
    strength = rng.uniform(0.1, 1.0)

    def up_to(most: float) -> float:
        return float(most * strength * rng.uniform(0.3, 1.0))

    return Damage(
        blur_px=0.4 + up_to(0.9),
        unsure=up_to(0.8),
        steep_loss=up_to(1.0),
        breaks_per_mpx=up_to(120.0),
        break_px=2 + up_to(16.0),
        letters=up_to(0.6),
        lines=up_to(0.15),
        swollen=up_to(0.3),
    )


def damaged(mask: Map, ink: NDArray[np.uint8], seed: int, scan_id: str) -> Map:
    """Spoil a drawn mask.

    Args:
        mask: (H, W) float32 0/1.
        ink: (H, W) uint8, the page, 0 = paper.
        seed: Seed of the damage.
        scan_id: The damage is keyed to (seed, scan_id).

    Returns:
        (H, W) float32 in [0, 1].
    """
    digest = hashlib.sha256(f"damage\n{seed}\n{scan_id}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    return spoilt(mask, ink, draw_damage(rng), rng)


def spoilt(mask: Map, ink: NDArray[np.uint8], how: Damage, rng: np.random.Generator) -> Map:
    """Spoil a drawn mask in this way; shapes as in `damaged`."""
    trace = mask * (1 - np.float32(how.steep_loss) * _steepness(mask))
    thick = cv2.dilate(trace, np.ones((3, 3), np.uint8))
    trace = np.where(_patches(mask.shape, how.swollen, 20, rng), thick, trace)
    trace = trace * _without_breaks(mask, how, rng)
    other = (ink > 127).astype(np.float32) * (cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0)
    false = np.maximum(_letters(other, how.letters, rng), _lines(other, how.lines, rng))
    soft = cv2.GaussianBlur(np.maximum(trace, false), (0, 0), how.blur_px)
    # A thin stroke that is only blurred loses height; a network keeps it, and loses it where it is unsure.
    soft = np.clip(soft * (1 + how.blur_px), 0, 1)
    return (soft * (1 - np.float32(how.unsure) * _field(mask.shape, 60, rng))).astype(np.float32)


def _steepness(mask: Map) -> Map:
    """0 on level strokes, 1 on vertical ones: by the height of the run each pixel lies in."""
    tall = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((15, 1), np.uint8))
    middle = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((9, 1), np.uint8))
    return np.asarray((tall + middle) / 2, dtype=np.float32)


def _field(shape: tuple[int, ...], size_px: int, rng: np.random.Generator) -> Map:
    """Smooth field over the page, even between 0 and 1."""
    coarse = rng.random((shape[0] // size_px + 2, shape[1] // size_px + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC).clip(0, 1))


def _patches(
    shape: tuple[int, ...], share: float, size_px: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    field = _field(shape, size_px, rng)
    return np.asarray(field < np.quantile(field[::4, ::4], share))


def _without_breaks(mask: Map, how: Damage, rng: np.random.Generator) -> Map:
    """1 everywhere but in the breaks."""
    keep = np.ones(mask.shape, dtype=np.float32)
    ys, xs = np.nonzero(mask)
    n = rng.poisson(how.breaks_per_mpx * mask.size / 1e6)
    for at in rng.integers(len(xs), size=n) if len(xs) else ():
        axes = (round(rng.uniform(1, how.break_px / 2 + 1)), round(rng.uniform(3, 12)))
        cv2.ellipse(keep, (int(xs[at]), int(ys[at])), axes, 0, 0, 360, float(rng.uniform(0, 0.3)), -1)
    return keep


def _letters(other: Map, share: float, rng: np.random.Generator) -> Map:
    """Components of other ink of a letter's size that are taken for trace."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(other.astype(np.uint8))
    size = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    height = np.where(rng.random(len(stats)) < share, rng.uniform(0.2, 1.0, len(stats)), 0.0)
    height[(size < 5) | (size > 60)] = 0.0
    return np.asarray(height[labels], dtype=np.float32)


def _lines(other: Map, share: float, rng: np.random.Generator) -> Map:
    """Other ink in patches of the page, at a height of their own."""
    height = _field(other.shape, 30, rng)
    return np.asarray(other * _patches(other.shape, share, 25, rng) * height, dtype=np.float32)
