"""Deformable convolutions, versions 1 and 2, with torchvision's kernel.

"Deformable Convolutional Networks" (ICCV 2017) and "Deformable ConvNets v2"
(CVPR 2019). In all functions, with K = kernel height * kernel width:

    x        (N, C, H, W)
    weight   (M, C / group, kernel height, kernel width)
    offset   (N, 2 * deformable_group * K, OH, OW), row and column of each
             weight in turn, in pixels from the regular grid
    mask     (N, deformable_group * K, OH, OW), the factor of each weight
    grad     (N, M, OH, OW), of the output

Arguments that end in `buffer` are workspace of mmcv's kernels, and unused. The
options are those of :func:`_first_version` and :func:`_second_version`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .arithmetic import upcast


class Geometry(NamedTuple):
    """Arguments of torchvision's kernels after the tensors, in order."""

    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    offset_groups: int
    use_mask: bool


class Gradients(NamedTuple):
    """Results of torchvision's backward kernel, in order."""

    x: Tensor
    weight: Tensor
    offset: Tensor
    mask: Tensor
    bias: Tensor


def deform_conv_forward(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    out: Tensor,
    columns_buffer: Tensor,
    ones_buffer: Tensor,
    **options: int,
) -> None:
    """Convolve pixels at offsets from the regular grid; write to `out`."""
    out.copy_(_convolve(x, weight, offset, _first_version(**options)))


def deform_conv_backward_input(
    x: Tensor,
    offset: Tensor,
    grad: Tensor,
    grad_x: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns_buffer: Tensor,
    **options: int,
) -> None:
    """Write the gradients of the input and the offsets."""
    found = _gradients(grad, x, weight, offset, _first_version(**options))
    grad_x.copy_(found.x)
    grad_offset.copy_(found.offset)


def deform_conv_backward_parameters(
    x: Tensor,
    offset: Tensor,
    grad: Tensor,
    grad_weight: Tensor,
    columns_buffer: Tensor,
    ones_buffer: Tensor,
    *,
    scale: float,
    **options: int,
) -> None:
    """Add `scale` times the weight's gradient to `grad_weight`."""
    # grad_weight stands in for the weight, whose values do not affect its
    # gradient
    found = _gradients(grad, x, grad_weight, offset, _first_version(**options))
    grad_weight.add_(found.weight.to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones_buffer: Tensor,
    offset: Tensor,
    mask: Tensor,
    out: Tensor,
    columns_buffer: Tensor,
    *,
    with_bias: bool,
    **options: int,
) -> None:
    """Convolve pixels at offsets, each multiplied by a mask; write to
    `out`."""
    geometry = _second_version(**options)
    offset, mask = (_first_values(t, out.shape[2:]) for t in (offset, mask))
    used = bias if with_bias else None
    out.copy_(_convolve(x, weight, offset, geometry, mask, used))


def modulated_deform_conv_backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones_buffer: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns_buffer: Tensor,
    grad_x: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad: Tensor,
    *,
    with_bias: bool,
    **options: int,
) -> None:
    """Write the gradients of all inputs."""
    geometry = _second_version(**options)
    offset, mask = (_first_values(t, grad.shape[2:]) for t in (offset, mask))
    found = _gradients(grad, x, weight, offset, geometry, mask)
    grad_x.copy_(found.x)
    grad_weight.copy_(found.weight)
    for whole, part in ((grad_offset, found.offset), (grad_mask, found.mask)):
        if part.shape != whole.shape:  # unread values have gradient 0
            rest = whole[0].numel() - part[0].numel()
            part = F.pad(part.flatten(1), (0, rest)).view_as(whole)
        whole.copy_(part)
    if with_bias:
        grad_bias.copy_(found.bias)


def _first_values(tensor: Tensor, size: torch.Size) -> Tensor:
    """Return the values of larger offsets or masks that mmcv's kernel reads.

    DyHead passes the offsets and masks of one level to the next, which has
    half the size. For each image, mmcv's kernel then reads the first values in
    memory, as many as the output needs.

    Raises:
        ValueError: If the map is smaller than the output.
    """
    if tensor.shape[2:] == size:
        return tensor
    wanted = (*tensor.shape[:2], *size)
    if tensor.shape[2:].numel() < size.numel():
        raise ValueError(
            'Offsets and masks of a deformable convolution must have the '
            f'size of its output, {tuple(size)}, got {tuple(tensor.shape[2:])}'
            '. Correct its stride or padding.'
        )
    number = tensor.shape[1] * size.numel()
    return tensor.flatten(1)[:, :number].reshape(wanted)


def _first_version(
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> Geometry:
    """Convert mmcv's options of version 1: dW and dH are strides; the kernel
    size is the weight's."""
    return Geometry(
        *(dH, dW, padH, padW, dilationH, dilationW),
        groups=group,
        offset_groups=deformable_group,
        use_mask=False,
    )


def _second_version(
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
) -> Geometry:
    return Geometry(
        *(stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w),
        groups=group,
        offset_groups=deformable_group,
        use_mask=True,
    )


def _convolve(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    geometry: Geometry,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    tensors = _prepared(x, weight, offset, mask, bias)
    return torch.ops.torchvision.deform_conv2d(  # type: ignore[no-any-return]
        *tensors, *geometry
    )


def _gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    geometry: Geometry,
    mask: Tensor | None = None,
) -> Gradients:
    tensors = _prepared(x, weight, offset, mask, None)
    of_x, of_weight, of_offset, of_mask, of_bias = (
        torch.ops.torchvision._deform_conv2d_backward(
            upcast(grad).contiguous(), *tensors, *geometry
        )
    )
    inside = _samples_inside(x, weight, tensors[2], geometry)
    pairs = of_offset.view(*inside.shape[:4], 2, *inside.shape[4:])
    of_offset = pairs.where(inside.unsqueeze(4), 0).view_as(offset)
    return Gradients(of_x, of_weight, of_offset, of_mask, of_bias)


def _samples_inside(
    x: Tensor, weight: Tensor, offset: Tensor, geometry: Geometry
) -> Tensor:
    """Return which samples lie inside `x` or less than a pixel outside it.

    Samples farther outside have value 0. Zero-initialised offsets put samples
    of the padding exactly on that limit, where torchvision's gradient is a
    one-sided slope and mmcv's is 0.

    Returns:
        (N, deformable_group, kernel height, kernel width, OH, OW) bool.
    """
    rows, columns = weight.shape[2:]
    out_rows, out_columns = offset.shape[2:]
    pairs = offset.view(
        *(len(offset), geometry.offset_groups, rows, columns, 2),
        *(out_rows, out_columns),
    )
    number = torch.arange(
        max(rows, columns, out_rows, out_columns), device=offset.device
    )
    y = pairs[:, :, :, :, 0] + (
        number[:rows, None, None, None] * geometry.dilation_h
        + number[:out_rows, None] * geometry.stride_h
        - geometry.pad_h
    )
    z = pairs[:, :, :, :, 1] + (
        number[:columns, None, None] * geometry.dilation_w
        + number[:out_columns] * geometry.stride_w
        - geometry.pad_w
    )
    height, width = x.shape[2:]
    return (y > -1) & (y < height) & (z > -1) & (z < width)


def _prepared(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
) -> list[Tensor]:
    """Return the tensors in torchvision's order and precision."""
    if mask is None:
        mask = x.new_zeros((len(x), 0))
    if bias is None:
        bias = weight.new_zeros(len(weight))
    return [
        upcast(tensor).contiguous()
        for tensor in (x, weight, offset, mask, bias)
    ]
