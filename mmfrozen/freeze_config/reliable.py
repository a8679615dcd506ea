"""This module finds the settings that let a run survive kills, full disks and
non-finite losses (docs/reliability.md)."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS, LOOPS, VISBACKENDS
from mmengine.config import Config

from ..type_names import find_type, known_name, type_name


def reliable_settings(cfg: Config) -> tuple[dict[str, Any], list[str]]:
    """Return settings for runs that are killed, fill the disk, get non-finite
    losses or have misspelt keys.

    Args:
        cfg: The config that is frozen.

    Returns:
        The settings as nested dicts, and one line for each part of the config
        that they do not replace.
    """
    hooks: dict[str, Any] = {
        'non_finite': {'type': 'mmfrozen.NonFiniteHook', 'policy': 'stop'}
    }
    settings: dict[str, Any] = {'default_hooks': hooks}
    stay = []
    runner = type_name(cfg.get('runner_type', 'Runner'))
    if runner == 'Runner':
        settings['runner_type'] = 'mmfrozen.CheckedRunner'
    elif runner != 'CheckedRunner':
        stay.append(f'runner_type stays {cfg.runner_type}')
    loop = cfg.get('train_cfg') or {}
    name = _loop_name(loop)
    if name in ('EpochBasedTrainLoop', 'IterBasedTrainLoop'):
        settings['train_cfg'] = {'type': f'mmfrozen.Resumable{name}'}
        # by_epoch can choose only between MMEngine's own two loops
        if 'by_epoch' in loop:
            rest = {k: v for k, v in loop.items() if k != 'by_epoch'}
            settings['train_cfg'] |= {'_delete_': True, **rest}
    elif loop and not name.startswith('Resumable'):
        kind = type_name(loop.get('type'))
        stay.append(f'train_cfg stays {kind}: it has no resumable form')
    # without one, MMEngine uses its own hook
    saving = cfg.get('default_hooks', {}).get(
        'checkpoint', {'type': 'CheckpointHook'}
    )
    kind = saving and known_name(find_type(saving.get('type'), HOOKS))
    if kind == 'CheckpointHook':
        hooks['checkpoint'] = {'type': 'mmfrozen.SafeCheckpointHook'}
        if 'checkpoint' not in cfg.get('default_hooks', {}):
            hooks['checkpoint']['interval'] = 1
    elif kind != 'SafeCheckpointHook':
        stay.append(f'default_hooks.checkpoint stays {saving}')
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    safe = [_safe_backend(one) for one in backends]
    if safe != backends:
        settings['visualizer'] = {'vis_backends': safe}
    return settings, stay


def _loop_name(loop: dict[str, Any]) -> str:
    if 'by_epoch' in loop:
        return f'{"Epoch" if loop["by_epoch"] else "Iter"}BasedTrainLoop'
    return known_name(find_type(loop.get('type'), LOOPS))


def _safe_backend(backend: dict[str, Any]) -> dict[str, Any]:
    if (
        known_name(find_type(backend['type'], VISBACKENDS))
        != 'LocalVisBackend'
    ):
        return backend
    return {**backend, 'type': 'mmfrozen.SafeLocalVisBackend'}
