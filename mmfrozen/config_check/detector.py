"""Parts of a detector's config that depend on one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.models import SeesawLoss, TwoStageDetector
from mmdet.registry import MODELS

from ..type_names import find_type


def detector_faults(model: Any) -> Iterator[ValueError]:
    """What MMDetection finds at the build, in an assertion or in an
    attribute that is not there."""
    if not isinstance(model, Mapping):
        return
    detector = find_type(model.get('type'), MODELS)
    if isinstance(detector, type) and issubclass(detector, TwoStageDetector):
        for section in ('train_cfg', 'test_cfg'):
            for key in ('rpn', 'rcnn'):
                head = 'rpn_head' if key == 'rpn' else 'roi_head'
                given = model.get(section)
                if model.get(head) and not (given and key in given):
                    yield ValueError(
                        f'model.{section} must have {key} beside model.{head},'
                        f' got {given!r:.80}. Set model.{section}.{key}.'
                    )
    roi_head = model.get('roi_head')
    heads = roi_head.get('bbox_head') if isinstance(roi_head, Mapping) else ()
    for head in heads if isinstance(heads, (list, tuple)) else [heads]:
        if isinstance(head, Mapping):
            yield from _loss_faults(head)


def _loss_faults(head: Mapping[str, Any]) -> Iterator[ValueError]:
    loss = head.get('loss_cls')
    if not isinstance(loss, Mapping):
        return
    if find_type(loss.get('type'), MODELS) is SeesawLoss:
        classes = head.get('num_classes', 80)
        given = loss.get('num_classes', 1203)
        if given != classes:
            yield ValueError(
                'model.roi_head.bbox_head.loss_cls.num_classes must be '
                f'{classes}, the num_classes of its head, got {given}. Set '
                'both to the number of classes of the data.'
            )
