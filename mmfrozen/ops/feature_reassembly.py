"""CARAFE: upsampling with kernels that are predicted for each pixel.

"CARAFE: Content-Aware ReAssembly of FEatures" (ICCV 2019). The kernel weights
are applied one at a time, so that no im2col buffer is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .arithmetic import upcast


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    out: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Compute each output pixel from the pixels around its source.

    Args:
        features: (N, C, H, W).
        masks: (N, group_size * kernel_size ** 2, sH, sW), the kernels.
        out: Output, (N, C, sH, sW).
        kernel_size: Kernel size in pixels of `features`; odd.
        group_size: Number of channel groups with separate kernels.
        scale_factor: The upsampling factor s.
    """
    x, kernels = upcast(features), upcast(masks)
    total = torch.zeros_like(out, dtype=x.dtype)
    shape = _shape(x, group_size, scale_factor)
    for patch, kernel in _steps(x, kernels, kernel_size, group_size):
        total.view(shape).add_(
            patch.view(*shape[:4], 1, shape[5], 1)
            * _kernel(kernel, group_size, scale_factor)
        )
    out.copy_(total)


def carafe_naive_backward(
    grad: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_features: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of the features and the kernels.

    The arguments are those of :func:`carafe_naive_forward`; `grad` is the
    gradient of its output.
    """
    x, kernels = upcast(features), upcast(masks)
    shape = _shape(x, group_size, scale_factor)
    upper = upcast(grad).view(shape)
    pad = kernel_size // 2
    height, width = x.shape[2:]
    padded = F.pad(torch.zeros_like(x), (pad,) * 4)
    found = torch.empty_like(kernels).view(
        len(x), group_size, kernel_size**2, *masks.shape[2:]
    )
    for number, (patch, kernel) in enumerate(
        _steps(x, kernels, kernel_size, group_size)
    ):
        top, left = divmod(number, kernel_size)
        share = upper * _kernel(kernel, group_size, scale_factor)
        padded[:, :, top : top + height, left : left + width] += share.sum(
            dim=(4, 6)
        ).view_as(x)
        product = upper * patch.view(*shape[:4], 1, shape[5], 1)
        found[:, :, number] = product.sum(dim=2).view_as(found[:, :, number])
    grad_features.copy_(padded[:, :, pad : pad + height, pad : pad + width])
    grad_masks.copy_(found.view_as(masks))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    features_buffer: Tensor,
    out_buffer: Tensor,
    masks_buffer: Tensor,
    out: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Compute the same as :func:`carafe_naive_forward`.

    The buffers are workspace of mmcv's kernel. The backward pass receives the
    first of them in place of the features.
    """
    features_buffer.copy_(features)
    carafe_naive_forward(
        features,
        masks,
        out,
        kernel_size=kernel_size,
        group_size=group_size,
        scale_factor=scale_factor,
    )


def carafe_backward(
    grad: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_buffer: Tensor,
    grad_features_large: Tensor,
    grad_features_buffer: Tensor,
    grad_masks_buffer: Tensor,
    grad_features: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Compute the same as :func:`carafe_naive_backward`; buffers are
    unused."""
    carafe_naive_backward(
        grad,
        features,
        masks,
        grad_features,
        grad_masks,
        kernel_size=kernel_size,
        group_size=group_size,
        scale_factor=scale_factor,
    )


def _shape(x: Tensor, groups: int, scale: int) -> tuple[int, ...]:
    """Return the shape of a large map viewed as (N, groups, C / groups, H, s,
    W, s)."""
    batch, channels, height, width = x.shape
    return batch, groups, channels // groups, height, scale, width, scale


def _kernel(kernel: Tensor, groups: int, scale: int) -> Tensor:
    """View (N, groups, sH, sW) as (N, groups, 1, H, s, W, s)."""
    batch, _, height, width = kernel.shape
    return kernel.view(
        batch, groups, 1, height // scale, scale, width // scale, scale
    )


def _steps(
    x: Tensor, masks: Tensor, size: int, groups: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each kernel weight in row-major order, the pixels to which it
    is applied, (N, C, H, W), and its values, (N, groups, sH, sW)."""
    height, width = x.shape[2:]
    padded = F.pad(x, (size // 2,) * 4)
    kernels = masks.view(len(masks), groups, size**2, *masks.shape[2:])
    for number in range(size**2):
        top, left = divmod(number, size)
        patch = padded[:, :, top : top + height, left : left + width]
        yield patch.contiguous(), kernels[:, :, number].contiguous()
