"""Per-scan rows: only what was drawn counts, and a refused page is a number too."""

import math

import numpy as np
import pytest

from datamodules.layout import LEADS, load_layout
from lightning_app.evaluate.scan_columns import PARAMETERS
from lightning_app.evaluate.scan_rows import drawn_only, parameter_row, signal_row
from tests.lightning_app.evaluate.test_parameters import RATE_HZ, ecg

FOUR = load_layout("four_line")


@pytest.fixture(scope="module")
def truth():
    return ecg(np.arange(0.4, 9.7, 0.72), leads=12)


@pytest.fixture(scope="module")
def true_values(truth):
    return parameter_row(truth, RATE_HZ, FOUR, "true")


def test_only_what_a_page_shows_is_left(truth):
    shown = drawn_only(truth, RATE_HZ, FOUR)
    share = np.isfinite(shown).mean(axis=1)
    assert share[LEADS.index("V1")] == 1
    assert share[LEADS.index("II")] == pytest.approx(0.25)
    assert np.isfinite(shown[LEADS.index("V6"), 3750:]).all()


def test_a_short_record_leaves_the_rest_empty(truth):
    shown = drawn_only(truth[:, :2000], RATE_HZ, FOUR)
    assert shown.shape == (12, 5000)
    assert np.isnan(shown[LEADS.index("V6")]).all()


def test_a_perfect_reading(truth, true_values):
    row = signal_row(drawn_only(truth, RATE_HZ, FOUR), truth, RATE_HZ, FOUR, true_values)
    assert row["signal_pcc"] == pytest.approx(1)
    assert row["signal_coverage"] == 1
    assert row["signal_leads_covered"] == 1
    assert row["hr_bpm_strip_read"] == pytest.approx(60 / 0.72, abs=0.2)
    for name in PARAMETERS:
        for source in ("segments", "strip"):
            assert row[f"{name}_{source}_read"] == pytest.approx(row[f"{name}_{source}_true"], nan_ok=True)


def test_a_refused_page_is_counted_not_dropped(truth, true_values):
    perfect = signal_row(drawn_only(truth, RATE_HZ, FOUR), truth, RATE_HZ, FOUR, true_values)
    row = signal_row(None, truth, RATE_HZ, FOUR, true_values)
    assert row.keys() == perfect.keys()
    assert row["signal_coverage"] == 0
    assert math.isnan(row["signal_pcc"])
    assert math.isnan(row["hr_bpm_strip_read"])
    assert row["hr_bpm_strip_true"] == true_values["hr_bpm_strip_true"]


def test_a_lost_lead_lowers_the_correlation_of_the_scan(truth, true_values):
    read = drawn_only(truth, RATE_HZ, FOUR)
    read[LEADS.index("aVL")] = np.nan
    row = signal_row(read, truth, RATE_HZ, FOUR, true_values)
    assert row["signal_pcc"] == pytest.approx(11 / 12)
    assert row["signal_leads_covered"] == pytest.approx(11 / 12)


def test_arrays_without_twelve_leads_are_refused(truth):
    with pytest.raises(ValueError, match="12"):
        signal_row(None, truth[:3], RATE_HZ, FOUR)
