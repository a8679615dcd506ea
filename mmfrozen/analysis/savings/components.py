"""Names of the components of a detector, as its config has them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from ...freeze_config.meta import parameters_on_meta
from ...freezing import layer_names, stage_numbers

#: Of what no module of the model did: target assignment, losses, updates.
OTHER = 'other'


def component_namer(model: nn.Module) -> Callable[[str], str]:
    """Name the component that a module of a detector belongs to.

    Components are the backbone by stage, where its stages are known, the
    heads in a RoI head, those of a cascade by stage, with their RoI
    extractors, and the other children of the model as a whole.

    Returns:
        From the name of a module or parameter to that of its component.
    """
    stages = _stage_namer(model)

    def name_component(name: str) -> str:
        if name.startswith('backbone.') or name == 'backbone':
            return stages(name)
        head, _, rest = name.partition('.')
        if head != 'roi_head' or not rest:
            return head or OTHER
        part, _, rest = rest.partition('.')
        part = part.replace('roi_extractor', 'head')
        index = rest.partition('.')[0]
        part = f'{part}.{index}' if index.isdigit() else part
        return f'{head}.{part}'

    return name_component


@functools.lru_cache(maxsize=4)
def _numbers_of(key: Any) -> dict[str, int]:
    with parameters_on_meta():  # timm's are built once more for it
        return stage_numbers(key.backbone)


class _Names:
    """A backbone by the names of its layers: equal in frozen and control."""

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.names = tuple(layer_names(backbone))

    def __hash__(self) -> int:
        return hash(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Names) and self.names == other.names


def _numbers(backbone: nn.Module) -> dict[str, int]:
    return _numbers_of(_Names(backbone))


def _stage_namer(model: nn.Module) -> Callable[[str], str]:
    backbone = getattr(model, 'backbone', None)
    numbers = _numbers(backbone) if backbone is not None else {}
    if not numbers:
        return lambda name: 'backbone'
    last = max(numbers.values())
    # a module belongs to the earliest stage of what it holds
    known: dict[str, int] = {}
    for name, number in numbers.items():
        while name:
            known[name] = min(number, known.get(name, number))
            name = name.rpartition('.')[0]
    known[''] = last

    def name_stage(name: str) -> str:
        inner = name.partition('.')[2]
        stage = known.get(inner)
        if stage is None:  # what was put into a backbone, as adapters are
            return f'backbone.{inner.partition(".")[0]}'
        return f'backbone.stage {stage}' if stage else 'backbone.stem'

    return name_stage
