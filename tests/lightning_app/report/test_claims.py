"""What the paper says of its Table 1, judged by the numbers of a table."""

import pandas as pd
import pytest

from lightning_app.report.claims import check_table1_claims
from lightning_app.report.table1 import PAPER


def table(change=lambda quantity, layout, mean: mean):
    """The paper's own Table 1, or one with other means."""
    return pd.DataFrame(
        [
            {
                "quantity": quantity,
                "layout": layout,
                "source": "leads" if quantity == "Signal" else source,
                "reference": "true signal" if quantity == "Signal" else "same delineator",
                "mean": change(quantity, layout, paper.mean),
                "sd": paper.sd,
                "low": paper.low,
                "high": paper.high,
                "n": 81 if layout == "four_line" else 14,
            }
            for (quantity, layout), paper in PAPER.items()
            for source in (["leads"] if quantity == "Signal" else ["segments", "strip"])
        ]
    )


def verdicts(rows):
    return [claim.verdict for claim in check_table1_claims(rows)]


def test_the_papers_own_table():
    """Its second claim is a difference of 0.021 at an SD of 0.015: not outside chance."""
    assert verdicts(table()) == ["reproduced", "not decided", "reproduced"]
    claims = check_table1_claims(table())
    assert claims[0].evidence == "18 of 18 rows; lowest is QRS, four-line: 0.389 [0.156, 0.590], n = 81"
    assert "four-line: 0.921 [0.902, 0.935], n = 81" in claims[1].evidence


def test_a_correlation_that_may_be_zero_is_told():
    rows = table()
    rows.loc[(rows["quantity"] == "QRS") & (rows["layout"] == "overall"), "low"] = -0.05
    assert verdicts(rows)[0] == "not reproduced"


@pytest.mark.parametrize(("six", "verdict"), [(0.80, "reproduced"), (0.99, "not reproduced")])
def test_signals_by_layout(six, verdict):
    rows = table(lambda quantity, layout, mean: six if (quantity, layout) == ("Signal", "six_line") else mean)
    assert verdicts(rows)[1] == verdict


def test_one_parameter_clearly_worse_on_six_lines_refutes():
    rows = table(lambda quantity, layout, mean: 0.8 if (quantity, layout) == ("HR", "six_line") else mean)
    assert verdicts(rows)[2] == "not reproduced"


def test_layouts_without_estimates_are_not_judged():
    rows = table()
    rows.loc[rows["layout"] == "six_line", ["mean", "low", "high"]] = float("nan")
    assert verdicts(rows) == ["reproduced"]
    assert check_table1_claims(rows.iloc[:0]) == []
