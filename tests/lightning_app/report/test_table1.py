"""Table 1 from rows: right values, every failure counted, and words where nothing can be estimated."""

import warnings

import numpy as np
import pandas as pd
import pytest

from lightning_app.evaluate.scan_columns import PARAMETERS, SOURCES
from lightning_app.evaluate.statistics import fisher_z_interval
from lightning_app.report.table1 import HEADER, PAPER, cells, table1, to_html, to_markdown, to_text_rows

LAYOUTS = ["four_line"] * 20 + ["six_line"] * 8 + ["seven_line"]


def rows(noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    n = len(LAYOUTS)
    table = pd.DataFrame(
        {
            "scan_id": [f"s{i}" for i in range(n)],
            "patient_id": [f"p{i}" for i in range(n)],
            "layout": LAYOUTS,
            "signal_pcc": 0.97 - 0.01 * rng.random(n),
            "signal_rmse_mv": 0.02 + 0.01 * rng.random(n),
        }
    )
    for name in PARAMETERS:
        for source in SOURCES:
            true = 100 + 10 * rng.normal(size=n)
            table[f"{name}_{source}_true"] = true
            table[f"{name}_{source}_read"] = true + noise * rng.normal(size=n)
    return table


def line(table, quantity, layout="overall", source="strip", reference="same delineator"):
    found = table[
        (table["quantity"] == quantity)
        & (table["layout"] == layout)
        & (table["source"] == source)
        & (table["reference"] == reference)
    ]
    assert len(found) == 1
    return found.iloc[0]


def test_every_row_and_column_of_the_paper_is_there_with_its_value():
    table = table1(rows())
    for (quantity, layout), paper in PAPER.items():
        source, reference = (
            ("leads", "true signal") if quantity == "Signal" else ("segments", "same delineator")
        )
        assert line(table, quantity, layout, source, reference)["paper_mean"] == paper.mean
    assert len(PAPER) == 18


def test_numbers_equal_their_definitions():
    data = rows(noise=4)
    got = line(table1(data), "HR")
    read, true = data["hr_bpm_strip_read"], data["hr_bpm_strip_true"]
    assert got["r"] == pytest.approx(np.corrcoef(read, true)[0, 1])
    assert got["median_error"] == pytest.approx(np.median(np.abs(read - true)))
    assert got["low"] < got["mean"] < got["high"]
    signal = line(table1(data), "Signal", source="leads", reference="true signal")
    assert signal["mean"] == pytest.approx(data["signal_pcc"].mean(), abs=1e-4)


def test_unread_scans_lower_the_yield_not_the_correlation():
    data = rows()
    data.loc[:4, "pr_ms_strip_read"] = np.nan
    got = line(table1(data), "PR")
    assert (got["n"], got["n_asked"]) == (len(data) - 5, len(data))
    assert got["yield"] == pytest.approx(1 - 5 / len(data))


def test_a_single_scan_says_so_and_still_enters_overall():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table1(rows())
    seven = line(table, "HR", "seven_line")
    assert seven["note"].startswith("n=1, not estimable")
    assert pd.isna(seven["mean"])
    assert line(table, "HR")["n"] == len(LAYOUTS)
    assert "n=1, not estimable" in to_markdown(table)
    assert "nan" not in to_markdown(table).lower()


def test_a_constant_column_says_so():
    data = rows()
    data["qrs_ms_strip_read"] = 90.0
    assert "all values are equal" in line(table1(data), "QRS")["note"]


def test_a_page_without_any_reading_says_so():
    data = rows()
    data["signal_pcc"] = np.nan
    for column in data.columns[data.columns.str.endswith("_read")]:
        data[column] = np.nan
    table = table1(data)
    assert line(table, "HR")["note"] == "no values"
    assert "nan" not in to_markdown(table).lower()


def test_the_ceiling_stands_beside_each_cell():
    table = table1(rows(noise=8), rows(noise=0.01))
    got = line(table, "QRS")
    assert got["ceiling"] > 0.999 > got["mean"]
    assert pd.isna(line(table1(rows()), "QRS")["ceiling"])


def test_human_annotation_is_a_second_reference_where_there_is_one():
    data = rows()
    data["qrs_ms_human"] = data["qrs_ms_strip_true"] + 5
    data["pr_ms_human"] = np.nan
    table = table1(data)
    assert line(table, "QRS", reference="human")["bias"] == pytest.approx(-5, abs=0.2)
    assert not ((table["quantity"] == "PR") & (table["reference"] == "human")).any()


def test_a_scan_counted_twice_is_refused():
    with pytest.raises(ValueError, match="each scan once"):
        cells(pd.concat([rows(), rows()]))


def test_layouts_of_the_user_are_escaped_in_html():
    data = rows()
    data["layout"] = "<b>mine</b>"
    page = to_html(table1(data))
    assert "<b>mine" not in page
    assert "&lt;b&gt;mine" in page


def test_markdown_is_a_rectangle():
    lines = [text for text in to_markdown(table1(rows(), rows())).splitlines() if text.startswith("|")]
    assert {text.count("|") for text in lines} == {len(HEADER) + 1}


def test_fishers_interval_stands_beside_the_bootstraps_where_patients_are_few():
    table = table1(rows(noise=5.0))
    shown = {texts[0] + texts[1] + texts[2]: texts[6] for texts in to_text_rows(table)}
    few = line(table, "HR", "six_line")
    wanted = fisher_z_interval(few["r"], 8)
    assert shown["HRsix_linestrip"].endswith(f"(Fisher z {wanted[0]:.3f} to {wanted[1]:.3f})")
    many = pd.concat([rows(noise=5.0, seed=i).assign(scan_id=lambda t, i=i: t["scan_id"] + f"-{i}",
                      patient_id=lambda t, i=i: t["patient_id"] + f"-{i}") for i in range(2)])  # fmt: skip
    assert not any("Fisher" in texts[6] for texts in to_text_rows(table1(many)) if texts[1] == "overall")
