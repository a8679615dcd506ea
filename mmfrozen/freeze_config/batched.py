"""Name the batched types of this package in a config."""

from __future__ import annotations

from typing import Any

#: MMDetection's types and their batched ones, by key of `model`.
TYPES = {
    '': dict.fromkeys(
        ('TwoStageDetector', 'FasterRCNN', 'MaskRCNN', 'CascadeRCNN'),
        'BatchedTwoStageDetector',
    ),
    'data_preprocessor': {'DetDataPreprocessor': 'BatchedDetDataPreprocessor'},
    'rpn_head': {'RPNHead': 'BatchedRPNHead'},
    'roi_head': {
        'StandardRoIHead': 'BatchedStandardRoIHead',
        'CascadeRoIHead': 'BatchedCascadeRoIHead',
    },
    'bbox_head': {'RetinaHead': 'BatchedRetinaHead'},
}
#: Types of this package that are batched as they are.
BATCHED = {'NormActRPNHead', 'NormActRetinaHead'}


def batched_types(model: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Find the batched types for the parts of a detector.

    Args:
        model: Of a config.

    Returns:
        The new type by key (``''`` for the detector itself), and one line
        for each part that stays with MMDetection's step.
    """
    found, stay = {}, []
    for key, types in TYPES.items():
        part = model.get(key) if key else model
        if not isinstance(part, dict) or 'type' not in part:
            continue
        name = str(part['type']).rpartition('.')[2]
        if name in types:
            found[key] = types[name]
        elif name not in BATCHED and name not in types.values():
            stay.append(f'model{"." * bool(key)}{key} stays {name}')
    if '' in found and 'roi_head' not in found:
        del found['']
    return found, stay


def use_batched(model: dict[str, Any]) -> list[str]:
    """Set the batched types in a config.

    Args:
        model: Of a config; changed in place.

    Returns:
        One line for each part that stays with MMDetection's step.
    """
    found, stay = batched_types(model)
    for key, name in found.items():
        (model[key] if key else model)['type'] = name
    return stay
