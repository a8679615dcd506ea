"""A config's schedule, made shorter or longer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

#: Options of schedulers that are points or lengths on the axis of time.
POINTS = ('begin', 'end', 'milestones', 'total_steps', 'step_size', 'periods')
ENDLESS = 10**8  # of `end`, where a scheduler is not to end


def length_of(cfg: Config) -> tuple[str, int]:
    """Name and number of the steps or epochs that a config trains for.

    Raises:
        ValueError: If it states none.
    """
    train = cfg.get('train_cfg') or {}
    for key in ('max_iters', 'max_epochs'):
        if isinstance(train.get(key), int):
            return key, train[key]
    raise ValueError(
        'train_cfg must have max_iters or max_epochs, got '
        f'{dict(train)}. Give the config that is trained.'
    )


def stretch(cfg: Config, factor: float) -> dict[str, Any]:
    """Make a training run ``factor`` times as long.

    The curve of the learning rate keeps its shape, warm-up included: a run
    that is cut off before its rate has decayed says nothing about a shorter
    one, and one that goes on at the last rate nothing about a longer one.

    Args:
        cfg: Of the run; not changed. Hooks that act at an epoch stay.
        factor: Of the length, which is rounded down.

    Returns:
        Overrides by key, as ``--cfg-options`` takes them.

    Raises:
        ValueError: If nothing is left, or the config states no length.
    """
    key, length = length_of(cfg)
    new = int(length * factor + 1e-6)
    if new < 1:
        raise ValueError(
            f'A run must have 1 of its {length} {key} or more, got '
            f'{factor:g} of them. Choose a larger share.'
        )
    found: dict[str, Any] = {f'train_cfg.{key}': new}
    if cfg.train_cfg.get('val_interval', 1) >= length:
        found['train_cfg.val_interval'] = new

    def move(point: Any) -> Any:
        if isinstance(point, (list, tuple)):
            return [move(p) for p in point]
        return point if point >= ENDLESS else round(point * new / length)

    for name, scheduler in _schedulers(cfg.get('param_scheduler')):
        moved = {k: move(scheduler[k]) for k in POINTS if k in scheduler}
        if 'T_max' in scheduler:
            begin = scheduler.get('begin', 0)
            end = move(begin + scheduler['T_max'])
            moved['T_max'] = max(end - move(begin), 1)
        found |= {f'{name}.{k}': value for k, value in moved.items()}
    return found


def _schedulers(
    node: Any, name: str = 'param_scheduler'
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One, several, or several for each optimizer."""
    if isinstance(node, dict):
        if 'type' in node:
            yield name, node
            return
        node = node.items()
    else:
        node = enumerate(node or [])
    for key, child in node:
        yield from _schedulers(child, f'{name}.{key}')
