"""Refusals of training and test sets that share a patient, a picture or a signal (checks E1 to E3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.check import ScanFacts, shared_between, shared_signal_problems, signal_sha256
from datamodules.cohort import Cohort, Scan
from datamodules.errors import DataError, IntegrityError, Problem


def check_disjoint(train: Sequence[Scan], test: Sequence[Scan], where: str) -> None:
    """Refuse a training set that shares a patient or a picture with the test set.

    Args:
        train: Scans the network learns from.
        test: Scans it is tested on.
        where: What the two sets are, for the message.

    Raises:
        IntegrityError: `LEAK_PATIENT` and `LEAK_IMAGE`, one problem for each patient and picture.
    """
    patients = {scan.patient_id for scan in train} & {scan.patient_id for scan in test}
    pictures = {_picture(scan): scan.scan_id for scan in train if scan.image_sha256}
    twins = [(scan.scan_id, pictures[_picture(scan)]) for scan in test if _picture(scan) in pictures]
    problems = [
        Problem(
            "LEAK_PATIENT",
            where,
            f"patient {patient} on both sides",
            "each patient either in training or in test",
            "split by patient; check patient_id in scans.csv",
        )
        for patient in sorted(patients)
    ]
    problems += [
        Problem(
            "LEAK_IMAGE",
            where,
            f"test scan {in_test} shows the same page as training scan {in_train}",
            "each page once",
            "remove the duplicate from scans.csv or give both scans one patient_id",
        )
        for in_test, in_train in twins
    ]
    if problems:
        raise IntegrityError(problems)


def identities(cohort: Cohort) -> list[ScanFacts]:
    """Collect what the scans of a cohort are known again by, without looking at their pixels.

    The signal counts by its microvolts: a record of the pseudo scans may hide among the others under any
    name (R6). A signal that cannot be read or is nothing but zeros has no identity.

    Args:
        cohort: The cohort; 3 ms a scan.
    """
    return [
        ScanFacts(
            scan.scan_id,
            scan.patient_id,
            page_sha256=f"{scan.image_sha256} {scan.page}" if scan.image_sha256 else "",
            signal_sha256=_signal_identity(cohort, scan),
        )
        for scan in cohort.scans
    ]


def check_apart(train: Sequence[ScanFacts], test: Sequence[ScanFacts], test_name: str) -> None:
    """Refuse a cohort to train on that shares a patient, a picture or a signal with one to test on.

    Args:
        train: Identities of what the network learns from.
        test: Identities of what it is tested on.
        test_name: What to call the latter.

    Raises:
        IntegrityError: `SHARED_PATIENT`, `SHARED_SIGNAL` and `SHARED_PAGE`, for every scan of `train`.
    """
    problems = shared_between(train, test, test_name)
    if problems:
        raise IntegrityError(problems)


def check_signals_within(scans: Sequence[ScanFacts]) -> None:
    """Refuse a cohort to cross-validate in which two patients share a signal: folds could not part them.

    Args:
        scans: Identities of what is divided into folds.

    Raises:
        IntegrityError: `SIGNAL_OF_TWO_PATIENTS`, one problem for each scan after the first.
    """
    problems = shared_signal_problems(scans)
    if problems:
        raise IntegrityError(problems)


def _signal_identity(cohort: Cohort, scan: Scan) -> str:
    if scan.signal is None:
        return ""
    try:
        recording = cohort.load_signal(scan)
    except DataError:  # `inkbeat cohort check` tells about it; masks and pages may be sound
        return ""
    return signal_sha256(recording) if np.nan_to_num(recording.mv).any() else ""


def _picture(scan: Scan) -> tuple[str, int | None]:
    return scan.image_sha256, scan.page
