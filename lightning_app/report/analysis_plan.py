"""The frozen analysis plan: what is compared, how, and the hash that proves it was not changed afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import ConfigError, Problem
from datamodules.yaml_text import parse_yaml

HEADLINE = "dice"  # what the ranking and the figures of the report show
PLAN_FILE = Path(__file__).with_name("analysis_plan.yaml")


@dataclass(frozen=True)
class AnalysisPlan:
    """The values of analysis_plan.yaml that are computed with.

    Attributes:
        metric: Primary metric, a column of the per-scan rows.
        test_set: Primary test set.
        level: Of all intervals.
        resamples: Bootstrap trials.
        seed: Of the bootstrap.
        reference: Class path of the model all others are compared with.
        rope: Region of practical equivalence.
        best_score: What the paper reports for its U-Net.
        acceptable_score: Our reading of "acceptable".
        sha256: Of the file.
    """

    metric: str
    test_set: str
    level: float
    resamples: int
    seed: int
    reference: str
    rope: float
    best_score: float
    acceptable_score: float
    sha256: str


def load_analysis_plan(path: Path = PLAN_FILE) -> AnalysisPlan:
    """Read the plan that ships with this release.

    Raises:
        ConfigError: If its headline is not a number per scan: pooled pixels (E7), patches, leads.
    """
    content = path.read_bytes()
    plan = parse_yaml(content.decode())
    unit, metric = plan["primary"]["unit"], plan["primary"]["metric"]
    if unit != "scan" or metric != HEADLINE:
        got, wanted = f"{metric} per {unit}", f"{HEADLINE} per scan"
        remedy = "pooled pixels may stand in a table, never as the headline"
        raise ConfigError(Problem("HEADLINE_NOT_PER_SCAN", path.name, got, wanted, remedy))
    return AnalysisPlan(
        metric=plan["primary"]["metric"],
        test_set=plan["primary"]["test_set"],
        level=plan["interval"]["level"],
        resamples=plan["interval"]["resamples"],
        seed=plan["interval"]["seed"],
        reference=plan["contrasts"]["reference"],
        rope=plan["contrasts"]["rope"],
        best_score=plan["claims"]["best_dice"],
        acceptable_score=plan["claims"]["acceptable_dice"],
        sha256=hashlib.sha256(content).hexdigest(),
    )
