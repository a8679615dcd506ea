"""A function mode that applies CUDA autocast's fp32 rules on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

#: Functions from torch's ``AT_FORALL_FP32`` that detectors call. CPU autocast
#: runs only the losses of them in fp32.
FP32 = frozenset(
    (
        'acos',
        'asin',
        'binary_cross_entropy_with_logits',
        'cdist',
        'cosine_similarity',
        'cross_entropy',
        'cumsum',
        'exp',
        'expm1',
        'group_norm',
        'huber_loss',
        'interpolate',
        'kl_div',
        'l1_loss',
        'layer_norm',
        'log',
        'log10',
        'log1p',
        'log2',
        'log_softmax',
        'logsumexp',
        'mse_loss',
        'nll_loss',
        'norm',
        'pow',
        '__pow__',
        'reciprocal',
        'rsqrt',
        'smooth_l1_loss',
        'softmax',
        'softplus',
        'upsample',
    )
)


class CudaAutocast(TorchFunctionMode):
    """Function mode that casts arguments to fp32 as CUDA's autocast does."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if (
            getattr(func, '__name__', '') in FP32
            and torch.is_autocast_cpu_enabled()
        ):
            args, kwargs = tree_map(_to_fp32, (args, kwargs))
        return func(*args, **kwargs)


def _to_fp32(value: Any) -> Any:
    low = (torch.bfloat16, torch.float16)
    if isinstance(value, Tensor) and value.dtype in low:
        return value.float()
    return value
