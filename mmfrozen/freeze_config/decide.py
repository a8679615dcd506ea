"""Decide how the backbone of a config is frozen, by trying."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, ConfigDict
from torch import nn

from ..freezing import find_faults
from . import meta

CONSTRUCTOR = 'TrainableOptimWrapperConstructor'
# Layers that detectors put into a backbone and no classifier has.
ADDED_LAYERS = ('dcn', 'plugins', 'sac', 'rfp_inplanes')


class CannotFreezeError(ValueError):
    """A config that cannot be frozen, with the reason in one line."""


@dataclass(frozen=True)
class BackbonePlan:
    """How one backbone is frozen.

    Attributes:
        path: Where it stands in the config, such as ``model.backbone``.
        name: Its class, as the config types it.
        stages: Number of stages if ``frozen_stages`` and ``norm_eval``
            freeze it; None if it needs ``FrozenBackbone``.
        is_wrapped: The base says ``FrozenBackbone`` already.
        checkpoint: The classifier that its ``init_cfg`` names.
        control: Settings of the control, as nested dicts.
    """

    path: str
    name: str
    stages: int | None
    is_wrapped: bool
    checkpoint: str | None
    control: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """All that the written config says.

    Attributes:
        backbones: One or more, in the order of the config.
        imports: ``custom_imports`` of the written config.
        has_guard: The model has what FrozenGuardHook looks at.
        load_from: The base continues from this detector.
        constructor: The base's optimizer constructor; None without one.
        paramwise: Its ``paramwise_cfg``.
        trains: The base has an ``optim_wrapper``.
        notes: What was left as it is, and why.
        warnings: What the user has to see to.
    """

    backbones: list[BackbonePlan]
    imports: dict[str, Any] | None
    has_guard: bool
    load_from: str | None
    constructor: str | None
    paramwise: dict[str, Any] | None
    trains: bool
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def is_frozen(module: nn.Module) -> bool:
    """Whether a module is frozen from construction on, and stays so."""
    if any(p.requires_grad for p in module.parameters()):
        return False
    module.train()
    return not find_faults(module)


def is_detectors(path: str) -> bool:
    """Whether a path leads to the backbone that a detector trains.

    Works on config keys and on names of modules: teachers, trackers'
    re-identification networks and DetectoRS's second pass are not it.
    """
    *parents, last = path.split('.')
    return last == 'backbone' and not any(
        word in parent
        for parent in parents
        for word in ('teacher', 'reid', 'neck')
    )


def find_backbones(cfg: Any, path: str = 'model') -> Iterator[tuple[str, Any]]:
    """Yield path and config of whatever is called a backbone in a model."""
    for key, value in cfg.items():
        if isinstance(value, dict):
            here = f'{path}.{key}'
            if key.endswith('backbone'):
                yield here, value
            else:
                yield from find_backbones(value, here)


def decide(cfg: Config) -> Plan:
    """Decide all that the written config says.

    Raises:
        CannotFreezeError: If the config has no backbone that builds here.
    """
    model = cfg.get('model')
    if not isinstance(model, dict):
        raise CannotFreezeError(
            'A config must have a model to be frozen, got none. Give the '
            'config that is trained.'
        )
    found = dict(find_backbones(model))
    backbones = [
        plan_backbone(path, value)
        for path, value in found.items()
        if is_detectors(path)
    ]
    if not backbones:
        raise CannotFreezeError(
            'model.backbone must be a dict, got a '
            f'{model.get("type")} with {", ".join(found) or "none"}. Freeze '
            'what it uses with mmfrozen.freezing.freeze.'
        )
    wrapper = cfg.get('optim_wrapper')
    plan = Plan(
        backbones=backbones,
        imports=merge_imports(cfg.get('custom_imports')),
        has_guard='backbone' in model,
        load_from=cfg.get('load_from'),
        constructor=wrapper.get('constructor') if wrapper else None,
        paramwise=wrapper.get('paramwise_cfg') if wrapper else None,
        trains=bool(wrapper),
    )
    plan.notes.extend(take_notes(cfg, plan, found))
    plan.warnings.extend(warn(cfg, plan))
    return plan


def plan_backbone(path: str, cfg: Any) -> BackbonePlan:
    """Find the way to freeze one backbone."""
    if not isinstance(cfg.get('type'), str):
        raise CannotFreezeError(
            f"{path}.type must name a class of the host's registry, got "
            f'{cfg.get("type")!r}. Freeze a foreign model with '
            'mmfrozen.freezing.freeze.'
        )
    try:
        way, checkpoint = try_ways(Frozen(cfg))
    except Exception as error:  # whatever a constructor raises
        raise CannotFreezeError(
            f'{path} must build here, got {explain(error)}. Install what '
            'it needs.'
        ) from error
    is_wrapped = cfg.type == 'FrozenBackbone'
    inner = cfg.backbone if is_wrapped else cfg
    control: dict[str, Any] = {}
    if way is not None or inner.get('frozen_stages', -1) >= 0:
        control['frozen_stages'] = -1
    if way is not None and not inner.get('norm_eval', True):
        control['norm_eval'] = False
    if inner.get('norm_cfg') and not inner.norm_cfg.get('requires_grad', True):
        control['norm_cfg'] = {'requires_grad': True}
    return BackbonePlan(path, inner.type, way, is_wrapped, checkpoint, control)


class Frozen:
    """A config dict that can be a cache's key."""

    def __init__(self, cfg: ConfigDict) -> None:
        self.cfg = cfg

    def __hash__(self) -> int:
        return hash(repr(self.cfg))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and repr(self.cfg) == repr(other.cfg)


@functools.cache
def try_ways(key: Frozen) -> tuple[int | None, str | None]:
    """Return the number of stages that freezes it, and its classifier."""
    module = meta.build(key.cfg)
    init_cfg = getattr(module, 'init_cfg', None) or {}
    checkpoint = None
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
        checkpoint = init_cfg.get('checkpoint')
    stages = getattr(module, 'num_stages', None)
    if stages is None or key.cfg.type == 'FrozenBackbone':
        return None, checkpoint
    keys = dict(frozen_stages=stages, norm_eval=True)
    try:
        frozen = meta.build(ConfigDict(key.cfg, **keys))
    except Exception:  # no such keys, or another count: needs the wrapper
        return None, checkpoint
    return (stages if is_frozen(frozen) else None), checkpoint


def merge_imports(own: Any) -> dict[str, Any] | None:
    """Add mmfrozen to the imports of the base; None if it is there."""
    own = own or {'imports': [], 'allow_failed_imports': False}
    imports = own.get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    if 'mmfrozen' in imports:
        return None
    return {
        'imports': [*imports, 'mmfrozen'],
        'allow_failed_imports': own.get('allow_failed_imports', False),
    }


def take_notes(
    cfg: Config, plan: Plan, found: dict[str, Any]
) -> Iterator[str]:
    """Say what was left as it is."""
    for path in found:
        if not is_detectors(path):
            yield f'{path} is left as it is: it is no part of the backbone'
    if plan.constructor and plan.constructor != CONSTRUCTOR:
        yield (
            f'optim_wrapper.constructor was {plan.constructor}: its rates by '
            'layer mean nothing where no layer trains; the control keeps it'
        )
    elif plan.paramwise:
        yield (
            'optim_wrapper.paramwise_cfg is kept: what it says of the '
            'backbone has no effect, since nothing there trains'
        )
    if cfg.get('find_unused_parameters'):
        yield (
            'find_unused_parameters is kept: the backbone does not need it, '
            'other parts may'
        )
    if not plan.has_guard:
        yield (
            'FrozenGuardHook is left out: it looks at model.backbone, which '
            f'is {plan.backbones[0].path} here'
        )


def warn(cfg: Config, plan: Plan) -> Iterator[str]:
    """Say what the user has to see to."""
    for one in plan.backbones:
        inner = '.backbone' * (one.stages is None)
        settings = functools.reduce(
            lambda node, key: node[key], one.path.split('.'), cfg
        )
        added = [key for key in ADDED_LAYERS if settings.get(key)]
        if added:
            yield (
                f'{one.path}.{added[0]} adds layers that no classifier has '
                'and that would stay random: the guard refuses them. Take '
                'it out, or give weights that have them'
            )
        if not one.checkpoint and not plan.load_from:
            yield (
                f'{one.path} starts from random weights, which must not be '
                f'frozen: set {one.path}{inner}.init_cfg=dict('
                "type='Pretrained', checkpoint=...)"
            )
    if plan.load_from:
        yield (
            'load_from names a detector, so what is frozen is its backbone, '
            "not a classifier's"
        )
    hooks = cfg.get('custom_hooks') or []
    if any(hook.get('ema_type') == 'ExpMomentumEMA' for hook in hooks):
        yield (
            'ExpMomentumEMA rounds its copy of frozen weights too, so that '
            'it differs from the classifier in the last bits'
        )


def explain(error: Exception) -> str:
    """Put an exception in a few words."""
    text = str(error).strip().partition('\n')[0].rstrip('.')
    return f'{type(error).__name__}: {text[:160]}'
