"""Non-maximum suppression of the proposals of all images and levels."""

from __future__ import annotations

import torch
from mmcv.ops import nms
from torch import Tensor

from .boxes import overlaps

#: The only ``nms.type`` that has a batched form.
NMS = 'nms'
#: Rounds between two convergence checks, each of which synchronises with the
#: device. RPNs need 5 to 15 rounds.
ROUNDS = 8
#: Maximum box pairs per chunk: 1 GiB in all tensors.
PAIRS = 2**26


def suppress(
    boxes: Tensor, scores: Tensor, threshold: float, *, across_levels: bool
) -> Tensor:
    """Keep the boxes that no better box of their image and level overlaps.

    Args:
        boxes: (N, L, K, 4), corners in pixels, sorted by score within each
            level. Boxes without area neither suppress nor are suppressed.
        scores: (N, L, K), negative for padding.
        threshold: IoU above which a box is suppressed.
        across_levels: Whether boxes also suppress those of other levels.

    Returns:
        (N, L, K) bool, whether a box is kept.
    """
    if boxes.device.type == 'cpu' or across_levels:
        return _image_by_image(boxes, scores, threshold, across_levels)
    groups = boxes.flatten(0, 1)
    step = max(1, PAIRS // groups.shape[1] ** 2)
    kept = [suppress_groups(g, threshold) for g in groups.split(step)]
    return torch.cat(kept).view(scores.shape)


def suppress_groups(boxes: Tensor, threshold: float) -> Tensor:
    """Run non-maximum suppression within all groups in parallel.

    A box is kept if no kept box before it overlaps it. Starting with all boxes
    kept, this rule is applied until nothing changes. The fixed point equals
    the result of the sequential algorithm (Cluster-NMS, "Enhancing Geometric
    Factors in Model Learning and Inference", 2020) and needs as many rounds as
    the longest chain of overlapping boxes. On a GPU this is ten times faster
    than the sequential loop of torchvision's kernel.

    Args:
        boxes: (G, K, 4), corners in pixels, sorted by score within each group.
        threshold: IoU above which a box is suppressed.

    Returns:
        (G, K) bool, whether a box is kept.
    """
    matched = (overlaps(boxes, boxes) > threshold).half().triu_(diagonal=1)
    kept = matched.new_ones(len(boxes), 1, boxes.shape[1])
    # autocast would cast the pair matrix in each round
    with torch.autocast(boxes.device.type, enabled=False):
        while True:
            before = kept
            for _ in range(ROUNDS):
                before, kept = kept, torch.bmm(kept, matched).eq_(0)
            if torch.equal(before, kept):
                return kept[:, 0].bool()


def _image_by_image(
    boxes: Tensor, scores: Tensor, threshold: float, across_levels: bool
) -> Tensor:
    """Suppress as MMDetection does, with levels shifted apart, which is faster
    on a CPU."""
    if not across_levels:
        # the offsets round as in mmcv's batched_nms
        apart = boxes.amax(dim=(1, 2, 3), keepdim=True) + 1
        level = torch.arange(len(scores[0]), dtype=boxes.dtype)
        boxes = boxes + level[:, None, None] * apart
    kept = torch.zeros_like(scores, dtype=torch.bool).flatten(1)
    for flags, box, score in zip(
        kept, boxes.flatten(1, 2), scores.flatten(1), strict=True
    ):
        present = (score >= 0).nonzero()[:, 0]
        flags[present[nms(box[present], score[present], threshold)[1]]] = True
    return kept.view_as(scores)
