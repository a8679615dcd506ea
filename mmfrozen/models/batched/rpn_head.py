"""A region proposal network that processes all images at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import RPNHead
from mmdet.models.losses import CrossEntropyLoss
from mmdet.utils import ConfigType, InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from ...registry import MODELS
from . import fallback
from .anchor_head import BatchedAnchorHead
from .dense import FlatPredictions, flatten, gather, largest, sizes_of
from .sample import sample, sampler_fallback_reason
from .suppress import NMS, suppress
from .truth import BatchGroundTruth, Padded


@MODELS.register_module()
class BatchedRPNHead(BatchedAnchorHead, RPNHead):
    """MMDetection's ``RPNHead``, whose Python overhead does not grow with the
    batch.

    What MMDetection lacks: it makes targets and proposals image by image, with
    some 250 operators each, most of which take less time than their kernel
    launch. Here all images and levels are processed at once, losses are
    computed for the sampled anchors only, and only the suppression of
    proposals synchronises with the device. Arguments, weights, losses and
    proposals are MMDetection's. If an option has no batched form (another
    sampler, for example), the head falls back to MMDetection's code and logs a
    warning.

    Example config::

        rpn_head=dict(type='BatchedRPNHead')
    """

    def _fallback_reasons(self) -> list[str | None]:
        reasons = super()._fallback_reasons()
        if not self.use_sigmoid_cls or type(self.loss_cls) is not (
            CrossEntropyLoss
        ):
            reasons.append(f'loss_cls {type(self.loss_cls).__name__}')
        if self.train_cfg:
            reasons.append(sampler_fallback_reason(self.sampler))
        return reasons

    def collect(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor]
    ) -> FlatPredictions:
        """Implement :meth:`BatchedAnchorHead.collect`."""
        return FlatPredictions(
            flatten(cls_scores, 1),
            flatten(bbox_preds, 4),
            sizes_of(cls_scores),
        )

    def batched_loss(
        self, outputs: FlatPredictions, truth: BatchGroundTruth
    ) -> dict[str, Tensor]:
        """Implement :meth:`BatchedAnchorHead.batched_loss`."""
        with torch.no_grad():
            anchors, assigned = self._assigned(outputs.sizes, truth)
            keys = self.sampling_keys(assigned)
            index, positive, negative = sample(self.sampler, assigned, keys)
            objects = gather(assigned, index).sub_(1).clamp_(min=0)
            targets = self._coder.encode(
                anchors[index], gather(truth.boxes, objects)
            )
            targets = targets.where(positive[..., None], 0).flatten(0, 1)
            weights = (positive | negative).float()
            pos_weight = self.train_cfg['pos_weight']
            if pos_weight > 0:
                weights = weights + positive * (pos_weight - 1)
            found = torch.stack((positive.sum(dim=1), negative.sum(dim=1)))
            avg_factor = found.clamp_(min=1).sum()
        # positives are 1 here; MMDetection labels them 0 and converts to 1
        loss_cls = self.loss_cls(
            gather(outputs.scores, index).flatten(),
            positive.flatten().long(),
            weights.flatten(),
            avg_factor=avg_factor,
        )
        # without weights, as MMDetection's losses would synchronise for them
        found = gather(outputs.deltas, index)
        loss_bbox = self.loss_bbox(
            found.where(positive[..., None], 0).flatten(0, 1),
            targets,
            avg_factor=avg_factor,
        )
        return dict(loss_rpn_cls=loss_cls, loss_rpn_bbox=loss_bbox)

    def sampling_keys(self, assigned: Tensor) -> Tensor:
        """Return random numbers, (N, A); the anchors with the largest are
        sampled."""
        return torch.rand(assigned.shape, device=assigned.device)

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict[str, Any]] | None = None,
        cfg: ConfigType | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Override MMDetection's method of the same name."""
        settings = self.test_cfg if cfg is None else cfg
        if rescale or not with_nms or self._needs_stock_proposals(settings):
            return super().predict_by_feat(  # type: ignore[no-any-return]
                cls_scores,
                bbox_preds,
                score_factors,
                batch_img_metas,
                cfg,
                rescale,
                with_nms,
            )
        found, scores = self._propose(
            self.collect(cls_scores, bbox_preds),
            [tuple(m['img_shape'][:2]) for m in batch_img_metas or ()],
            settings,
        )
        counts = found.valid.sum(dim=1).tolist()
        return [
            InstanceData(
                bboxes=b[:k],
                scores=s[:k],
                labels=torch.zeros_like(s[:k], dtype=torch.long),
            )
            for b, s, k in zip(found.boxes, scores, counts, strict=True)
        ]

    def batched_predict(
        self,
        outputs: FlatPredictions,
        truth: BatchGroundTruth,
        settings: ConfigType,
    ) -> Padded | None:
        """Predict the proposals of a batch.

        Args:
            outputs: The result of :meth:`collect`.
            truth: Ground truth, of which the image sizes are used.
            settings: ``nms_pre``, ``max_per_img``, ``nms``, ``min_bbox_size``.

        Returns:
            At most ``max_per_img`` boxes per image; None if the settings have
            no batched form.
        """
        if self._needs_stock_proposals(settings):
            return None
        return self._propose(outputs, truth.shapes, settings)[0]

    def _needs_stock_proposals(self, settings: ConfigType) -> bool:
        nms = settings.get('nms', {})
        known = {'type', 'iou_threshold', 'class_agnostic'}
        other = nms.get('type') != NMS or set(nms) - known
        reason = f'nms={dict(nms)} of proposals' if other else None
        return bool(
            self.fallback_reason or fallback.log_fallback(self, reason)
        )

    @torch.no_grad()
    def _propose(
        self,
        outputs: FlatPredictions,
        shapes: list[tuple[int, int]],
        settings: ConfigType,
    ) -> tuple[Padded, Tensor]:
        """Return the boxes, best first, and their scores, (N, max_per_img)."""
        sizes = outputs.sizes
        scores = outputs.scores[..., 0].sigmoid()
        best, index = _best_of_levels(
            scores,
            [
                h * w * a
                for (h, w), a in zip(sizes, self._per_place, strict=True)
            ],
            settings.get('nms_pre', -1),
        )
        flat = index.flatten(1)
        anchors = self._anchors.anchors(sizes, scores.device)
        boxes = self._coder.decode(
            anchors[flat], gather(outputs.deltas, flat), shapes
        )
        sides = boxes[..., 2:] - boxes[..., :2]
        valid = best.flatten(1) >= 0
        smallest = settings.get('min_bbox_size', -1)
        if smallest >= 0:
            valid &= (sides > smallest).all(dim=-1)
        boxes = boxes.where(valid[..., None], 0)
        nms = settings['nms']
        kept = suppress(
            boxes.view(*index.shape, 4),
            best,
            nms['iou_threshold'],
            across_levels=nms.get('class_agnostic', False),
        ).flatten(1)
        limit = min(settings['max_per_img'], flat.shape[1])
        top, chosen = largest(
            best.flatten(1).where(kept & valid, -1), limit, stable=True
        )
        return Padded(gather(boxes, chosen), top >= 0), top

    @property
    def _per_place(self) -> list[int]:
        """Return the number of anchors per position of each level."""
        return list(self.prior_generator.num_base_priors)


def _best_of_levels(
    scores: Tensor, counts: list[int], limit: int
) -> tuple[Tensor, Tensor]:
    """Select the best-scored anchors of each level.

    Args:
        scores: (N, A), scores of all levels.
        counts: Number of anchors of each level.
        limit: Maximum number per level; 0 or less for all.

    Returns:
        Scores, best first, and anchor indices, both (N, L, K), padded with -1
        and 0 where a level has fewer.
    """
    widths = [min(limit, c) if limit > 0 else c for c in counts]
    values, places, start = [], [], 0
    for count, width in zip(counts, widths, strict=True):
        top, index = largest(
            scores[:, start : start + count], width, stable=width == count
        )
        fill = max(widths) - width
        values.append(F.pad(top, (0, fill), value=-1) if fill else top)
        index = index + start
        places.append(F.pad(index, (0, fill)) if fill else index)
        start += count
    return torch.stack(values, dim=1), torch.stack(places, dim=1)
