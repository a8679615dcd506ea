"""Freeze modules, check that they are frozen, describe them: plain torch.

A frozen module satisfies the six meanings of "frozen" (docs/design.md): no
parameter requires grad, no running statistic moves, dropout and stochastic
depth are off, nothing is kept for a backward pass, the weights came from a
classifier, and they stay bitwise what they were.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from functools import partial

from torch import nn

from ..errors import did_you_mean
from .stages import layer_names, num_stages, stage_numbers


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """Take the place of ``module.train``: whatever is asked, evaluate."""
    type(module).train(module, False)
    return module


def keep_in_eval(module: nn.Module) -> None:
    """Put a module and all inside it in evaluation mode for good.

    ``train()`` of the module, of any parent and of any child no longer has
    an effect. Class, parameters and state-dict keys stay as they are;
    copies and pickles of the module are kept in evaluation mode too.
    """
    for child in module.modules():
        child.train = partial(_stay_in_eval, child)  # type: ignore[method-assign]
    module.eval()


def is_kept_in_eval(module: nn.Module) -> bool:
    """Whether :func:`keep_in_eval` holds a module in evaluation mode."""
    return getattr(vars(module).get('train'), 'func', None) is _stay_in_eval


def freeze(module: nn.Module) -> nn.Module:
    """Freeze a whole module on the spot.

    Args:
        module: Any module. It is changed in place.

    Returns:
        The same module: no parameter requires grad, and it evaluates even
        after ``train()``.
    """
    module.requires_grad_(False)
    keep_in_eval(module)
    return module


def frozen_tensors(module: nn.Module) -> set[str]:
    """Name the tensors that freezing holds, of a module frozen in part.

    Returns:
        Parameters without grad, and the buffers of what is kept in
        evaluation mode. Backbones that freeze norm layers in their own
        ``train()`` are not asked.
    """
    names = {n for n, p in module.named_parameters() if not p.requires_grad}
    for name, child in module.named_modules():
        if is_kept_in_eval(child):
            prefix = f'{name}.' if name else ''
            names |= {
                prefix + n for n, _ in child.named_buffers(recurse=False)
            }
    return names


def freeze_norm(module: nn.Module) -> nn.Module:
    """Keep the running statistics of every norm layer in a module fixed.

    Scale and shift go on training. A norm layer is what tracks running
    statistics, whichever class it is (BN, SyncBN, third-party).

    Returns:
        The same module.
    """
    for child in module.modules():
        if hasattr(child, 'running_mean'):
            keep_in_eval(child)
    if not is_kept_in_eval(module):
        module.train = partial(_train_but_norms, module)  # type: ignore[method-assign]
    return module


def _train_but_norms(module: nn.Module, mode: bool = True) -> nn.Module:
    """Take the place of ``module.train``: norms that were exchanged since,
    as mmengine exchanges SyncBN on one GPU, evaluate too."""
    type(module).train(module, mode)
    for child in module.modules():
        if hasattr(child, 'running_mean'):
            child.eval()
    return module


def freeze_layers(module: nn.Module, names: set[str]) -> nn.Module:
    """Freeze some layers and parameters of a module on the spot.

    What is frozen as a whole evaluates even after ``train()``, the layers
    without parameters inside it too; the rest trains.

    Args:
        module: Any module. It is changed in place.
        names: Of parameters and layers, as :func:`layer_names` spells them.

    Returns:
        The same module.
    """
    for name, parameter in module.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    _keep_whole_in_eval(module, '', names)
    return module


def _keep_whole_in_eval(
    module: nn.Module, prefix: str, names: set[str]
) -> bool:
    """Keep the parts that are frozen as a whole in evaluation mode; say
    whether the module is one."""
    parts = [
        _keep_whole_in_eval(child, f'{prefix}{name}.', names)
        for name, child in module.named_children()
    ]
    parts += [
        prefix + n in names
        for n, p in module._parameters.items()
        if p is not None
    ]
    whole = all(parts) if parts else prefix[:-1] in names
    if whole:
        keep_in_eval(module)
    return whole


def freeze_stages(
    module: nn.Module, last: int, key: str = 'frozen_stages'
) -> nn.Module:
    """Freeze the stem of a backbone and its stages up to one, on the spot.

    Args:
        module: A backbone whose stages are known, see ``stages.py``.
        last: Number of the last frozen stage; 0 is the stem.
        key: The config key that holds it, for the message.

    Returns:
        The same module.

    Raises:
        ValueError: If the class has no known stages, or not that one.
    """
    numbers = stage_numbers(module)
    if not numbers:
        raise ValueError(
            f'{key} must be left out for {type(module).__name__}, whose '
            f'stages are not known, got {last!r}. List the names of layers: '
            'frozen=[...].'
        )
    highest = num_stages(module)
    if type(last) is not int or not 0 <= last <= highest:
        raise ValueError(
            f'{key} must be 0 (the stem) to {highest} (all stages) of '
            f'{type(module).__name__}, got {last!r}. Correct it.'
        )
    return freeze_layers(module, {n for n, s in numbers.items() if s <= last})


def freeze_matching(
    module: nn.Module, patterns: Iterable[str], key: str = 'patterns'
) -> nn.Module:
    """Freeze the parts of a module whose names match, on the spot.

    Args:
        module: Any module. It is changed in place.
        patterns: Names of modules, with all inside them, and of parameters.
            ``*`` stands for anything, dots too, ``?`` for one character and
            ``[12]`` for one of these: ``'layer[12]'``, ``'*.norm'``.
        key: The config key that holds them, for the message.

    Returns:
        The same module.

    Raises:
        ValueError: If there is no pattern, or one matches nothing.
    """
    if not patterns or not isinstance(patterns, (list, tuple)):
        raise ValueError(
            f'{key} must list names of modules or parameters, got '
            f"{patterns!r}. Write {key}=['NAME', ...]."
        )
    names = [n for n, _ in module.named_modules() if n]
    names += [n for n, _ in module.named_parameters()]
    matched: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            raise _unmatched(module, pattern, names, key)
        matched.update(found)
    inside = {n for n in layer_names(module) if matched & set(_lineage(n))}
    return freeze_layers(module, inside)


def _lineage(name: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``."""
    while name:
        yield name
        name = name.rpartition('.')[0]


def _unmatched(
    module: nn.Module, pattern: str, names: list[str], key: str
) -> ValueError:
    children = [name for name, _ in module.named_children()]
    return ValueError(
        f'{key} must match modules or parameters of '
        f'{type(module).__name__}, got {pattern!r}, which matches none'
        f'{did_you_mean(pattern, names, count=3)}. Its parts are '
        f'{", ".join(children)}.'
    )
