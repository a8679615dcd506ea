"""Shared base of the batched anchor heads (RPN and RetinaNet)."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.utils import InstanceList, OptInstanceList
from torch import Tensor

from . import fallback
from .anchors import AnchorCache
from .assign import assign, assigner_fallback_reason
from .boxes import BoxCoder
from .truth import BatchGroundTruth


class BatchedAnchorHead:
    """Mixin for subclasses of MMDetection's ``AnchorHead``; list it first.

    If an option has no batched form, the head falls back to MMDetection's
    implementation and logs a warning.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._coder = BoxCoder(self.bbox_coder)
        self._anchors = AnchorCache(self.prior_generator)
        self.fallback_reason = fallback.log_fallback(
            self, fallback.first_reason(self._fallback_reasons())
        )

    def _fallback_reasons(self) -> list[str | None]:
        reasons = [BoxCoder.find_fallback_reason(self.bbox_coder)]
        if self.reg_decoded_bbox:  # type: ignore[attr-defined]
            reasons.append('reg_decoded_bbox')
        if self.train_cfg:  # type: ignore[attr-defined]
            reasons.append(assigner_fallback_reason(self.assigner))
        return reasons

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, Any]:
        """Override MMDetection's method of the same name."""
        if self.fallback_reason:
            return super().loss_by_feat(  # type: ignore[misc,no-any-return]
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        truth = BatchGroundTruth.of(
            batch_gt_instances,
            batch_gt_instances_ignore,
            batch_img_metas,
            cls_scores[0].device,
        )
        return self.batched_loss(self.collect(cls_scores, bbox_preds), truth)

    def collect(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor]
    ) -> Any:
        """Convert the outputs of ``forward`` to the input of
        ``batched_loss``."""
        return cls_scores, bbox_preds

    def batched_loss(
        self, outputs: Any, truth: BatchGroundTruth
    ) -> dict[str, Any]:
        """Compute the losses of a batch.

        Args:
            outputs: The result of :meth:`collect`.
            truth: Ground truth of the batch.
        """
        raise NotImplementedError

    @torch.no_grad()
    def _assigned(
        self, sizes: list[tuple[int, int]], truth: BatchGroundTruth
    ) -> tuple[Tensor, Tensor]:
        """Return the anchors, (A, 4), and the object assigned to each, as
        :func:`~.assign.assign` returns them."""
        device = truth.boxes.device
        anchors = self._anchors.anchors(sizes, device)
        border = self.train_cfg['allowed_border']  # type: ignore[attr-defined]
        usable = self._anchors.usable(sizes, truth.metas, border, device)
        return anchors, assign(self.assigner, anchors[None], usable, truth)
