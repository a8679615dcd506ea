"""The mapping from a backbone's layers to its stages; needs torch only.

Throughout this package, stage 0 is the stem, which runs before the first
repeated part, and stage k is the k-th of those parts, in order of computation.
``frozen_stages=k`` means the stem and stages 1 to k.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

# Rules by class name, or the nearest base class: a pattern that matches the
# start of a name and captures the stage number, and an offset. The first match
# counts; a name without a match belongs to the stem.
Rules = tuple[tuple[str, int], ...]
MMDET_STAGES: dict[str, Rules] = {
    # and ResNetV1d, ResNeXt, ResNeSt, Res2Net, RegNet, DetectoRS, Trident
    'ResNet': ((r'layer(\d+)', 0),),
    # a transition creates the branches of the next stage
    'HRNet': ((r'transition(\d+)', 1), (r'(?:layer|stage)(\d+)', 0)),
    'EfficientNet': ((r'layers\.(\d+)', 0),),  # layers.0 is the stem
    'MobileNetV2': ((r'layer(\d+)', 0), (r'conv2()', 8)),
    'CSPDarknet': ((r'stage(\d+)', 0),),
    'CSPNeXt': ((r'stage(\d+)', 0),),
    'Darknet': ((r'conv_res_block(\d+)', 0),),
    # a stage includes its output norm
    'SwinTransformer': ((r'(?:stages\.|norm)(\d+)', 1),),
    # the first patch embedding is the stem, as in the other transformers
    'PyramidVisionTransformer': (
        (r'layers\.0\.0\b()', 0),
        (r'layers\.(\d+)', 1),
    ),
    # a stage is an hourglass and its output; connecting layers belong to the
    # next stage
    'HourglassNet': (
        (r'(?:hourglass_modules|out_convs)\.(\d+)', 1),
        (r'(?:inters|conv1x1s|remap_convs)\.(\d+)', 2),
    ),
}


#: Child of a backbone that trains beside its frozen stages and belongs to no
#: stage.
ADAPTERS = 'adapters'


def layer_names(module: nn.Module) -> list[str]:
    """Return the names of all parameters and of all layers (modules without
    children), in order of definition."""
    names = []
    for name, child in module.named_modules():
        prefix = f'{name}.' if name else ''
        names += [prefix + n for n in child._parameters]
        if name and not any(True for _ in child.children()):
            names.append(name)
    return names


def stage_numbers(module: nn.Module) -> dict[str, int]:
    """Return the stage number of every parameter and layer of a backbone.

    A class that is not listed in this module can define a method
    ``stage_numbers``, as TimmBackbone does.

    Returns:
        Stage number by name of the parameter or layer (see
        :func:`layer_names`), without adapters; empty if the stages of the
        class are unknown.
    """
    return {
        name: stage
        for name, stage in _all_numbers(module).items()
        if name.partition('.')[0] != ADAPTERS
    }


def _all_numbers(module: nn.Module) -> dict[str, int]:
    own = getattr(module, 'stage_numbers', None)
    if own is not None:
        numbers: dict[str, int] = own()
        return numbers
    names = layer_names(module)
    classes = [cls.__name__ for cls in type(module).__mro__]
    if 'SSDVGG' in classes:
        return _count_pools(module, names)
    for name in classes:
        if name in MMDET_STAGES:
            return {n: _number(n, MMDET_STAGES[name]) for n in names}
    return {}


def num_stages(module: nn.Module) -> int:
    """Return the number of a backbone's last stage that has parameters."""
    numbers = stage_numbers(module)
    parameters = (name for name, _ in module.named_parameters())
    return max(numbers[name] for name in parameters if name in numbers)


def _number(name: str, rules: Rules) -> int:
    for pattern, offset in rules:
        match = re.match(pattern, name)
        if match:
            return int(match[1] or 0) + offset
    return 0


def _count_pools(vgg: nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Return the stages of a VGG, which has no stem; a pooling layer ends a
    stage."""
    stages, stage = {}, 1
    for name, layer in vgg.named_modules():
        if name.count('.') == 1:  # features.0, features.1, ...
            stages[name] = stage
            stage += isinstance(layer, nn.MaxPool2d)
    return {n: stages['.'.join(n.split('.')[:2])] for n in names}
