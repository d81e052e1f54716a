"""Signal metrics against numpy, against analytic values and against a slow copy of each definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from lightning_app.evaluate import signals as sg

RATE_HZ = 500.0


def beats(seconds=2.5, rate_hz=RATE_HZ, phase_s=0.0):
    """A signal with one sharp and one broad wave per beat, in mV."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz - phase_s
    beat = (t % 0.8) - 0.4
    return np.exp(-((beat / 0.012) ** 2)) + 0.2 * np.exp(-(((beat - 0.25) / 0.04) ** 2)) - 0.05


def late(x, samples):
    """The same signal `samples` later, NaN where nothing is known."""
    return sg.shifted(x, -samples)


def test_a_perfect_copy():
    m = sg.lead_metrics(beats(), beats(), RATE_HZ)
    assert m["pcc"] == pytest.approx(1)
    assert m["pcc_best_lag"] == pytest.approx(1)
    assert m["lag_ms"] == 0
    assert m["rmse_mv"] == 0
    assert m["mae_mv"] == 0
    assert m["gain"] == pytest.approx(1)
    assert m["offset_mv"] == pytest.approx(0, abs=1e-12)
    assert m["coverage"] == 1
    assert m["snr_db"] == math.inf
    assert math.isnan(m["snr_cinc2024_db"]), "the contest leaves a perfect lead out of its mean"
    assert m["snr_kaggle2025_db"] == pytest.approx(10 * math.log10(384))
    assert set(m) == set(sg.METRICS)


def test_an_empty_output():
    m = sg.lead_metrics(np.full(1250, np.nan), beats(), RATE_HZ)
    assert m["coverage"] == 0
    assert m["snr_cinc2024_db"] == 0
    assert m["snr_kaggle2025_db"] == pytest.approx(0)
    for name in ("pcc", "pcc_best_lag", "lag_ms", "rmse_mv", "mae_mv", "gain", "offset_mv", "snr_db"):
        assert math.isnan(m[name]), name


def test_an_empty_reference_gives_no_number():
    m = sg.lead_metrics(beats(), np.full(1250, np.nan), RATE_HZ)
    assert all(math.isnan(value) for value in m.values())


def test_gain_offset_and_lag_are_told_apart():
    m = sg.lead_metrics(0.5 * late(beats(), 5) + 0.1, beats(), RATE_HZ)
    assert m["lag_ms"] == 10
    assert m["gain"] == pytest.approx(0.5)
    assert m["offset_mv"] == pytest.approx(0.1)
    assert m["pcc_best_lag"] == pytest.approx(1)
    assert m["pcc"] < 0.8


@pytest.mark.parametrize("samples", [-40, -1, 1, 40])
def test_best_lag_has_the_sign_of_being_late(samples):
    lag, value = sg.best_lag(late(beats(), samples), beats(), RATE_HZ)
    assert lag == samples
    assert value == pytest.approx(1)


def test_best_lag_does_not_look_further_than_it_says():
    lag, value = sg.best_lag(late(beats(), 150), beats(), RATE_HZ)
    assert abs(lag) <= 100
    assert value < 0.9


def test_pcc_and_errors_equal_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 400))
    assert sg.pcc(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert sg.gain_and_offset(x, y) == pytest.approx(tuple(np.polyfit(y, x, 1)))
    assert sg.rmse_mv(x, y) == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
    assert sg.mae_mv(x, y) == pytest.approx(np.mean(np.abs(x - y)))


def test_nan_and_infinity_are_absent_samples():
    x, y = beats() + 0.01, beats()
    holed = x.copy()
    holed[100:350] = np.nan
    holed[350:400] = np.inf
    keep = np.r_[0:100, 400:1250]
    assert sg.coverage(holed, y) == pytest.approx(950 / 1250)
    assert sg.pcc(holed, y) == pytest.approx(np.corrcoef(x[keep], y[keep])[0, 1])
    assert sg.rmse_mv(holed, y) == pytest.approx(0.01)


def test_a_short_output_is_uncovered_and_a_long_one_cut():
    assert sg.coverage(beats()[:625], beats()) == pytest.approx(0.5)
    assert sg.rmse_mv(np.r_[beats(), 99.0], beats()) == 0


def test_constant_signals_have_no_correlation():
    assert math.isnan(sg.pcc(np.full(100, 0.1), np.arange(100.0)))
    assert math.isnan(sg.pcc(np.arange(100.0), np.full(100, 0.1)))
    assert math.isnan(sg.gain_and_offset(np.arange(100.0), np.full(100, 0.1))[0])
    assert math.isnan(sg.snr(np.ones(100), np.zeros(100)))


def test_plain_snr_is_neither_aligned_nor_centred():
    ref = np.full(1000, 2.0)
    assert sg.snr(ref + 0.2, ref) == pytest.approx(20)
    assert sg.snr(-ref, ref) == pytest.approx(-10 * math.log10(4))


def cinc_by_the_book(est, ref, rate_hz):
    """The contest's own steps, both correlations in full, as slow as they are."""
    low, high = min(np.nanmin(ref), np.nanmin(est)), max(np.nanmax(ref), np.nanmax(est))

    def picture(x):
        a = np.zeros((256, x.size))
        for t, value in enumerate(x):
            if np.isfinite(value):
                a[min(max(int(np.round(255 * (value - low) / (high - low) + 1)), 1), 256) - 1, t] = 1
        return gaussian_filter(a, 0.5)

    a_ref, a_est = picture(ref), picture(est)
    cross = fftconvolve(a_ref, a_est[::-1, ::-1])
    auto = fftconvolve(a_ref, a_ref[::-1, ::-1])
    i_cross = np.unravel_index(np.argmax(cross), cross.shape)
    i_auto = np.unravel_index(np.argmax(auto), auto.shape)
    lag, level = i_auto[1] - i_cross[1], (i_auto[0] - i_cross[0]) / 255 * (high - low)
    if abs(lag) <= 0.5 * rate_hz and abs(level) <= 1.0:
        padding = np.full(abs(lag), np.nan)
        est = (np.r_[est[lag:], padding] if lag >= 0 else np.r_[padding, est[:lag]]) - level
    both = np.isfinite(est) & np.isfinite(ref)
    ratio = 10 * np.log10(np.mean(ref[both] ** 2) / np.mean((ref - est)[both] ** 2))
    return ratio * both.sum() / np.isfinite(ref).sum()


@pytest.mark.parametrize("samples", [-7, 0, 7])
def test_cinc2024_follows_the_contest_step_by_step(samples):
    rng = np.random.default_rng(samples + 10)
    ref = beats(1.0)
    est = 0.97 * late(ref, samples) + 0.05 + 0.01 * rng.normal(size=ref.size)
    est[200:230] = np.nan
    assert sg.snr_cinc2024(est, ref, RATE_HZ) == pytest.approx(cinc_by_the_book(est, ref, RATE_HZ))


@pytest.mark.parametrize("samples", [-20, -1, 1, 20])
def test_cinc2024_aligns_early_and_late_copies_alike(samples):
    # At commit 1a51354 the early copy keeps one sample of 1250 and scores 0.02 dB.
    noise = 0.01 * np.random.default_rng(1).normal(size=1250)
    est = late(beats(), samples) + noise
    assert sg.snr_cinc2024(est, beats(), RATE_HZ) > sg.snr(beats() + noise, beats()) - 1


def test_cinc2024_removes_a_level_shift_up_to_one_millivolt():
    noise = 0.005 * np.random.default_rng(2).normal(size=1250)
    assert sg.snr_cinc2024(beats() + 0.5 + noise, beats(), RATE_HZ) > 20
    assert sg.snr_cinc2024(beats() + 1.5 + noise, beats(), RATE_HZ) < 0


def test_cinc2024_leaves_a_shift_beyond_half_a_second_alone():
    pulse = np.exp(-(((np.arange(1250) - 300) / 8.0) ** 2))
    assert sg.snr_cinc2024(late(pulse, 300), pulse, RATE_HZ) < 1


def test_cinc2024_coverage_factor_shrinks_negative_ratios_too():
    ref = beats()
    half = -ref.copy()
    half[625:] = np.nan
    assert 0 > sg.snr_cinc2024(half, ref, RATE_HZ) > sg.snr_cinc2024(-ref, ref, RATE_HZ)


@pytest.mark.parametrize("samples", [-50, -1, 1, 50])
def test_kaggle2025_counts_what_a_shift_uncovers_as_zero_output(samples):
    ref, est = beats(), late(beats(), samples) + 0.3
    lost = ref[-samples:] if samples > 0 else ref[:-samples]
    expected = 10 * math.log10(min(np.sum(ref**2) / np.sum(lost**2), 384))
    assert sg.snr_kaggle2025(est, ref, RATE_HZ) == pytest.approx(expected)


def test_kaggle2025_does_not_shift_further_than_a_fifth_of_a_second():
    pulse = np.exp(-(((np.arange(1250) - 500) / 8.0) ** 2))
    inside = sg.snr_kaggle2025(late(pulse, 100), pulse, RATE_HZ)
    outside = sg.snr_kaggle2025(late(pulse, 130), pulse, RATE_HZ)
    assert inside == pytest.approx(10 * math.log10(384))
    assert outside < 1


def test_kaggle2025_of_zero_reference_is_the_floor():
    assert sg.snr_kaggle2025(beats(), np.zeros(1250), RATE_HZ) == -384


def test_kaggle2025_sums_powers_over_the_leads_of_an_image():
    a, b = beats(), 3 * beats(phase_s=0.1)
    noisy = a + 0.1 * np.sin(np.arange(a.size))
    got = sg.record_metrics({"I": noisy, "II": b}, {"I": a, "II": b}, RATE_HZ)
    error = noisy - a - (noisy - a).mean()
    expected = 10 * math.log10((np.sum(a**2) + np.sum(b**2)) / np.sum(error**2))
    assert got.overall["snr_kaggle2025_db"] == pytest.approx(expected)


def test_a_missing_lead_counts_as_empty_output():
    ref = {"I": beats(), "II": beats(phase_s=0.2)}
    got = sg.record_metrics({"II": ref["II"] + 0.01 * np.sin(np.arange(1250))}, ref, RATE_HZ)
    assert got.leads["I"]["coverage"] == 0
    assert math.isnan(got.leads["I"]["pcc"])
    assert got.overall["coverage"] == pytest.approx(0.5)
    assert got.overall["pcc"] == pytest.approx(got.leads["II"]["pcc"] / 2)
    assert got.overall["snr_cinc2024_db"] == pytest.approx(got.leads["II"]["snr_cinc2024_db"] / 2)


def test_a_record_without_reference_leads_gives_no_numbers():
    got = sg.record_metrics({"I": beats()}, {}, RATE_HZ)
    assert got.leads == {}
    assert all(math.isnan(v) for v in got.overall.values())


def test_two_dimensional_input_is_refused():
    with pytest.raises(ValueError, match="wanted two"):
        sg.lead_metrics(np.zeros((2, 3)), np.zeros(3), RATE_HZ)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=30))
def test_any_input_gives_numbers_without_a_warning(pairs):
    clip = [(np.clip(a, -1e6, 1e6), np.clip(b, -1e6, 1e6)) for a, b in pairs]
    est, ref = np.array(clip, dtype=float).reshape(-1, 2).T
    m = sg.lead_metrics(est, ref, RATE_HZ)
    assert set(m) == set(sg.METRICS)
    assert math.isnan(m["coverage"]) or 0 <= m["coverage"] <= 1
    assert math.isnan(m["pcc"]) or -1 <= m["pcc"] <= 1
