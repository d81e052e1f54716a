import numpy as np
import pytest

from lightning_app.digitize.mirror import limb_agreement, refuse_if_mirrored, time_arrow
from lightning_app.digitize.results import DigitizeRefusal, SegmentReading
from tests.lightning_app.digitize.drawing import LEADS, heart

MV = heart(seed=5)


def segment(lead, mv, start_s=0.0):
    return SegmentReading(lead, 0, start_s, start_s + len(mv) / 500, mv, 1.0, 1.0, (), np.zeros((0, 2)))


def test_time_runs_forward_and_backward():
    forward = [segment(lead, MV[k]) for k, lead in enumerate(LEADS)]
    backward = [segment(lead, MV[k, ::-1]) for k, lead in enumerate(LEADS)]
    assert time_arrow(forward) > 0.2
    assert time_arrow(backward) < -0.2
    with pytest.raises(DigitizeRefusal):
        refuse_if_mirrored(backward)


def test_six_leads_do_not_tell_which_way_time_runs():
    assert time_arrow([segment(lead, MV[k, ::-1]) for k, lead in enumerate(LEADS[:6])]) is None


def test_columns_of_one_heart_agree():
    column = lambda lead, k: segment(lead, MV[LEADS.index(lead), 1250 * k : 1250 * (k + 1)], 2.5 * k)  # noqa: E731
    right = [column(lead, 0) for lead in ("I", "II", "III")] + [
        column(lead, 1) for lead in ("aVR", "aVL", "aVF")
    ]
    assert limb_agreement(right) > 0.7
    flip = {"I": "III", "III": "I", "aVR": "aVF", "aVF": "aVR"}
    mirrored = [segment(flip.get(s.lead, s.lead), -s.mv, s.start_s) for s in right]
    assert limb_agreement(mirrored) == pytest.approx(-limb_agreement(right), abs=0.1)
    with pytest.raises(DigitizeRefusal):
        refuse_if_mirrored(mirrored)
