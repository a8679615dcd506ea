"""Make the training schedule of a config shorter or longer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

#: Options of schedulers that are points or lengths in time.
POINTS = ('begin', 'end', 'milestones', 'total_steps', 'step_size', 'periods')
ENDLESS = 10**8  # least value of `end` for a scheduler that never ends


def length_of(cfg: Config) -> tuple[str, int]:
    """Return the length of a config's training: its option and its value.

    Raises:
        ValueError: If the config states no length.
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

    The learning-rate curve keeps its shape, including the warm-up: the result
    of a run that is stopped before its rate has decayed is not that of a
    shorter schedule, nor does a run that continues at the last rate give that
    of a longer one.

    Args:
        cfg: Config of the run; not changed. Hooks that act at a given epoch
            are left as they are.
        factor: Ratio of new to old length; the new one is rounded down.

    Returns:
        Overrides by key, as ``--cfg-options`` takes them.

    Raises:
        ValueError: If the new length is 0, or the config states no length.
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
    """Yield the key and config of each scheduler, however they are nested."""
    if isinstance(node, dict):
        if 'type' in node:
            yield name, node
            return
        node = node.items()
    else:
        node = enumerate(node or [])
    for key, child in node:
        yield from _schedulers(child, f'{name}.{key}')
