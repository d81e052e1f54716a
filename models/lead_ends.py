"""Where leads begin and end on a page, as two maps, and the loss that trains them.

The record's first sample has to be found to a fraction of a pixel, since one pixel is five samples at 25 mm/s
and 4 px/mm. The rim of a mask does not tell it: a pen's round cap reaches beyond the end, a worn stroke stops
before it. So a network may be asked for the points themselves, as maps with a peak at each (Zhou et al. 2019,
arXiv 1904.07850). Every row has several: where it begins, where it ends, and two wherever leads change.
"""

import torch
from torch import Tensor
from torch.nn import functional

KINDS = 2  # maps: begins, ends
SPREAD_PX = (1.0, 2.0)  # standard deviation of a peak, along x and y
UNLIKELY = -5.0  # first logit of both maps: nearly no pixel is an end (Lin et al. 2017, section 4.1)


def end_maps(points: Tensor, height: int, width: int) -> Tensor:
    """Maps with a peak of 1 at each point.

    Args:
        points: (B, K, 2) x, y in px, NaN where there is none; others may lie beside the image.
        height: Rows of the image.
        width: Its columns.

    Returns:
        (B, H, W) float32 in [0, 1].
    """
    x = torch.arange(width, device=points.device, dtype=torch.float32)
    y = torch.arange(height, device=points.device, dtype=torch.float32)
    across = (-0.5 * ((x - points[..., :1]) / SPREAD_PX[0]).square()).exp()  # (B, K, W)
    down = (-0.5 * ((y - points[..., 1:]) / SPREAD_PX[1]).square()).exp()  # (B, K, H)
    peaks = (down.nan_to_num(0.0).unsqueeze(3) * across.nan_to_num(0.0).unsqueeze(2)).amax(1)
    return peaks


def ends_loss(logits: Tensor, begins: Tensor, stops: Tensor, is_known: Tensor) -> Tensor:
    """Quality focal loss per point (Li et al. 2020, arXiv 2006.04388, eq. 4, beta 2).

    Args:
        logits: (B, 2, H, W) of begins and of ends.
        begins: (B, K, 2) where leads begin, x, y in px; NaN where there is none.
        stops: (B, K, 2) where they end.
        is_known: (B,) bool: images whose begins and ends are known, be there any or not.

    Returns:
        Scalar float32; 0 is perfect.
    """
    height, width = logits.shape[-2:]
    wanted = torch.stack([end_maps(points, height, width) for points in (begins, stops)], dim=1)
    logits = logits.float()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    of_pixels = (wanted - logits.sigmoid()).square() * cross_entropy
    n_points = begins[..., 0].isfinite().sum() + stops[..., 0].isfinite().sum()
    return of_pixels[is_known].sum() / n_points.clamp(min=1)
