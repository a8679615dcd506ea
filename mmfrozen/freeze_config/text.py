"""This module writes the Python text of a frozen config and of its control
from a plan."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from .decide import CONSTRUCTOR, BackbonePlan, Plan

WIDTH = 79


@dataclass(frozen=True)
class Code:
    """Python expression that is written as it is, not as a string."""

    text: str


@dataclass(frozen=True)
class Noted:
    """Value that is followed by a comment."""

    value: Any
    comment: str


def frozen_text(plan: Plan, base: str, head: str) -> str:
    """Return the text of the frozen config.

    Args:
        plan: Settings of the config.
        base: Its ``_base_``.
        head: Its docstring.
    """
    settings: dict[str, Any] = {}
    if plan.imports:
        settings['custom_imports'] = plan.imports
    for path, name in plan.types.items():
        _put(settings, f'{path}.type', name)
    for one in plan.backbones:
        _put(settings, one.path, _freezing(one))
    if plan.trains and plan.constructor != CONSTRUCTOR:
        wrapper: dict[str, Any] = {'constructor': f'mmfrozen.{CONSTRUCTOR}'}
        if plan.constructor:
            wrapper['paramwise_cfg'] = _without_layers(plan.constructor)
        settings['optim_wrapper'] = wrapper
    settings |= copy.deepcopy(plan.reliable)
    if plan.has_guard:
        guard = {'type': 'mmfrozen.FrozenGuardHook', 'state': 'frozen'}
        _put(settings, 'default_hooks.frozen_guard', guard)
    return _file(head, base, settings)


def control_text(plan: Plan, base: str, head: str) -> str:
    """Return the text of the control, which only undoes the freezing.

    Args:
        plan: Settings of the frozen config.
        base: Path of the frozen config, the control's ``_base_``.
        head: Docstring of the control.
    """
    settings: dict[str, Any] = {}
    for one in plan.backbones:
        thawed = dict(one.control)
        if one.stages is None:
            inner = {'backbone': thawed} if thawed else {}
            as_base = Noted(False, "the backbone's own settings decide")
            thawed = {'frozen': False, 'norm_eval': as_base, **inner}
        _put(settings, one.path, thawed)
    if plan.constructor not in (None, CONSTRUCTOR):
        settings['optim_wrapper'] = {
            'constructor': plan.constructor,
            'paramwise_cfg': {'_delete_': True, **(plan.paramwise or {})},
        }
    if plan.without_rate:
        wrapper = settings.setdefault('optim_wrapper', {})
        paramwise = wrapper.setdefault('paramwise_cfg', {})
        own = paramwise.get('custom_keys', {})
        paramwise['custom_keys'] = own | {
            key: {**own.get(key, {}), 'lr_mult': 1.0}
            for key in plan.without_rate
        }
    if plan.has_guard:
        settings['default_hooks'] = {'frozen_guard': {'state': 'finetuned'}}
    return _file(head, base, settings)


def _freezing(one: BackbonePlan) -> dict[str, Any]:
    merged = dict(one.reload)
    if merged:
        merged['init_cfg'] = {'_delete_': True, **merged['init_cfg']}
    trains = 'nothing in it trains'
    moves = 'nor do its running statistics move'
    if one.stages is not None:
        return {
            'frozen_stages': Noted(one.stages, f'all of them: {trains}'),
            'norm_eval': Noted(True, moves),
            **merged,
        }
    freezing = {'frozen': Noted(True, trains), 'norm_eval': Noted(True, moves)}
    if one.has_stages:
        freezing['frozen_stages'] = Noted(None, 'all of them')
    if one.is_wrapped:
        return {**freezing, **({'backbone': merged} if merged else {})}
    own: Any = Code(f'_base_.{one.path}')
    return {
        '_delete_': Noted(True, "the base's settings move one level in"),
        'type': 'mmfrozen.FrozenBackbone',
        **freezing,
        'backbone': {'': own, **one.reload} if one.reload else own,
    }


def _without_layers(constructor: str) -> dict[str, Any] | None:
    """Return the ``paramwise_cfg`` that keeps what the base's constructor did
    besides layer-wise learning rates; None if it has no layer decay."""
    if 'Decay' not in constructor:
        return None
    # MMDetection's layer decay sets no weight decay for norms and biases
    return {
        '_delete_': True,
        'norm_decay_mult': 0.0,
        'bias_decay_mult': 0.0,
    }


def _put(settings: dict[str, Any], path: str, value: dict[str, Any]) -> None:
    *parents, last = path.split('.')
    for key in parents:
        settings = settings.setdefault(key, {})
    settings[last] = value


def _file(head: str, base: str, settings: dict[str, Any]) -> str:
    lines = [f'"""{head}"""\n', f'_base_ = {base!r}\n']
    lines += [f'{key} = {_render(v, key, 0)}' for key, v in settings.items()]
    return '\n'.join(lines) + '\n'


def _render(value: Any, key: str, indent: int) -> str:
    """Return a value as code, on one line if it fits, as ruff formats it."""
    flat = _flat(value)
    room = WIDTH - indent - len(key) - len('=,')
    if flat is not None and len(flat) <= room:
        return flat
    if not isinstance(value, dict) or not _is_call(value):
        return repr(value)
    lines = []
    for name, item in value.items():
        noted = isinstance(item, Noted)
        behind = f'  # {item.comment}' if noted else ''
        inner = _render(item.value if noted else item, name, indent + 4)
        equals = f'{name}=' if name else ''
        lines.append(f'{" " * (indent + 4)}{equals}{inner},{behind}\n')
    return f'dict(\n{"".join(lines)}{" " * indent})'


def _flat(value: Any) -> str | None:
    """Return a value as code on one line; None if it contains a comment."""
    if isinstance(value, Code):
        return value.text
    if isinstance(value, Noted):
        return None
    if not isinstance(value, dict) or not _is_call(value):
        return repr(value)
    items = {key: _flat(item) for key, item in value.items()}
    if None in items.values():
        return None
    pairs = [f'{k}={v}' if k else f'{v}' for k, v in items.items()]
    return f'dict({", ".join(pairs)})'


def _is_call(value: dict[str, Any]) -> bool:
    return all(isinstance(k, str) and k.isidentifier() or not k for k in value)
