"""How well a predicted mask covers the drawn trace, for one whole page.

A trace is one to four pixels thin, and Dice on thin strokes is ruled by stroke width and label
registration: on a 3-px stroke a vertical label error of one pixel already costs 0.155. So every page
gets three families of numbers: overlap (Dice, precision, recall, IoU; clDice of Shit et al. 2021 for
continuity), boundary distance (NSD and HD95 as defined by the `surface-distance` distribution), and
trace errors read along the columns, where a column is a moment in time and a row offset is a voltage
error.

Empty masks, fixed in writing:

| truth | prediction | shares in [0, 1] | hd95_px | vertical errors | breaks, traces_lost |
|---|---|---|---|---|---|
| empty | empty | NaN | NaN | NaN | NaN |
| empty | ink | 0 | page diagonal | NaN | NaN |
| ink | empty | 0 | page diagonal | NaN | every trace |

NaN means "nothing to measure"; the report counts such scans instead of dropping them silently. Whoever
changes the meaning of a number raises `scan_columns.METRICS_VERSION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import surface_distance
from skimage.morphology import skeletonize
from surface_distance import lookup_tables

BoolMask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOLERANCE_PX = 2  # half a millimetre on the paper's pages (4 px/mm)
SEARCH_PX = 20  # further away than this (0.5 mV at 40 px/mV) a stroke belongs to something else
LOST_SHARE = 0.5  # a trace found in fewer of its columns counts as lost

# Both of R27's arms need 0.15 itself among them; dense where thin strokes live, coarse above.
THRESHOLDS: tuple[float, ...] = (
    *(0.01, 0.02, 0.05, 0.08, 0.10, 0.12, 0.15, 0.18, 0.20, 0.25, 0.30, 0.35, 0.40),
    *(0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95, 0.98),
)


def scan_metrics(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, px_per_mv: float | None = None
) -> dict[str, float]:
    """Compute every segmentation number of one page.

    Args:
        prediction: (H, W) predicted mask; bool, or any number type holding only 0 and 1.
        truth: (H, W) drawn mask, same shape.
        px_per_mv: Vertical scale of the page; adds the vertical errors in mV where it is known.

    Returns:
        Column name -> value. Shares in [0, 1]: `dice`, `precision`, `recall`, `iou`, `cldice`, `nsd_1px`,
        `nsd_2px`, `column_recall`, `recall_2px`, `precision_2px`, `f1_2px`. Pixels: `hd95_px`,
        `vertical_error_median_px`, `vertical_error_p95_px` (and both `..._mv`). Counts: `breaks`,
        `breaks_per_trace`, `traces_lost`, and `tp`, `fp`, `fn`, from which pooled numbers can be made.

    Raises:
        TypeError: If an array holds no numbers.
        ValueError: If the shapes differ, an array is not 2-D, or a value is neither 0 nor 1.
    """
    p, t = _checked_pair(prediction, truth)
    counts = confusion(p, t)
    metrics = {
        **overlap(*counts),
        "cldice": cldice(p, t),
        **boundary(p, t),
        **within_tolerance(p, t),
        **trace_errors(p, t, px_per_mv),
    }
    return metrics | dict(zip(("tp", "fp", "fn"), map(float, counts), strict=True))


def dice(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return 2 TP / (2 TP + FP + FN) of two (H, W) masks; NaN if both are empty.

    Example:
        >>> dice([[1, 1, 0]], [[0, 1, 1]])
        0.5
    """
    return overlap(*confusion(*_checked_pair(prediction, truth)))["dice"]


def confusion(prediction: BoolMask, truth: BoolMask) -> tuple[int, int, int]:
    """Count (TP, FP, FN) pixels of two (H, W) bool masks."""
    both = int(np.count_nonzero(prediction & truth))
    return both, int(np.count_nonzero(prediction)) - both, int(np.count_nonzero(truth)) - both


def overlap(tp: int, fp: int, fn: int) -> dict[str, float]:
    """Turn pixel counts into Dice, precision, recall and IoU; NaN if both masks are empty, 0 if one is."""
    if tp + fp + fn == 0:
        return dict.fromkeys(("dice", "precision", "recall", "iou"), float("nan"))
    return {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "precision": tp / (tp + fp) if tp else 0.0,
        "recall": tp / (tp + fn) if tp else 0.0,
        "iou": tp / (tp + fp + fn),
    }


def cldice(prediction: BoolMask, truth: BoolMask) -> float:
    """Return the centreline Dice (Shit et al. 2021, eq. 1-3): does the skeleton of one lie inside the other?

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        Harmonic mean of topology precision and sensitivity in [0, 1]; NaN if both are empty, 0 if one is.
    """
    if not (prediction.any() and truth.any()):
        return _empty_score(prediction, truth)
    rows, columns = _bounding_box(prediction | truth)
    p, t = prediction[rows, columns], truth[rows, columns]
    skeleton_p, skeleton_t = skeletonize(p), skeletonize(t)
    return _harmonic(float(t[skeleton_p].mean()), float(p[skeleton_t].mean()))


def boundary(prediction: BoolMask, truth: BoolMask) -> dict[str, float]:
    """Return NSD (surface Dice) at 1 and 2 px and HD95, as `surface-distance` defines them.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        `nsd_1px`, `nsd_2px` in [0, 1] and `hd95_px`; the page diagonal stands for "no contour to be near to".
    """
    if not (prediction.any() and truth.any()):
        score = _empty_score(prediction, truth)
        return {
            "nsd_1px": score,
            "nsd_2px": score,
            "hd95_px": float(np.hypot(*truth.shape)) if score == 0 else score,
        }
    distances = surface_distances(prediction, truth)
    return {
        "nsd_1px": float(surface_distance.compute_surface_dice_at_tolerance(distances, 1.0)),
        "nsd_2px": float(surface_distance.compute_surface_dice_at_tolerance(distances, 2.0)),
        "hd95_px": float(surface_distance.compute_robust_hausdorff(distances, 95)),
    }


def surface_distances(prediction: BoolMask, truth: BoolMask) -> dict[str, Floats]:
    """Do what `surface_distance.compute_surface_distances(truth, prediction, (1, 1))` does, faster.

    The package sorts contour elements as Python tuples (seconds on a speckled mask) and calls scipy by
    names that scipy 2 drops. Its tables define the contour and its functions read the result; a test holds
    both equal.

    Args:
        prediction: (H, W) bool, not empty.
        truth: (H, W) bool, not empty.

    Returns:
        The package's dictionary: sorted distances in px both ways and the contour length belonging to each.
    """
    rows, columns = _bounding_box(prediction | truth)
    codes = [_neighbour_codes(mask[rows, columns]) for mask in (truth, prediction)]
    borders = [(code != 0) & (code != 0b1111) for code in codes]
    lengths = lookup_tables.create_table_neighbour_code_to_contour_length((1, 1))
    to_pred, length_truth = _sorted_distances(borders[0], borders[1], lengths[codes[0]])
    to_truth, length_pred = _sorted_distances(borders[1], borders[0], lengths[codes[1]])
    return {
        "distances_gt_to_pred": to_pred,
        "distances_pred_to_gt": to_truth,
        "surfel_areas_gt": length_truth,
        "surfel_areas_pred": length_pred,
    }


def within_tolerance(
    prediction: BoolMask, truth: BoolMask, tolerance_px: int = TOLERANCE_PX
) -> dict[str, float]:
    """Return recall, precision and F1 when a pixel counts as right within a few pixels of the other.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.
        tolerance_px: Reach in pixels, Euclidean.

    Returns:
        `recall_2px`, `precision_2px`, `f1_2px` (the number is the tolerance); NaN if both are empty, 0 if
        one is.
    """
    names = tuple(f"{name}_{tolerance_px}px" for name in ("recall", "precision", "f1"))
    if not (prediction.any() and truth.any()):
        return dict.fromkeys(names, _empty_score(prediction, truth))
    recall = float(_grown(prediction, tolerance_px)[truth].mean())
    precision = float(_grown(truth, tolerance_px)[prediction].mean())
    return dict(zip(names, (recall, precision, _harmonic(recall, precision)), strict=True))


@dataclass(frozen=True)
class _Runs:
    """Vertical runs of ink: in column `x`, rows `top` to `bottom` (exclusive), sorted by column, then row."""

    x: Ints
    top: Ints
    bottom: Ints

    @property
    def centre(self) -> Floats:
        """(n,) row of the middle, in pixel-centre coordinates."""
        return (self.top + self.bottom - 1) / 2


def trace_errors(prediction: BoolMask, truth: BoolMask, px_per_mv: float | None = None) -> dict[str, float]:
    """Read the page along its columns: what of the trace was found, how far off, and in how many pieces.

    A vertical run of truth pixels is one trace at one moment. It is found if the same column holds a
    predicted pixel within 2 px of it. Its vertical error is the distance between its middle and the middle
    of the nearest predicted run, looked for within 20 px. A trace is one 8-connected piece of truth; a
    break is a stretch of it not found.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.
        px_per_mv: Vertical scale, or None where it is unknown.

    Returns:
        `column_recall` in [0, 1], `vertical_error_median_px`, `vertical_error_p95_px` (`..._mv` with a
        scale),
        `breaks`, `breaks_per_trace`, `traces_lost` (found in under half of their columns).
    """
    runs = _vertical_runs(truth)
    found = _runs_found(runs, prediction)
    recall = float(found.mean()) if len(found) else _empty_score(prediction, truth)
    errors = _vertical_errors_px(runs, _vertical_runs(prediction))
    median, p95 = np.percentile(errors, (50, 95)) if len(errors) else (np.nan, np.nan)
    numbers = {
        "column_recall": recall,
        "vertical_error_median_px": float(median),
        "vertical_error_p95_px": float(p95),
        **_breaks(runs, found, truth),
    }
    if px_per_mv is not None:
        for name in ("vertical_error_median", "vertical_error_p95"):
            numbers[f"{name}_mv"] = numbers[f"{name}_px"] / px_per_mv
    return numbers


@dataclass(frozen=True)
class ThresholdCurve:
    """Pixel counts of one page (or of several, added up) at each of a row of thresholds.

    Attributes:
        thresholds: (n,) ascending.
        tp: (n,) pixels that are waveform and predicted at that threshold.
        fp: (n,) predicted, but paper.
        fn: (n,) waveform, but not predicted.
    """

    thresholds: Floats
    tp: Ints
    fp: Ints
    fn: Ints

    def __add__(self, other: ThresholdCurve) -> ThresholdCurve:
        if not np.array_equal(self.thresholds, other.thresholds):
            raise ValueError(f"thresholds differ: got {other.thresholds}, wanted {self.thresholds}")
        return ThresholdCurve(self.thresholds, self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    def dice(self) -> Floats:
        """(n,) Dice at each threshold; NaN where both masks are empty."""
        total = 2 * self.tp + self.fp + self.fn
        scores = np.full(len(total), np.nan)
        np.divide(2 * self.tp, total, out=scores, where=total > 0)
        return scores

    def rows(self, **labels: Any) -> list[dict[str, Any]]:
        """Return one row per threshold, for a table, with `labels` in front of each."""
        columns = (self.thresholds.tolist(), self.tp.tolist(), self.fp.tolist(), self.fn.tolist())
        return [
            {**labels, "threshold": threshold, "tp": tp, "fp": fp, "fn": fn}
            for threshold, tp, fp, fn in zip(*columns, strict=True)
        ]


def threshold_curve(
    probability: npt.NDArray[np.floating[Any]],
    truth: npt.ArrayLike,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> ThresholdCurve:
    """Count TP, FP and FN at many thresholds in one pass, so that training folds can choose (R27).

    Args:
        probability: (H, W) float in [0, 1]; a pixel exactly at the threshold counts as waveform (R26).
        truth: (H, W) mask of 0 and 1.
        thresholds: Ascending.

    Returns:
        The counts; curves of several pages can be added.

    Raises:
        ValueError: If shapes differ, thresholds do not ascend, or a probability is NaN or outside [0, 1].
    """
    t = _checked_mask(truth, "truth")
    if probability.shape != t.shape:
        raise ValueError(
            f"probability has shape {probability.shape}, truth {t.shape}; both must be one page (H, W)"
        )
    if not (probability.min(initial=0.0) >= 0.0 and probability.max(initial=0.0) <= 1.0):
        raise ValueError("probability holds values outside [0, 1] or NaN; pass the sigmoid, not logits")
    if list(thresholds) != sorted(set(thresholds)):
        raise ValueError(f"thresholds must ascend without repeats, got {thresholds}")
    # In the map's own precision: float32(0.15) is a little above 0.15, and a pixel at the threshold must
    # count.
    edges = np.asarray(thresholds, dtype=probability.dtype)
    level = np.searchsorted(edges, probability.ravel(), side="right")  # thresholds at or below each pixel
    histogram = np.bincount(level + (len(edges) + 1) * t.ravel(), minlength=2 * (len(edges) + 1))
    paper, ink = histogram.reshape(2, -1)[:, ::-1].cumsum(axis=1)[:, ::-1]
    return ThresholdCurve(np.asarray(thresholds, dtype=float), tp=ink[1:], fp=paper[1:], fn=ink[0] - ink[1:])


def _checked_pair(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[BoolMask, BoolMask]:
    p, t = _checked_mask(prediction, "prediction"), _checked_mask(truth, "truth")
    if p.shape != t.shape:
        raise ValueError(f"prediction has shape {p.shape}, truth {t.shape}; both must be the same whole page")
    return p, t


def _checked_mask(mask: npt.ArrayLike, name: str) -> BoolMask:
    """Return (H, W) bool; a probability map or a 0/255 mask is a mistake and refused."""
    array = np.asarray(mask)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}; wanted bool, or numbers that are 0 or 1")
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; wanted (H, W)")
    as_bool = np.ascontiguousarray(array.astype(bool))  # OpenCV refuses some strides
    if array.dtype.kind != "b" and not np.array_equal(array, as_bool):
        raise ValueError(
            f"{name} ({array.dtype}) holds values other than 0 and 1; threshold it first (mask > 0)"
        )
    return as_bool


def _empty_score(prediction: BoolMask, truth: BoolMask) -> float:
    """NaN if both are empty, else 0: the score of a page on which at least one mask is empty."""
    return 0.0 if prediction.any() or truth.any() else float("nan")


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def _bounding_box(mask: BoolMask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _neighbour_codes(mask: BoolMask) -> npt.NDArray[np.uint8]:
    """Code the 2x2 pixels around each corner, (H+1, W+1), with the bits of the package's table."""
    padded = np.pad(mask, 1).astype(np.uint8)
    (a, b), (c, d) = lookup_tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL.astype(np.uint8)
    upper = a * padded[:-1, :-1] + b * padded[:-1, 1:]
    return np.asarray(upper + c * padded[1:, :-1] + d * padded[1:, 1:], dtype=np.uint8)


def _sorted_distances(own: BoolMask, other: BoolMask, length: Floats) -> tuple[Floats, Floats]:
    """Distance of each own border point to the other border, ascending, and its contour length."""
    away = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # OpenCV's last bit changes from call to call; squares of distances on a grid are whole numbers.
    distance, weight = np.sqrt(np.rint(np.square(away[own].astype(float)))), length[own]
    order = np.lexsort((weight, distance))
    return distance[order], weight[order]


def _grown(mask: BoolMask, reach_px: int) -> BoolMask:
    """Grow by a disk: every pixel whose centre lies within `reach_px` of a pixel of the mask."""
    offsets = np.arange(-reach_px, reach_px + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= reach_px**2).astype(np.uint8)
    return np.asarray(cv2.dilate(mask.view(np.uint8), disk)).astype(bool)


def _vertical_runs(mask: BoolMask) -> _Runs:
    height = mask.shape[0]
    columns = np.pad(mask.T, ((0, 0), (1, 1)))  # one empty pixel above and below closes every run
    edges = np.flatnonzero(np.diff(columns.view(np.int8).ravel()))
    x, row = np.divmod(edges, height + 2)
    return _Runs(x[::2], row[::2], row[1::2])


def _runs_found(runs: _Runs, prediction: BoolMask, tolerance_px: int = TOLERANCE_PX) -> BoolMask:
    """(n,) whether the same column holds a predicted pixel within `tolerance_px` of the run."""
    if not len(runs.x):
        return np.zeros(0, dtype=bool)
    height = prediction.shape[0]
    below = np.zeros((height + 1, prediction.shape[1]), dtype=np.int32)
    np.cumsum(prediction, axis=0, out=below[1:])
    top, bottom = np.maximum(runs.top - tolerance_px, 0), np.minimum(runs.bottom + tolerance_px, height)
    return below[bottom, runs.x] > below[top, runs.x]


def _vertical_errors_px(truth: _Runs, prediction: _Runs, search_px: float = SEARCH_PX) -> Floats:
    """Distance from each truth run's middle to the nearest predicted one in its column, if in reach."""
    if not (len(truth.x) and len(prediction.x)):
        return np.zeros(0)
    stride = (
        max(truth.bottom.max(), prediction.bottom.max()) + 2 * search_px
    )  # keeps columns out of each other's reach
    wanted, have = truth.x * stride + truth.centre, prediction.x * stride + prediction.centre
    right = np.searchsorted(have, wanted)
    candidates = np.stack(
        [have[np.clip(right - 1, 0, len(have) - 1)], have[np.clip(right, 0, len(have) - 1)]]
    )
    distance = np.abs(candidates - wanted).min(axis=0)
    return np.asarray(distance[distance <= search_px], dtype=float)


def _breaks(runs: _Runs, found: BoolMask, truth: BoolMask) -> dict[str, float]:
    """Count, per connected trace, the stretches of neighbouring columns in which it was not found."""
    if not len(runs.x):
        return dict.fromkeys(("breaks", "breaks_per_trace", "traces_lost"), float("nan"))
    n_labels, labels = cv2.connectedComponents(truth.view(np.uint8), connectivity=8)
    trace, n_traces = labels[runs.top, runs.x], n_labels - 1
    share = np.bincount(trace, weights=found)[1:] / np.bincount(trace)[1:]
    # A column of a trace is missing only if none of its runs there is found (a loop has two).
    column = np.unique(trace.astype(np.int64) * (truth.shape[1] + 2) + runs.x)
    present = np.unique((trace.astype(np.int64) * (truth.shape[1] + 2) + runs.x)[found])
    missing = np.setdiff1d(column, present, assume_unique=True)
    breaks = int(np.count_nonzero(np.diff(missing, prepend=-2) != 1))
    return {
        "breaks": float(breaks),
        "breaks_per_trace": breaks / n_traces,
        "traces_lost": float(np.count_nonzero(share < LOST_SHARE)),
    }
