"""`inkbeat digitize`: scans to WFDB records, or a reason why not."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datamodules.errors import FAULT, ConfigError, DataError, Problem
from lightning_app.commands import Command
from lightning_app.digitize.record_names import record_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datamodules.layout import Layout
    from datamodules.page import Page
    from lightning_app.digitize.reader import Reader
    from lightning_app.digitize.results import Digitized, Refusal

    Read = Callable[[Page], tuple[Digitized | Refusal, NDArray[np.bool_]]]

REFUSED = DataError.exit_code
FAILED = 1  # exit code of a batch with a page on which Inkbeat itself failed


@click.command(cls=Command)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the results."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="A trained cell's folder, its model.safetensors, or a packed reader, instead of the one that ships.",
)
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    help="Waveform mask of the one image (white = waveform), instead of a network.",
)
@click.option("--layout", help="Page layout by name or YAML file; recognised if left out.")
@click.option(
    "--px-per-s", type=click.FloatRange(min=0, min_open=True), help="Pixels per second; measured if left out."
)
@click.option(
    "--px-per-mv",
    type=click.FloatRange(min=0, min_open=True),
    help="Pixels per millivolt; measured if left out.",
)
@click.option(
    "--mm-per-s", type=click.FloatRange(min=0, min_open=True), help="Paper speed; found out if left out."
)
@click.option(
    "--mm-per-mv",
    type=click.FloatRange(min=0, min_open=True),
    help="Gain; from the calibration pulse, else 10.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def digitize(
    images: tuple[Path, ...],
    out: Path,
    weights: Path | None,
    mask: Path | None,
    layout: str | None,
    as_json: bool,
    **scale: float | None,
) -> int:
    """Turn scanned ECG pages into calibrated 12-lead records.

    For every IMAGE the folder gets NAME.hea and NAME.dat (WFDB, mV, 500 Hz, NaN where nothing was drawn),
    NAME.mask.png, NAME.overlay.png and NAME.json. NAME is the image's, with an underscore for what WFDB does
    not take: all but letters, digits, - and _. A page that cannot be trusted is refused with a reason in
    NAME.json, and the exit code is 3, or 1 if Inkbeat itself failed on one. Research use, not a medical
    device.
    """
    from datamodules.layout import load_layout

    _check_options(images, weights, mask)
    wanted = load_layout(layout) if layout else None
    load = cache(lambda: _reading(weights, mask, wanted, scale))
    if any(image.is_file() for image in images):  # else no network is needed to say what is wrong
        load()
    out.mkdir(parents=True, exist_ok=True)
    results = []
    for image in images:
        results.append(_digitize_one(image, out, load))
        if not as_json:
            click.echo(_line(results[-1]))
    if as_json:
        click.echo(json.dumps({"images": results}, indent=1))
    return _exit_code(results)


def _check_options(images: tuple[Path, ...], weights: Path | None, mask: Path | None) -> None:
    problems = []
    if weights is not None and mask is not None:
        remedy = "leave one of them out; without both the reader that ships is used"
        problems.append(Problem("TWO_READERS", "--weights, --mask", "both", "one of them", remedy))
    if mask is not None and len(images) > 1:
        problems.append(Problem("MASK_FOR_MANY", "--mask", f"{len(images)} images", "one image"))
    names = [record_name(image.stem) for image in images]
    problems += [
        Problem(
            "NAME_TWICE", name, f"{names.count(name)} images of that name", "one", "digitize into two folders"
        )
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ConfigError(problems)


def _reading(
    weights: Path | None, mask: Path | None, layout: Layout | None, scale: dict[str, float | None]
) -> Read:
    """Load what reads pages, which takes seconds."""
    from lightning_app.digitize.reader import SHIPPED, load_reader
    from lightning_app.digitize.scale import Declared

    reader = load_reader(weights or SHIPPED) if mask is None else _drawn(mask)
    declared = Declared(**scale)
    return lambda page: reader.read(page, declared, layout)


def _drawn(mask: Path) -> Reader:
    """Take a mask file for what a network would say."""
    from datamodules.page import read_page
    from lightning_app.digitize.reader import Reader

    drawn = read_page(mask)
    # A mask is mostly black, which the reader of pages takes for an inverted scan and turns back.
    light = drawn.ink if drawn.was_inverted else 255 - drawn.ink

    def predict(ink: NDArray[np.uint8]) -> NDArray[np.float32]:
        if light.shape != ink.shape:
            got = f"{light.shape[1]} x {light.shape[0]} px"
            raise DataError(Problem("MASK_SIZE", str(mask), got, f"{ink.shape[1]} x {ink.shape[0]} px"))
        return (light > 127).astype("float32")

    return Reader(predict, is_network=False)


def _digitize_one(image: Path, out: Path, load: Callable[[], Read]) -> dict[str, Any]:
    """Digitize one file; whatever is wrong with it becomes its own refusal."""
    from datamodules.page import read_page
    from lightning_app.digitize.record import describe, write_reading
    from lightning_app.digitize.results import Refusal

    name = record_name(image.stem)
    try:
        page = read_page(image)
        result, mask = load()(page)
    except DataError as error:
        problem = error.problems[0]
        refusal = Refusal(problem.code, problem.got, problem.remedy or problem.wanted)
        write_reading(out, name, refusal, None, None)
        return {"image": image.name, "name": name, **describe(refusal)}
    except Exception as error:  # noqa: BLE001 - whatever it is, one page must not stop a batch of thousands
        remedy = "a fault of Inkbeat, not of the page: please report it; the JSON holds the traceback"
        details = {"traceback": traceback.format_exc()}
        failure = Refusal(FAULT, f"{type(error).__name__}: {error}", remedy, details)
        write_reading(out, name, failure, None, None)
        return {"image": image.name, "name": name, **describe(failure)}
    write_reading(out, name, result, page.rgb if page.rgb is not None else page.ink, mask)
    return {"image": image.name, "name": name, **describe(result)}


def _exit_code(results: list[dict[str, Any]]) -> int:
    codes = {result["refusal"]["code"] for result in results if result["status"] != "ok"}
    if FAULT in codes:
        return FAILED
    return REFUSED if codes else 0


def _line(result: dict[str, Any]) -> str:
    if result["status"] != "ok":
        refusal = result["refusal"]
        return f"{result['image']}: refused, {refusal['code']}: {refusal['reason']}; {refusal['remedy']}"
    scale = result["scale"]
    found = f"{result['layout']['name']}, {scale['px_per_s']:.2f} px/s, {scale['px_per_mv']:.2f} px/mV"
    assumed = "".join(f"; assumed {note}" for note in scale["assumptions"])
    return f"{result['image']}: {found}, confidence {result['confidence']:.2f}{assumed}"
