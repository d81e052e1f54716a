import numpy as np
import pytest

from datamodules.layout import known_layouts
from lightning_app.digitize.layouts import CHECK_RATE_HZ, page_checks, rank_hypotheses
from tests.lightning_app.digitize.drawing import LEADS, heart

MV = heart(seed=3)[:, :: int(500 / CHECK_RATE_HZ)].astype(float)
LAYOUTS = known_layouts()


def rows_of(layout, noise_mv=0.0):
    rng = np.random.default_rng(0)
    rows = []
    for leads in layout.rows:
        n = MV.shape[1] // len(leads)
        row = np.concatenate([MV[LEADS.index(lead), j * n : (j + 1) * n] for j, lead in enumerate(leads)])
        rows.append(row + noise_mv * rng.standard_normal(len(row)))
    return rows


@pytest.mark.parametrize("name", sorted(LAYOUTS))
@pytest.mark.parametrize("upside_down", [False, True])
def test_every_layout_is_told_from_the_others_either_way_up(name, upside_down):
    rows = rows_of(LAYOUTS[name], noise_mv=0.02)
    if upside_down:
        rows = [-row[::-1] for row in reversed(rows)]
    best, second = rank_hypotheses(rows, list(LAYOUTS.values()))[:2]
    assert (best.layout.name, best.upside_down) == (name, upside_down)
    assert best.score > 0.95
    assert second.score < best.score - 0.15


def test_laws_are_exact_for_exact_leads():
    checks = page_checks(LAYOUTS["3x4+1"], rows_of(LAYOUTS["3x4+1"]))
    assert set(checks) == {"einthoven", "goldberger", "rhythm II"}
    assert min(checks.values()) > 0.9999


def test_swapped_leads_break_a_law():
    rows = rows_of(LAYOUTS["12x1"])
    rows[1], rows[2] = rows[2], rows[1]
    assert page_checks(LAYOUTS["12x1"], rows)["einthoven"] < 0.7


def test_gaps_are_left_out():
    rows = rows_of(LAYOUTS["12x1"])
    rows[0][100:300] = np.nan
    assert page_checks(LAYOUTS["12x1"], rows)["einthoven"] > 0.999
