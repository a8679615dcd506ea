"""A two-stage detector whose Python overhead does not grow with the batch."""

from __future__ import annotations

import copy
from typing import Any

from mmdet.models.detectors import TwoStageDetector
from mmdet.structures import SampleList
from torch import Tensor

from ...registry import MODELS
from .roi_heads import BatchedRoIs
from .rpn_head import BatchedRPNHead
from .truth import BatchGroundTruth


@MODELS.register_module()
class BatchedTwoStageDetector(TwoStageDetector):
    """MMDetection's ``FasterRCNN``, ``MaskRCNN`` and ``CascadeRCNN`` (which
    differ only in their names) for batched heads.

    What MMDetection lacks: it copies the annotations of every image, including
    the masks, to set their labels to 0 for the region proposal network. Here
    they are collected once, while the GPU is busy with the backbone. With
    other heads the loss is computed by MMDetection's code.

    Example config::

        model = dict(
            type='BatchedTwoStageDetector',
            rpn_head=dict(type='BatchedRPNHead'),
            roi_head=dict(type='BatchedStandardRoIHead'))
    """

    def run_static(self, images: Tensor) -> tuple[Any, Any]:
        """Run the part whose shapes depend on the batch shape only.

        Returns:
            Feature maps; scores and deltas of the region proposal network.
        """
        x = self.extract_feat(images)
        return x, self.rpn_head(x)

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Override MMDetection's method of the same name."""
        rpn, roi = getattr(self, 'rpn_head', None), self.roi_head
        if not isinstance(rpn, BatchedRPNHead) or rpn.fallback_reason:
            return super().loss(  # type: ignore[no-any-return]
                batch_inputs, batch_data_samples
            )
        x, outputs = self.run_static(batch_inputs)
        truth = BatchGroundTruth.of_samples(batch_data_samples, x[0].device)
        is_batched = isinstance(
            roi, BatchedRoIs
        ) and not roi.batch_fallback_reason(truth)
        # packed on the CPU while the GPU computes the features
        masks = roi.pack_masks(truth) if is_batched else None
        settings = self.train_cfg.get('rpn_proposal', self.test_cfg.rpn)
        flat = rpn.collect(*outputs)
        losses: dict[str, Tensor] = rpn.batched_loss(flat, truth)
        proposals = (
            rpn.batched_predict(flat, truth, settings) if is_batched else None
        )
        if proposals is not None:
            losses.update(roi.batched_loss(x, proposals, truth, masks))
            return losses
        found = rpn.predict_by_feat(
            *outputs, batch_img_metas=truth.metas, cfg=copy.deepcopy(settings)
        )
        losses.update(roi.loss(x, found, batch_data_samples))
        return losses
