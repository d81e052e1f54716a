import numpy as np
import pytest

from lightning_app.digitize.trace import follow_rows, keep_apart, pen_line, pen_radius_px, trace_edges

FINE = 50


def band(y, radius_px):
    """Pixels whose centre a round pen covers along y(x): an independent, slow painter."""
    x = np.arange(len(y)) / FINE
    columns = np.arange(int(x[-1]) + 1)
    height = int(max(y)) + 20
    rows = np.arange(height)
    ink = np.zeros((height, len(columns)), bool)
    for column in columns:
        near = np.abs(x - column) <= radius_px
        half = np.sqrt(np.maximum(radius_px**2 - (x[near] - column) ** 2, 0))
        ink[:, column] = ((rows[:, None] >= y[near] - half) & (rows[:, None] < y[near] + half)).any(axis=1)
    return ink.astype(np.float32)


def followed(ink, levels, pitch_px):
    return keep_apart(ink, follow_rows(ink, levels, pitch_px), levels, pitch_px)


def spike(width_px, height_px, columns=120, at=60.0, level=80.0):
    x = np.arange(columns * FINE) / FINE
    return level - height_px * np.maximum(0, 1 - np.abs(x - at) / width_px)


@pytest.mark.parametrize("radius_px", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_peaks_keep_height_and_width(radius_px, sign):
    y = spike(3.0, sign * 50.0)
    ink = band(y, radius_px)
    edges = trace_edges(ink, follow_rows(ink, np.array([80.0]), 100.0))[0]
    x, line = pen_line(edges.top, edges.bottom, pen_radius_px(edges))
    truth = np.interp(x, np.arange(len(y)) / FINE, y)
    assert np.abs(line - 80).max() == pytest.approx(50, abs=4)
    assert np.corrcoef(line, truth)[0, 1] > 0.97
    middle = np.interp(x, np.arange(len(edges.top)), (edges.top + edges.bottom) / 2)
    assert np.corrcoef(line, truth)[0, 1] > np.corrcoef(middle, truth)[0, 1]


def test_heights_are_finer_than_a_pixel():
    x = np.arange(300)
    y = 50 + 0.01 * x
    rows = np.arange(100)[:, None]
    soft = np.clip(2.0 - np.abs(rows - y[None]), 0, 1).astype(np.float32)
    edges = trace_edges(soft, follow_rows(soft, np.array([51.0]), 60.0))[0]
    assert np.abs((edges.top + edges.bottom) / 2 - y).max() < 0.1


def test_rows_that_cross_keep_their_own_way():
    ink = np.maximum(band(spike(6.0, 0.0, level=40.0), 1.0), 0)
    other = band(spike(4.0, 70.0, level=90.0), 1.0)
    both = np.zeros((120, 120), np.float32)
    for layer in (ink, other):
        both[: len(layer)] = np.maximum(both[: len(layer)], layer)
    paths = followed(both, np.array([40.0, 90.0]), 50.0)
    for at in (10, 30, 50, 70, 110):
        assert abs(paths[0, at] - 40) <= 1
        assert abs(paths[1, at] - 90) <= 1
    edges = trace_edges(both, paths)
    assert edges[0].shared.any()
    assert not edges[0].shared[:50].any()
    assert edges[1].top.min() == pytest.approx(90 - 70 - 1, abs=4)  # the spike keeps its height
    assert np.abs((edges[0].top + edges[0].bottom) / 2 - 40).max() < 3  # and the level row its level


def test_spikes_that_touch_keep_their_heights():
    upper, lower = spike(5.0, -45.0, at=58.0, level=40.0), spike(5.0, 45.0, at=61.0, level=110.0)
    both = np.zeros((160, 120), np.float32)
    for layer in (band(upper, 1.0), band(lower, 1.0)):
        both[: len(layer)] = np.maximum(both[: len(layer)], layer)
    edges = trace_edges(both, followed(both, np.array([40.0, 110.0]), 70.0))
    for band_read, y in zip(edges, (upper, lower), strict=True):
        assert band_read.shared.any()
        _, line = pen_line(band_read.top, band_read.bottom, 1.0)
        truth = np.interp(np.arange(len(line)) / 4, np.arange(len(y)) / FINE, y)
        assert np.corrcoef(line, truth)[0, 1] > 0.9
        assert np.abs(line - truth[0]).max() == pytest.approx(45, abs=12)


def together(*layers):
    ink = np.zeros((max(map(len, layers)), layers[0].shape[1]), np.float32)
    for layer in layers:
        ink[: len(layer)] = np.maximum(ink[: len(layer)], layer)
    return ink


def test_spikes_of_three_rows_in_one_run_keep_their_heights():
    levels = (80.0, 130.0, 180.0)
    spikes = [spike(5.0, 60.0, at=55.0 + 5 * k, level=level) for k, level in enumerate(levels)]
    ink = together(*(band(y, 1.0) for y in spikes))
    edges = trace_edges(ink, followed(ink, np.array(levels), 50.0))
    for row, level in zip(edges, levels, strict=True):
        assert row.shared.any()
        assert level - np.nanmin(row.top) == pytest.approx(60, abs=15)
        assert np.nanmax(row.bottom) - level < 3


def test_a_run_is_shared_by_a_faint_and_a_strong_row():
    faint, strong = spike(5.0, -45.0, at=58.0, level=40.0), spike(5.0, 45.0, at=61.0, level=110.0)
    ink = together(0.4 * band(faint, 1.0), band(strong, 1.0))
    edges = trace_edges(ink, followed(ink, np.array([40.0, 110.0]), 70.0))
    assert np.nanmax(edges[0].bottom) == pytest.approx(85, abs=12)
    assert np.nanmin(edges[1].top) == pytest.approx(65, abs=12)


def test_a_path_that_a_stroke_leads_onto_another_trace_comes_back():
    ink = np.zeros((140, 120), np.float32)
    ink[39:42] = ink[99:102] = 1
    ink[39:102, 100:102] = 1  # a stroke of the upper row that reaches the lower one
    ink[39:42, 102:] = 0.2  # behind it the upper row is faint
    freely = follow_rows(ink, np.array([40.0, 100.0]), 60.0)
    paths = keep_apart(ink, freely, np.array([40.0, 100.0]), 60.0)
    assert (np.abs(freely[0, 102:] - 100) <= 1).all()
    assert (np.abs(paths[0, 102:] - 40) <= 1).all()
    assert (np.abs(paths[1] - 100) <= 1).all()


def test_missing_columns_are_missing():
    ink = np.zeros((60, 100), np.float32)
    ink[30:33] = 1
    ink[:, 40:50] = 0
    edges = trace_edges(ink, follow_rows(ink, np.array([31.0]), 40.0))[0]
    assert np.flatnonzero(~np.isfinite(edges.top)).tolist() == list(range(40, 50))


def test_a_path_may_jump_where_a_lead_begins():
    ink = np.zeros((120, 100), np.float32)
    ink[40:43, :50] = 1
    ink[20:43, 47:50] = 1  # a QRS complex just before the change
    ink[80:83, 50:] = 1
    paths = follow_rows(ink, np.array([60.0]), 60.0, [[50]])
    assert (paths[0, :47] < 44).all()
    assert (np.abs(paths[0, 50:] - 81) <= 1).all()


def test_faint_trace_is_followed_at_its_own_level():
    ink = np.zeros((60, 100), np.float32)
    ink[29:34] = np.array([0.1, 0.25, 0.3, 0.25, 0.1], np.float32)[:, None]
    edges = trace_edges(ink, follow_rows(ink, np.array([31.0]), 40.0))[0]
    assert np.allclose((edges.top + edges.bottom) / 2, 31, atol=0.05)
    assert np.allclose(edges.ink, 0.3)
