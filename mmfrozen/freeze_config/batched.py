"""Replacement of MMDetection's types in a config by this package's batched
ones."""

from __future__ import annotations

from typing import Any

from mmdet.registry import MODELS

from ..type_names import find_type, known_name, type_name
from . import meta

#: Batched types of MMDetection's types, by path in a config.
TYPES = {
    'model': dict.fromkeys(
        ('TwoStageDetector', 'FasterRCNN', 'MaskRCNN', 'CascadeRCNN'),
        'BatchedTwoStageDetector',
    ),
    'model.data_preprocessor': {
        'DetDataPreprocessor': 'BatchedDetDataPreprocessor'
    },
    'model.rpn_head': {'RPNHead': 'BatchedRPNHead'},
    'model.roi_head': {
        'StandardRoIHead': 'BatchedStandardRoIHead',
        'CascadeRoIHead': 'BatchedCascadeRoIHead',
    },
    'model.bbox_head': {'RetinaHead': 'BatchedRetinaHead'},
}
#: Types of this package that are already batched.
BATCHED = {'NormActRPNHead', 'NormActRetinaHead'}
HEADS = ('rpn_head', 'roi_head', 'bbox_head')


def batched_types(model: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Find the batched types for the parts of a detector.

    Args:
        model: The ``model`` of a config.

    Returns:
        The new type by path, and one line for each part that keeps its type.
    """
    found, stay = {}, []
    for path, types in TYPES.items():
        key = path.partition('.')[2]
        part = model.get(key) if key else model
        if not isinstance(part, dict) or 'type' not in part:
            continue
        name = known_name(find_type(part['type'], MODELS))
        if name in types:
            found[path] = f'mmfrozen.{types[name]}'
        elif key in HEADS and name not in {*BATCHED, *types.values()}:
            name = type_name(part['type'])
            stay.append(f'{path} stays {name}: it has no batched type')
    if not {'model.rpn_head', 'model.roi_head'} & found.keys():
        found.pop('model', None)
    if not any(model.get(key) for key in HEADS):
        stay.append('no head of model has a batched type')
    return found, stay


def image_by_image(model: dict[str, Any]) -> list[str]:
    """Return one line for each batched part of a detector that falls back to
    MMDetection's step.

    Args:
        model: The ``model`` of a config.
    """
    try:
        built = meta.build(model)
    except Exception:  # build errors were reported by verify()
        return []
    reasons = {
        name: getattr(module, 'fallback_reason', None)
        for name, module in built.named_modules()
    }
    return [
        f'model.{name} works image by image: {reason} has no batched form'
        for name, reason in reasons.items()
        if reason
    ]


def use_batched(model: dict[str, Any]) -> None:
    """Set the batched types in a config, in place."""
    for path, name in batched_types(model)[0].items():
        key = path.partition('.')[2]
        (model[key] if key else model)['type'] = name
