"""Replacements for the operators of mmcv's extension module `mmcv._ext`, based
on torchvision.

The import finder in `mmfrozen_ext.py` loads this folder as `mmcv._ext` if
mmcv's compiled operators are missing or cannot be loaded. Each function has
the signature with which `mmcv.ops` 2.1 calls it, and writes to the output
tensors passed to it.

These are the operators that MMDetection 3.3 uses, on every device and for
every dtype: arithmetic that torchvision lacks in fp16 or bf16 is done in fp32.
Every other operator of mmcv raises a one-line error when it is called.

This folder imports torch, torchvision and numpy only, because it is loaded
while mmcv is being imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchvision  # noqa: F401  # registers torch.ops.torchvision

from .deformable_attention import (
    ms_deform_attn_backward,
    ms_deform_attn_forward,
)
from .deformable_convolution import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .deformable_roi_pooling import (
    deform_roi_pool_backward,
    deform_roi_pool_forward,
)
from .feature_reassembly import (
    carafe_backward,
    carafe_forward,
    carafe_naive_backward,
    carafe_naive_forward,
)
from .focal_losses import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .masked_convolution import masked_col2im_forward, masked_im2col_forward
from .overlaps import bbox_overlaps
from .roi_pooling import (
    roi_align_backward,
    roi_align_forward,
    roi_pool_backward,
    roi_pool_forward,
)
from .suppression import nms, nms_match, softnms

__all__ = [
    'bbox_overlaps',
    'carafe_backward',
    'carafe_forward',
    'carafe_naive_backward',
    'carafe_naive_forward',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'deform_roi_pool_backward',
    'deform_roi_pool_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'masked_col2im_forward',
    'masked_im2col_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'nms_match',
    'roi_align_backward',
    'roi_align_forward',
    'roi_pool_backward',
    'roi_pool_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softnms',
]


def get_compiler_version() -> str:
    """Return a description in place of the compiler's version, for mmcv's
    reports."""
    return 'none (mmfrozen.ops over torchvision)'


def get_compiling_cuda_version() -> str:
    """Return the CUDA version of torch, for mmcv's reports."""
    return torch.version.cuda or 'not available'


def __getattr__(name: str) -> Callable[..., Any]:
    """Return a function that raises an error for a missing operator, as mmcv
    looks up all operators at import."""
    if name.startswith('__'):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f'mmcv with compiled operators must be installed for {name}, got '
            'mmfrozen.ops, which has only the operators that MMDetection 3.3 '
            'uses. Run `pip uninstall -y mmcv-lite; mim install mmcv==2.1.0`.'
        )

    return missing
