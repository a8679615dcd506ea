"""The dtype in which operators compute."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """Convert fp16 and bf16 to fp32; other dtypes stay.

    torchvision's kernels have no bf16, and fp16 on GPUs only; and both
    dtypes lose pixels of coordinates above 256 and 2,048.
    """
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor
