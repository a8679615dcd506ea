"""Notes on what the conversion left unchanged, and warnings for the user."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from mmdet.registry import HOOKS
from mmengine.config import Config

from ..type_names import find_type, known_name
from .decide import CONSTRUCTOR, Plan, find_backbones, is_detectors

#: Options that add layers to a backbone which no classifier has.
ADDED_LAYERS = ('dcn', 'plugins', 'sac')


def take_notes(cfg: Config, plan: Plan) -> Iterator[str]:
    """Yield notes on what was left unchanged, and why."""
    for path, _ in find_backbones(cfg.model):
        if not is_detectors(path):
            yield f'{path} is unchanged: it is not part of the backbone'
    if plan.constructor and plan.constructor != CONSTRUCTOR:
        yield (
            f'optim_wrapper.constructor was {plan.constructor}, which the '
            'control keeps: its layer-wise rates have no effect on a backbone '
            'that does not train'
        )
    elif plan.paramwise:
        yield (
            'optim_wrapper.paramwise_cfg is kept: its settings for the '
            'backbone have no effect, since the backbone does not train'
        )
    for key in plan.without_rate:
        yield (
            f'optim_wrapper.paramwise_cfg.custom_keys gives {key!r} a '
            'learning rate of 0, which would fine-tune nothing there: the '
            "control sets lr_mult=1.0, MMDetection's own"
        )
    if cfg.get('find_unused_parameters'):
        yield (
            'find_unused_parameters is kept: the backbone does not need it, '
            'other parts may'
        )
    hooks = [x for x in cfg.get('custom_hooks') or () if isinstance(x, dict)]
    kinds = [known_name(find_type(x.get('type'), HOOKS)) for x in hooks]
    if 'EMAHook' in kinds:
        yield (
            'custom_hooks keeps EMAHook, which copies and averages frozen '
            'weights, too: mmfrozen.FrozenAwareEMAHook does not'
        )
    if not plan.has_guard:
        yield (
            'FrozenGuardHook is omitted: it checks model.backbone, which is '
            f'{plan.backbones[0].path} here'
        )


def warn(cfg: Config, plan: Plan) -> Iterator[str]:
    """Yield warnings about what the user must check or correct."""
    load_from = cfg.get('load_from')
    for one in plan.backbones:
        inner = '.backbone' * (one.stages is None)
        settings = functools.reduce(
            lambda node, key: node[key], one.path.split('.'), cfg
        )
        added = [key for key in ADDED_LAYERS if settings.get(key)]
        if added:
            yield (
                f'{one.path}.{added[0]} adds layers that no classifier has '
                'and that would stay random: the guard refuses them. Remove '
                'it, or give weights that have them'
            )
        if not one.checkpoint and not load_from:
            yield (
                f'{one.path} starts from random weights, which must not be '
                f'frozen: set {one.path}{inner}.init_cfg=dict('
                "type='Pretrained', checkpoint=...)"
            )
    if load_from:
        yield (
            'load_from names a detector, so what is frozen is its backbone, '
            "not a classifier's"
        )
