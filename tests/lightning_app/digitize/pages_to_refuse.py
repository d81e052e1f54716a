"""Fifty files no reader can read, with the code each is to be refused with, and how a reader does on them.

python -m tests.lightning_app.digitize.pages_to_refuse [--weights PATH] [--save FOLDER]
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datamodules.errors import DataError
from datamodules.geometry import IDENTITY, DrawnSegment, Geometry
from datamodules.layout import LEADS, Layout, load_layout
from datamodules.page import read_page
from datamodules.rendering import colour
from datamodules.rendering.make import as_printed
from datamodules.rendering.pages import draw_mask
from datamodules.signals import Recording, open_signals
from lightning_app.digitize.reader import SHIPPED, load_reader
from lightning_app.digitize.results import Refusal

A4 = (827, 1169)  # height and width at 100 dpi
WORDS = (
    "the",
    "patient",
    "was",
    "seen",
    "on",
    "ward",
    "and",
    "feels",
    "well",
    "today",
    "no",
    "fever",
    "130/80",
)


@dataclass(frozen=True)
class ToRefuse:
    """A file, and the codes that say rightly why it cannot be read; the first says it best."""

    name: str
    content: bytes
    codes: tuple[str, ...]


def pages_to_refuse() -> list[ToRefuse]:
    """All fifty; the same every time."""
    return [
        ToRefuse(f"{kind}-{number}", content, codes)
        for kind, count, codes, draw in _KINDS
        for number, content in enumerate(_drawn(kind, count, draw))
    ]


def _drawn(
    kind: str, count: int, draw: Callable[[np.random.Generator, int], np.ndarray | bytes]
) -> Iterator[bytes]:
    for number in range(count):
        drawn = draw(np.random.default_rng([number, *kind.encode()]), number)
        yield drawn if isinstance(drawn, bytes) else png(drawn)


def png(pixels: np.ndarray) -> bytes:
    """A page as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def blank(rng, number):
    page = np.full((*A4, 3), (255, 255 - 10 * number, 255 - 20 * number), np.uint8)
    return page if number < 2 else np.clip(page + rng.normal(0, 6, page.shape), 0, 255).astype(np.uint8)


def photo(rng, number):
    """Colours and edges at every size, as in a landscape."""
    page = np.zeros((*A4, 3), np.float32)
    for size in (3, 6, 12, 25, 50, 100):
        coarse = rng.random((size, size, 3), dtype=np.float32)
        page += cv2.resize(coarse, A4[::-1], interpolation=cv2.INTER_CUBIC) / np.sqrt(size)
    page = 60 + 170 * (page - page.min()) / np.ptp(page)
    for _ in range(12):
        centre = rng.integers(0, A4[::-1]).tolist()
        cv2.ellipse(
            page, centre, rng.integers(20, 200, 2).tolist(), 0, 0, 360, rng.integers(60, 230, 3).tolist(), -1
        )
    return page.astype(np.uint8)


def letter(rng, number):
    page = Image.new("L", A4[::-1], 255)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14 + 3 * number)
    for y in range(50, A4[0] - 60, 24 + 5 * number):
        pen.text((60, y), " ".join(rng.choice(WORDS, int(rng.integers(5, 16)))), 0, font)
    return np.array(page)


def table(rng, number):
    page = Image.new("RGB", A4[::-1], "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    step_x, step_y = 90 + 20 * number, 24 + 6 * number
    for x in range(40, A4[1] - 40, step_x):
        pen.line([(x, 40), (x, A4[0] - 40)], (60, 60, 60))
    for y in range(40, A4[0] - 40, step_y):
        pen.line([(40, y), (A4[1] - 40, y)], (60, 60, 60))
        for x in range(40, A4[1] - 140, step_x):
            pen.text((x + 5, y + 4), str(rng.choice(WORDS)) if x == 40 else f"{rng.normal():.2f}", 0, font)
    return np.array(page)


def music(rng, number):
    page = np.full(A4, 255, np.uint8)
    space = 9 + number
    for top in range(60, A4[0] - 100, 13 * space):
        for line in range(5):
            cv2.line(page, (50, top + line * space), (A4[1] - 50, top + line * space), 0, 1)
        for x in range(110, A4[1] - 70, 45):
            y = top + int(rng.integers(0, 9)) * space // 2
            cv2.ellipse(page, (x, y), (6, 4), -20, 0, 360, 0, -1)
            cv2.line(page, (x + 6, y), (x + 6, y - 4 * space), 0, 2)
    return page


def graph(rng, number):
    page = np.full((*A4, 3), 255, np.uint8)
    left, right, top, bottom = 100, A4[1] - 80, 80, A4[0] - 100
    for x in np.linspace(left, right, 9).astype(int).tolist():
        cv2.line(page, (x, top), (x, bottom), (215, 215, 215), 1)
        cv2.putText(page, str(x), (x - 15, bottom + 25), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
    for y in np.linspace(top, bottom, 6).astype(int).tolist():
        cv2.line(page, (left, y), (right, y), (215, 215, 215), 1)
    cv2.rectangle(page, (left, top), (right, bottom), (0, 0, 0), 1)
    x = np.arange(left, right)
    walk = np.cumsum(rng.normal(0, 1.5, x.size)) if number % 2 else 90 * np.sin(x / (40 + 20 * number))
    y = np.clip((top + bottom) / 2 + walk, top + 5, bottom - 5)
    cv2.polylines(page, [np.stack([x, y], axis=1).astype(np.int32)], False, (180, 60, 20), 2, cv2.LINE_AA)
    return page


def grid(rng, number):
    colour_of_lines = ((230, 90, 90), (240, 150, 170), (120, 120, 120), (0, 0, 0), (120, 170, 230))[number]
    page = np.full((*A4, 3), 255, np.uint8)
    for step, width in ((4, 1), (20, 2 if number % 2 else 1)):
        if number == 3 and step == 4:
            continue
        page[::step] = colour_of_lines
        page[:, ::step] = colour_of_lines
        if width == 2:
            page[1::step] = colour_of_lines
            page[:, 1::step] = colour_of_lines
    return page


def recording(number: int) -> Recording:
    """A simulated recording, filtered as a cart does."""
    source = open_signals("simulated", 77)
    return as_printed(source.load(source.record_ids()[number]), 10.0)


def ecg(rng, number, layout="3x4+1"):
    return colour.render(recording(number), load_layout(layout), rng).image


def cut_off(rng, number):
    page = ecg(rng, number, ("3x4+1", "6x2", "12x1", "3x4", "3x4+3")[number])
    height, width = page.shape[:2]
    keep = (
        (slice(0, round(0.45 * height)), slice(None)),
        (slice(None), slice(0, round(0.4 * width))),
        (slice(round(0.6 * height), None), slice(None)),
        (slice(None), slice(round(0.55 * width), None)),
        (slice(round(0.3 * height), round(0.6 * height)), slice(0, round(0.6 * width))),
    )[number]
    return np.ascontiguousarray(page[keep])


def tiny(rng, number):
    page = ecg(rng, number)
    width = (120, 90, 60, 12)[number]
    return cv2.resize(page, (width, round(width * 0.7)), interpolation=cv2.INTER_AREA)


def mirrored(rng, number):
    return np.ascontiguousarray(ecg(rng, number, ("3x4+1", "3x4", "3x4+3", "six_line")[number])[:, ::-1])


def askew(rng, number):
    page = ecg(rng, number)
    reach = int(np.hypot(*page.shape[:2]))
    turn = cv2.getRotationMatrix2D((page.shape[1] / 2, page.shape[0] / 2), (20, 35, -50)[number], 1.0)
    turn = turn + np.array([[0, 0, reach - page.shape[1]], [0, 0, reach - page.shape[0]]]) / 2
    return cv2.warpAffine(page, turn, (reach, reach), borderValue=(255, 255, 255))


def several(rng, number):
    first, second = ecg(rng, number), ecg(rng, number + 4)
    height, width = (min(first.shape[axis], second.shape[axis]) for axis in (0, 1))
    pair = [first[:height, :width], second[:height, :width]]
    return np.vstack(pair) if number % 2 else np.hstack(pair)


def without_scale(rng, number):
    """Traces and nothing else: neither grid nor pulse."""
    px = 4.0 + number
    layout = load_layout(("3x4+1", "6x2", "3x4")[number])
    segments = tuple(
        DrawnSegment(
            one.lead, one.row, one.start_s, one.stop_s, 60 + one.start_s * 25 * px, (25 + 30 * one.row) * px
        )
        for one in layout.segments
    )
    shape = (round(120 + 250 * px), round((40 + 30 * layout.n_rows) * px))
    geometry = Geometry(*shape, 25 * px, 10 * px, IDENTITY, segments)
    return 255 - 255 * draw_mask(recording(number), geometry, 2.0)


def one_lead(rng, number):
    """A strip of one lead, as a monitor prints it: no layout of twelve."""
    strip = Layout("strip", 10.0, ((LEADS[1],),) if number else ((LEADS[1],), (LEADS[6],)))
    return colour.render(recording(number), strip, rng).image


def broken_file(rng, number):
    page = Image.fromarray(letter(rng, 0))
    buffer = io.BytesIO()
    if number == 0:
        page.save(buffer, "PDF")
        return buffer.getvalue()
    page.save(buffer, "JPEG" if number == 1 else "TIFF")
    return buffer.getvalue()[: buffer.tell() // 2]


NOTHING = ("NO_WAVEFORM",)
# What is drawn, how often, and which codes are right. Where part of a page is missing, or two lie side by
# side, rows do not last the seconds that the grid says: SCALE_CONFLICT gives that as its reason.
_KINDS = (
    ("blank", 3, NOTHING, blank),
    ("photo", 4, NOTHING, photo),
    ("letter", 4, NOTHING, letter),
    ("table", 3, NOTHING, table),
    ("music", 4, NOTHING, music),
    ("graph", 3, ("NO_WAVEFORM", "LAYOUT_UNKNOWN", "SCALE_UNKNOWN"), graph),
    ("grid", 4, NOTHING, grid),
    ("cut_off", 5, ("LAYOUT_UNKNOWN", "LOW_CONFIDENCE", "SCALE_CONFLICT"), cut_off),
    ("tiny", 3, ("TOO_SMALL",), tiny),
    ("mirrored", 4, ("LOW_CONFIDENCE", "LAYOUT_UNKNOWN"), mirrored),
    ("askew", 3, ("NO_WAVEFORM", "LAYOUT_UNKNOWN"), askew),
    ("several", 3, ("LAYOUT_UNKNOWN", "LOW_CONFIDENCE", "SCALE_CONFLICT"), several),
    ("without_scale", 2, ("SCALE_UNKNOWN",), without_scale),
    ("one_lead", 2, ("LAYOUT_UNKNOWN",), one_lead),
    ("pdf", 1, ("IMG_FORMAT",), lambda rng, number: broken_file(rng, 0)),
    ("half_jpeg", 1, ("IMG_TRUNCATED",), lambda rng, number: broken_file(rng, 1)),
    ("half_tiff", 1, ("IMG_TRUNCATED",), lambda rng, number: broken_file(rng, 2)),
)


def main() -> None:
    """Read all pages and compare the codes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--save", type=Path, help="Write the files here, too.")
    given = parser.parse_args()
    reader = load_reader(given.weights)
    right = accepted = 0
    pages = pages_to_refuse()
    for page in pages:
        if given.save:
            given.save.mkdir(parents=True, exist_ok=True)
            (given.save / page.name).write_bytes(page.content)
        try:
            result, _ = reader.read(read_page(page.content, where=page.name))
            code = result.code if isinstance(result, Refusal) else "accepted"
        except DataError as error:
            code = error.problems[0].code
        right += code in page.codes
        accepted += code == "accepted"
        mark = "" if code in page.codes else f"   wanted {' or '.join(page.codes)}"
        print(f"{page.name:<18} {code}{mark}", flush=True)
    print(f"{right} of {len(pages)} refused for the right reason, {accepted} accepted")


if __name__ == "__main__":
    main()
