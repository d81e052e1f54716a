"""Twelve leads of one record, and the files a digitized page becomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.files import write_atomic
from datamodules.layout import LEADS
from datamodules.page import write_mask_png
from lightning_app.digitize.results import RATE_HZ, Digitized, NumberedRows, Refusal, SegmentReading

SCHEMA_VERSION = 1
ADC_PER_MV = 1000.0
UNITS = {"bpm": "1/min", "ms": "ms"}
# Twelve hues that differ from their neighbours on the page; the order is that of LEADS.
COLOURS = (
    (214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (255, 127, 14), (0, 150, 150),
    (227, 60, 160), (100, 110, 0), (23, 90, 255), (140, 86, 75), (0, 170, 90), (190, 0, 255),
)  # fmt: skip


def assemble(segments: Sequence[SegmentReading], duration_s: float) -> NDArray[np.float32]:
    """Put the stretches of a page into one record.

    Where a lead is drawn twice, as in a rhythm strip, the later stretch is first shifted to the level of the
    earlier ones, then both are averaged with their confidence as weight.

    Args:
        segments: What was read.
        duration_s: Length of the record.

    Returns:
        (12, n) float32 mV at 500 Hz in the order of `LEADS`, NaN where nothing was drawn.
    """
    record = np.full((len(LEADS), round(duration_s * RATE_HZ)), np.nan)
    for number, lead in enumerate(LEADS):
        weight = np.zeros(record.shape[1])
        # The long strip first: it gives the level, and its own segment follows.
        for part in sorted((s for s in segments if s.lead == lead), key=lambda s: s.start_s - s.stop_s):
            first = round(part.start_s * RATE_HZ)
            where = slice(first, first + len(part.mv))
            _merge(record[number, where], weight[where], part)
    return record.astype(np.float32)


def _merge(lead: NDArray[np.float64], weight: NDArray[np.float64], part: SegmentReading) -> None:
    values = part.mv[: len(lead)].astype(np.float64)
    both = np.isfinite(lead) & np.isfinite(values)
    if both.any():
        values = values - np.median(values[both] - lead[both])
    new = np.where(np.isfinite(values), max(part.confidence, 1e-3), 0.0)
    total = weight + new
    with np.errstate(invalid="ignore", divide="ignore"):
        mixed = (np.where(weight > 0, lead, 0) * weight + np.where(new > 0, values, 0) * new) / total
    lead[:] = np.where(total > 0, mixed, np.nan)
    weight[:] = total


def write_record(folder: Path, name: str, leads: Sequence[str], mv: NDArray[np.float32]) -> list[Path]:
    """Write NAME.hea and NAME.dat: WFDB, 16 bit, mV, 500 Hz, NaN as WFDB's invalid sample.

    Args:
        folder: Where they go.
        name: Their stem.
        leads: Names.
        mv: (leads, n) mV at 500 Hz.
    """
    import wfdb  # takes a second, and a refused page leaves no record

    wfdb.wrsamp(
        name,
        fs=RATE_HZ,
        units=["mV"] * len(leads),
        sig_name=list(leads),
        p_signal=mv.T.astype(np.float64),
        fmt=["16"] * len(leads),
        adc_gain=[ADC_PER_MV] * len(leads),
        baseline=[0] * len(leads),
        write_dir=str(folder),
    )
    return [folder / f"{name}.hea", folder / f"{name}.dat"]


def write_reading(
    folder: Path, name: str, result: Digitized | Refusal, page: NDArray[np.uint8] | None,
    mask: NDArray[np.bool_] | None,
) -> list[Path]:  # fmt: skip
    """Write everything that is known about a page.

    A refusal gets its JSON, its mask if there is one, and numbered rows if only their layout is unknown.

    Args:
        folder: Where the files go; it exists.
        name: Their common stem.
        result: Reading or refusal.
        page: (H, W) ink or (H, W, 3) RGB of the page as read; None if it could not be read.
        mask: (H, W) bool waveform.

    Returns:
        The files.
    """
    files = [folder / f"{name}.json"]
    if mask is not None:
        files.append(folder / f"{name}.mask.png")
        write_mask_png(files[-1], mask)
    segments = _segments(result)
    if segments and page is not None:
        files.append(folder / f"{name}.overlay.png")
        write_atomic(files[-1], _png(draw_overlay(page, segments)))
    if isinstance(result, Digitized):
        files += write_record(folder, name, LEADS, result.mv)
    elif segments:
        names = [segment.lead for segment in segments]
        files += write_record(folder, f"{name}_rows", names, np.stack([segment.mv for segment in segments]))
    write_atomic(files[0], (json.dumps(describe(result), indent=1) + "\n").encode())
    return files


def _segments(result: Digitized | Refusal) -> tuple[SegmentReading, ...]:
    if isinstance(result, Digitized):
        return result.segments
    return result.rows.rows if result.rows else ()


def _png(rgb: NDArray[np.uint8]) -> bytes:
    done, encoded = cv2.imencode(".png", rgb[:, :, ::-1])
    if not done:
        raise OSError("OpenCV could not encode the overlay")
    return encoded.tobytes()


def draw_overlay(page: NDArray[np.uint8], segments: Sequence[SegmentReading]) -> NDArray[np.uint8]:
    """Draw what was read onto the page, each lead in its own colour.

    Args:
        page: (H, W) ink or (H, W, 3) RGB.
        segments: What was read.

    Returns:
        (H, W, 3) uint8 RGB, the page paled.
    """
    rgb = page if page.ndim == 3 else np.repeat((255 - page)[:, :, None], 3, axis=2)
    picture = (255 - (255 - rgb.astype(np.float32)) * 0.45).astype(np.uint8)
    picture = np.ascontiguousarray(picture)
    for segment in segments:
        number = LEADS.index(segment.lead) if segment.lead in LEADS else segment.row
        colour = COLOURS[number % len(COLOURS)]
        for piece in _pieces(segment.path_px):
            points = np.round(piece * 16).astype(np.int32).reshape(-1, 1, 2)
            cv2.polylines(picture, [points], False, colour, 1, cv2.LINE_AA, 4)
        _label(picture, segment, colour)
    return picture


def _pieces(path: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    finite = np.isfinite(path).all(axis=1)
    edges = np.flatnonzero(np.diff(np.r_[False, finite, False].astype(np.int8)))
    return [path[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _label(picture: NDArray[np.uint8], segment: SegmentReading, colour: tuple[int, int, int]) -> None:
    finite = segment.path_px[np.isfinite(segment.path_px).all(axis=1)]
    if len(finite) == 0:
        return
    size = max(0.35, picture.shape[1] / 3000)
    x = finite[0, 0]
    at = (int(x) + 3, int(np.median(finite[:, 1]) - 14 * size / 0.35 * 0.8))
    cv2.putText(picture, segment.lead, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def describe(result: Digitized | Refusal) -> dict[str, Any]:
    """The content of NAME.json; docs/digitize.md says what it means and what it does not."""
    if isinstance(result, Refusal):
        refusal = {"code": result.code, "reason": result.reason, "remedy": result.remedy}
        described = {
            "schema_version": SCHEMA_VERSION,
            "status": "refused",
            "refusal": refusal,
            "details": result.details,
        }
        return described | (_describe_rows(result.rows) if result.rows else {})
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "ok",
        "confidence": round(result.confidence, 4),
        "rate_hz": result.rate_hz,
        "duration_s": result.mv.shape[1] / result.rate_hz,
        "layout": {"name": result.layout, "source": result.layout_source, "rows": result.shown.rows},
        "page": {
            "quarter_turns": result.quarter_turns,
            "skew_deg": round(result.skew_deg, 3),
            "start_sd_ms": round(result.start_ms, 1),
            "was_flattened": result.was_flattened,
            "column_space_s": round(result.space_s, 4),
        },
        "scale": asdict(result.scale),
        "checks": {name: round(value, 4) for name, value in result.checks.items()},
        "leads": {lead: _describe_lead(result, lead) for lead in LEADS},
        "parameters": _describe_parameters(result),
    }


def _describe_rows(numbered: NumberedRows) -> dict[str, Any]:
    """Rows without names: how much of each was found; NAME_rows.hea holds them."""
    rows = {segment.lead: {"coverage": round(segment.coverage, 4)} for segment in numbered.rows}
    return {"rows": rows, "scale": asdict(numbered.scale), "rate_hz": RATE_HZ}


def _describe_parameters(result: Digitized) -> dict[str, Any]:
    """Heart rate and intervals from the leads drawn together, and from each rhythm strip."""
    # neurokit2 takes a second to import; only a page that was read needs it.
    from lightning_app.evaluate.parameters import segment_parameters, strip_parameters

    shown = result.shown
    sources = {"segments": segment_parameters(result.mv, result.rate_hz, shown)}
    for row in shown.rhythm_rows:
        (lead,) = shown.rows[row]
        sources[f"strip {lead}"] = strip_parameters(result.mv, result.rate_hz, shown, lead)
    return {
        source: {
            "values": {
                name: {"value": round(value, 1), "unit": UNITS[name.rpartition("_")[2]]}
                for name, value in vars(measured).items()
                if isinstance(value, float)
            },
            "absent": dict(measured.reasons),
        }
        for source, measured in sources.items()
    }


def _describe_lead(result: Digitized, lead: str) -> dict[str, Any]:
    parts = [segment for segment in result.segments if segment.lead == lead]
    shown_s = sum(segment.coverage * (segment.stop_s - segment.start_s) for segment in parts)
    drawn_s = sum(segment.stop_s - segment.start_s for segment in parts)
    return {
        "coverage": round(shown_s / drawn_s, 4) if drawn_s else 0.0,
        "confidence": round(max((segment.confidence for segment in parts), default=0.0), 4),
        "seconds": [[segment.start_s, segment.stop_s] for segment in parts],
        "gaps": [[round(a, 3), round(b, 3)] for segment in parts for a, b in segment.gaps_s],
    }
