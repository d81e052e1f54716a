"""Refusals of training and test sets that share a patient or a picture (checks E2 and E3 of the protocol)."""

from __future__ import annotations

from collections.abc import Sequence

from datamodules.cohort import Scan
from datamodules.errors import IntegrityError, Problem


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


def _picture(scan: Scan) -> tuple[str, int | None]:
    return scan.image_sha256, scan.page
