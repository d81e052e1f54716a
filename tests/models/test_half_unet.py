"""HalfUNet: what its own file promises beyond the contract of every architecture."""

import pytest
import pytorch_lightning as pl
import torch

from models.complexity import macs_per_patch
from models.half_unet import WARM_UP, HalfResolutionUNet, HalfUNet, one_cycle
from models.windows import predict_page


def test_the_four_pixels_of_a_square_can_differ():
    # Nothing but the head's bias: each of its channels is one place in every 2 x 2 square.
    net = HalfResolutionUNet(16).eval()
    with torch.no_grad():
        for weights in net.parameters():
            weights.zero_()
        net.head.bias.copy_(torch.arange(4.0))
        logits = net(torch.rand(1, 1, 6, 8))
    assert torch.equal(logits[0, 0, :2, :2], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert torch.equal(logits[0, 0, :2, :2], logits[0, 0, 4:, 6:])


def test_a_window_sees_far_beyond_a_letter():
    net = HalfResolutionUNet(16).eval()
    image = torch.rand(1, 1, 256, 256).requires_grad_()
    net(image)[0, 0, 128, 128].backward()
    seen = image.grad[0, 0].abs() > 0
    rows = torch.nonzero(seen.any(dim=1)).flatten()
    assert int(rows[-1] - rows[0]) > 128


def test_it_costs_half_of_the_small_resunet():
    assert macs_per_patch(HalfResolutionUNet(24)) < 0.55e9
    assert macs_per_patch(HalfResolutionUNet(24), size_px=256) == pytest.approx(
        4 * macs_per_patch(HalfResolutionUNet(24)), rel=0.01
    )


def test_rate_rises_then_falls_to_nothing():
    rates = [one_cycle(step / 100) for step in range(101)]
    top = round(100 * WARM_UP)
    assert rates.index(max(rates)) == top
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.0)


def test_pages_are_predicted_in_its_own_windows():
    module = HalfUNet(width=16)
    page = torch.rand(300, 300, generator=torch.Generator().manual_seed(0))
    own = predict_page(module, page, overlap_px=32)
    assert torch.equal(own, predict_page(module, page, size_px=256, overlap_px=32))
    assert not torch.equal(own, predict_page(module, page, size_px=128, overlap_px=32))


class FourBatches:
    def __iter__(self):
        for _ in range(4):
            yield {"image": torch.rand(2, 1, 64, 64), "mask": torch.zeros(2, 1, 64, 64)}

    def __len__(self):
        return 4


def test_the_rate_of_a_step_depends_on_its_number(tmp_path):
    module, seen = HalfUNet(width=16, lr=2e-3), []

    class Note(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            seen.append(optimizer.param_groups[0]["lr"])

    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[Note()], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, FourBatches())
    assert seen == pytest.approx([2e-3 * one_cycle(step / 8) for step in range(8)])
