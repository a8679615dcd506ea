"""This module decides how the backbone of a config is frozen, by building it
with different settings and looking at its parameters."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mmdet.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.config import Config, ConfigDict
from torch import nn

from ..errors import one_line, remedy_for
from ..freezing import checkpoint_of, find_faults
from ..type_names import find_type, known_name, type_name
from . import meta

CONSTRUCTOR = 'TrainableOptimWrapperConstructor'


class CannotFreezeError(ValueError):
    """Error for a config that cannot be frozen; its message is one line."""


@dataclass(frozen=True)
class BackbonePlan:
    """Settings that freeze one backbone, and those of its control.

    Attributes:
        path: Path in the config, such as ``model.backbone``.
        name: Type of the backbone as written in the config.
        stages: Number of stages if ``frozen_stages`` and ``norm_eval``
            freeze it; None if it needs ``FrozenBackbone``.
        is_wrapped: Whether the base already uses ``FrozenBackbone``.
        checkpoint: Classifier checkpoint that its ``init_cfg`` names; None if
            it names none.
        control: Settings of the control, as nested dicts.
        reload: Settings that load the backbone from the ``load_from``
            checkpoint, as nested dicts.
        has_stages: Whether the base's ``FrozenBackbone`` sets
            ``frozen_stages``.
    """

    path: str
    name: str
    stages: int | None
    is_wrapped: bool
    checkpoint: str | None
    control: dict[str, Any]
    reload: dict[str, Any]
    has_stages: bool = False


@dataclass(frozen=True)
class Plan:
    """Settings of the written configs.

    Attributes:
        backbones: Plans of one or more backbones, in the order of the config.
        imports: ``custom_imports`` of the written config; None if the base's
            suffice.
        has_guard: Whether the model has a ``backbone``, which
            FrozenGuardHook watches.
        constructor: Optimizer constructor of the base; None for MMEngine's
            default.
        paramwise: The base's ``paramwise_cfg``.
        trains: Whether the base has an ``optim_wrapper``.
        types: Batched types by the path of the part that they replace.
        reliable: Settings for failures, as nested dicts.
    """

    backbones: list[BackbonePlan]
    imports: dict[str, Any] | None
    has_guard: bool
    constructor: str | None
    paramwise: dict[str, Any] | None
    trains: bool
    types: dict[str, str] = field(default_factory=dict)
    reliable: dict[str, Any] = field(default_factory=dict)

    @property
    def without_rate(self) -> list[str]:
        """Keys of ``custom_keys`` that give the backbone a learning rate of
        0."""
        keys = (self.paramwise or {}).get('custom_keys') or {}
        return [
            key
            for key, value in keys.items()
            if 'backbone' in key and value.get('lr_mult') == 0
        ]


def is_frozen(module: nn.Module) -> bool:
    """Return whether a module is frozen, also after ``train()``."""
    if any(p.requires_grad for p in module.parameters()):
        return False
    module.train()
    return not find_faults(module)


def is_detectors(path: str) -> bool:
    """Return whether a path leads to a detector's own backbone.

    The path may be of a config or of a module. Backbones of teachers, of
    trackers' re-identification networks and of DetectoRS's second pass do
    not count.
    """
    *parents, last = path.split('.')
    return last == 'backbone' and not any(
        word in parent
        for parent in parents
        for word in ('teacher', 'reid', 'neck')
    )


def find_backbones(cfg: Any, path: str = 'model') -> Iterator[tuple[str, Any]]:
    """Yield path and config of every backbone in a model's config."""
    for key, value in cfg.items():
        if isinstance(value, dict):
            here = f'{path}.{key}'
            if key.endswith('backbone'):
                yield here, value
            else:
                yield from find_backbones(value, here)


def decide(cfg: Config) -> Plan:
    """Return the settings of the written configs.

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
        plan_backbone(path, value, cfg.get('load_from'))
        for path, value in found.items()
        if is_detectors(path)
    ]
    if not backbones:
        raise CannotFreezeError(
            'model.backbone must be a dict, got a '
            f'{model.get("type")} with {", ".join(found) or "none"}. Freeze '
            'what it uses with mmfrozen.freezing.freeze.'
        )
    wrapper = cfg.get('optim_wrapper') or {}
    constructor = wrapper.get('constructor')
    known = known_name(find_type(constructor, OPTIM_WRAPPER_CONSTRUCTORS))
    if known == 'DefaultOptimWrapperConstructor':
        # the default: ours differs only by leaving out frozen parameters
        constructor = None
    elif known == CONSTRUCTOR:
        constructor = known
    return Plan(
        backbones=backbones,
        imports=merge_imports(cfg.get('custom_imports')),
        has_guard='backbone' in model,
        constructor=constructor,
        paramwise=wrapper.get('paramwise_cfg'),
        trains=bool(wrapper),
    )


def plan_backbone(path: str, cfg: Any, detector: str | None) -> BackbonePlan:
    """Return the settings that freeze one backbone.

    Args:
        path: Path of the backbone in the config.
        cfg: Config of the backbone.
        detector: The ``load_from`` checkpoint; None without one.

    Raises:
        CannotFreezeError: If it has adapters, names no registered type, or
            cannot be built.
    """
    if not isinstance(cfg.get('type'), str):
        raise CannotFreezeError(
            f"{path}.type must name a class of MMDetection's registry, got "
            f'{cfg.get("type")!r}. Write {type_name(cfg.get("type"))!r} as '
            'text, or freeze a model from elsewhere with '
            'mmfrozen.freezing.freeze.'
        )
    is_wrapped = is_wrapper(cfg)
    if is_wrapped and cfg.get('adapters') is not None:
        raise CannotFreezeError(
            f'{path}.adapters must be None where all of the backbone is to '
            f'be frozen, got {dict(cfg.adapters)}. Train this config as it '
            "is, with state='partial', or freeze the one that it inherits."
        )
    try:
        stages, checkpoint = try_ways(Key(cfg))
        inner = cfg.backbone if is_wrapped else cfg
        control = thaw(Key(inner), is_keyed=stages is not None)
    except Exception as error:  # a constructor can raise anything
        raise CannotFreezeError(
            f'{path} must build in this environment, got {one_line(error)}. '
            f'{remedy_for(error)}'
        ) from error
    reload: dict[str, Any] = {}
    if detector and path == 'model.backbone':
        init_cfg = {'type': 'Pretrained', 'checkpoint': detector}
        reload['init_cfg'] = {**init_cfg, 'prefix': 'backbone.'}
        # the weights of a detector are converted already
        if 'convert_weights' in inner:
            reload['convert_weights'] = False
    return BackbonePlan(
        path,
        inner.type,
        stages,
        is_wrapped,
        checkpoint,
        control,
        reload,
        is_wrapped and cfg.get('frozen_stages') is not None,
    )


def is_wrapper(cfg: Any) -> bool:
    """Return whether a backbone's config is a ``FrozenBackbone``."""
    return known_name(find_type(cfg.type, MODELS)) == 'FrozenBackbone'


class Key:
    """Hashable wrapper of a config dict, for ``functools.cache``."""

    def __init__(self, cfg: ConfigDict) -> None:
        self.cfg = cfg

    def __hash__(self) -> int:
        return hash(repr(self.cfg))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and repr(self.cfg) == repr(other.cfg)


@functools.cache
def try_ways(key: Key) -> tuple[int | None, str | None]:
    """Return the ``frozen_stages`` that freezes a backbone, and its
    classifier checkpoint; either is None if there is none."""
    module = meta.build(key.cfg)
    checkpoint = checkpoint_of(module)
    stages = getattr(module, 'num_stages', None)
    if stages is None or is_wrapper(key.cfg):
        return None, checkpoint
    keys = dict(frozen_stages=stages, norm_eval=True)
    try:
        frozen = meta.build(ConfigDict(key.cfg, **keys))
    except Exception:  # without these options it needs FrozenBackbone
        return None, checkpoint
    return (stages if is_frozen(frozen) else None), checkpoint


@functools.cache
def thaw(key: Key, is_keyed: bool) -> dict[str, Any]:
    """Return the settings with which a backbone trains every stage."""
    norm = {}
    if (key.cfg.get('norm_cfg') or {}).get('requires_grad') is False:
        norm = {'norm_cfg': {'requires_grad': True}}
    if is_keyed and not key.cfg.get('norm_eval', True):
        norm['norm_eval'] = False
    # EfficientNet freezes no stage with 0, others with -1
    tries = [{}, {'frozen_stages': -1}, {'frozen_stages': 0}]
    for stages in tries[is_keyed:]:
        settings = {**stages, **norm}
        cfg = key.cfg.deepcopy()
        try:
            module = meta.build(Config._merge_a_into_b(settings, cfg))
        except Exception:  # the backbone does not accept this setting
            continue
        module.train()
        if all(p.requires_grad for p in module.parameters()):
            return settings
    raise ValueError('no setting of frozen_stages that trains every stage')


def merge_imports(own: Any) -> dict[str, Any] | None:
    """Return the base's imports with mmfrozen added; None if they have it."""
    own = own or {'imports': [], 'allow_failed_imports': False}
    imports = own.get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    if 'mmfrozen' in imports:
        return None
    return {
        'imports': [*imports, 'mmfrozen'],
        'allow_failed_imports': own.get('allow_failed_imports', False),
    }
