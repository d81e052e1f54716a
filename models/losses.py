"""Dice loss and focal loss on logits, as pure functions.

Both take raw logits because the combination log(sigmoid(x)) is only stable there, and both compute in
float32 whatever the precision of the network, because a sum over 64 x 128 x 128 pixels exceeds what
bfloat16 (8 bits) can hold.
"""

import torch
from torch import Tensor
from torch.nn import functional

DICE_SMOOTH = 1.0  # keeps a patch without waveform finite (PROTOCOL R21)
FOCAL_GAMMA = 2.0  # Lin et al. 2017, section 4.1
FOCAL_ALPHA = 0.25  # Lin et al. 2017, section 4.1


def dice_loss(logits: Tensor, mask: Tensor, *, smooth: float = DICE_SMOOTH) -> Tensor:
    """One minus the soft Dice over the whole batch, squared denominator (Milletari et al. 2016, eq. 1).

    The batch counts as one picture: patches without waveform exist, and per patch their Dice says nothing.

    Args:
        logits: (B, 1, H, W) floating point, any range.
        mask: same shape, 0 = paper, 1 = waveform.
        smooth: added to numerator and denominator, in pixels.

    Returns:
        Scalar float32 in [0, 1]; 0 is perfect.

    Raises:
        ValueError: if the shapes differ (broadcasting would silently train on the wrong pixels).
    """
    _require_same_shape(logits, mask)
    probability = logits.float().sigmoid()
    target = mask.float()
    overlap = (probability * target).sum()
    size = probability.square().sum() + target.square().sum()
    return 1.0 - (2.0 * overlap + smooth) / (size + smooth)


def focal_loss(
    logits: Tensor, mask: Tensor, *, gamma: float = FOCAL_GAMMA, alpha: float = FOCAL_ALPHA
) -> Tensor:
    """Mean focal loss over all pixels (Lin et al. 2017, eq. 5).

    Args:
        logits: (B, 1, H, W) floating point, any range.
        mask: same shape, 0 = paper, 1 = waveform.
        gamma: focusing exponent, 0 gives weighted cross entropy.
        alpha: weight of waveform pixels in [0, 1]; paper pixels weigh 1 - alpha.

    Returns:
        Scalar float32, 0 is perfect.

    Raises:
        ValueError: if the shapes differ.
    """
    _require_same_shape(logits, mask)
    logits, target = logits.float(), mask.float()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # The probability given to the wrong class is the sigmoid of the logit with its sign turned.
    wrong = torch.sigmoid(logits * (1.0 - 2.0 * target))
    weight = alpha * target + (1.0 - alpha) * (1.0 - target)
    return (weight * wrong.pow(gamma) * cross_entropy).mean()


def _require_same_shape(logits: Tensor, mask: Tensor) -> None:
    if logits.shape != mask.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and mask {tuple(mask.shape)} differ in shape; wanted (B, 1, H, W)"
        )
