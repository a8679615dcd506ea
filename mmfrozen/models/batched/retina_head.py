"""RetinaNet's head with targets computed for all images at once."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import AnchorHead, RetinaHead
from mmdet.models.task_modules.samplers import PseudoSampler
from torch import Tensor

from ...registry import MODELS
from . import fallback
from .anchor_head import BatchedAnchorHead
from .dense import gather, sizes_of
from .truth import BatchGroundTruth


class BatchedAnchorTargets(BatchedAnchorHead):
    """Batched targets for dense heads of MMDetection that do not sample."""

    def _fallback_reasons(self) -> list[str | None]:
        reasons = super()._fallback_reasons()
        methods = ('get_targets', '_get_targets_single', 'loss_by_feat_single')
        reasons.append(fallback.first_overridden(self, AnchorHead, methods))
        if self.train_cfg and type(self.sampler) is not PseudoSampler:
            reasons.append(f'sampler {type(self.sampler).__name__}')
        return reasons

    def batched_loss(
        self, outputs: Any, truth: BatchGroundTruth
    ) -> dict[str, Any]:
        """Implement :meth:`BatchedAnchorHead.batched_loss`."""
        cls_scores, bbox_preds = outputs
        anchors, assigned = self._assigned(sizes_of(cls_scores), truth)
        targets, avg_factor = self._targets(anchors, assigned, truth)
        counts = [x[0].numel() // 4 for x in bbox_preds]
        losses = [
            self.loss_by_feat_single(*level, avg_factor=avg_factor)
            for level in zip(
                cls_scores,
                bbox_preds,
                anchors.split(counts),
                *(target.split(counts, dim=1) for target in targets),
                strict=True,
            )
        ]
        loss_cls, loss_bbox = zip(*losses, strict=True)
        return dict(loss_cls=list(loss_cls), loss_bbox=list(loss_bbox))

    @torch.no_grad()
    def _targets(
        self, anchors: Tensor, assigned: Tensor, truth: BatchGroundTruth
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return labels and their weights, (N, A); box targets and their
        weights, (N, A, 4); and the number of positive anchors, counting at
        least one per image."""
        positive = assigned > 0
        weights = (assigned >= 0).float()
        pos_weight = self.train_cfg['pos_weight']
        if pos_weight > 0:
            weights = weights + positive * (pos_weight - 1)
        objects = (assigned - 1).clamp_(min=0)
        labels = gather(truth.labels, objects)
        labels = labels.where(positive, self.num_classes)
        boxes = self._coder.encode(anchors, gather(truth.boxes, objects))
        is_box = positive[..., None]
        boxes = boxes.where(is_box, 0)
        found = positive.sum(dim=1).clamp(min=1).sum()
        is_box = is_box.float().expand_as(boxes)
        return (labels, weights, boxes, is_box), found


@MODELS.register_module()
class BatchedRetinaHead(BatchedAnchorTargets, RetinaHead):
    """MMDetection's ``RetinaHead`` with batched target assignment.

    What MMDetection lacks: it assigns objects to anchors image by image. Here
    all images are processed at once. Arguments, weights and losses are
    MMDetection's.

    Example config::

        bbox_head=dict(type='BatchedRetinaHead', num_classes=80, ...)
    """
