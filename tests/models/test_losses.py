"""The losses against loops and against torchvision."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from models.losses import dice_loss, focal_loss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 1, 9, 7, generator=generator)
    return logits, (torch.rand(3, 1, 9, 7, generator=generator) < 0.2).float()


def test_dice_equals_a_loop_over_pixels(batch):
    logits, mask = (tensor.double().numpy().ravel() for tensor in batch)
    overlap = size = 0.0
    for logit, truth in zip(logits, mask, strict=True):
        probability = 1 / (1 + math.exp(-logit))
        overlap += probability * truth
        size += probability**2 + truth**2
    assert float(dice_loss(*batch)) == pytest.approx(1 - (2 * overlap + 1) / (size + 1), abs=1e-6)


def test_focal_equals_torchvision(batch):
    wanted = sigmoid_focal_loss(*batch, alpha=0.25, gamma=2.0, reduction="mean")
    torch.testing.assert_close(focal_loss(*batch), wanted)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 2.0), (0.75, 0.0), (0.25, 1.5)])
def test_focal_equals_a_loop_over_pixels(batch, alpha, gamma):
    logits, mask = (tensor.double().numpy().ravel() for tensor in batch)
    total = 0.0
    for logit, truth in zip(logits, mask, strict=True):
        probability = 1 / (1 + math.exp(-logit))
        right = probability if truth else 1 - probability
        total += -(alpha if truth else 1 - alpha) * (1 - right) ** gamma * math.log(right)
    assert float(focal_loss(*batch, alpha=alpha, gamma=gamma)) == pytest.approx(total / len(mask), rel=1e-5)


def test_perfect_and_worst_predictions():
    mask = torch.zeros(1, 1, 10, 10)
    mask[..., :50] = 1.0
    perfect, worst = (2 * mask - 1) * 50, (1 - 2 * mask) * 50
    assert float(dice_loss(perfect, mask)) == pytest.approx(0.0, abs=1e-6)
    assert float(dice_loss(worst, mask)) == pytest.approx(1.0, abs=0.02)
    assert float(focal_loss(perfect, mask)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", [dice_loss, focal_loss])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_loss_and_gradient_are_finite_everywhere(loss, logit, truth):
    logits = torch.full((2, 1, 8, 8), logit, requires_grad=True)
    value = loss(logits, torch.full((2, 1, 8, 8), truth))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_dice_counts_the_batch_as_one_picture():
    logits = torch.tensor([4.0, -4.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    mask = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    per_patch = np.mean([float(dice_loss(logits[i : i + 1], mask[i : i + 1])) for i in range(2)])
    assert float(dice_loss(logits, mask)) < per_patch


@pytest.mark.parametrize("loss", [dice_loss, focal_loss])
def test_low_precision_logits_are_summed_in_float32(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 1, 128, 128, generator=generator)
    mask = (torch.rand(logits.shape, generator=generator) < 0.03).float()
    assert loss(logits.bfloat16(), mask).dtype == torch.float32
    torch.testing.assert_close(loss(logits.bfloat16(), mask), loss(logits, mask), rtol=2e-3, atol=0)


@pytest.mark.parametrize("loss", [dice_loss, focal_loss])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match="differ in shape"):
        loss(torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8))
