import math

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.geometry import IDENTITY, DrawnSegment, Geometry

TURN = math.radians(0.5)
AFFINE = (
    (1.02 * math.cos(TURN), -0.99 * math.sin(TURN), 3.25),
    (1.02 * math.sin(TURN), 0.99 * math.cos(TURN), -1.5),
)
SEGMENT = DrawnSegment("V1", 0, 2.5, 5.0, 300.25, 200.5)
GEOMETRY = Geometry(1120, 886, 100.0, 40.0, AFFINE, (SEGMENT, DrawnSegment("II", 1, 0.0, 10.0, 50.0, 400.0)))


def test_json_round_trip_is_exact():
    assert Geometry.from_json(GEOMETRY.to_json()) == GEOMETRY


def test_broken_json_is_a_data_error():
    for text in ("", "[]", "{}", '{"segments": [{"lead": 3}]}', GEOMETRY.to_json()[:-30]):
        with pytest.raises(DataError, match="GEOMETRY_INVALID"):
            Geometry.from_json(text)


def test_polyline_matches_the_formula_sample_by_sample():
    rate_hz = 500.0
    lead_mv = np.sin(np.arange(5000) / 50.0)
    points = GEOMETRY.polyline(SEGMENT, lead_mv, rate_hz)
    assert points.shape == (1250, 2)
    for index in (0, 7, 1249):
        time_s = 2.5 + index / rate_hz
        x = SEGMENT.x0_px + (time_s - 2.5) * 100.0
        y = SEGMENT.y0_px - lead_mv[1250 + index] * 40.0
        expected = (
            AFFINE[0][0] * x + AFFINE[0][1] * y + AFFINE[0][2],
            AFFINE[1][0] * x + AFFINE[1][1] * y + AFFINE[1][2],
        )
        assert points[index] == pytest.approx(expected)


def test_higher_voltage_lies_higher_on_the_page():
    page = Geometry(100, 100, 10.0, 10.0, IDENTITY, (DrawnSegment("I", 0, 0.0, 1.0, 0.0, 50.0),))
    points = page.polyline(page.segments[0], np.array([0.0, 1.0]), 10.0)
    assert points.tolist() == [[0.0, 50.0], [1.0, 40.0]]


def test_to_ideal_undoes_to_scan():
    points = np.random.default_rng(0).uniform(0, 1000, (20, 2))
    assert GEOMETRY.to_ideal(GEOMETRY.to_scan(points)) == pytest.approx(points)


def test_scale_on_the_scan_includes_the_stretch():
    assert GEOMETRY.scan_px_per_s == pytest.approx(102.0)
    assert GEOMETRY.scan_px_per_mv == pytest.approx(39.6)
