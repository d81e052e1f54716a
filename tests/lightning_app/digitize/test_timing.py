import numpy as np
import pytest

from lightning_app.digitize.timing import voted_start


@pytest.mark.parametrize("start", [50.0, 50.3, 50.71])
def test_many_roundings_pin_the_start_down(start):
    offsets = np.array([0.0, 201.58, 403.17, 604.76, 806.1])
    # The first column at or after each place, known to lie within a pixel after it.
    seen = np.ceil(start + offsets) - 0.5
    assert voted_start(seen - offsets, start + 0.6) == pytest.approx(start, abs=0.2)


def test_a_row_that_begins_elsewhere_has_no_vote():
    assert voted_start(np.array([20.0, 20.1, 19.9, 22.0]), 20.5) == pytest.approx(20, abs=0.1)
