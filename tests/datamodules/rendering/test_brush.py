from itertools import pairwise

import numpy as np

from datamodules.rendering.brush import footprint

LEANING = np.array(
    [[5.0, 20.0], [12.3, 20.2], [11.0, 4.5], [14.0, 36.0], [30.5, 21.0], [30.6, 21.0], [55.0, 22.7]]
)


def distance_to(path, shape):
    """From every pixel to a finely sampled path."""
    share = np.linspace(0.0, 1.0, 400)[:, None]
    fine = np.concatenate([a + share * (b - a) for a, b in pairwise(path)])
    y, x = np.mgrid[: shape[0], : shape[1]]
    gaps = np.stack([x, y], axis=-1).reshape(-1, 1, 2) - fine
    return np.hypot(gaps[..., 0], gaps[..., 1]).min(axis=1).reshape(shape)


def test_the_mask_is_every_pixel_a_pen_covers_even_where_the_path_leans_back():
    shape = (40, 60)
    distance = distance_to(LEANING, shape)
    pen = footprint(shape, [LEANING], 4.0)
    for width_px in (1.0, 2.5, 4.0):
        mask = pen.mask(width_px)
        assert mask[distance < width_px / 2 - 0.02].all()
        assert not mask[distance > width_px / 2 + 0.02].any()


def test_ink_has_soft_edges_and_the_asked_strength():
    shape = (20, 40)
    pen = footprint(shape, [np.array([[5.0, 10.0], [35.0, 10.0]])], 3.0)
    ink = pen.ink(np.full(len(pen.middle), 2.0), np.full(len(pen.middle), 0.8))
    assert ink[8:13, 20].tolist() == [0, 102, 204, 102, 0]


def test_crowded_samples_keep_their_peaks():
    x = np.arange(0.0, 50.0, 0.1)
    y = 20.0 - 12.0 * np.exp(-(((x - 25.0) / 0.6) ** 2))
    pen = footprint((40, 50), [np.stack([x, y], axis=1)], 1.0)
    assert len(pen.middle) < x.size / 3
    assert abs(pen.middle[:, 1].min() - y.min()) < 0.6
    assert pen.mask(1.0)[8].any()


def test_what_lies_outside_is_cut_off():
    pen = footprint((10, 10), [np.array([[-20.0, 5.0], [30.0, 5.0]])], 1.0)
    assert pen.mask(1.0).sum() == 10
