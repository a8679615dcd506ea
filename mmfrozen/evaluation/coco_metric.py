"""Stratified COCO metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import check_count
from ..registry import METRICS
from .lvis_metric import SIZES, log_classes
from .matches import Matches
from .strata import mean
from .stratified_metric import StratifiedMetric


@METRICS.register_module()
class StratifiedCocoMetric(StratifiedMetric):
    """COCO evaluation, stratified, streaming, not rounded.

    MMDetection's ``CocoMetric`` keeps every mask until the end, rounds to 3
    digits, removes the padding of uneven shards by position, computes AP at
    100 detections but AP50 and AP75 at the largest of ``proposal_nums``, and
    reports -1 for absent categories. For an empty result it reports no key at
    all, so that ``save_best`` ends the training. It has neither bins nor
    confidence intervals.

    Metrics have MMDetection's names: ``coco/bbox_mAP``, ``mAP_50``,
    ``mAP_75``, ``mAP_s``, ``mAP_m``, ``mAP_l``, likewise ``segm_``; also
    ``AR@1``, ``AR@10``, ``AR@100``, ``AR_s@100``, ``AR_m@100``,
    ``AR_l@100``. They are NaN without ground truth. Proposals are not
    evaluated.

    Args:
        ann_file: Annotations of the evaluated images.
        metric: ``'bbox'``, ``'segm'``, or a list of both.
        proposal_nums: Maximum numbers of detections per image and category,
            one for each AR.
        train_ann_file: Training annotations, for the bins; None for no bins.
        max_dets: Maximum number of detections per image and category; None
            for COCO's 100.
        classwise: Also report ``bbox_CLASS_precision``, and log it.
        sort_categories: Whether labels follow the category ids, not the
            order of the file (MMDetection's ``Objects365V1Dataset``).

    For the other options see :class:`~.lvis_metric.StratifiedLVISMetric`.

    Example config::

        val_evaluator = dict(
            type='StratifiedCocoMetric',
            ann_file='data/coco/annotations/instances_val2017.json',
            train_ann_file='data/coco/annotations/instances_train2017.json',
            metric=['bbox', 'segm'])
    """

    default_prefix = 'coco'
    protocol = 'coco'

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | list[str] = 'bbox',
        *,
        proposal_nums: Sequence[int] = (1, 10, 100),
        sort_categories: bool = False,
        **options: Any,
    ) -> None:
        for number in proposal_nums or (None,):
            check_count(f'{type(self).__name__}.proposal_nums', number)
        self._recall_nums = sorted(proposal_nums)
        self._sort_categories = sort_categories
        super().__init__(ann_file, metric, **options)

    def _num_matched(self) -> int:
        return max(self.max_dets, *self._recall_nums)

    def _label_ids(
        self, classes: Sequence[str] | None, *, by_class: bool = False
    ) -> np.ndarray:
        if not self._sort_categories:
            return super()._label_ids(classes, by_class=by_class)
        return np.sort(super()._label_ids(classes, by_class=True))

    def _measure(self, matches: Matches) -> dict[str, float]:
        kept = matches.limited(self.max_dets)
        per_class = kept.ap_per_class()
        named = {'mAP': mean(per_class)}
        for iou in (50, 75):
            named[f'mAP_{iou}'] = mean(kept.ap_per_class(iou=iou / 100))
        for letter, area in SIZES.items():
            named[f'mAP_{letter}'] = mean(kept.ap_per_class(area=area))
        for number in self._recall_nums:
            recall = matches.limited(number).recall_per_class()
            named[f'AR@{number}'] = mean(recall)
        most = max(self._recall_nums)
        limited = matches.limited(most)
        for letter, area in SIZES.items():
            recall = limited.recall_per_class(area)
            named[f'AR_{letter}@{most}'] = mean(recall)
        if self.classwise:
            if not matches.is_empty:
                log_classes(kept, per_class)
            for name, ap in zip(kept.category_names, per_class, strict=True):
                named[f'{name}_precision'] = ap
        return {name: float(value) for name, value in named.items()}
