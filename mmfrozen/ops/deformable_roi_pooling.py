"""Deformable RoI pooling: RoIAlign in which each bin is shifted by its own
offset.

"Deformable Convolutional Networks" (ICCV 2017), section 2.2. A bin is pooled
as a region of its own with torchvision's RoIAlign. Shapes, with P bins in
each direction:

    features (N, C, H, W)
    rois     (K, 5): image index, x1, y1, x2, y2 in pixels of the image
    offset   (K, 2, P, P): x, then y shift of a bin; the shift in pixels is
             `gamma` * offset * side of the region; empty for no shifts
    out      (K, C, P, P)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import upcast
from .roi_pooling import bins_of, pixels_around, points_of, regions_by_grid


def deform_roi_pool_forward(
    features: Tensor,
    rois: Tensor,
    offset: Tensor,
    out: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Pool the shifted bins of each region; write to `out`."""
    x = upcast(features)
    size = (pooled_height, pooled_width)
    bins = _bins_as_regions(rois, offset, size, gamma, x.dtype)
    pooled = torch.ops.torchvision.roi_align(
        x, bins, spatial_scale, 1, 1, sampling_ratio, True
    )
    out.copy_(pooled.view(len(rois), *size, -1).permute(0, 3, 1, 2))


def deform_roi_pool_backward(
    grad: Tensor,
    features: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_features: Tensor,
    grad_offset: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the gradients of the features and the offsets."""
    x = upcast(features)
    size = (pooled_height, pooled_width)
    bins = _bins_as_regions(rois, offset, size, gamma, x.dtype)
    of_bins = upcast(grad).permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    grad_features.copy_(
        torch.ops.torchvision._roi_align_backward(
            of_bins[:, :, None, None].contiguous(),
            *(bins, spatial_scale, 1, 1, *x.shape, sampling_ratio, True),
        )
    )
    if not offset.numel():
        return
    slopes = _slopes(x, bins, of_bins, spatial_scale, sampling_ratio)
    slopes = slopes.view(len(rois), *size, 2).permute(0, 3, 1, 2)
    sides = (rois[:, 3:] - rois[:, 1:3]).to(x.dtype) * spatial_scale
    grad_offset.copy_(slopes * sides[:, :, None, None] * gamma)


def _bins_as_regions(
    rois: Tensor,
    offset: Tensor,
    size: tuple[int, int],
    gamma: float,
    dtype: torch.dtype,
) -> Tensor:
    """Return the bins as regions in pixels of the image, (K * P * P, 5)."""
    boxes = rois.to(dtype)
    rows, columns = size
    corner, sides = boxes[:, 1:3], boxes[:, 3:] - boxes[:, 1:3]
    number = torch.meshgrid(
        torch.arange(columns, device=rois.device),
        torch.arange(rows, device=rois.device),
        indexing='xy',
    )
    place = torch.stack(number, dim=2).to(dtype)  # (rows, columns, 2)
    step = (sides / sides.new_tensor((columns, rows)))[:, None, None]
    start = corner[:, None, None] + place * step
    if offset.numel():
        moves = offset.to(dtype).permute(0, 2, 3, 1)
        start = start + gamma * sides[:, None, None] * moves
    image = boxes[:, None, None, :1].expand(-1, rows, columns, -1)
    return torch.cat((image, start, start + step), dim=3).view(-1, 5)


def _slopes(
    features: Tensor, bins: Tensor, grad: Tensor, scale: float, ratio: int
) -> Tensor:
    """Return the gradient of the loss with respect to each bin's shift by one
    feature pixel in x and y, (bins, 2)."""
    maps = features.permute(0, 2, 3, 1)
    height, width, channels = maps.shape[1:]
    starts, sides, grids = bins_of(bins, scale, ratio, (1, 1), aligned=True)
    found = torch.zeros_like(starts)
    for grid, part in regions_by_grid(grids, channels):
        y, x = (
            axis.flatten(1)
            for axis in points_of(starts[part], sides[part], (1, 1), grid)
        )
        pixels, low, far, inside = pixels_around(y, x, height, width)
        image = bins[part, 0].long()[:, None]
        a, b, c, d = (
            torch.einsum('kpc,kc->kp', maps[image, *pixel], grad[part])
            for pixel in pixels
        )
        of_x = (b - a) * (1 - low) + (d - c) * low
        of_y = (c - a) * (1 - far) + (d - b) * far
        # a point before the first pixel has that pixel's value, so no slope
        found[part, 0] = of_x.where(inside & (x > 0), 0).mean(dim=1)
        found[part, 1] = of_y.where(inside & (y > 0), 0).mean(dim=1)
    return found
