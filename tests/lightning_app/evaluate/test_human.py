"""Human parameters: what a plain computation on the marks that `wfdb` reads gives, or a reason."""

import math

import numpy as np
import pytest
import wfdb

from datamodules.layout import LEADS, load_layout
from datamodules.wave_marks import LeadMarks, mark_files, read_marks
from lightning_app.evaluate.human import group_parameters, human_row, lead_parameters
from lightning_app.evaluate.parameters import absent
from lightning_app.evaluate.scan_columns import PARAMETERS, SOURCES
from tests.datamodules.rendering.recordings import marked
from tests.shared import SHARED, needs_shared

FOUR = load_layout("four_line")
REGULAR = np.arange(0.6, 9.5, 0.8)


def row(marks, layout=FOUR):
    return human_row(marks, layout)


def test_regular_beats_give_what_was_marked():
    got = row({lead: marked(REGULAR, pr_s=0.14, qrs_width_s=0.1) for lead in LEADS})
    for source in SOURCES:
        assert got[f"hr_bpm_{source}_human"] == pytest.approx(75)
        assert got[f"rr_ms_{source}_human"] == pytest.approx(800)
        assert got[f"hrv_ms_{source}_human"] == pytest.approx(0, abs=1e-6)
        assert got[f"pr_ms_{source}_human"] == pytest.approx(140)
        assert got[f"qrs_ms_{source}_human"] == pytest.approx(100)
        assert not any(got[f"{name}_{source}_human_reason"] for name in PARAMETERS)


def test_hrv_is_the_sample_deviation_from_three_beats_on():
    lead = marked([1.0, 1.7, 2.6, 3.4])
    assert lead_parameters(lead, 0, 10).hrv_ms == pytest.approx(np.std([700, 900, 800], ddof=1))
    two = lead_parameters(lead, 0, 2.0)
    assert (two.rr_ms, two.hrv_ms) == (pytest.approx(700), None)
    assert two.reasons == {"hrv_ms": "FEW_BEATS"}


def test_only_what_the_page_shows_counts():
    marks = {lead: marked(REGULAR, qrs_width_s=0.08) for lead in LEADS}
    marks["V1"] = marked(np.arange(0.6, 9.5, 1.0), qrs_width_s=0.12)  # in the strip for ten seconds
    got = row(marks)
    assert got["qrs_ms_strip_human"] == pytest.approx(120)
    assert got["hr_bpm_strip_human"] == pytest.approx(60)
    assert got["hr_bpm_segments_human"] == pytest.approx(75)  # V1 is one lead of a dozen there
    only = row({"V1": marks["V1"]})
    assert only["qrs_ms_segments_human"] == pytest.approx(120)
    assert only["pr_ms_segments_human_reason"] == ""
    unseen = row({lead: marked([2.6, 3.4]) for lead in LEADS[:3]})  # shown for the first 2.5 s
    assert math.isnan(unseen["hr_bpm_segments_human"])
    assert math.isnan(unseen["hr_bpm_strip_human"])
    assert unseen["hr_bpm_strip_human_reason"] == "NOT_ANNOTATED"


def test_one_beat_has_a_width_and_no_rate():
    got = lead_parameters(marked([0.4, 1.6]), 1.0, 2.5)
    assert got.qrs_ms == pytest.approx(90)
    assert got.pr_ms == pytest.approx(160)
    assert got.reasons == dict.fromkeys(("hr_bpm", "rr_ms", "hrv_ms"), "FEW_BEATS")


def test_the_p_wave_before_the_first_marked_beat_was_left_out_not_absent():
    first_only = lead_parameters(marked([1.0, 1.8]), 0, 1.5)
    assert first_only.reasons["pr_ms"] == "FEW_BEATS"
    assert lead_parameters(marked([1.0, 1.8]), 0, 2.5).pr_ms == pytest.approx(160)


def test_beats_without_p_waves_have_no_pr():
    lead = marked([1.0, 1.8, 2.6, 3.4])
    keep = [
        place for place, symbol in enumerate(lead.symbols) if "p" not in lead.symbols[place - 1 : place + 2]
    ]
    without = LeadMarks(lead.times_s[keep], tuple(lead.symbols[place] for place in keep))
    assert lead_parameters(without, 0, 10).reasons == {"pr_ms": "NO_P_WAVE"}


def test_a_p_wave_that_belongs_to_the_beat_before_is_not_taken():
    # A beat follows so soon that the only P wave within reach lies before its predecessor.
    lead = marked([1.0, 1.8, 2.1, 2.9])
    early = lead.times_s.tolist().index(pytest.approx(2.1 - 0.16))
    keep = [place for place in range(len(lead.symbols)) if not early <= place < early + 3]
    lead = LeadMarks(lead.times_s[keep], tuple(lead.symbols[place] for place in keep))
    assert lead_parameters(lead, 0, 10).pr_ms == pytest.approx(160)


def test_complexes_without_boundaries_have_a_rate_only():
    lead = LeadMarks(np.array([1.0, 1.8, 2.6]), ("N", "V", "N"))
    got = lead_parameters(lead, 0, 10)
    assert got.hr_bpm == pytest.approx(75)
    assert got.reasons == {"pr_ms": "NOT_ANNOTATED", "qrs_ms": "NOT_ANNOTATED"}


def test_a_beat_overlooked_in_one_lead_changes_no_rate():
    beats = [1.0, 1.8, 2.6, 3.4]
    marks = {"I": marked(beats), "II": marked([1.0, 1.8, 3.4], qrs_width_s=0.12), "III": marked(beats)}
    got = group_parameters(marks, ["I", "II", "III"], 0, 10)
    assert got.rr_ms == pytest.approx(800)
    assert got.qrs_ms == pytest.approx((90 + 90 + 120) / 3)


def test_what_most_leads_lack_is_absent():
    marks = {"I": marked([1.0, 1.8]), "II": marked([1.0]), "III": marked([1.0])}
    got = group_parameters(marks, ["I", "II", "III"], 0, 10)
    assert got.reasons == dict.fromkeys(("hr_bpm", "rr_ms", "hrv_ms", "pr_ms"), "FEW_BEATS")
    assert group_parameters({"I": marks["I"]}, ["I", "II", "III"], 0, 10).rr_ms == pytest.approx(800)
    assert group_parameters({}, ["I", "II"], 0, 10) == absent("NOT_ANNOTATED")


def plain(stem, lead, start, stop):
    """HR, QRS and PR of one lead by a loop over what `wfdb` reads, in samples of 500 Hz."""
    marks = wfdb.rdann(str(stem), lead)
    found = list(zip(marks.symbol, marks.sample, strict=True))
    triples = [(found[i][0], *(found[i + k][1] for k in (-1, 0, 1))) for i in range(1, len(found) - 1)
               if found[i - 1][0] == "(" and found[i + 1][0] == ")"]  # fmt: skip
    qrs = [wave[1:] for wave in triples if wave[0] == "N" and start <= wave[1] and wave[3] < stop]
    peaks = [wave[2] for wave in triples if wave[0] == "N" and start <= wave[2] < stop]
    pr = []
    for onset, _, _ in qrs:
        before = [
            wave[1] for wave in triples if wave[0] == "p" and max(start, onset - 200) <= wave[1] < onset
        ]
        pr += [onset - before[-1]] if before else []
    middle = [2 * float(np.median(values)) if values else None for values in ([q[2] - q[0] for q in qrs], pr)]
    return 30000 * (len(peaks) - 1) / (peaks[-1] - peaks[0]) if len(peaks) > 1 else None, *middle


@needs_shared
@pytest.mark.parametrize("record", ["1", "2", "100", "152", "188"])
def test_ludb_strip_and_segments_against_a_plain_loop(record):
    stem = SHARED / "signals" / "ludb" / record
    got = row(read_marks(stem, mark_files(stem.parent)[record]))
    names = ("hr_bpm", "qrs_ms", "pr_ms")
    strip = plain(stem, "v1", 0, 5000)
    assert [got[f"{name}_strip_human"] for name in names] == [pytest.approx(value) for value in strip]
    groups = []
    for first in range(4):
        leads = [lead.lower() for lead in LEADS[3 * first : 3 * first + 3]]
        per_lead = [plain(stem, lead, 1250 * first, 1250 * first + 1250) for lead in leads]
        middles = []
        for place, combine in enumerate((np.median, np.mean, np.mean)):
            values = [one[place] for one in per_lead if one[place] is not None]
            middles.append(combine(values) if 2 * len(values) >= 3 else np.nan)
        groups.append(middles)
    for name, value in zip(names, np.nanmedian(groups, axis=0), strict=True):
        assert got[f"{name}_segments_human"] == pytest.approx(value)
