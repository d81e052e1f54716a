from dataclasses import fields, replace

import numpy as np
import pytest

from lightning_app.digitize.confidence import (
    gather,
    laws_hold,
    laws_kept,
    probability,
    refuse_if_doubtful,
    refuse_if_gain_is_unlikely,
)
from lightning_app.digitize.results import DigitizeRefusal, Evidence
from lightning_app.digitize.trace import Edges

GOOD = Evidence(ink=1.0, own=1.0, slim=1.0, laws=0.98, ends=1.0, size_px=4.0, start_ms=1.0)


def test_a_clean_lead_is_trusted_more_than_half_and_a_missing_one_not_at_all():
    assert 0.5 < probability(GOOD) < 1.0
    assert probability(replace(GOOD, ink=0.0)) == 0.0


def test_every_kind_of_evidence_counts():
    spoilt = replace(GOOD, own=0.5, slim=0.3, laws=0.6, ends=0.6, size_px=1.0)
    assert probability(spoilt) < 0.2


@pytest.mark.parametrize("name", [field.name for field in fields(Evidence) if field.name != "start_ms"])
def test_less_evidence_never_means_more_confidence(name):
    values = [
        probability(replace(GOOD, **{name: getattr(GOOD, name) * share})) for share in (0.2, 0.5, 0.8, 1)
    ]
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_the_less_sure_the_start_the_less_is_the_confidence():
    values = [probability(replace(GOOD, start_ms=start_ms)) for start_ms in (1.0, 3.0, 10.0)]
    assert values[0] > values[1] > values[2]


def band(height_px, shared):
    top = np.full(100, 50.0)
    top[40:60] -= 30
    return Edges(top, top + height_px, np.full(100, 0.8), shared)


def test_ink_shared_with_a_neighbour_and_swollen_bands_count_against_a_lead():
    none, peak = np.zeros(100, bool), np.zeros(100, bool)
    peak[40:60] = True
    height_px = np.sin(np.arange(100.0))
    own = gather(band(2.0, none), slice(0, 100), 1.0, height_px, 0.9, 1.0, 2.0)
    assert (own.ink, own.own, own.slim) == (1.0, 1.0, 1.0)
    assert gather(band(2.0, peak), slice(0, 100), 1.0, height_px, 0.9, 1.0, 2.0).own < 0.1
    assert gather(band(6.0, none), slice(0, 100), 1.0, height_px, 0.9, 1.0, 2.0).slim == 0.0


def test_laws_are_a_mean_between_0_and_1():
    assert laws_kept({"einthoven": 1.0, "goldberger": -3.0}) == 0.5
    assert laws_kept({}) == 0.5


@pytest.mark.parametrize(
    ("kept", "hold"),
    [
        ((0.95, 0.9, 0.55), True),  # one lead is noisy, the others vouch for the page
        ((0.71, 0.73), True),  # LUDB's own gains: the digital record keeps them no better
        ((0.97, 0.78, 0.6), False),  # on average no better than that, and one is broken
        ((0.99, 0.99, 0.99, 0.45), False),
    ],
)
def test_laws_hold_if_all_are_kept_evenly_or_most_of_them_well(kept, hold):
    assert laws_hold({f"law {k}": value for k, value in enumerate(kept)}) is hold


def test_rows_that_begin_anywhere_are_refused():
    class Whole:
        coverage = 1.0

    with pytest.raises(DigitizeRefusal, match="begins or ends"):
        refuse_if_doubtful([Whole()], {"einthoven": 1.0}, ends=0.5)
    refuse_if_doubtful([Whole()], {"einthoven": 1.0}, ends=0.8)


class Beating:
    """A lead this high, in mV at 10 mm/mV."""

    def __init__(self, height_mv):
        self.mv = height_mv * np.exp(-np.square((np.arange(500) % 100 - 50) / 5.0))


@pytest.mark.parametrize(("height_mv", "gain"), [(3.5, "20"), (0.3, "5")])
def test_traces_as_high_as_at_another_gain_need_a_declared_one(height_mv, gain):
    with pytest.raises(DigitizeRefusal, match=f"{gain} mm/mV is likelier"):
        refuse_if_gain_is_unlikely([Beating(height_mv)] * 3)


@pytest.mark.parametrize("height_mv", [0.6, 1.0, 1.7])
def test_traces_of_usual_height_are_taken_at_the_usual_gain(height_mv):
    refuse_if_gain_is_unlikely([Beating(height_mv)] * 3)
