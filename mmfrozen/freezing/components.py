"""Names of a detector's components, used in runs, traces and drift records."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .stages import stage_numbers

#: Component of work outside all modules: target assignment, losses, updates.
OTHER = 'other'


def component_namer(model: nn.Module) -> Callable[[str], str]:
    """Return a function that names the component of a module.

    Components are the backbone's stages, if they are known; the heads in a RoI
    head, including their RoI extractors and split by stage in a cascade; and
    the other children of the model.

    Returns:
        Function from the name of a module or parameter to the name of its
        component.
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
    """Return a function that names the stage of a backbone's module or tensor.

    Returns:
        Function from, for example, ``'layer1.0.conv1.weight'`` to
        ``'backbone.stage 1'``; None if the stages of the class are unknown.
    """
    numbers = stage_numbers(backbone)
    if not numbers:
        return None
    last = max(numbers.values())
    # a module belongs to the earliest stage among its contents
    known: dict[str, int] = {}
    for name, number in numbers.items():
        while name:
            known[name] = min(number, known.get(name, number))
            name = name.rpartition('.')[0]
    known[''] = last

    def name_stage(name: str) -> str:
        stage = known.get(name)
        if stage is None and '.' in name:  # buffers belong to their layer
            stage = known.get(name.rpartition('.')[0])
        if stage is None:  # added parts, such as adapters
            return f'backbone.{name.partition(".")[0]}'
        return f'backbone.stage {stage}' if stage else 'backbone.stem'

    return name_stage
