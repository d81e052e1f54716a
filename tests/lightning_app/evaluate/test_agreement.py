"""Agreement statistics against scipy, published tables and simulation."""

import warnings

import numpy as np
import pytest
from scipy import stats

from lightning_app.evaluate import agreement as ag


def pairs(n=40, rho=0.8, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=n)
    return rho * true + np.sqrt(1 - rho**2) * rng.normal(size=n), true, np.arange(n)


def test_correlations_equal_scipy():
    read, true, who = pairs()
    got = ag.agree(np.round(read, 1), np.round(true, 1), who)  # with ties
    assert got.r == pytest.approx(stats.pearsonr(np.round(read, 1), np.round(true, 1)).statistic)
    assert got.spearman == pytest.approx(stats.spearmanr(np.round(read, 1), np.round(true, 1)).statistic)
    low, high = stats.pearsonr(np.round(read, 1), np.round(true, 1)).confidence_interval()
    assert got.fisher == pytest.approx((low, high))


def test_icc_equals_shrout_and_fleiss():
    # Their table 2: six targets, four judges; ICC(2,1) = .29, interval .02 to .76 (McGraw and Wong 1996).
    table = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
    )
    assert ag.icc_2_1(table) == pytest.approx((0.2898, 0.0188, 0.7611), abs=1e-4)


def test_perfect_agreement():
    true = np.arange(10.0)
    got = ag.agree(true, true, np.arange(10))
    assert got.r == pytest.approx(1)
    assert got.ccc == pytest.approx(1)
    assert got.icc == pytest.approx((1, 1, 1))
    assert got.fisher == pytest.approx((1, 1))
    assert got.bias == 0
    assert got.limits == (0, 0)
    assert got.within == 1
    assert got.note == ""


def test_a_bias_leaves_r_alone_and_lowers_ccc_and_icc():
    read, true, who = pairs(rho=1.0)
    got = ag.agree(read + 2, true, who, tolerance=1)
    assert got.r == pytest.approx(1)
    assert got.ccc < 0.5
    assert got.icc[0] < 0.5
    assert got.bias == pytest.approx(2)
    assert got.median_error == pytest.approx(2)
    assert got.within == 0


def test_bland_altman_limits_hold_95_percent_of_normal_differences():
    rng = np.random.default_rng(1)
    true = rng.normal(size=20_000)
    read = true + 0.3 + 0.1 * rng.normal(size=true.size)
    low, high = ag.limits_of_agreement(read, true)
    assert np.mean((read - true > low) & (read - true < high)) == pytest.approx(0.95, abs=0.01)


def test_yield_counts_what_was_asked_for():
    read = np.array([1.0, np.nan, 3.0, 4.5, 9.0])
    true = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    got = ag.agree(read, true, list("abcde"))
    assert (got.n, got.n_asked, got.found) == (3, 4, 0.75)


def test_the_bootstrap_equals_drawing_rows_by_hand():
    read, true, who = pairs(30)
    weights = ag.patient_draws(who.astype(str), ag.TRIALS, 0).astype(int)
    by_hand = [stats.pearsonr(np.repeat(read, w), np.repeat(true, w)).statistic for w in weights[:50]]
    order = np.argsort(who.astype(str))
    assert order.size == 30
    x, y = read - read.mean(), true - true.mean()
    total = weights.sum(axis=1)
    mx, my = weights @ x / total, weights @ y / total
    r = (weights @ (x * y) / total - mx * my) / np.sqrt(
        (weights @ x**2 / total - mx**2) * (weights @ y**2 / total - my**2)
    )
    assert r[:50] == pytest.approx(by_hand)
    assert ag.bootstrap_pearson(read, true, who.astype(str)).mean == pytest.approx(r.mean())


def test_patients_are_drawn_whole():
    weights = ag.patient_draws(np.array(["a", "a", "b", "c", "b"]), 200, 0)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 2] + weights[:, 3] == 3).all()


def test_repeated_scans_of_a_patient_do_not_narrow_the_interval():
    read, true, who = pairs(25)
    once = ag.agree(read, true, who).trials
    many = ag.agree(np.tile(read, 10), np.tile(true, 10), np.tile(who, 10)).trials
    assert many.sd == pytest.approx(once.sd, rel=0.15)


def test_the_interval_covers_the_true_correlation():
    covered = 0
    for seed in range(150):
        trials = ag.agree(*pairs(60, 0.6, seed)).trials
        covered += trials.low <= 0.6 <= trials.high
    assert covered / 150 > 0.88


@pytest.mark.parametrize(
    ("read", "true", "note"),
    [
        ([], [], "no values"),
        ([np.nan], [1.0], "no values"),
        ([1.0], [2.0], "n=1, not estimable"),
        ([1.0, 2.0], [2.0, 3.0], "n=2, not estimable"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "not estimable: all values are equal"),
        ([1.0, 2.0, 3.0], [0.1 + 0.2, 0.3, 0.3], "not estimable: all values are equal"),
    ],
)
def test_what_cannot_be_estimated_is_said_in_words(read, true, note):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = ag.agree(read, true, [str(i) for i in range(len(read))])
    assert got.note == note
    assert got.r is got.trials is got.fisher is got.ccc is got.icc is None


def test_one_patient_alone_has_no_bootstrap():
    read, true, _ = pairs(10)
    got = ag.agree(read, true, ["a"] * 10)
    assert got.r is not None
    assert ag.bootstrap_mean(read, ["a"] * 10) is None


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one length"):
        ag.agree([1.0], [1.0, 2.0], ["a"])
