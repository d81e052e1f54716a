import numpy as np
import pytest

from datamodules.rendering.fields import crisp, over_page, scale_by, smooth_field, threshold_map

SHAPE = (200, 300)


@pytest.mark.parametrize("grain", ["white", "clumped", "screen"])
@pytest.mark.parametrize("darkness", [26, 90, 230])
def test_the_share_of_ink_is_the_darkness(grain, darkness):
    thresholds = threshold_map(np.random.default_rng(1), SHAPE, grain)
    assert thresholds.shape == SHAPE
    assert (darkness > thresholds).mean() == pytest.approx(darkness / 255, abs=0.04)


def test_clumped_specks_hang_together_and_white_ones_do_not():
    def neighbours_agree(grain):
        ink = threshold_map(np.random.default_rng(2), SHAPE, grain) < 60
        return (ink[:, 1:] & ink[:, :-1]).sum() / ink.sum()

    assert neighbours_agree("clumped") > 1.3 * neighbours_agree("white")


def test_a_screen_repeats_at_its_pitch():
    thresholds = threshold_map(np.random.default_rng(3), (256, 256), "screen").astype(float)
    spectrum = np.abs(np.fft.fft2(thresholds - thresholds.mean()))
    assert spectrum.max() > 30 * spectrum.mean()


def test_smooth_field_fills_its_range_and_changes_slowly():
    field = smooth_field(np.random.default_rng(4), SHAPE, 100.0)
    levels = over_page(field, SHAPE).astype(int)
    assert field.min() == 0.0
    assert field.max() == 1.0
    assert levels.shape == SHAPE
    assert np.abs(np.diff(levels, axis=0)).max() < 12


def test_scaling_clips_factors():
    layer = np.full(SHAPE, 200, np.uint8)
    assert (scale_by(layer, np.full((25, 38), 3.0, np.float32)) == 200).all()
    assert (scale_by(layer, np.full((25, 38), -1.0, np.float32)) == 0).all()
    assert (scale_by(layer, np.full((25, 38), 0.5, np.float32)) == 100).all()


def test_crisp_keeps_order_and_ends():
    ramp = np.arange(256, dtype=np.uint8)[None]
    hard = crisp(ramp, 0.2, 0.6)
    assert (np.diff(hard.astype(int)) >= 0).all()
    assert hard[0, 50] == 0
    assert hard[0, 154] == 255
