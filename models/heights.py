"""The height of a trace in every column, read from weights, and the loss that trains them.

A mask says which pixels the pen covered. Where a trace is steep the pen covers two or three columns from top
to bottom, and the mask tells the height in each of them only through its rim; an error of a third of a column
there is one of ten pixels. A network that also gives weights along every column is asked for the height
itself: the mean of y under a softmax of the weights (Nibali et al. 2018, arXiv 1801.07372, in one dimension)
over a stretch around the trace, so that rows do not disturb each other. Two weights a column stand for its
left and its right half: at 25 mm/s and 4 px/mm a height every 5 ms, from which 500 Hz are regained with a
correlation of .9998 (.9966 at one height a column).
"""

import torch
from torch import Tensor
from torch.nn import functional

HALVES = 2  # heights per column
# In training a stretch reaches this far beyond the line's heights in so many half columns to either side. It
# is wider than the ink, all that is looked at on an unknown page, so that weights beside a line are low, too.
REACH_PX = 8.0
NEIGHBOURS = 6


def expected_heights(weights: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """Mean height of each row in each half column.

    Args:
        weights: (B, 2, H, W) floating point, any range: of the left and right halves of the columns.
        top: (B, R, 2 W) first y of the stretch that is looked at; NaN where there is no line.
        bottom: (B, R, 2 W) its last y; both may lie beyond the image.

    Returns:
        (B, R, 2 W) float32 y in px; NaN where there is no line or its stretch lies outside.
    """
    columns = half_columns(weights).float().unsqueeze(1)  # (B, 1, H, 2 W)
    y = torch.arange(columns.shape[2], device=columns.device, dtype=torch.float32)[:, None]
    inside = (y >= top.unsqueeze(2)) & (y <= bottom.unsqueeze(2))  # (B, R, H, 2 W)
    looked_at = columns.masked_fill(~inside, -torch.inf)
    shares = torch.softmax(looked_at.masked_fill(~inside.any(2, keepdim=True), 0.0), dim=2)
    heights: Tensor = (shares * y).sum(2)
    return heights.masked_fill(~inside.any(2), torch.nan)


def half_columns(weights: Tensor) -> Tensor:
    """(B, 2, H, W) to (B, H, 2 W): left and right halves side by side."""
    return weights.permute(0, 2, 3, 1).flatten(2)


def stretches(heights: Tensor) -> tuple[Tensor, Tensor]:
    """First and last y to look at around known heights.

    Args:
        heights: (B, R, 2 W) y in px, NaN where there is no line.

    Returns:
        top, bottom: (B, R, 2 W), NaN where there is no line.
    """
    known = heights.isfinite()
    size = 2 * NEIGHBOURS + 1
    lowest = functional.max_pool1d(heights.masked_fill(~known, -torch.inf), size, 1, NEIGHBOURS)
    highest = -functional.max_pool1d(-heights.masked_fill(~known, torch.inf), size, 1, NEIGHBOURS)
    nothing = ~known
    return (
        (highest - REACH_PX).masked_fill(nothing, torch.nan),
        (lowest + REACH_PX).masked_fill(nothing, torch.nan),
    )


def height_loss(weights: Tensor, heights: Tensor) -> Tensor:
    """Mean distance of the heights read from the true ones, squared and halved below one pixel (Huber 1964).

    Most columns are level and read to a third of a pixel, while a signal's error lies on the steep ones.

    Args:
        weights: As for `expected_heights`.
        heights: (B, R, 2 W) true y in px, NaN where there is no line or it is not known.

    Returns:
        Scalar float32 in px; 0 when no height is known.
    """
    read = expected_heights(weights, *stretches(heights))
    known = heights.isfinite() & read.isfinite()
    off = functional.smooth_l1_loss(
        torch.where(known, read, 0.0), torch.where(known, heights, 0.0), reduction="sum"
    )
    return off / known.sum().clamp(min=1)
