"""Non-maximum suppression: hard, soft, and with groups of suppressed boxes."""

from __future__ import annotations

from ctypes import c_float

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .arithmetic import upcast

NAIVE, LINEAR = 0, 1  # mmcv's codes; 2 is Gaussian

Floats = NDArray[np.floating]


def nms(
    boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int
) -> Tensor:
    """Keep the boxes that do not overlap a better kept box by more than a
    threshold.

    Args:
        boxes: (N, 4), corners in pixels.
        scores: (N,).
        iou_threshold: IoU threshold; rounded to fp32, as in mmcv.
        offset: Added to widths and heights, 0 or 1 pixel.

    Returns:
        (K,) int64, indices of the kept boxes, best first.
    """
    # in half precision areas overflow and ties are frequent
    boxes, scores = upcast(boxes), upcast(scores)
    if offset:
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    threshold = c_float(iou_threshold).value
    return torch.ops.torchvision.nms(  # type: ignore[no-any-return]
        boxes, scores, threshold
    )


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    *,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap better ones.

    "Soft-NMS: Improving Object Detection With One Line of Code" (ICCV 2017),
    with mmcv's order of ties: a dropped box is replaced by the last one.

    Args:
        boxes: (N, 4) on the CPU, corners in pixels.
        scores: (N,).
        dets: Output, (N, 5), boxes and lowered scores, best first.
        iou_threshold: IoU from which scores are lowered, unless Gaussian.
        sigma: Parameter of the Gaussian.
        min_score: Score below which boxes are dropped.
        method: 0 naive (scores become 0), 1 linear, 2 Gaussian.
        offset: Added to widths and heights, 0 or 1 pixel.

    Returns:
        (K,) int64, indices of the kept boxes, in the order of `dets`.
    """
    rows = torch.cat((boxes, scores[:, None]), dim=1)
    left = upcast(rows).numpy().copy()
    index = np.arange(len(left))
    kind = left.dtype.type
    for i in range(len(left)):
        if i >= len(index):
            break
        best = i + _first_largest(left[i : len(index), 4])
        left[[i, best]] = left[[best, i]]
        index[[i, best]] = index[[best, i]]
        rest = left[i + 1 : len(index)]
        if not len(rest):
            break
        iou = _overlap(left[i], rest, offset)
        if method == NAIVE:
            rest[:, 4] *= ~(iou >= kind(iou_threshold))  # NaN is kept
        elif method == LINEAR:
            above = iou >= kind(iou_threshold)
            rest[:, 4] *= np.where(above, 1 - iou, kind(1))
        else:
            rest[:, 4] *= np.exp(-(iou * iou) / kind(sigma))
        order = _after_drops(~(rest[:, 4] < kind(min_score)))
        if len(order) < len(rest):
            index[i + 1 : i + 1 + len(order)] = index[i + 1 :][order]
            index = index[: i + 1 + len(order)]
            left[i + 1 : i + 1 + len(order)] = rest[order]
    dets[: len(index)] = torch.from_numpy(left[: len(index)])
    return torch.from_numpy(index)


def nms_match(dets: Tensor, *, iou_threshold: float) -> list[list[int]]:
    """Group boxes by the better one that suppresses them.

    Args:
        dets: (N, 5) on the CPU, corners in pixels and scores.
        iou_threshold: IoU from which a box is suppressed.

    Returns:
        One list per kept box, best first: its index, then those of the boxes
        that it suppresses, by score.
    """
    rows = upcast(dets)
    order = rows[:, 4].sort(descending=True, stable=True).indices.numpy()
    left = rows.numpy()
    groups = []
    while len(order):
        iou = _overlap(left[order[0]], left[order[1:]], 0)
        matched = iou >= left.dtype.type(iou_threshold)
        groups.append([int(order[0]), *order[1:][matched].tolist()])
        order = order[1:][~matched]
    return groups


def _first_largest(values: Floats) -> int:
    """Return the index of the largest value as a loop with `<` finds it: NaN,
    from boxes without area, is skipped unless it comes first."""
    if np.isnan(values[0]):
        return 0
    return int(np.where(np.isnan(values), -np.inf, values).argmax())


def _overlap(box: Floats, others: Floats, offset: int) -> Floats:
    """Return the IoU of one box with (N, 4 or more) others; 0 / 0 is NaN, as
    in mmcv."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(
        box[1], others[:, 1]
    )
    overlap = np.maximum(width + offset, 0) * np.maximum(height + offset, 0)
    area = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
    areas = (others[:, 2] - others[:, 0] + offset) * (
        others[:, 3] - others[:, 1] + offset
    )
    with np.errstate(invalid='ignore'):
        return overlap / (area + areas - overlap)  # type: ignore[no-any-return]


def _after_drops(kept: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the order of boxes after each dropped one was replaced by the
    last."""
    count = int(kept.sum())
    order = np.arange(count)
    order[~kept[:count]] = np.flatnonzero(kept[count:])[::-1] + count
    return order
