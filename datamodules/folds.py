"""Cross-validation folds: by patient, balanced over layouts, made once and written down.

Li et al. 2020 split 96 scans 80/20 by image; here a patient's scans stay together and each layout is spread
evenly (PROTOCOL R25: 20/19/19/19/19 scans, the 14 six-line ones 3/3/3/3/2).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.errors import ConfigError, DataError, IntegrityError, Problem
from datamodules.files import read_text, write_atomic
from datamodules.wording import number_of

FOLDS_SCHEMA_VERSION = 1
FOLDS_MAX_BYTES = 64 * 1024 * 1024

FoldOfScan = npt.NDArray[np.int64]


def make_folds(patients: Sequence[str], strata: Sequence[str], n_folds: int, seed: int) -> FoldOfScan:
    """Deal patients out to folds, largest and rarest first, each to where its strata are scarcest.

    The result depends on who has which scans, not on the order of rows.

    Args:
        patients: Patient of each scan.
        strata: Layout of each scan.
        n_folds: 2 or more, at most the number of patients.
        seed: Orders patients that are alike otherwise.

    Returns:
        (n_scans,) int64 fold of each scan, 0 to n_folds - 1; no fold is empty.

    Raises:
        ConfigError: `FOLDS_TOO_FEW`, `FOLDS_TOO_MANY`.
        ValueError: If there are not as many strata as patients.
    """
    scans_of: dict[str, Counter[str]] = {}
    for patient, stratum in zip(patients, strata, strict=True):
        scans_of.setdefault(patient, Counter())[stratum] += 1
    _check_count(n_folds, len(scans_of))
    of_stratum = Counter(strata)
    fold_of_patient: dict[str, int] = {}
    in_fold: list[Counter[str]] = [Counter() for _ in range(n_folds)]
    for patient in _dealing_order(scans_of, of_stratum, seed):
        own = scans_of[patient]
        costs = [(_crowding(held, own, of_stratum), held.total()) for held in in_fold]
        fold = costs.index(min(costs))
        in_fold[fold] += own
        fold_of_patient[patient] = fold
    return np.array([fold_of_patient[patient] for patient in patients], dtype=np.int64)


def write_folds(path: Path, scan_ids: Sequence[str], fold_of_scan: npt.ArrayLike) -> str:
    """Write folds as JSON: the ids of each fold, sorted, and a hash of them.

    Args:
        path: File to write.
        scan_ids: Id of each scan.
        fold_of_scan: (n_scans,) fold of each scan.

    Returns:
        SHA-256 of the folds, the same for any order of rows.
    """
    numbers = np.asarray(fold_of_scan, dtype=np.int64)
    by_fold: list[list[str]] = [[] for _ in range(int(numbers.max(initial=-1)) + 1)]
    for scan_id, fold in sorted(zip(scan_ids, numbers.tolist(), strict=True)):
        by_fold[fold].append(scan_id)
    sha256 = _folds_sha256(by_fold)
    content = {"schema_version": FOLDS_SCHEMA_VERSION, "sha256": sha256, "folds": by_fold}
    write_atomic(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return sha256


def read_folds(path: Path, scan_ids: Sequence[str]) -> FoldOfScan:
    """Read folds for the scans of a cohort.

    Args:
        path: What `write_folds` wrote.
        scan_ids: Scans to look up; exactly those of the file, in any order.

    Returns:
        (n_scans,) int64 fold of each scan.

    Raises:
        DataError: `FOLDS_INVALID`, or `FOLDS_OTHER_SCANS` if the file is about other scans.
        IntegrityError: `FOLDS_EDITED` if it does not match its own hash.
    """
    try:
        content = json.loads(read_text(path, FOLDS_MAX_BYTES))
        version, by_fold = content["schema_version"], content["folds"]
        fold_of = {str(scan_id): fold for fold, ids in enumerate(by_fold) for scan_id in ids}
        recorded = content["sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            Problem("FOLDS_INVALID", path.name, f"{error!r}", "folds as JSON", "make them again")
        ) from None
    if version != FOLDS_SCHEMA_VERSION:
        raise DataError(
            Problem("FOLDS_INVALID", path.name, f"schema version {version}", f"{FOLDS_SCHEMA_VERSION}")
        )
    if _folds_sha256(by_fold) != recorded:
        raise IntegrityError(
            Problem("FOLDS_EDITED", path.name, "folds that differ from their hash", recorded)
        )
    missing, extra = set(scan_ids) - fold_of.keys(), fold_of.keys() - set(scan_ids)
    if missing or extra:
        got = (
            f"{len(missing)} scans without fold and {len(extra)} unknown ones: {sorted(missing | extra)[:5]}"
        )
        raise DataError(
            Problem("FOLDS_OTHER_SCANS", path.name, got, "the scans of the cohort", "make them again")
        )
    return np.array([fold_of[scan_id] for scan_id in scan_ids], dtype=np.int64)


def _check_count(n_folds: int, n_patients: int) -> None:
    if n_folds < 2:
        raise ConfigError(Problem("FOLDS_TOO_FEW", "folds", str(n_folds), "2 or more"))
    if n_folds > n_patients:
        got = f"{n_folds} folds for {number_of(n_patients, 'patient')}"
        raise ConfigError(
            Problem("FOLDS_TOO_MANY", "folds", got, f"at most {n_patients}", "ask for fewer folds")
        )


def _dealing_order(scans_of: dict[str, Counter[str]], of_stratum: Counter[str], seed: int) -> list[str]:
    """Patients with many scans first, then those with rare layouts, the rest shuffled."""
    by_name = sorted(scans_of)
    shuffled = [by_name[place] for place in np.random.default_rng([seed, 0xF01D]).permutation(len(by_name))]
    return sorted(
        shuffled,
        key=lambda patient: (-scans_of[patient].total(), min(of_stratum[s] for s in scans_of[patient])),
    )


def _crowding(held: Counter[str], own: Counter[str], of_stratum: Counter[str]) -> Fraction:
    """Growth of the summed squared shares of the strata if a patient joins; exact, so ties are ties."""
    return sum(
        (Fraction(2 * held[stratum] * n + n * n, of_stratum[stratum]) for stratum, n in own.items()),
        Fraction(0),
    )


def _folds_sha256(by_fold: list[list[str]]) -> str:
    canonical = json.dumps(by_fold, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
