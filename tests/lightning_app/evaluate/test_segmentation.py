"""Every number is compared with another route: scikit-learn, plain loops, or a shape worked out by hand."""

import math
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from lightning_app.evaluate import segmentation as seg

SHARES = ("dice", "precision", "recall", "iou", "cldice", "nsd_1px", "nsd_2px", "column_recall", "f1_2px")


def page(height=60, width=80):
    return np.zeros((height, width), dtype=bool)


def line(row, *, thick=3, start=5, stop=75, height=60, width=80):
    """A horizontal stroke centred on `row`."""
    mask = page(height, width)
    mask[row - thick // 2 : row - thick // 2 + thick, start:stop] = True
    return mask


def ecg_page(shape=(886, 1120), seed=0):
    """Four wavy rows with steep spikes, three pixels thick."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=np.uint8)
    x = np.arange(40, shape[1] - 40)
    for row in range(4):
        y = (
            120
            + 200 * row
            + 15 * np.sin(x / 17 + rng.uniform(0, 6))
            - 60 * np.exp(-(((x % 83) - 40) ** 2) / 8)
        )
        cv2.polylines(mask, [np.stack([x, y], 1).round().astype(np.int32)], False, 1, 3)
    return mask.astype(bool)


masks = hnp.arrays(bool, (9, 11))


@given(masks, masks)
@settings(max_examples=60, deadline=None)
def test_overlap_agrees_with_scikit_learn(prediction, truth):
    got = seg.scan_metrics(prediction, truth)
    if not (prediction | truth).any():
        assert all(math.isnan(got[name]) for name in ("dice", "precision", "recall", "iou"))
        return
    p, t = prediction.ravel(), truth.ravel()
    assert got["dice"] == pytest.approx(f1_score(t, p, zero_division=0))
    assert got["precision"] == pytest.approx(precision_score(t, p, zero_division=0))
    assert got["recall"] == pytest.approx(recall_score(t, p, zero_division=0))
    assert got["iou"] == pytest.approx(jaccard_score(t, p, zero_division=0))


@pytest.mark.parametrize(("offset", "expected"), [(0, 1.0), (1, 2 / 3), (2, 1 / 3), (3, 0.0)])
def test_dice_of_a_shifted_stroke_falls_by_a_third_per_pixel(offset, expected):
    assert seg.dice(line(30 + offset), line(30)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["dice", "iou", "cldice", "nsd_1px", "nsd_2px", "f1_2px", "hd95_px"])
def test_symmetric_metrics_do_not_care_which_mask_is_the_truth(metric):
    a, b = line(30), line(31) | line(45, stop=50)
    assert seg.scan_metrics(a, b)[metric] == pytest.approx(seg.scan_metrics(b, a)[metric])


def test_identity_is_perfect():
    got = seg.scan_metrics(ecg_page(), ecg_page(), px_per_mv=40.0)
    assert all(got[name] == 1.0 for name in SHARES)
    zero = (
        "hd95_px",
        "vertical_error_median_px",
        "vertical_error_p95_mv",
        "breaks",
        "traces_lost",
        "fp",
        "fn",
    )
    assert all(got[name] == 0.0 for name in zero)


def test_both_empty_is_nan_everywhere():
    got = seg.scan_metrics(page(), page())
    assert all(math.isnan(value) for name, value in got.items() if name not in ("tp", "fp", "fn"))


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_scores_zero_and_the_farthest_distance(swap):
    masks = (page(), line(30))
    prediction, truth = masks[::-1] if swap else masks
    got = seg.scan_metrics(prediction, truth)
    assert all(got[name] == 0.0 for name in SHARES)
    assert got["hd95_px"] == pytest.approx(100.0)  # 60 x 80 page: 3-4-5 triangle
    assert math.isnan(got["vertical_error_median_px"])


def test_an_empty_prediction_loses_every_trace():
    got = seg.scan_metrics(page(), line(15) | line(45))
    assert (got["traces_lost"], got["breaks"], got["breaks_per_trace"]) == (2.0, 2.0, 1.0)


def test_a_full_prediction_has_recall_one_and_the_ink_share_as_precision():
    truth = line(30)
    got = seg.scan_metrics(np.ones_like(truth), truth)
    assert got["recall"] == 1.0
    assert got["precision"] == pytest.approx(truth.mean())


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_any_number_type_of_zeros_and_ones_gives_the_same(dtype):
    a, b = line(30), line(31)
    assert seg.scan_metrics(a.astype(dtype), b.astype(dtype)) == seg.scan_metrics(a, b)


def test_strided_and_fortran_ordered_masks_give_the_same():
    a, b = line(30), line(31)
    flipped = np.asfortranarray(a), np.ascontiguousarray(b.T).T
    assert seg.scan_metrics(*flipped) == seg.scan_metrics(a, b)
    assert seg.scan_metrics(a[:, ::-1], b[:, ::-1])["dice"] == seg.scan_metrics(a, b)["dice"]


@pytest.mark.parametrize(
    ("mask", "error", "says"),
    [
        (line(30).astype(np.uint8) * 255, ValueError, "other than 0 and 1"),
        (np.full((60, 80), 0.7), ValueError, "threshold it"),
        (np.full((60, 80), np.nan), ValueError, "other than 0 and 1"),
        (line(30).astype(object), TypeError, "dtype object"),
        (line(30)[None], ValueError, r"wanted \(H, W\)"),
        (line(30).T, ValueError, "same whole page"),
    ],
)
def test_wrong_masks_are_refused_with_a_reason(mask, error, says):
    with pytest.raises(error, match=says):
        seg.scan_metrics(mask, line(30))


def test_inputs_are_left_untouched():
    a, b = line(30), line(31)
    before = a.copy(), b.copy()
    seg.scan_metrics(a, b)
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


# clDice


def test_cldice_sees_the_centreline_where_dice_sees_the_stroke_width():
    thin, thick = line(30, thick=1), line(30, thick=5)
    assert seg.cldice(thick, thin) == pytest.approx(1.0, abs=0.03)
    assert seg.dice(thick, thin) == pytest.approx(1 / 3)


def test_cldice_of_half_a_line_is_two_thirds():
    whole = line(30, start=5, stop=75)
    half = line(30, start=5, stop=40)
    # Precision 1, sensitivity a half; the ends of a skeleton are a pixel short.
    assert seg.cldice(half, whole) == pytest.approx(2 / 3, abs=0.02)


def test_cldice_is_zero_for_parallel_lines():
    assert seg.cldice(line(20), line(40)) == 0.0


# Boundary distances


def brute_force_surface_distances(a, b):
    """Contour points at pixel corners (2x2 neighbourhoods that are mixed), all pairs."""

    def border(mask):
        padded = np.pad(mask, 1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 2)).sum(axis=(2, 3))
        return np.argwhere((windows > 0) & (windows < 4))

    pa, pb = border(a), border(b)
    return np.sort(np.sqrt(((pa[:, None] - pb[None]) ** 2).sum(-1)).min(axis=1))


@given(masks, masks)
@settings(max_examples=60, deadline=None)
def test_surface_distances_equal_the_package_and_brute_force(a, b):
    import surface_distance

    if not (a.any() and b.any()):
        return
    got = seg.surface_distances(prediction=b, truth=a)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # scipy names that are on their way out
        want = surface_distance.compute_surface_distances(a, b, (1, 1))
    assert got.keys() == want.keys()
    for name in want:
        assert np.allclose(got[name], want[name], atol=1e-6), name
    assert np.allclose(got["distances_gt_to_pred"], brute_force_surface_distances(a, b), atol=1e-6)


def test_equal_distances_are_equal_to_the_last_bit():
    rng = np.random.default_rng(0)
    truth, prediction = rng.random((2, 90, 110)) < 0.002
    distances = seg.surface_distances(prediction=prediction, truth=truth)["distances_gt_to_pred"]
    exact = np.sqrt(np.rint(distances**2))
    assert distances.max() > 5
    assert (distances == exact).all()


@pytest.mark.parametrize(("offset", "nsd_1px", "nsd_2px"), [(0, 1, 1), (1, 1, 1), (2, 0.5, 1), (6, 0, 0)])
def test_nsd_forgives_exactly_its_tolerance(offset, nsd_1px, nsd_2px):
    # At 2 px the upper edge of one 3-px stroke lies 1 px from the lower edge of the other: half is near.
    got = seg.scan_metrics(line(30 + offset), line(30))
    assert got["nsd_1px"] == pytest.approx(nsd_1px, abs=0.02)
    assert got["nsd_2px"] == pytest.approx(nsd_2px, abs=0.02)


@pytest.mark.parametrize("distance", [3, 7, 12])
def test_hd95_of_two_squares_is_their_distance(distance):
    a, b = page(), page()
    a[20:30, 20:30] = True
    b[20:30, 20 + distance : 30 + distance] = True
    # Of the 40 contour points, 10 on the far side are `distance` away: more than 5 %.
    assert seg.scan_metrics(a, b)["hd95_px"] == pytest.approx(distance)


def test_hd95_ignores_a_single_far_speck():
    truth = line(30)
    speck = truth.copy()
    speck[5, 5] = True
    assert seg.scan_metrics(speck, truth)["hd95_px"] == 0.0


# Trace errors


def brute_force_columns(prediction, truth):
    """Column by column, run by run, in plain Python."""

    def runs(column):
        found, start = [], None
        for y, ink in enumerate([*column, False]):
            if ink and start is None:
                start = y
            elif not ink and start is not None:
                found.append((start, y))
                start = None
        return found

    hits, errors = [], []
    for x in range(truth.shape[1]):
        there = runs(prediction[:, x])
        for top, bottom in runs(truth[:, x]):
            hits.append(any(prediction[y, x] for y in range(max(top - 2, 0), min(bottom + 2, len(truth)))))
            away = [abs((top + bottom) / 2 - (a + b) / 2) for a, b in there]
            if away and min(away) <= seg.SEARCH_PX:
                errors.append(min(away))
    return hits, errors


@given(masks, masks)
@settings(max_examples=80, deadline=None)
def test_column_numbers_equal_a_plain_loop(prediction, truth):
    hits, errors = brute_force_columns(prediction, truth)
    got = seg.scan_metrics(prediction, truth)
    if hits:
        assert got["column_recall"] == pytest.approx(np.mean(hits))
    if errors:
        assert got["vertical_error_median_px"] == pytest.approx(np.median(errors))
        assert got["vertical_error_p95_px"] == pytest.approx(np.percentile(errors, 95))
    else:
        assert math.isnan(got["vertical_error_median_px"])


@pytest.mark.parametrize(("offset", "recall"), [(0, 1.0), (3, 1.0), (4, 0.0), (5, 0.0)])
def test_a_column_is_found_within_two_pixels_of_the_run(offset, recall):
    # A 3-px run reaches 1 px either side of its middle: a 1-px stroke 3 px away is 2 px from its edge.
    assert seg.scan_metrics(line(30 + offset, thick=1), line(30))["column_recall"] == recall


def test_vertical_error_is_the_offset_in_px_and_mv():
    got = seg.scan_metrics(line(34), line(30), px_per_mv=40.0)
    assert got["vertical_error_median_px"] == 4.0
    assert got["vertical_error_p95_mv"] == pytest.approx(0.1)


def test_a_stroke_of_another_row_is_no_vertical_error():
    assert math.isnan(seg.scan_metrics(line(15), line(45))["vertical_error_median_px"])


def test_breaks_count_missing_stretches_per_trace():
    truth = line(15) | line(45)
    prediction = truth.copy()
    prediction[:, 20:25] = False  # through both
    prediction[40:, 60:62] = False  # lower trace only
    got = seg.scan_metrics(prediction, truth)
    assert got["breaks"] == 3.0
    assert got["breaks_per_trace"] == 1.5
    assert got["traces_lost"] == 0.0


def test_a_trace_found_in_under_half_of_its_columns_is_lost():
    truth = line(15) | line(45)
    prediction = line(15) | line(45, stop=35)
    assert seg.scan_metrics(prediction, truth)["traces_lost"] == 1.0


@given(masks, masks)
@settings(max_examples=60, deadline=None)
def test_tolerance_scores_equal_a_plain_loop(prediction, truth):
    got = seg.within_tolerance(prediction, truth)
    p, t = np.argwhere(prediction), np.argwhere(truth)
    if not (len(p) and len(t)):
        return
    near = ((p[:, None] - t[None]) ** 2).sum(-1) <= 4
    assert got["precision_2px"] == pytest.approx(near.any(axis=1).mean())
    assert got["recall_2px"] == pytest.approx(near.any(axis=0).mean())


# Threshold curve


def test_threshold_curve_equals_thresholding_one_by_one():
    rng = np.random.default_rng(0)
    probability = rng.random((40, 50)).astype(np.float32)
    probability[0, :3] = 0.15  # exactly at the paper's threshold
    truth = rng.random((40, 50)) < 0.2
    curve = seg.threshold_curve(probability, truth)
    for i, threshold in enumerate(curve.thresholds):
        mask = probability >= np.float32(threshold)
        assert (curve.tp[i], curve.fp[i], curve.fn[i]) == seg.confusion(mask, truth)
        assert curve.dice()[i] == pytest.approx(seg.dice(mask, truth))


def test_curves_add_up_to_pooled_counts_and_become_rows():
    rng = np.random.default_rng(1)
    pages = [(rng.random((20, 30)), rng.random((20, 30)) < 0.3) for _ in range(2)]
    total = seg.threshold_curve(*pages[0]) + seg.threshold_curve(*pages[1])
    both = seg.threshold_curve(*(np.concatenate(parts) for parts in zip(*pages, strict=True)))
    assert np.array_equal(total.tp, both.tp)
    rows = total.rows(scan_id="s1")
    assert len(rows) == len(seg.THRESHOLDS)
    assert rows[0].keys() == {"scan_id", "threshold", "tp", "fp", "fn"}


@pytest.mark.parametrize(
    ("probability", "thresholds", "says"),
    [
        (np.full((3, 3), 1.5), (0.5,), "outside"),
        (np.full((3, 3), np.nan), (0.5,), "NaN"),
        (np.zeros((3, 4)), (0.5,), "shape"),
        (np.zeros((3, 3)), (0.5, 0.2), "ascend"),
    ],
)
def test_threshold_curve_refuses_nonsense(probability, thresholds, says):
    with pytest.raises(ValueError, match=says):
        seg.threshold_curve(probability, np.zeros((3, 3), dtype=bool), thresholds)


def test_the_paper_threshold_is_on_the_curve():
    assert 0.15 in seg.THRESHOLDS


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_speckled_pages_keep_every_share_between_zero_and_one(seed):
    rng = np.random.default_rng(seed)
    prediction, truth = rng.random((50, 60)) < rng.random(), rng.random((50, 60)) < rng.random()
    got = seg.scan_metrics(prediction, truth)
    assert all(math.isnan(got[name]) or 0.0 <= got[name] <= 1.0 for name in SHARES)
