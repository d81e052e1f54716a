"""Text on a page: fonts that come with the dependencies, and plausible words for ECG reports."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageFont

Layer = npt.NDArray[np.uint8]

PLAIN_FONTS = ("DejaVuSans", "DejaVuSansMono", "DejaVuSans-Bold", "DejaVuSansMono-Bold", "vector")
# The colour pages are another type of page (PROTOCOL R7), so their letters are others, too.
OTHER_FONTS = ("DejaVuSerif", "STIXGeneral", "DejaVuSerif-Bold", "STIXGeneralBol", "cmr10", "vector-serif")
MANY_FONTS = (
    *PLAIN_FONTS, *OTHER_FONTS, "DejaVuSans-Oblique", "DejaVuSansMono-Oblique", "DejaVuSansMono",
    "DejaVuSerif-Italic", "STIXGeneralItalic", "cmss10", "cmtt10", "cmb10", "vector-plain", "vector-duplex",
    "vector-small", "vector-triplex", "vector-italic", "vector-script",
)  # fmt: skip
_VECTOR = {
    "vector": cv2.FONT_HERSHEY_SIMPLEX,
    "vector-serif": cv2.FONT_HERSHEY_COMPLEX,
    "vector-plain": cv2.FONT_HERSHEY_PLAIN,
    "vector-duplex": cv2.FONT_HERSHEY_DUPLEX,
    "vector-small": cv2.FONT_HERSHEY_COMPLEX_SMALL,
    "vector-triplex": cv2.FONT_HERSHEY_TRIPLEX,
    "vector-italic": cv2.FONT_HERSHEY_COMPLEX | cv2.FONT_ITALIC,
    "vector-script": cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
}
# Hershey's plain letters are half as high as the others at the same scale.
_VECTOR_PX = {"vector-plain": 15.0, "vector-small": 20.0}


@dataclass(frozen=True)
class Font:
    """A typeface at a size.

    Attributes:
        name: One of `MANY_FONTS`.
        size_px: Height of a line of text.
    """

    name: str
    size_px: int


@lru_cache(maxsize=256)
def _outline(name: str, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_folder() / f"{name}.ttf"), size_px)


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    """Fonts that ship with matplotlib, found without importing it."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ValueError("got no matplotlib, wanted its fonts; run make setup")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


@lru_cache(maxsize=4096)
def letters(text: str, font: Font) -> Layer:
    """Set one line of text.

    Args:
        text: ASCII.
        font: Typeface and size.

    Returns:
        (h, w) uint8 darkness. Read-only: the array is shared.
    """
    if font.name in _VECTOR:
        face, scale = _VECTOR[font.name], font.size_px / _VECTOR_PX.get(font.name, 30.0)
        weight = 1 if font.size_px < 26 else 2
        (width, height), below = cv2.getTextSize(text, face, scale, weight)
        image = np.zeros((height + below + 2, width + 2), dtype=np.uint8)
        cv2.putText(image, text, (1, height), face, scale, 255, weight, cv2.LINE_AA)
    else:
        core = _outline(font.name, font.size_px).getmask(text, mode="L")
        image = np.array(core, dtype=np.uint8).reshape(core.size[1], core.size[0])
    image.flags.writeable = False
    return image


def write(canvas: Layer, text: str, xy_px: tuple[float, float], font: Font) -> None:
    """Write one line of text on a layer; what lies outside is cut off.

    Args:
        canvas: (H, W) uint8 darkness, changed in place.
        text: ASCII.
        xy_px: Upper left corner.
        font: Typeface and size.
    """
    paste(canvas, letters(text, font), round(xy_px[0]), round(xy_px[1]))


def paste(canvas: Layer, image: Layer, x: int, y: int) -> None:
    """Darken a layer by a small image; what lies outside is cut off.

    Args:
        canvas: (H, W) uint8 darkness, changed in place.
        image: (h, w) uint8 darkness.
        x: Column of the image's left side.
        y: Row of its upper side.
    """
    height, width = canvas.shape
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + image.shape[0], height), min(x + image.shape[1], width)
    if top < bottom and left < right:
        target = canvas[top:bottom, left:right]
        np.maximum(target, image[top - y : bottom - y, left - x : right - x], out=target)


_FINDINGS = (
    "Normal sinus rhythm", "Sinus bradycardia", "Sinus tachycardia", "Left axis deviation", "Normal ECG",
    "Nonspecific T wave abnormality", "Left ventricular hypertrophy", "Abnormal ECG", "Low voltage QRS",
    "Incomplete right bundle branch block", "First degree A-V block", "Cannot rule out anterior infarct",
    "No previous ECGs available", "Unconfirmed", "Atrial fibrillation", "Prolonged QT", "Otherwise normal",
)  # fmt: skip
_FOOTS = ("25mm/s 10mm/mV 40Hz", "0.05 - 40 Hz", "150Hz 12SL 235 CID: 36", "EDT: 08:14 ORDER:", "Page 1 of 1")
_HEADS = ("Medical centre", "Dept. of Cardiology", "Resting ECG", "Electrocardiogram", "Ward 4 / Bed 12")
_NOTES = ("PAC", "PVC", "N", "V", "artefact?", "* 25 mm/s", "see report", "cf. II", "ok", "-60-")


def measurements(rng: np.random.Generator) -> list[str]:
    """Lines of a cart's measurement block, with numbers that mean nothing."""
    rate, pr, qrs, qt, qtc = (
        int(n) for n in rng.integers((45, 110, 70, 320, 370), (140, 220, 150, 480, 490))
    )
    axes = " ".join(str(int(n)) for n in rng.integers(-60, 100, 3))
    return [
        f"Vent. rate {rate:>6} BPM", f"PR interval {pr:>5} ms", f"QRS duration {qrs:>4} ms",
        f"QT/QTc {qt:>7}/{qtc} ms", f"P-R-T axes {axes:>10}",
    ]  # fmt: skip


def identity(rng: np.random.Generator) -> list[str]:
    """Lines of a patient block; all of it is invented."""
    number, day, month, year = (int(n) for n in rng.integers((10**6, 1, 1, 1998), (10**8, 29, 13, 2020)))
    age, height, weight = (int(n) for n in rng.integers((18, 148, 42), (94, 196, 120)))
    sex = "Male" if rng.random() < 0.5 else "Female"
    return [
        f"ID: {number:08d}", f"{day:02d}-{month:02d}-{year} {number % 24:02d}:{number % 60:02d}",
        f"{age} yr  {sex}", f"{height} cm  {weight} kg", f"Room: {number % 700}   Loc: {number % 40}",
    ]  # fmt: skip


def findings(rng: np.random.Generator) -> list[str]:
    """Lines of an automatic interpretation."""
    return [str(line) for line in rng.choice(_FINDINGS, int(rng.integers(2, 5)), replace=False)]


def foot_line(rng: np.random.Generator, mm_per_s: float = 25.0) -> str:
    """Text at the bottom of a page of this paper speed."""
    parts = rng.choice(_FOOTS, int(rng.integers(1, 4)), replace=False)
    return "   ".join(str(part) for part in parts).replace("25mm/s", f"{mm_per_s:g}mm/s")


def head_line(rng: np.random.Generator) -> str:
    """Title of a page."""
    return str(rng.choice(_HEADS))


def note(rng: np.random.Generator) -> str:
    """A short note between the traces."""
    return str(rng.choice(_NOTES))
