"""Region pooling: RoIAlign with average or maximum, and RoIPool.

Average RoIAlign is torchvision's kernel, whose arithmetic equals mmcv's. The
others are plain torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .arithmetic import upcast

MAX = 0  # mmcv's code; 1 is the average
#: Maximum interpolated values per chunk, in RoIAlign with the maximum: 256 MB
#: of fp32.
CHUNK = 2**26
#: Initial value of mmcv's maximum.
LOWEST = -10000.0


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    out: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Interpolate points in the bins of each region, and pool them.

    "Mask R-CNN" (ICCV 2017), section 3.

    Args:
        features: (N, C, H, W).
        rois: (K, 5): image index, x1, y1, x2, y2 in pixels of the image.
        out: Output, (K, C, aligned_height, aligned_width).
        argmax_y: Output for the maximum, in the shape of `out`: row of the
            maximum point in pixels of `features`.
        argmax_x: Output for the maximum, likewise: column of that point.
        aligned_height: Number of bins in height.
        aligned_width: Number of bins in width.
        spatial_scale: Ratio of feature map size to image size.
        sampling_ratio: Points per bin in each direction; 0 for one per pixel.
        pool_mode: 0 for the maximum, 1 for the average.
        aligned: Whether pixel centres are at 0.5.
    """
    x = upcast(features)
    boxes = rois.to(x.dtype)
    if pool_mode != MAX:
        pooled = torch.ops.torchvision.roi_align(
            x,
            boxes,
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
        out.copy_(pooled)
        return
    size = (aligned_height, aligned_width)
    out.fill_(LOWEST)
    argmax_y.fill_(-1)
    argmax_x.fill_(-1)
    starts, bins, grids = bins_of(
        boxes, spatial_scale, sampling_ratio, size, aligned
    )
    for grid, part in regions_by_grid(grids, x.shape[1] * size[0] * size[1]):
        values, y, x_ = _largest(
            x, boxes[part, 0].long(), starts[part], bins[part], size, grid
        )
        above = values > LOWEST
        out[part] = values.where(above, LOWEST).to(out.dtype)
        argmax_y[part] = y.where(above, -1).to(out.dtype)
        argmax_x[part] = x_.where(above, -1).to(out.dtype)


def roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_features: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute the gradient of the features.

    Args:
        grad: Gradient of the output, (K, C, aligned_height, aligned_width).
        rois: As in the forward pass.
        argmax_y: As written by the forward pass.
        argmax_x: As written by the forward pass.
        grad_features: Output, (N, C, H, W).
        aligned_height: As in the forward pass, like all options below.
        aligned_width: Number of bins in width.
        spatial_scale: Ratio of feature map size to image size.
        sampling_ratio: Points per bin in each direction.
        pool_mode: 0 for the maximum, 1 for the average.
        aligned: Whether pixel centres are at 0.5.
    """
    grad_out = upcast(grad)
    if pool_mode != MAX:
        grad_features.copy_(
            torch.ops.torchvision._roi_align_backward(
                grad_out,
                rois.to(grad_out.dtype),
                spatial_scale,
                aligned_height,
                aligned_width,
                *grad_features.shape,
                sampling_ratio,
                aligned,
            )
        )
        return
    height, width = grad_features.shape[-2:]
    y, x = upcast(argmax_y), upcast(argmax_x)
    shares = (
        (row * width + column, (grad_out * weight).where(y != -1, 0))
        for row, column, weight in _corners(y, x, height, width)
    )
    _add_up(grad_features, rois, shares)


def _add_up(
    grad_features: Tensor,
    rois: Tensor,
    shares: Iterable[tuple[Tensor, Tensor]],
) -> None:
    """Write the sum of gradients of pixels.

    Args:
        grad_features: Output, (N, C, H, W).
        rois: (K, 5), whose first column is the image index.
        shares: Pixels as y * W + x and their gradients, each (K, C, h, w).
    """
    _, channels, height, width = grad_features.shape
    batch = rois[:, 0].long()[:, None, None, None]
    channel = torch.arange(channels, device=rois.device)[:, None, None]
    plane = (batch * channels + channel) * height * width
    total = upcast(torch.zeros_like(grad_features)).flatten()
    for pixels, share in shares:
        total.index_add_(0, (plane + pixels).flatten(), share.flatten())
    grad_features.copy_(total.view_as(grad_features))


def roi_pool_forward(
    features: Tensor,
    rois: Tensor,
    out: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute the maximum of the pixels in each bin of each region.

    mmcv's bins, unlike torchvision's, are not rounded to pixels first, and a
    region ends one pixel after its corner.

    Args:
        features: (N, C, H, W).
        rois: (K, 5): image index, x1, y1, x2, y2 in pixels of the image.
        out: Output, (K, C, pooled_height, pooled_width), 0 for empty bins.
        argmax: Output, int32: row * W + column of the pixel; -1 for empty
            bins.
        pooled_height: Number of bins in height.
        pooled_width: Number of bins in width.
        spatial_scale: Ratio of feature map size to image size.
    """
    height, width = features.shape[2:]
    boxes = upcast(rois)
    x1, y1 = (boxes[:, 1:3] * spatial_scale).unbind(dim=1)
    x2, y2 = ((boxes[:, 3:] + 1) * spatial_scale).unbind(dim=1)
    rows = _edges(y1, y2, pooled_height, height)
    columns = _edges(x1, x2, pooled_width, width)
    out.zero_()
    argmax.fill_(-1)
    for k, image in enumerate(boxes[:, 0].long().tolist()):
        if (x2[k] <= x1[k]) | (y2[k] <= y1[k]):
            continue
        for i, (top, bottom) in enumerate(rows[k]):
            for j, (left, right) in enumerate(columns[k]):
                if bottom <= top or right <= left:
                    continue
                pixels = features[image, :, top:bottom, left:right]
                value, index = pixels.flatten(1).max(dim=1)
                row = top + index // (right - left)
                out[k, :, i, j] = value
                argmax[k, :, i, j] = row * width + (
                    left + index % (right - left)
                )


def roi_pool_backward(
    grad: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_features: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute the gradient of the features.

    Args:
        grad: Gradient of the output, (K, C, pooled_height, pooled_width).
        rois: As in the forward pass.
        argmax: As written by the forward pass.
        grad_features: Output, (N, C, H, W).
        pooled_height: As in the forward pass; unused, like all options below.
        pooled_width: Number of bins in width.
        spatial_scale: Ratio of feature map size to image size.
    """
    share = upcast(grad).where(argmax >= 0, 0)
    _add_up(grad_features, rois, [(argmax.long().clamp(min=0), share)])


def _edges(
    start: Tensor, stop: Tensor, count: int, limit: int
) -> list[list[tuple[int, int]]]:
    """Return the first pixel of each bin of each region, and the one after its
    last."""
    side = ((stop - start) / count)[:, None]
    number = torch.arange(count, device=start.device)
    first = (number * side + start[:, None]).floor().clamp(0, limit)
    last = ((number + 1) * side + start[:, None]).ceil().clamp(0, limit)
    return torch.stack((first, last), dim=2).long().tolist()


def bins_of(
    boxes: Tensor,
    scale: float,
    ratio: int,
    size: tuple[int, int],
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the origin of each region, the sides of its bins and the points
    per bin: (K, 2) each, rows before columns, in pixels of the features."""
    corners = boxes[:, [2, 1, 4, 3]] * scale - (0.5 if aligned else 0.0)
    start, sides = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        sides = sides.clamp(min=1)
    bins = sides / sides.new_tensor(size)
    points = torch.full_like(bins, ratio) if ratio > 0 else bins.ceil()
    return start, bins, points.long()


def regions_by_grid(
    grids: Tensor, values: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield groups of regions that have equally many points per bin, in chunks
    of bounded memory; regions without area, which have no points, are skipped.

    Args:
        grids: (K, 2), points per bin, from :func:`bins_of`.
        values: Interpolated values of a region with one point per bin.

    Yields:
        Rows and columns of points per bin, and the indices of the regions.
    """
    for grid in torch.unique(grids, dim=0).tolist():
        if 0 in grid:
            continue
        chosen = (grids == grids.new_tensor(grid)).all(dim=1).nonzero()[:, 0]
        size = max(1, CHUNK // (values * grid[0] * grid[1]))
        for part in torch.split(chosen, size):
            yield grid, part


def points_of(
    start: Tensor, bins: Tensor, size: tuple[int, int], grid: list[int]
) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the points in all bins, (K, *size, *grid)
    each."""
    places = []
    for axis in (0, 1):
        number = torch.arange(size[axis], device=bins.device)
        point = torch.arange(grid[axis], device=bins.device) + 0.5
        side = bins[:, axis, None, None]
        places.append(
            start[:, axis, None, None]
            + number[:, None] * side
            + point * side / grid[axis]
        )  # (K, size, grid)
    return (
        places[0][:, :, None, :, None].expand(-1, -1, size[1], -1, grid[1]),
        places[1][:, None, :, None, :].expand(-1, size[0], -1, grid[0], -1),
    )


def _largest(
    features: Tensor,
    batch: Tensor,
    start: Tensor,
    bins: Tensor,
    size: tuple[int, int],
    grid: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest interpolated value in each bin, with its row and
    column, (K, C, *size) each."""
    y, x = points_of(start, bins, size, grid)
    maps = features.permute(0, 2, 3, 1)
    image = batch[:, None, None, None, None]
    values = bins.new_zeros(())
    for row, column, weight in _corners(y, x, *features.shape[2:]):
        # (K, PH, PW, GH, GW, C)
        values = values + maps[image, row, column] * weight[..., None]
    best, index = values.flatten(3, 4).max(dim=3)
    row, column = (p.flatten(3).gather(3, index) for p in (y, x))
    return (
        best.permute(0, 3, 1, 2),
        row.permute(0, 3, 1, 2),
        column.permute(0, 3, 1, 2),
    )


def _corners(
    y: Tensor, x: Tensor, height: int, width: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return row, column and weight of the four pixels around points.

    Points more than a pixel outside of the map have weight 0.
    """
    pixels, low, far, inside = pixels_around(y, x, height, width)
    weights = (
        (1 - low) * (1 - far),
        (1 - low) * far,
        low * (1 - far),
        low * far,
    )
    return [
        (row, column, weight.where(inside, 0))
        for (row, column), weight in zip(pixels, weights, strict=True)
    ]


def pixels_around(
    y: Tensor, x: Tensor, height: int, width: int
) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor, Tensor]:
    """Find the four pixels around points, which are clamped to the map.

    Returns:
        Rows and columns of the pixels: top left, top right, bottom left and
        bottom right; the vertical distance of each point from the top pixels
        and its horizontal distance from the left pixels, from 0 to 1; and
        whether the point is inside the map or at most one pixel outside it.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.long(), x.long()
    bottom = (top + 1).clamp(max=height - 1)
    right = (left + 1).clamp(max=width - 1)
    pixels = list(itertools.product((top, bottom), (left, right)))
    return pixels, y - top, x - left, inside
