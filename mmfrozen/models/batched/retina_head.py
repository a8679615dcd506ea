"""RetinaNet's head with targets for all images at once."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import AnchorHead, RetinaHead
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.registry import MODELS
from mmdet.utils import InstanceList, OptInstanceList
from torch import Tensor

from . import stock
from .anchors import AnchorCache
from .assign import assign, why_not_assign
from .boxes import BoxCoder
from .dense import gather, sizes_of
from .truth import Truth


class BatchedAnchorTargets:
    """Targets of a head of MMDetection without sampling, for a batch.

    A mixin that stands before a subclass of ``AnchorHead``. With options that
    have no batched form it does what MMDetection does, and says so.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._coder = BoxCoder(self.bbox_coder)
        self._anchors = AnchorCache(self.prior_generator)
        self.stock_because = stock.announce(self, self._why_not())

    def _why_not(self) -> str | None:
        reasons = [BoxCoder.why_not(self.bbox_coder)]
        reasons.append(
            stock.overridden(
                self,
                AnchorHead,
                ('get_targets', '_get_targets_single', 'loss_by_feat_single'),
            )
        )
        if self.reg_decoded_bbox:
            reasons.append('reg_decoded_bbox')
        if self.train_cfg:
            reasons.append(why_not_assign(self.assigner))
            if type(self.sampler) is not PseudoSampler:
                reasons.append(f'sampler {type(self.sampler).__name__}')
        return stock.first(reasons)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, Any]:
        """See MMDetection's method."""
        if self.stock_because:
            return super().loss_by_feat(  # type: ignore[misc,no-any-return]
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        sizes, device = sizes_of(cls_scores), cls_scores[0].device
        truth = Truth.of(
            batch_gt_instances,
            batch_gt_instances_ignore,
            batch_img_metas,
            device,
        )
        anchors = self._anchors.anchors(sizes, device)
        targets, avg_factor = self._targets(
            anchors,
            self._anchors.usable(
                sizes, truth.metas, self.train_cfg['allowed_border'], device
            ),
            truth,
        )
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
        self, anchors: Tensor, usable: Tensor | None, truth: Truth
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Labels and their weights, (N, A); box targets and their weights,
        (N, A, 4); and the number of positive anchors."""
        assigned = assign(self.assigner, anchors[None], usable, truth)
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
    """MMDetection's ``RetinaHead``, whose targets are made for a batch.

    What MMDetection lacks: it assigns objects to anchors image by image. Here
    all images are treated at once. Arguments, weights and losses are
    MMDetection's.

    Example config::

        bbox_head=dict(type='BatchedRetinaHead', num_classes=80, ...)
    """
