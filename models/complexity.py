"""What a network costs before it runs: parameters and multiply-adds."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PATCH_PX = 128  # Li et al. 2020, section 2.3


def parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(weights.numel() for weights in module.parameters() if weights.requires_grad)


def macs_per_patch(module: nn.Module, *, size_px: int = PATCH_PX) -> int:
    """Multiply-adds of one size_px x size_px patch in the convolutions and matrix products, forward.

    Nothing is computed: shapes alone pass through the network (torch's meta device). Build the module under
    `torch.device("meta")` and no weight is ever drawn either.

    Args:
        module: takes (1, 1, size_px, size_px) float32; its own weights and mode stay as they are.
        size_px: side of the patch.

    Returns:
        The count; 0 for a method without weights.
    """
    state = {
        name: tensor.to("meta") for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }
    if not state:
        return 0
    training = module.training
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            patch = torch.zeros(1, 1, size_px, size_px, device="meta")
            torch.func.functional_call(module.eval(), state, (patch,))
    finally:
        module.train(training)
    return int(counter.get_total_flops()) // 2  # torch counts a multiply-add as two
