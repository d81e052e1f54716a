"""LineUNet: a network like any other, and what it says of lines."""

import pytest
import torch

from models.heights import expected_heights, stretches
from models.line_unet import LineUNet
from models.windows import predict_maps, predict_page

SIZE_PX = 64


def lines_batch(patches=4):
    """Straight lines of any slope under speckle, with all that is known of them."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(patches, 1, generator=generator) * 30 + 17
    slope = torch.rand(patches, 1, generator=generator) - 0.5
    x = (torch.arange(2 * SIZE_PX) + 0.5) / 2 - 0.5
    heights = (start + slope * (x - SIZE_PX / 2)).clamp(2, SIZE_PX - 3)[:, None]
    y = torch.arange(SIZE_PX)[:, None]
    at_columns = (heights[..., ::2] + heights[..., 1::2]) / 2
    mask = ((y - at_columns).abs() <= 1.5).float()[:, None]
    speckle = (torch.rand(mask.shape, generator=generator) < 0.05).float()
    ends = [
        torch.stack([torch.full((patches, 1), place), heights[..., at]], -1)
        for place, at in ((0.0, 0), (63.0, -1))
    ]
    return {
        "image": torch.maximum(mask, speckle),
        "mask": mask,
        "heights": heights,
        "begins": ends[0],
        "stops": ends[1],
        "is_traced": torch.ones(patches, dtype=torch.bool),
    }


def test_it_learns_heights_and_ends_along_with_the_mask():
    torch.manual_seed(0)
    module, batch = LineUNet(width=16), lines_batch()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = module.batch_loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.35 * losses[0]
    with torch.no_grad():
        maps = module.maps(batch["image"])
    read = expected_heights(maps[:, 1:3], *stretches(batch["heights"]))
    assert (read - batch["heights"]).abs().mean() < 0.5
    begins = maps[:, 3].flatten(1).argmax(1) % SIZE_PX
    stops = maps[:, 4].flatten(1).argmax(1) % SIZE_PX
    assert begins.max() <= 2
    assert stops.min() >= SIZE_PX - 3


def test_without_lines_the_mask_alone_is_learnt():
    torch.manual_seed(0)
    module, batch = LineUNet(width=16), lines_batch()
    masked = {name: batch[name] for name in ("image", "mask")}
    with torch.no_grad():
        assert module.batch_loss(masked) == pytest.approx(
            float(module.loss(module(batch["image"]), batch["mask"])), rel=1e-4
        )
        assert module.batch_loss(batch) > module.batch_loss(masked)


def test_ends_count_as_much_as_is_asked():
    batch, losses = lines_batch(), []
    for ends_weight in (0.0, 0.1, 0.2):
        torch.manual_seed(0)
        with torch.no_grad():
            losses.append(float(LineUNet(width=16, ends_weight=ends_weight).batch_loss(batch)))
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)


def test_a_weight_below_nothing_is_refused():
    with pytest.raises(ValueError, match="wanted 0 or more"):
        LineUNet(width=16, ends_weight=-0.1)


def test_a_page_is_predicted_with_all_its_maps():
    module = LineUNet(width=16)
    page = torch.rand(300, 280, generator=torch.Generator().manual_seed(0))
    maps = predict_maps(module, page, overlap_px=32)
    assert maps.shape == (5, 300, 280)
    assert torch.equal(maps[0], predict_page(module, page, overlap_px=32))
    assert maps[[0, 3, 4]].min() >= 0
    assert maps[[0, 3, 4]].max() <= 1
