"""Multi-scale deformable attention in plain torch.

"Deformable DETR" (ICLR 2021). MMDetection calls mmcv's own Python code for
tensors on the CPU, and these operators for tensors on a GPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .arithmetic import upcast


def ms_deform_attn_forward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    *,
    im2col_step: int,
) -> Tensor:
    """Sum the values at the sampling locations of each query, weighted.

    Args:
        value: (N, keys, heads, channels), the pixels of all levels.
        shapes: (levels, 2) int64, height and width of each level.
        starts: (levels,) int64, first key of each level; unused, as it follows
            from `shapes`.
        locations: (N, queries, heads, levels, points, 2), x and y as fractions
            of width and height.
        weights: (N, queries, heads, levels, points).
        im2col_step: Images per chunk in mmcv's kernel; unused.

    Returns:
        (N, queries, heads * channels).
    """
    out = _attend(
        upcast(value), shapes.tolist(), upcast(locations), upcast(weights)
    )
    return out.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad: Tensor,
    grad_value: Tensor,
    grad_locations: Tensor,
    grad_weights: Tensor,
    *,
    im2col_step: int,
) -> None:
    """Write the gradients; the forward pass is recomputed.

    The arguments are those of :func:`ms_deform_attn_forward`; `grad` is the
    gradient of its output.
    """
    inputs = [
        upcast(tensor.detach()).requires_grad_()
        for tensor in (value, locations, weights)
    ]
    with torch.enable_grad():
        out = _attend(inputs[0], shapes.tolist(), *inputs[1:])
    found = torch.autograd.grad(out, inputs, upcast(grad))
    for target, gradient in zip(
        (grad_value, grad_locations, grad_weights), found, strict=True
    ):
        target.copy_(gradient)


def _attend(
    value: Tensor,
    shapes: list[list[int]],
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    # (N, queries, heads, levels, points, 2) -> (levels, N * heads, ...)
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    maps = value.permute(0, 2, 3, 1).flatten(0, 1)  # (N * heads, ch, keys)
    sampled = [
        F.grid_sample(
            level.reshape(*level.shape[:2], height, width),
            grid,
            align_corners=False,
        )
        for level, grid, (height, width) in zip(
            torch.split(maps, [h * w for h, w in shapes], dim=2),
            grids,
            shapes,
            strict=True,
        )
    ]  # (N * heads, channels, queries, points) each
    # (N, queries, heads, levels, points) -> (N * heads, 1, queries, ...)
    shares = weights.transpose(1, 2).flatten(0, 1).flatten(2).unsqueeze(1)
    out = (torch.cat(sampled, dim=3) * shares).sum(dim=3)
    return (
        out.view(batch, heads * channels, queries).transpose(1, 2).contiguous()
    )
