"""Names that the per-scan rows and what is made from them agree on. Light: a report imports no metric."""

from __future__ import annotations

from typing import Literal, get_args

METRICS_VERSION = 1  # goes up whenever a number of `segmentation` changes its meaning; stands in every row

DIGITIZED_OK = "read"  # column `digitized` of a page that was read; else it holds the refusal's code

PARAMETERS = ("hr_bpm", "rr_ms", "hrv_ms", "pr_ms", "qrs_ms")  # fields of `parameters.Parameters`
Source = Literal["segments", "strip"]
SOURCES: tuple[Source, ...] = get_args(Source)
STRIP_LEAD = "V1"  # the long lead that every layout of the paper has (PROTOCOL R5)
REASON = "_reason"  # ending of the column that says why a human parameter is absent


def human_column(parameter: str, source: Source) -> str:
    """Name the column of a parameter as people marked it; null where nobody marked the scan."""
    return f"{parameter}_{source}_human"
