"""Table 1 from rows: right values, every failure counted, and words where nothing can be estimated."""

import html
import re
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


def with_people(data, bias=5.0, noise=3.0):
    """People read every parameter off the true signal, higher by `bias`."""
    rng = np.random.default_rng(9)
    data = data.copy()
    for name in PARAMETERS:
        for source in SOURCES:
            data[f"{name}_{source}_human"] = (
                data[f"{name}_{source}_true"] + bias + noise * rng.normal(size=len(data))
            )
            data[f"{name}_{source}_human_reason"] = ""
    return data


def human_line(table, quantity, layout="overall", source="strip", measured_on="digitized"):
    table = table[table["measured_on"] == measured_on]
    return line(table, quantity, layout, source, "human")


def test_people_are_a_second_reference_beside_the_delineator():
    data = with_people(rows(noise=4))
    table = table1(data)
    pairs = {"digitized": "read", "true signal": "true"}
    for measured_on, column in pairs.items():
        got = human_line(table, "QRS", measured_on=measured_on)
        read, human = data[f"qrs_ms_strip_{column}"], data["qrs_ms_strip_human"]
        difference = read - human
        assert got["r"] == pytest.approx(np.corrcoef(read, human)[0, 1])
        assert got["bias"] == pytest.approx(difference.mean())
        half = 1.96 * difference.std(ddof=1)
        assert got["limit_low"] == pytest.approx(difference.mean() - half, abs=1e-3)
        assert got["limit_high"] == pytest.approx(difference.mean() + half, abs=1e-3)
        assert got["median_error"] == pytest.approx(difference.abs().median())
        assert (got["n"], got["n_asked"], got["yield"]) == (len(data), len(data), 1.0)
        assert got["low"] < got["mean"] < got["high"]
        assert pd.isna(got["paper_mean"])  # the paper has no such reference
    pd.testing.assert_series_equal(line(table, "QRS"), line(table1(rows(noise=4)), "QRS"), check_names=False)


def test_the_interval_against_people_draws_patients():
    data = with_people(rows(noise=4))
    twice = pd.concat([data, data.assign(scan_id=data["scan_id"] + "-again")])
    one, two = (human_line(table1(each), "QRS") for each in (data, twice))
    # Each patient twice: more scans, the same patients, so no narrower an interval.
    assert two["n"] == 2 * one["n"]
    assert two["high"] - two["low"] == pytest.approx(one["high"] - one["low"], rel=0.02)


def test_without_people_the_table_is_as_it_was():
    table = table1(rows())
    assert set(table["reference"]) == {"same delineator", "true signal"}
    assert set(table["measured_on"]) == {"digitized"}
    assert "Human" not in to_markdown(table)


def test_scans_that_people_give_no_value_for_are_counted_with_the_reason():
    data = with_people(rows())
    data.loc[:2, ["pr_ms_strip_human", "pr_ms_strip_human_reason"]] = [np.nan, "NO_P_WAVE"]
    data.loc[3, ["pr_ms_strip_human", "pr_ms_strip_human_reason"]] = [np.nan, None]  # nobody marked it
    table = table1(data)
    got = human_line(table, "PR")
    assert got["n_asked"] == len(data) - 4
    told = f"no human value for 4 of {len(data)} scans (NOT_ANNOTATED 1, NO_P_WAVE 3)"
    assert got["note"] == told
    assert f"PR, strip: {told}" in to_markdown(table)
    assert human_line(table, "QRS")["note"] == ""


def test_one_scan_that_people_marked_is_not_estimable():
    data = with_people(rows())
    for name in PARAMETERS:
        data.loc[1:, [f"{name}_strip_human", f"{name}_strip_human_reason"]] = [np.nan, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table1(data)
    for measured_on in ("digitized", "true signal"):
        got = human_line(table, "HR", measured_on=measured_on)
        assert got["note"].startswith("n=1, not estimable; no human value for 28 of 29 scans")
        assert pd.isna(got["mean"])
    assert "nan" not in to_markdown(table).lower().replace("human", "")
    assert human_line(table, "HR", "six_line", "segments")["n"] == 8
    assert not ((table["layout"] == "six_line") & (table["source"] == "strip")
                & (table["reference"] == "human")).any()  # nobody marked one of those  # fmt: skip


def test_the_ceiling_against_people_is_that_of_the_drawn_masks():
    data, masks = with_people(rows(noise=8)), with_people(rows(noise=0.01))
    got = human_line(table1(data, masks), "QRS")
    want = np.corrcoef(masks["qrs_ms_strip_read"], masks["qrs_ms_strip_human"])[0, 1]
    assert got["ceiling"] == pytest.approx(want, abs=0.02)
    assert pd.isna(human_line(table1(data, masks), "QRS", measured_on="true signal")["ceiling"])


def test_the_delineator_against_people_stands_below_in_every_rendering():
    table = table1(with_people(rows()))
    texts = [row[:4] for row in to_text_rows(table) if row[0] == "QRS" and row[1] == "overall"]
    assert texts[3:] == [
        ("QRS", "overall", "strip", "same delineator"),
        ("QRS", "overall", "strip", "human"),
        ("QRS", "overall", "strip, true signal", "human"),
    ]
    for rendered in (to_html(table), to_markdown(table)):
        assert "strip, true signal" in rendered.replace("<br>", " ")
        assert "Human: what people marked" in rendered


def test_a_scan_counted_twice_is_refused():
    with pytest.raises(ValueError, match="each scan once"):
        cells(pd.concat([rows(), rows()]))


def test_layouts_of_the_user_are_escaped_in_html():
    data = rows()
    data["layout"] = "<b>mine</b>"
    page = to_html(table1(data))
    assert "<b>mine" not in page
    assert "&lt;b&gt;mine" in page


def test_the_page_names_quantity_and_layout_once_for_all_lines_below():
    table = table1(with_people(rows()))
    lines = [
        [html.unescape(cell).replace("<br>", " ") for cell in re.findall("<td[^>]*>(.*?)</td>", line)]
        for line in to_html(table).split("<tr>")[2:]
    ]
    shown = ["", ""]
    for line, want in zip(lines, to_text_rows(table), strict=True):
        shown = [line[0] or shown[0], line[1] or shown[1]]
        assert (*shown, *line[2:]) == want
    assert sum(line[0] == "QRS" for line in lines) == 1
    assert sum(line[1] == "overall" for line in lines) == 6


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
