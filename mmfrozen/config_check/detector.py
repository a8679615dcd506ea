"""This module checks parts of a detector's config that depend on one another,
such as a loss and its head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmcv import ops
from mmdet.models import (
    BBoxHead,
    CascadeRoIHead,
    RPNHead,
    SeesawLoss,
    StandardRoIHead,
    TwoStageDetector,
)
from mmdet.registry import MODELS

from ..errors import did_you_mean
from ..type_names import find_type, known_name


def detector_faults(cfg: Mapping[str, Any]) -> Iterator[ValueError]:
    """Yield faults that MMDetection would report only during the build or the
    first step, as an AssertionError or AttributeError."""
    model = cfg.get('model')
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
        train = cfg.get('train_dataloader')
        if train and not model.get('rpn_head') and not _has_proposals(train):
            yield ValueError(
                'model.rpn_head must be a dict with a type, or the train data '
                f'have a proposal_file, got {model.get("rpn_head")!r}. Set '
                'one of them.'
            )
    head = model.get('rpn_head')
    kind = find_type(head.get('type'), MODELS) if _is_dict(head) else None
    if isinstance(kind, type) and issubclass(kind, RPNHead):
        settings = model.get('train_cfg') or {}
        rpn = settings.get('rpn')
        if settings and not (_is_dict(rpn) and rpn):
            yield ValueError(
                'model.train_cfg.rpn must be a dict with something in it for '
                f'{kind.__name__}, got {rpn!r:.80}. Fill it.'
            )
        proposals = settings.get('rpn_proposal')
        if _is_dict(proposals) and not _is_dict(proposals.get('nms')):
            yield ValueError(
                'model.train_cfg.rpn_proposal.nms must be a dict, got '
                f'{proposals.get("nms")!r:.80}. Set it.'
            )
    roi_head = model.get('roi_head')
    if isinstance(roi_head, Mapping):
        yield from _roi_faults(roi_head, model.get('train_cfg'))


def _roi_faults(
    roi_head: Mapping[str, Any], train_cfg: Any
) -> Iterator[ValueError]:
    kind = find_type(roi_head.get('type'), MODELS)
    stages = train_cfg.get('rcnn') if isinstance(train_cfg, Mapping) else None
    if isinstance(kind, type) and stages is not None:
        many = issubclass(kind, CascadeRoIHead)
        known = issubclass(kind, (CascadeRoIHead, StandardRoIHead))
        if known and many != isinstance(stages, (list, tuple)):
            yield ValueError(
                f'model.train_cfg.rcnn must be a {"list" if many else "dict"} '
                f'for {kind.__name__}, got {stages!r:.80}. Correct it.'
            )
        elif known and many and len(stages) != roi_head.get('num_stages'):
            yield ValueError(
                'model.train_cfg.rcnn must have an item for each of '
                f'model.roi_head.num_stages={roi_head.get("num_stages")}, got '
                f'{len(stages)}. Correct either.'
            )
        for part in ('bbox_head', 'mask_head'):
            given = roi_head.get(part)
            if known and not many and isinstance(given, (list, tuple)):
                yield ValueError(
                    f'model.roi_head.{part} must be a dict for '
                    f'{kind.__name__}, got {given!r:.80}. Correct it.'
                )
    for name in ('bbox', 'mask'):
        extractor = roi_head.get(f'{name}_roi_extractor')
        layer = extractor.get('roi_layer') if _is_dict(extractor) else None
        kind = layer.get('type') if _is_dict(layer) else None
        if isinstance(kind, str) and not hasattr(ops, kind):
            yield ValueError(
                f'model.roi_head.{name}_roi_extractor.roi_layer.type must be '
                f'an operator of mmcv.ops, got {kind!r}'
                f'{did_you_mean(kind, dir(ops))}. Correct it.'
            )
    heads = roi_head.get('bbox_head')
    for head in heads if isinstance(heads, (list, tuple)) else [heads]:
        if _is_dict(head):
            yield from _loss_faults(head)
            yield from _size_faults(head, roi_head.get('bbox_roi_extractor'))


def _has_proposals(value: Any) -> bool:
    """Return whether a data set in a config reads proposals from a file."""
    if isinstance(value, Mapping):
        inside = value.values()
        return bool(value.get('proposal_file')) or any(
            map(_has_proposals, inside)
        )
    return isinstance(value, (list, tuple)) and any(map(_has_proposals, value))


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


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


def _size_faults(
    head: Mapping[str, Any], extractor: Any
) -> Iterator[ValueError]:
    kind = find_type(head.get('type'), MODELS)
    layer = extractor.get('roi_layer') if _is_dict(extractor) else None
    if (
        isinstance(kind, type)
        and issubclass(kind, BBoxHead)
        and known_name(kind)
        and not head.get('with_avg_pool')
        and _is_dict(layer)
    ):
        size = head.get('roi_feat_size', 7)
        given = layer.get('output_size', size)
        if _pair(given) != _pair(size):
            yield ValueError(
                'model.roi_head.bbox_roi_extractor.roi_layer.output_size must '
                f'be {size}, the roi_feat_size of bbox_head, got {given}. '
                'Set both to the same.'
            )


def _pair(size: Any) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, (list, tuple)) else (size, size)
