"""Choice of the dtype in which operators compute."""

from __future__ import annotations

import torch
from torch import Tensor


def upcast(tensor: Tensor) -> Tensor:
    """Convert fp16 and bf16 to fp32; return other dtypes unchanged.

    torchvision's kernels do not support bf16, and support fp16 on GPUs only.
    Also, bf16 and fp16 cannot represent every pixel coordinate above 256 and
    2,048, respectively.
    """
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor
