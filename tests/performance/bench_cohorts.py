"""What a large cohort costs before anything is trained: check, fold and open.

    python -m tests.performance.bench_cohorts [--scans 20000] [--pages 50] [--workers 2] [--kind pseudo]
        [--clean]

A few distinct pages are rendered; every further scan is one of them with its own number painted into a
corner, so that all files and pages differ, and shares its mask, signal and geometry by hard links. Budget for
20,000 scans on two cores: 60 s and 4 GB. Half of the time is spent in libtiff, the more the noisier
a page is: `binary` pages are the noisiest, `pseudo` ones have pepper and salt on 2 to 10 % of their pixels;
`--clean` takes the specks out (median of 3 x 3), as scanners do before they store a page in 1 bit.
"""

import argparse
import dataclasses
import hashlib
import io
import os
import resource
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import tifffile
from PIL import Image

from datamodules.check import check_cohort
from datamodules.cohort import Cohort, Scan, geometry_path, write_cohort
from datamodules.folds import make_folds
from datamodules.page import read_page
from datamodules.rendering.make import Kind, make_cohort

T = TypeVar("T")
NUMBER_BITS = 32
ROWS_PER_STRIP = 278  # tag of TIFF
STRIP_ROWS = 64


def large_cohort(root: Path, kind: Kind, n_scans: int, n_pages: int, is_clean: bool) -> Path:
    """Make a cohort of many scans out of a few rendered ones; scans of one page belong to one patient."""
    small = Cohort.open(make_cohort(kind, n_pages, 0, "simulated", root / "small"))
    images = [small.load_image(scan) for scan in small.scans]
    pages = [_Stripped((cv2.medianBlur(image, 3) if is_clean else image) > 127) for image in images]
    large = root / "large"
    for folder in ("images", "masks", "signals", "geometry"):
        (large / folder).mkdir(parents=True)
    scans = [
        _copied(small, large, small.scans[number % n_pages], pages[number % n_pages], number)
        for number in range(n_scans)
    ]
    write_cohort(large, "large", scans, licence="", provenance="", defaults=small.defaults)
    return large


class _Stripped:
    """A Group-4 page of which only the uppermost strip is encoded anew for every number.

    Args:
        ink: (H, W) bool.
    """

    def __init__(self, ink: np.ndarray) -> None:
        self._top = ink[:STRIP_ROWS].copy()
        self._content = _group4(ink)
        with tifffile.TiffFile(io.BytesIO(self._content)) as file:
            tags = file.pages.first.tags
            self._places = [tags[name].valueoffset for name in ("StripOffsets", "StripByteCounts")]

    def numbered(self, number: int) -> bytes:
        """The file with a number painted into the upper left corner."""
        self._top[0, :NUMBER_BITS] = [number >> bit & 1 for bit in range(NUMBER_BITS)]
        encoded = _group4(self._top)
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            start, size = file.pages.first.dataoffsets[0], file.pages.first.databytecounts[0]
        strip = encoded[start : start + size]
        content = bytearray(self._content + strip)
        for place, value in zip(self._places, (len(self._content), len(strip)), strict=True):
            struct.pack_into("<I", content, place, value)
        return bytes(content)


def _group4(ink: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(~ink).save(buffer, "TIFF", compression="group4", tiffinfo={ROWS_PER_STRIP: STRIP_ROWS})
    return buffer.getvalue()


def _copied(small: Cohort, large: Path, scan: Scan, page: _Stripped, number: int) -> Scan:
    scan_id = f"scan-{number:05d}"
    image = f"images/{scan_id}.tif"
    content = page.numbered(number)
    (large / image).write_bytes(content)
    links = {
        f"signals/{scan_id}.hea": f"{scan.signal}.hea",
        f"masks/{scan_id}.png": str(scan.mask),
        geometry_path(scan_id): geometry_path(scan.scan_id),
    }
    for name, source in links.items():
        os.link(small.root / source, large / name)
    data = f"{Path(str(scan.signal)).name}.dat"  # its name stands in the header
    if not (large / "signals" / data).exists():
        os.link(small.root / "signals" / data, large / "signals" / data)
    return dataclasses.replace(
        scan,
        scan_id=scan_id,
        image=image,
        image_sha256=hashlib.sha256(content).hexdigest(),
        signal=f"signals/{scan_id}",
        mask=f"masks/{scan_id}.png",
    )


def timed(name: str, n_scans: int, work: Callable[[], T]) -> T:
    """Print seconds and processor time of a step, this process and its children together."""
    began, cpu_s = time.perf_counter(), _cpu_s()
    result = work()
    wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_s
    print(
        f"{name:<10} {wall_s:8.2f} s {cpu_s:8.2f} s CPU {1e3 * cpu_s / n_scans:8.3f} ms CPU a scan",
        flush=True,
    )
    return result


def _cpu_s() -> float:
    return sum(os.times()[:4])


def main() -> None:
    """Print one line per step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--kind", choices=("binary", "pseudo"), default="binary")
    parser.add_argument("--clean", action="store_true", help="take the specks out of the pages")
    options = parser.parse_args()
    n_scans = options.scans
    with tempfile.TemporaryDirectory() as folder:
        path = timed(
            "make",
            n_scans,
            lambda: large_cohort(Path(folder), options.kind, n_scans, options.pages, options.clean),
        )
        image_bytes = sum((path / scan.image).stat().st_size for scan in Cohort.open(path).scans)
        print(f"pages of {image_bytes / n_scans / 1e3:.0f} kB on average")
        report = timed("check", n_scans, lambda: check_cohort(path, workers=options.workers))
        cohort = timed("open", n_scans, lambda: Cohort.open(path))
        patients, layouts = zip(*((scan.patient_id, scan.layout) for scan in cohort.scans), strict=True)
        timed("fold", n_scans, lambda: make_folds(list(patients), list(layouts), 5, 0))
        read = timed("decode", n_scans, lambda: [len(read_page(path / s.image).sha256) for s in cohort.scans])
        assert len(read) == n_scans == report.n_scans
        assert not report.problems, report.problems[:3]
    peak = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"peak memory of this process {peak[0] / 1e6:.2f} GB, of its largest worker {peak[1] / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
