"""What this machine computes with, found out without importing torch."""

from __future__ import annotations

import shutil
from pathlib import Path

# Of x86 processors those with tiles. With AVX512-BF16 alone a step of U-Net, HalfUNet or FCN takes half as
# long again as in 32 bits (Intel Xeon, one core).
BF16_FLAGS = frozenset({"amx_bf16", "bf16"})


def computes_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether bfloat16 is faster than float32 here: a GPU, or a processor with instructions for it.

    Elsewhere bfloat16 is slower, and many times so where it is emulated.

    Args:
        cpuinfo: Linux's list of processor flags; where it is missing the answer is no.
    """
    if shutil.which("nvidia-smi"):
        return True
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return not BF16_FLAGS.isdisjoint(flags.partition(":")[2].split())
