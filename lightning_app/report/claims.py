"""Holds the paper's claims against the tables (R32): reproduced, not reproduced or not decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from datamodules.wording import number_of
from lightning_app.evaluate.statistics import Summary, summarise_columns
from lightning_app.report.analysis_plan import AnalysisPlan
from lightning_app.report.tables import HELD_OUT, counted, scores

Verdict = Literal["reproduced", "not reproduced", "not decided"]
Z_LIMIT = 1.96  # two-sided, 0.05


@dataclass(frozen=True)
class Claim:
    """One statement of the paper and what this sweep says about it.

    Attributes:
        statement: In our words.
        verdict: Whether it reproduces here.
        evidence: The numbers, with n and intervals.
    """

    statement: str
    verdict: Verdict
    evidence: str


def check_claims(
    rows: pd.DataFrame,
    benchmark: pd.DataFrame,
    contrasts: pd.DataFrame,
    reference: str,
    noise: Mapping[str, float],
    plan: AnalysisPlan,
) -> list[Claim]:
    """Check what the sweep can test.

    Args:
        rows: All per-scan rows.
        benchmark: The benchmark table.
        contrasts: The contrasts table.
        reference: Label of the paper's U-Net in this sweep.
        noise: Amount of pepper-and-salt of each colour test set, 0 for clean grey.
        plan: The analysis plan.

    Returns:
        The claims the sweep has data for.
    """
    complete = benchmark[benchmark["complete"].astype(bool)]
    if reference not in set(complete["model"]):
        return []
    claims = [_first(complete, reference, plan), _outside_chance(contrasts, reference)]
    clean = next((name for name, amount in noise.items() if amount == 0), None)
    if clean is not None and clean in set(complete["test_set"]):
        claims.append(_acceptable(complete[complete["test_set"] == clean], plan))
        noisy = [name for name, amount in noise.items() if 0 < amount <= 0.05]
        claims.append(_noise_helps(rows[rows["model"] == reference], reference, clean, noisy, noise, plan))
    return [claim for claim in claims if claim is not None]


def check_table1_claims(table: pd.DataFrame) -> list[Claim]:
    """Check what the paper says about its Table 1.

    Layouts are different pages, so their estimates are independent and compared by their SDs.

    Args:
        table: Long Table 1 of the paper's U-Net, as `table1.table1` gives it.

    Returns:
        The claims that this table has estimates for.
    """
    known = table[table["mean"].notna() & (table["reference"] != "human")]
    known = known[known["source"] != "strip"]
    claims = [_above_zero(known), _signal_by_layout(known), _parameters_by_layout(known)]
    return [claim for claim in claims if claim is not None]


def _above_zero(known: pd.DataFrame) -> Claim | None:
    if known.empty:
        return None
    above = known["low"] > 0
    lowest = known.sort_values("low", kind="stable").iloc[0]
    return Claim(
        "Signal and parameters correlate with the truth: every lower 95 % limit is above 0",
        "reproduced" if above.all() else "not reproduced",
        f"{int(above.sum())} of {number_of(len(known), 'row')}; "
        f"lowest is {lowest['quantity']}, {_estimate(lowest)}",
    )


def _signal_by_layout(known: pd.DataFrame) -> Claim | None:
    pair = _layout_pair(known, "Signal")
    if pair is None:
        return None
    four, six, z = pair
    return Claim(
        "Signals of four-line pages correlate better than those of six-line pages",
        "reproduced" if z > Z_LIMIT else "not reproduced" if z < -Z_LIMIT else "not decided",
        f"{_estimate(four)}; {_estimate(six)}",
    )


def _parameters_by_layout(known: pd.DataFrame) -> Claim | None:
    names = [name for name in dict.fromkeys(known["quantity"]) if name != "Signal"]
    pairs = {name: pair for name in names if (pair := _layout_pair(known, name)) is not None}
    if not pairs:
        return None
    scores = [-z for _, _, z in pairs.values()]  # positive: six-line is better
    if min(scores) > 0 and max(scores) > Z_LIMIT:
        verdict: Verdict = "reproduced"
    else:
        verdict = "not reproduced" if min(scores) < -Z_LIMIT else "not decided"
    evidence = "; ".join(
        f"{name} {four['mean']:.3f} and {six['mean']:.3f} (n = {four['n']} and {six['n']})"
        for name, (four, six, _) in pairs.items()
    )
    return Claim(
        "Parameters of six-line pages correlate better than those of four-line pages",
        verdict,
        f"four-line and six-line: {evidence}",
    )


def _layout_pair(known: pd.DataFrame, quantity: str) -> tuple[pd.Series[Any], pd.Series[Any], float] | None:
    """Rows of four-line and six-line pages, and their difference in units of its SD."""
    own = known[known["quantity"] == quantity]
    rows = [own[own["layout"] == layout] for layout in ("four_line", "six_line")]
    if any(row.empty for row in rows):
        return None
    four, six = (row.iloc[0] for row in rows)
    spread = math.hypot(four["sd"], six["sd"])
    difference = float(four["mean"] - six["mean"])
    return four, six, difference / spread if spread else math.copysign(math.inf, difference)


def _estimate(row: pd.Series[Any]) -> str:
    interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['layout'].replace('_', '-')}: {row['mean']:.3f} {interval}, n = {row['n']}"


def _first(complete: pd.DataFrame, reference: str, plan: AnalysisPlan) -> Claim:
    table = complete[complete["test_set"] == HELD_OUT].sort_values("dice_mean", ascending=False)
    best, own = table.iloc[0], table[table["model"] == reference].iloc[0]
    holds = best["model"] == reference and own["dice_mean"] >= plan.best_score
    evidence = f"{reference}: {_with_interval(own)}"
    if best["model"] != reference:
        evidence += f"; first is {best['model']}: {_with_interval(best)}"
    return Claim(
        f"U-Net is first in cross-validation, with Dice {plan.best_score:g} or more",
        "reproduced" if holds else "not reproduced",
        evidence,
    )


def _outside_chance(contrasts: pd.DataFrame, reference: str) -> Claim | None:
    own = contrasts[contrasts["test_set"] == HELD_OUT]
    if own.empty:
        return None
    worse = own[(own["difference"] < 0) & (own["p_holm"] < 0.05)]
    better = own[own["difference"] > 0]
    if len(worse) == len(own):
        verdict: Verdict = "reproduced"
    else:
        verdict = "not reproduced" if (better["p_holm"] < 0.05).any() else "not decided"
    return Claim(
        "Its lead over every other network is outside chance (Holm, 0.05)",
        verdict,
        f"{len(worse)} of {number_of(len(own), 'model')} below {reference} with Holm p < 0.05, "
        f"n = {counted(own['n_scans'].max(), own['n_patients'].max())}",
    )


def _acceptable(clean: pd.DataFrame, plan: AnalysisPlan) -> Claim:
    below = clean[clean["dice_mean"] < plan.acceptable_score]
    lowest = clean.sort_values("dice_mean").iloc[0]
    return Claim(
        f"All networks do acceptably on colour pages turned grey (here: Dice {plan.acceptable_score:g})",
        "not reproduced" if len(below) else "reproduced",
        f"{len(clean) - len(below)} of {number_of(len(clean), 'model')}; "
        f"lowest is {lowest['model']}: {_with_interval(lowest)}",
    )


def _noise_helps(
    rows: pd.DataFrame,
    reference: str,
    clean: str,
    noisy: list[str],
    noise: Mapping[str, float],
    plan: AnalysisPlan,
) -> Claim | None:
    """Compare the same pages with and without noise, paired."""
    present = [name for name in noisy if name in set(rows["test_set"])]
    if not present:
        return None
    # The test set takes the place of the model: each page is compared with itself.
    pages = rows[rows["test_set"].isin([clean, *present])].assign(model=rows["test_set"])
    table = scores(pages, plan.metric, plan)
    differences = table.values[present].sub(table.values[clean], axis=0).to_numpy()
    gains = dict(zip(present, summarise_columns(differences, table.draws, plan.level), strict=True))
    if any(gain.low > 0 for gain in gains.values()):
        verdict: Verdict = "reproduced"
    else:
        verdict = "not reproduced" if all(gain.high < 0 for gain in gains.values()) else "not decided"
    evidence = ", ".join(f"{noise[name]:.0%}: {_gain(gain)}" for name, gain in gains.items())
    n = next(iter(gains.values()))
    return Claim(
        "Moderate pepper-and-salt noise slightly raises U-Net's Dice on colour pages",
        verdict,
        f"{reference}, change against clean at {evidence}; n = {counted(n.n_scans, n.n_patients)}",
    )


def _gain(gain: Summary) -> str:
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def _with_interval(row: pd.Series[float]) -> str:
    interval = f"[{row['dice_ci_low']:.3f}, {row['dice_ci_high']:.3f}]"
    if not math.isfinite(row["dice_ci_low"]):
        interval = "(interval not estimable)"
    return f"{row['dice_mean']:.3f} {interval}, n = {counted(row['n_scans'], row['n_patients'])}"
