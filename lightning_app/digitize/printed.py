"""What a page says of itself in print: its gain and its paper speed.

Text is found and read by RapidOCR (PP-OCR, Apache-2.0), whose networks come with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAINS_MM_MV = (2.5, 5.0, 10.0, 20.0, 40.0)
SPEEDS_MM_S = (12.5, 25.0, 50.0, 100.0)
# In small print a stroke of m is lost, a slash is read as l, i or |, an s as 5 or $. Numbers must be exact.
_NUMBER = r"(?<![\d.,])(\d{1,3}(?:[.,]\d)?)[.\s]*"
_SLASH = r"[\s/\\|lLiI1]{0,3}"
_GAIN = re.compile(_NUMBER + rf"(?:mm{_SLASH}(?:m|n|nl|rn)?|m\s?//?\s?m)\s?[vV]")
_SPEED = re.compile(_NUMBER + rf"mm?(?:{_SLASH}[sS$](?:ec)?|\s?/\s?5)(?![a-zA-Z])")


@dataclass(frozen=True)
class Said:
    """What the print says; every value that stands there once, smallest first.

    Attributes:
        mm_per_mv: Gains.
        mm_per_s: Paper speeds.
    """

    mm_per_mv: tuple[float, ...] = ()
    mm_per_s: tuple[float, ...] = ()


NOTHING_SAID = Said()


def what_is_said(lines: Iterable[str]) -> Said:
    """Find gain and speed in lines of text.

    Args:
        lines: As read.

    Returns:
        Those of them that carts print; other numbers before these units are misread.
    """
    text = "\n".join(lines)
    return Said(_values(_GAIN, text, GAINS_MM_MV), _values(_SPEED, text, SPEEDS_MM_S))


def _values(unit: re.Pattern[str], text: str, usual: tuple[float, ...]) -> tuple[float, ...]:
    found = {float(match[1].replace(",", ".")) for match in unit.finditer(text)}
    return tuple(sorted(found.intersection(usual)))


def read_lines(image: NDArray[np.uint8]) -> tuple[str, ...]:
    """Read every upright line of text on an image.

    Args:
        image: (H, W) or (H, W, 3) uint8, 255 = paper.

    Returns:
        The lines, in no particular order.
    """
    # The engine remembers what it was last told to leave out.
    return tuple(_ocr()(np.ascontiguousarray(image), use_det=True).txts or ())


def read_word(image: NDArray[np.uint8]) -> str:
    """Read an image of one upright word.

    Args:
        image: (H, W) uint8, 255 = paper, with a margin around the word.

    Returns:
        Its text, empty if it is none.
    """
    return "".join(_ocr()(np.ascontiguousarray(image), use_det=False).txts or ())


@cache
def _ocr() -> Any:
    import torch
    from rapidocr import RapidOCR

    threads = torch.get_num_threads()
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,  # takes every other short upright line for one on its head
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
