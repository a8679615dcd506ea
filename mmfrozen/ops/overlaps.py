"""Box overlaps in mmcv's conventions."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import upcast

#: mmcv's code for intersection over union; 1 is over the first area.
IOU = 0


def bbox_overlaps(
    boxes1: Tensor,
    boxes2: Tensor,
    ious: Tensor,
    *,
    mode: int,
    aligned: bool,
    offset: int,
) -> None:
    """Compute overlaps of boxes, aligned or for all pairs.

    Args:
        boxes1: (M, 4), corners x1, y1, x2, y2 in pixels.
        boxes2: (N, 4), corners in pixels.
        ious: Output, (M,) if `aligned`, else (M, N).
        mode: 0 for intersection over union, 1 for intersection over the first
            area.
        aligned: Whether to compare box i with box i only.
        offset: Added to widths and heights, 0 or 1 pixel.
    """
    a, b = upcast(boxes1), upcast(boxes2)
    area1, area2 = box_areas(a, offset), box_areas(b, offset)
    if not aligned:
        a, area1 = a[:, None], area1[:, None]
    corner = torch.maximum(a[..., :2], b[..., :2])
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - corner + offset
    overlap = sides.clamp(min=0).prod(dim=-1)
    union = area1 + area2 - overlap if mode == IOU else area1
    ious.copy_(overlap / union)


def box_areas(boxes: Tensor, offset: int) -> Tensor:
    """Return the areas of (N, 4) boxes in square pixels, (N,)."""
    return (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
