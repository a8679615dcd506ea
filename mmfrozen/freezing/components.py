"""Names of a detector's components, in runs, traces and drift: plain torch."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .stages import stage_numbers

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
    backbone = getattr(model, 'backbone', None)
    stages = None if backbone is None else backbone_namer(backbone)

    def name_component(name: str) -> str:
        if name.startswith('backbone.') or name == 'backbone':
            inner = name.removeprefix('backbone').removeprefix('.')
            return stages(inner) if stages else 'backbone'
        head, _, rest = name.partition('.')
        if head != 'roi_head' or not rest:
            return head or OTHER
        part, _, rest = rest.partition('.')
        part = part.replace('roi_extractor', 'head')
        index = rest.partition('.')[0]
        part = f'{part}.{index}' if index.isdigit() else part
        return f'{head}.{part}'

    return name_component


def backbone_namer(backbone: nn.Module) -> Callable[[str], str] | None:
    """Name the stage that a module or tensor of a backbone belongs to.

    Returns:
        From ``'layer1.0.conv1.weight'`` to ``'backbone.stage 1'``; None
        where the stages of the class are not known.
    """
    numbers = stage_numbers(backbone)
    if not numbers:
        return None
    last = max(numbers.values())
    # a module belongs to the earliest stage of what it holds
    known: dict[str, int] = {}
    for name, number in numbers.items():
        while name:
            known[name] = min(number, known.get(name, number))
            name = name.rpartition('.')[0]
    known[''] = last

    def name_stage(name: str) -> str:
        stage = known.get(name)
        if stage is None and '.' in name:  # a buffer is its layer's
            stage = known.get(name.rpartition('.')[0])
        if stage is None:  # what was put into a backbone, as adapters are
            return f'backbone.{name.partition(".")[0]}'
        return f'backbone.stage {stage}' if stage else 'backbone.stem'

    return name_stage
