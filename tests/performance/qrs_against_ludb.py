"""QRS, PR and HR against the cardiologists of LUDB: `python -m tests.performance.qrs_against_ludb`.

Thresholds were chosen on the odd-numbered subjects; the even-numbered ones are the report. The truth of a
group of leads is that of Table 1, see `lightning_app.evaluate.human`.
Signals once as stored, once through the 0.05-40 Hz filter of a cart, as they would have been printed.
Paced records are left out: their intervals are refused where the spikes are still to be seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb

from datamodules.layout import LEADS
from datamodules.signals import cart_filter
from datamodules.wave_marks import Marks, read_marks
from lightning_app.evaluate.human import group_parameters
from lightning_app.evaluate.parameters import Parameters, measure
from tests.shared import SHARED

LUDB = SHARED / "signals" / "ludb"
RATE_HZ = 500.0
GROUPS = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
CASES = ("12 leads, 10 s", "3 leads, 2.5 s", "V1, 10 s", "II, 2.5 s", "V1, 2.5 s")


@dataclass
class Annotated:
    """One LUDB record: (12, n) mV, what the cardiologists marked, and the comments of its header."""

    subject: int
    mv: np.ndarray
    marks: Marks
    notes: str


def read_ludb(stem: Path) -> Annotated:
    record = wfdb.rdrecord(str(stem))
    mv = record.p_signal.T.astype(np.float64)
    marks = read_marks(stem, [stem.parent / f"{stem.name}.{lead.lower()}" for lead in LEADS])
    return Annotated(int(stem.name), mv, marks, "\n".join(record.comments))


def true_values(record: Annotated, leads: tuple[int, ...], start: int, stop: int) -> Parameters:
    names = [LEADS[lead] for lead in leads]
    return group_parameters(record.marks, names, start / RATE_HZ, stop / RATE_HZ)


def stretches(case: str) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Leads, first and last sample of each stretch of a case."""
    if case == "12 leads, 10 s":
        yield tuple(range(12)), 0, 5000
    elif case == "3 leads, 2.5 s":
        for k, group in enumerate(GROUPS):
            yield group, 1250 * k, 1250 * (k + 1)
    elif case == "V1, 10 s":
        yield (6,), 0, 5000
    else:
        yield ((6,) if case.startswith("V1") else (1,)), 2500, 3750


def rows(records: list[Annotated], case: str, printed: bool) -> list[tuple[int, Parameters, Parameters]]:
    found = []
    for record in records:
        mv = cart_filter(record.mv, RATE_HZ) if printed else record.mv
        for leads, start, stop in stretches(case):
            read = measure(mv[list(leads), start:stop], RATE_HZ)
            found.append((record.subject, read, true_values(record, leads, start, stop)))
    return found


def agreement(pairs: np.ndarray, subjects: np.ndarray) -> str:
    """Bias, SD and r with 95 % intervals over 1000 bootstrap trials by subject; (n, 2) read, true."""
    rng = np.random.default_rng(0)
    unique = np.unique(subjects)
    members = [np.flatnonzero(subjects == subject) for subject in unique]
    trials = []
    for _ in range(1000):
        drawn = np.concatenate([members[i] for i in rng.integers(unique.size, size=unique.size)])
        trials.append(_statistics(pairs[drawn]))
    low, high = np.nanpercentile(trials, [2.5, 97.5], axis=0)
    names = ("bias", "SD", "r")
    formats = ("+.1f", ".1f", ".2f")
    return "  ".join(
        f"{name} {value:{f}} [{a:{f}}, {b:{f}}]"
        for name, f, value, a, b in zip(names, formats, _statistics(pairs), low, high, strict=True)
    )


def _statistics(pairs: np.ndarray) -> tuple[float, float, float]:
    difference = pairs[:, 0] - pairs[:, 1]
    return float(difference.mean()), float(difference.std(ddof=1)), float(np.corrcoef(pairs.T)[0, 1])


def report(records: list[Annotated], cases: tuple[str, ...] = CASES) -> Iterator[str]:
    for printed in (False, True):
        yield f"signals {'through a cart filter' if printed else 'as stored'}"
        for case in cases:
            found = rows(records, case, printed)
            for name in ("qrs_ms", "pr_ms", "hr_bpm"):
                known = [
                    (subject, value, true)
                    for subject, read_values, human in found
                    if (value := getattr(read_values, name)) is not None
                    and (true := getattr(human, name)) is not None
                ]
                subjects, read, truth = np.array(known).T
                text = agreement(np.stack([read, truth], axis=1), subjects)
                asked = sum(getattr(human, name) is not None for _, _, human in found)
                n = f"n {len(known):3} of {asked:3} ({len(set(subjects))} subjects)"
                yield f"  {case:15} {name:7} {n}  {text}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("even", "odd"), default="even", help="odd: what was tuned on")
    parser.add_argument("--ludb", type=Path, default=LUDB, help="folder of LUDB records with annotations")
    options = parser.parse_args()
    remainder = 0 if options.half == "even" else 1
    stems = sorted((path.with_suffix("") for path in options.ludb.glob("*.hea")), key=lambda s: int(s.name))
    records = [read_ludb(stem) for stem in stems if int(stem.name) % 2 == remainder]
    records = [record for record in records if "pacing" not in record.notes]
    print(f"{len(records)} {options.half}-numbered subjects without a pacemaker")
    for line in report(records):
        print(line)


if __name__ == "__main__":
    main()
