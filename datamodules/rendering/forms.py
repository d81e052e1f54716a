"""What forms, people and clinics put on a page besides the cart: tables, boxes, logos, stamps, handwriting.

None of it is in the mask (PROTOCOL R13).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.geometry import Geometry
from datamodules.rendering import furniture, lettering
from datamodules.rendering.lettering import Font

Layer = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom

_WORDS = (
    "Sinus rhythm", "normale", "Herzfrequenz", "HR", "bpm", "ms", "P", "PQ", "QRS", "QTc", "axis", "mV", "Hz",
    "Name:", "First name", "Geb.-Datum", "Date of birth", "Patient", "Physician", "Ref. by", "Technician",
    "Comments", "Medication", "Blood pressure", "mmHg", "Indication:", "chest pain", "Filter ON", "AC 50 Hz",
    "Muscle 35 Hz", "ST-T", "RV5/SV1", "RV5+SV1", "Bazett", "Fridericia", "Interpretation", "confirmed by",
    "Signature", "Hospital", "Clinic", "Street", "Tel.", "Fax", "Insurance", "left", "right", "block", "with",
    "probable", "possible", "inferior", "anterior", "lateral", "infarct", "age undetermined", "ischemia",
    "repolarization", "early", "voltage", "criteria", "for", "and", "no", "not", "change", "since", "last",
    "tracing", "of", "the", "Minnesota code", "1-1-6", "Report", "Original", "Copy", "Seite 1 / 2", "Device",
    "Serial", "SW 2.1", "Speed", "Gain", "Auto", "Manual", "Rhythm", "Lead", "Limb", "Chest", "Standard",
)  # fmt: skip
_STAMPS = ("COPY", "RECEIVED", "NORMAL", "CONFIRMED", "ARCHIVE", "Dr. med.", "CARDIOLOGY", "URGENT", "SEEN")
_PREFIXES = ("", "", "", "", "Lead ", "Abl. ")


def write_block(rng: np.random.Generator, layer: Layer, box: Box, font: Font) -> None:
    """Fill a box with lines of words and numbers, from the left or centred, more or less densely."""
    left, top, right, bottom = box
    pitch_px = float(rng.uniform(1.1, 1.7)) * font.size_px
    letters_in_line = max(int((right - left) / (0.55 * font.size_px)), 3)
    fill = float(rng.uniform(0.3, 1.0))
    y = top
    while y + font.size_px < bottom:
        text = _line_of_words(rng, max(3, int(letters_in_line * fill * rng.uniform(0.4, 1.0))))
        lettering.write(layer, text, (left, y), font)
        y += pitch_px


def write_known_block(rng: np.random.Generator, layer: Layer, box: Box, font: Font) -> None:
    """A patient, measurement or interpretation block as carts print it."""
    blocks: tuple[Callable[[np.random.Generator], list[str]], ...] = (
        lettering.identity,
        lettering.measurements,
        lettering.findings,
    )
    y = box[1]
    for line in blocks[int(rng.integers(len(blocks)))](rng):
        if y + font.size_px > box[3]:
            return
        lettering.write(layer, line, (box[0], y), font)
        y += 1.25 * font.size_px


def write_table(rng: np.random.Generator, layer: Layer, box: Box, font: Font) -> None:
    """A table of numbers, ruled or not."""
    left, top, right, bottom = box
    pitch_y = float(rng.uniform(1.2, 1.6)) * font.size_px
    pitch_x = float(rng.uniform(3.2, 6.0)) * font.size_px
    n_rows, n_columns = max(int((bottom - top) / pitch_y), 1), max(int((right - left) / pitch_x), 1)
    decimals = int(rng.integers(0, 3))
    values = np.round(rng.normal(0.0, 3.0, (n_rows, n_columns)) * 10.0 ** (2 - decimals), decimals)
    for row in range(n_rows):
        for column in range(n_columns):
            text = str(rng.choice(_WORDS))[:8] if 0 in (row, column) else f"{values[row, column]:g}"
            place = (left + column * pitch_x + 3.0, top + row * pitch_y + 0.15 * font.size_px)
            lettering.write(layer, text, place, font)
    if rng.random() < 0.6:
        rules_y = top + pitch_y * np.arange(n_rows + 1)
        rules_x = left + pitch_x * np.arange(n_columns + 1)
        lines = [np.array([[rules_x[0], y], [rules_x[-1], y]]) for y in rules_y]
        if rng.random() < 0.6:
            lines += [np.array([[x, rules_y[0]], [x, rules_y[-1]]]) for x in rules_x]
        furniture.draw_lines(layer, lines, int(rng.integers(1, 3)))


def draw_barcode(rng: np.random.Generator, layer: Layer, box: Box) -> None:
    """Upright bars of a few widths."""
    left, top, right, bottom = (round(side) for side in box)
    width = min(right - left, int(rng.integers(80, 200)))
    height = min(bottom - top, int(rng.integers(18, 50)))
    unit = int(rng.integers(1, 3))
    bars = np.repeat(rng.random(max(width // unit, 1)) < 0.5, unit)
    image = np.repeat((bars * np.uint8(255))[None], max(height, 1), axis=0)
    lettering.paste(layer, np.asarray(image, dtype=np.uint8), left, top)


def draw_logo(rng: np.random.Generator, layer: Layer, box: Box) -> None:
    """A filled or open round or angular sign with a large name beside it."""
    left, top, right, bottom = box
    size = float(np.clip(min(right - left, bottom - top), 14.0, 70.0))
    centre = (round(left + size / 2), round(top + size / 2))
    thickness = -1 if rng.random() < 0.4 else int(rng.integers(1, 5))
    if rng.random() < 0.5:
        cv2.circle(layer, centre, round(size / 2), 255, thickness, cv2.LINE_AA)
        cv2.circle(layer, centre, round(size / 4), 0 if thickness < 0 else 255, -1, cv2.LINE_AA)
    else:
        n_corners = int(rng.integers(3, 7))
        angle = np.arange(n_corners) * 2 * np.pi / n_corners + rng.random()
        corners = np.array(centre) + size / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        cv2.polylines(layer, [np.rint(corners).astype(np.int32)], True, 255, abs(thickness), cv2.LINE_AA)
    name = str(rng.choice(lettering.MANY_FONTS))
    words = " ".join(str(word) for word in rng.choice(_WORDS, 2))
    lettering.write(
        layer, words, (left + size + 6.0, top + size * 0.2), Font(name, int(rng.integers(18, 34)))
    )


def draw_stamp(rng: np.random.Generator, layer: Layer, centre: tuple[float, float]) -> None:
    """A word in a turned frame, unevenly inked."""
    font = Font(str(rng.choice(lettering.MANY_FONTS)), int(rng.integers(18, 44)))
    word = lettering.letters(str(rng.choice(_STAMPS)), font)
    pad = int(rng.integers(6, 16))
    stamp = np.pad(word, pad)
    side = (2, 2, stamp.shape[1] - 4, stamp.shape[0] - 4)
    if rng.random() < 0.7:
        cv2.rectangle(stamp, side, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    inked = cv2.resize(rng.random((4, 8), dtype=np.float32), stamp.shape[::-1], interpolation=cv2.INTER_CUBIC)
    stamp = np.asarray(stamp * np.clip(0.5 + inked, 0.0, 1.0), dtype=np.uint8)
    reach = int(np.hypot(*stamp.shape)) + 2
    matrix = cv2.getRotationMatrix2D(
        (stamp.shape[1] / 2, stamp.shape[0] / 2), float(rng.normal(0.0, 18.0)), 1.0
    )
    matrix = matrix + np.array([[0, 0, reach - stamp.shape[1]], [0, 0, reach - stamp.shape[0]]]) / 2
    turned = cv2.warpAffine(stamp, matrix, (reach, reach))
    place = (round(centre[0] - reach / 2), round(centre[1] - reach / 2))
    lettering.paste(layer, np.asarray(turned, dtype=np.uint8), *place)


def draw_handwriting(rng: np.random.Generator, layer: Layer, start: tuple[float, float]) -> None:
    """A few words of joined loops that mean nothing, in a pen's even line."""
    size = float(rng.uniform(5.0, 16.0))
    x, y = start
    slant, width_px = float(rng.uniform(-0.1, 0.7)), int(rng.integers(1, 4))
    for _ in range(int(rng.integers(1, 5))):
        n_loops = int(rng.integers(3, 10))
        turn = np.arange(n_loops * 12) * (2 * np.pi / 12)
        knots = rng.random((2, n_loops + 2))
        at = np.linspace(0.0, n_loops + 1.0, turn.size)
        tall, wide = (np.interp(at, np.arange(n_loops + 2), row) for row in knots)
        rise = size * (0.25 + 1.1 * tall**2) * np.sin(turn)
        along = size * (0.16 * turn + (0.2 + 0.3 * wide) * np.cos(turn))
        line = np.stack([x + along + slant * rise, y - rise + rng.normal(0.0, 1.0)], axis=1)
        furniture.draw_lines(layer, [line], width_px)
        x = float(line[-1, 0]) + size * float(rng.uniform(0.8, 2.0))


def draw_separators(
    rng: np.random.Generator, layer: Layer, geometry: Geometry, rows_px: tuple[float, float]
) -> None:
    """Dotted, dashed or whole lines between the columns of leads, or dots along the rows' zero."""
    dash = float(rng.choice((1.0, 3.0, 8.0, 1e4)))
    gap = float(rng.uniform(1.0, 3.0)) * min(dash, 8.0) + 1.0
    width_px = int(rng.integers(1, 3))
    if rng.random() < 0.7:
        columns = sorted({segment.x0_px for segment in geometry.segments})
        columns.append(furniture.trace_ends(geometry)[1])
        ends = [((x, rows_px[0]), (x, rows_px[1])) for x in columns]
    else:
        first, last = furniture.trace_ends(geometry)
        dash = 1.0
        gap = max(gap, 5.0)
        ends = [((first, y), (last, y)) for y in {segment.y0_px for segment in geometry.segments}]
    for begin, end in ends:
        dashed_line(layer, begin, end, (dash, gap), width_px)


def dashed_line(
    layer: Layer,
    begin: tuple[float, float],
    end: tuple[float, float],
    dash: tuple[float, float],
    width_px: int,
) -> None:
    """Draw a straight line of dashes: length and gap in px."""
    start, stop = np.array(begin), np.array(end)
    length = float(np.hypot(*(stop - start)))
    if length < 1.0:
        return
    step = (stop - start) / length
    places = np.arange(0.0, length, sum(dash))
    lines = [
        np.stack([start + place * step, start + min(place + dash[0], length) * step]) for place in places
    ]
    furniture.draw_lines(layer, lines, width_px)


def draw_boxes(rng: np.random.Generator, layer: Layer, box: Box) -> None:
    """Frame a block, or rule the page across."""
    left, top, right, bottom = box
    if rng.random() < 0.5:
        corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        furniture.draw_lines(layer, [np.array(corners)], int(rng.integers(1, 4)))
    else:
        y = top if rng.random() < 0.5 else bottom
        ends = np.array([[0.01 * layer.shape[1], y], [0.99 * layer.shape[1], y]])
        furniture.draw_lines(layer, [ends], int(rng.integers(1, 4)))


def name_leads(rng: np.random.Generator, layer: Layer, geometry: Geometry, font: Font, mm_px: float) -> None:
    """Write each lead's name above, on or below the start of its trace, or before it."""
    lift_mm = float(
        rng.choice(
            (rng.uniform(2.0, 9.0), rng.uniform(-1.0, 2.0), rng.uniform(-7.0, -2.0)), p=(0.7, 0.15, 0.15)
        )
    )
    indent = float(rng.uniform(1.0, 16.0)) if rng.random() < 0.75 else float(rng.uniform(-32.0, -6.0))
    prefix = str(rng.choice(_PREFIXES))
    is_upper = bool(rng.random() < 0.2)
    for segment in geometry.segments:
        name = prefix + (segment.lead.upper() if is_upper else segment.lead)
        y = segment.y0_px - lift_mm * mm_px - 0.8 * font.size_px + float(rng.normal(0.0, 1.5))
        lettering.write(layer, name, (segment.x0_px + indent, y), font)


def fill_band(rng: np.random.Generator, layer: Layer, band: tuple[float, float], n_blocks: int) -> None:
    """Put blocks of text, tables, codes and signs side by side into a band of the page.

    Args:
        rng: Source of the draws.
        layer: (H, W) uint8 darkness, changed in place.
        band: Upper and lower row.
        n_blocks: How many.
    """
    width = layer.shape[1]
    font_name = str(rng.choice(lettering.MANY_FONTS))
    edges = np.sort(rng.uniform(0.02, 0.9, n_blocks)) * width
    for number, left in enumerate(edges):
        right = edges[number + 1] - 8.0 if number + 1 < n_blocks else width * 0.98
        font = Font(font_name, int(rng.integers(9, 20)))
        top = band[0] + float(rng.uniform(0.0, 0.4)) * (band[1] - band[0])
        box = (float(left), top, float(right), band[1])
        _fill_box(rng, layer, box, font)
        if rng.random() < 0.2:
            draw_boxes(rng, layer, (box[0] - 4.0, box[1] - 4.0, box[2], box[3]))


def _fill_box(rng: np.random.Generator, layer: Layer, box: Box, font: Font) -> None:
    kind = rng.random()
    if kind < 0.35:
        write_known_block(rng, layer, box, font)
    elif kind < 0.65:
        write_block(rng, layer, box, font)
    elif kind < 0.82:
        write_table(rng, layer, box, font)
    elif kind < 0.91:
        draw_logo(rng, layer, box)
    else:
        draw_barcode(rng, layer, box)


def _line_of_words(rng: np.random.Generator, n_letters: int) -> str:
    parts: list[str] = []
    while sum(map(len, parts)) + len(parts) < n_letters:
        parts.append(str(rng.choice(_WORDS)) if rng.random() < 0.75 else str(int(rng.integers(0, 2000))))
    return " ".join(parts)[:n_letters]
