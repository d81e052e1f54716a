"""Maps of the ends of leads, against plain loops over pixels."""

import numpy as np
import pytest
import torch

from models.lead_ends import SPREAD_PX, end_maps, ends_loss

NAN = float("nan")


def test_a_map_has_a_peak_at_every_point():
    points = torch.tensor([[[3.25, 5.0], [9.0, 2.0], [NAN, NAN], [-40.0, 3.0]]])
    got = end_maps(points, 8, 12)[0].numpy()
    wanted = np.zeros((8, 12))
    for x, y in ((3.25, 5.0), (9.0, 2.0)):
        for row in range(8):
            for column in range(12):
                off = ((column - x) / SPREAD_PX[0]) ** 2 + ((row - y) / SPREAD_PX[1]) ** 2
                wanted[row, column] = max(wanted[row, column], np.exp(-off / 2))
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def points(*xy):
    return torch.tensor([list(xy)], dtype=torch.float32)


def test_the_loss_is_least_where_the_maps_are_right():
    begins, stops = points((10.0, 12.0)), points((20.0, 8.0))
    known = torch.tensor([True])
    right = torch.stack([end_maps(p, 24, 32) for p in (begins, stops)], dim=1).logit(eps=1e-4)
    turned = right.flip(1)
    unlikely = torch.full_like(right, -5.0)
    losses = [float(ends_loss(logits, begins, stops, known)) for logits in (right, unlikely, turned)]
    assert losses[0] < 0.01
    assert losses == sorted(losses)


def test_images_whose_ends_are_not_known_cost_nothing():
    logits = torch.zeros(2, 2, 16, 16, requires_grad=True)
    nothing = torch.full((2, 1, 2), NAN)
    ends_loss(logits, nothing, nothing, torch.tensor([True, False])).backward()
    assert (logits.grad[0] != 0).all(), "an image known to have no ends teaches that there are none"
    assert (logits.grad[1] == 0).all()


def test_the_loss_is_per_point():
    one = ends_loss(
        torch.full((1, 2, 40, 80), -5.0), points((10.0, 20.0)), points((NAN, NAN)), torch.tensor([True])
    )
    two = ends_loss(
        torch.full((1, 2, 40, 80), -5.0), points((10.0, 20.0)), points((60.0, 20.0)), torch.tensor([True])
    )
    assert float(one) == pytest.approx(float(two), rel=0.01)
