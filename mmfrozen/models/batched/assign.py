"""Batched version of MMDetection's ``MaxIoUAssigner``."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules.assigners import BboxOverlaps2D, MaxIoUAssigner
from torch import Tensor

from .boxes import overlaps
from .truth import BatchGroundTruth

#: Maximum object-anchor pairs per chunk: 512 MiB of fp32 in 4 tensors.
PAIRS = 2**25


def assigner_fallback_reason(assigner: Any) -> str | None:
    """Return why an assigner has no batched form; None if it has one."""
    calculator = getattr(assigner, 'iou_calculator', None)
    if (
        type(assigner) is not MaxIoUAssigner
        or assigner.perm_repeat_gt_cfg is not None
        or type(calculator) is not BboxOverlaps2D
        or calculator.scale != 1.0
        or calculator.dtype is not None
    ):
        return f'assigner {type(assigner).__name__} with its options'
    return None


def assign(
    assigner: MaxIoUAssigner,
    priors: Tensor,
    usable: Tensor | None,
    truth: BatchGroundTruth,
    *,
    pairs: int = PAIRS,
) -> Tensor:
    """Assign objects to priors of a batch as ``MaxIoUAssigner`` does.

    Args:
        assigner: MMDetection's assigner, which provides the thresholds.
        priors: (N or 1, P, 4), anchors or proposals, corners in pixels.
        usable: (N or 1, P) bool, which priors take part; None for all.
        truth: Ground truth of the batch.
        pairs: Maximum object-prior pairs per chunk, which bounds the memory.

    Returns:
        (N, P) int64: i + 1 for object i, 0 for background, -1 for ignored.
    """
    count = priors.shape[1]
    step = max(1, pairs // truth.valid.numel())
    pieces = [slice(i, i + step) for i in range(0, count, step)]

    def iou_of(piece: slice) -> Tensor:
        return _iou(
            assigner,
            priors[:, piece],
            None if usable is None else usable[:, piece],
            truth,
        )

    iou, parts, best = None, [], None
    for piece in pieces:
        iou = iou_of(piece)
        parts.append(_by_threshold(assigner, iou))
        if assigner.match_low_quality:
            best = _merge_best(best, iou.max(dim=2), piece.start)
    assigned = _concatenate(parts)
    if best is not None:
        low = (
            _low_quality(
                assigner, iou if len(pieces) == 1 else iou_of(p), best
            )
            for p in pieces
        )
        if assigner.gt_max_assign_all:
            last = _concatenate(list(low)).long()
        else:
            last = _at_best(assigner, assigned, *best)
        assigned = torch.where(last > 0, last, assigned)
    # in an image without objects every prior is background, even one in an
    # ignored region
    assigned = assigned.where(truth.valid.any(dim=1, keepdim=True), 0)
    return assigned if usable is None else assigned.where(usable, -1)


def _iou(
    assigner: MaxIoUAssigner,
    priors: Tensor,
    usable: Tensor | None,
    truth: BatchGroundTruth,
) -> Tensor:
    """Return IoUs, (N, G, P), with -1 for padding objects and unused
    priors."""
    iou = overlaps(truth.boxes, priors)
    if assigner.ignore_iof_thr > 0 and truth.ignored is not None:
        by_prior = assigner.ignore_wrt_candidates
        iof = overlaps(
            truth.ignored.boxes, priors, 'second' if by_prior else 'first'
        ).masked_fill_(~truth.ignored.valid[:, :, None], -1)
        left_out = iof.amax(dim=1) > assigner.ignore_iof_thr
        usable = ~left_out if usable is None else usable & ~left_out
    iou.masked_fill_(~truth.valid[:, :, None], -1)
    if usable is not None:
        iou.masked_fill_(~usable[:, None], -1)
    return iou


def _by_threshold(assigner: MaxIoUAssigner, iou: Tensor) -> Tensor:
    best, index = iou.max(dim=1)
    negative = assigner.neg_iou_thr
    low, high = negative if isinstance(negative, tuple) else (0, negative)
    background = (best >= low) & (best < high)
    return torch.where(
        best >= assigner.pos_iou_thr,
        index + 1,
        background.long() - 1,
    )


def _merge_best(
    best: tuple[Tensor, Tensor] | None, found: Any, start: int
) -> tuple[Tensor, Tensor]:
    """Merge the running best IoU and prior index of each object with those of
    a chunk; the first of equal IoUs wins."""
    values, index = found.values, found.indices + start
    if best is None:
        return values, index
    return (
        torch.maximum(best[0], values),
        torch.where(values > best[0], index, best[1]),
    )


def _object_numbers(iou_like: Tensor) -> Tensor:
    """Return the values assigned to the objects, (G, 1): i + 1 for object
    i."""
    count = iou_like.shape[1]
    numbers = torch.arange(1, count + 1, device=iou_like.device)
    return numbers.int()[:, None]


def _low_quality(
    assigner: MaxIoUAssigner, iou: Tensor, best: tuple[Tensor, Tensor]
) -> Tensor:
    """Return (N, P): 1 + index of the last object for which a prior has the
    best IoU; 0 if there is none."""
    values = best[0][:, :, None]
    matched = (iou == values) & (values >= max(assigner.min_pos_iou, 0))
    return (matched * _object_numbers(iou)).amax(dim=1)


def _at_best(
    assigner: MaxIoUAssigner, assigned: Tensor, values: Tensor, index: Tensor
) -> Tensor:
    numbers = _object_numbers(values)[:, 0].long().expand_as(index)
    numbers = numbers.where(values >= max(assigner.min_pos_iou, 0), 0)
    none = torch.zeros_like(assigned)
    return none.scatter_reduce(1, index, numbers, 'amax')


def _concatenate(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
