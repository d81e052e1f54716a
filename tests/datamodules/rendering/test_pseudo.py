import numpy as np
import pytest

from datamodules.layout import load_layout
from datamodules.rendering import pseudo
from tests.datamodules.rendering.recordings import beats


def test_six_variants_of_a_signal_two_grids_by_three_amounts():
    drawn = pseudo.variants(0)
    assert {(one.grid, one.amount) for one in drawn} == {
        (grid, amount) for grid in ("thin", "thick") for amount in (0.02, 0.05, 0.10)
    }
    assert [one.stroke_px for one in drawn] == [1, 2, 3, 1, 2, 3]
    assert [one.stroke_px for one in pseudo.variants(1)] == [2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize("variant", pseudo.variants(0), ids=str)
def test_noise_flips_its_share_of_pixels(variant):
    page = pseudo.render(beats(1), load_layout("four_line"), np.random.default_rng(0), variant)
    clean = pseudo.render(
        beats(1),
        load_layout("four_line"),
        np.random.default_rng(0),
        pseudo.Variant(variant.grid, 0.0, variant.stroke_px),
    )
    assert (page.image != clean.image).mean() == pytest.approx(variant.amount / 2, rel=0.05)
    assert (clean.image[clean.mask > 0] == 255).all()
    assert set(np.unique(page.image)) == {0, 255}
    assert np.array_equal(page.mask, clean.mask)


def test_thick_lines_are_thicker():
    thin, thick = (
        pseudo.render(
            beats(1), load_layout("six_line"), np.random.default_rng(0), pseudo.Variant(grid, 0.0, 1.0)
        )
        for grid in ("thin", "thick")
    )
    share = [(page.image[page.mask == 0] > 0).mean() for page in (thin, thick)]
    assert share[0] == pytest.approx(1 - 0.95**2, abs=0.01)
    assert share[1] == pytest.approx(1 - 0.90**2, abs=0.01)
