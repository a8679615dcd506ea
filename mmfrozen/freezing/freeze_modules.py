"""Functions that freeze modules, as a whole or in part; they need torch only.

A frozen module satisfies the six meanings of "frozen" (docs/freezing.md): no
parameter requires grad, no running statistic changes, dropout and stochastic
depth are off, no activations are kept for a backward pass, the weights came
from a classifier, and they stay bitwise the same.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from functools import partial

from torch import nn

from ..errors import did_you_mean
from .stages import layer_names, num_stages, stage_numbers


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """Replace ``module.train``: set evaluation mode, whatever is requested."""
    type(module).train(module, False)
    return module


def keep_in_eval(module: nn.Module) -> None:
    """Set a module and all its submodules to evaluation mode permanently.

    ``train()`` of the module, of any parent and of any child no longer has an
    effect on it. Class, parameters and state-dict keys do not change; copies
    and pickles of the module stay in evaluation mode too.
    """
    for child in module.modules():
        child.train = partial(_stay_in_eval, child)  # type: ignore[method-assign]
    module.eval()


def is_kept_in_eval(module: nn.Module) -> bool:
    """Return whether :func:`keep_in_eval` was applied to a module."""
    return getattr(vars(module).get('train'), 'func', None) is _stay_in_eval


def freeze(module: nn.Module) -> nn.Module:
    """Freeze a whole module in place.

    Args:
        module: Any module. It is changed in place.

    Returns:
        The same module: no parameter requires grad, and it stays in evaluation
        mode even after ``train()``.
    """
    module.requires_grad_(False)
    keep_in_eval(module)
    return module


def frozen_tensors(module: nn.Module) -> set[str]:
    """Return the names of the frozen tensors of a partially frozen module.

    Returns:
        Parameters that do not require grad, and buffers of modules kept in
        evaluation mode. Norm layers that a backbone freezes in its own
        ``train()`` are not included.
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
    """Fix the running statistics of every norm layer in a module.

    Scale and shift still train. Any layer with running statistics counts as a
    norm layer, whatever its class (BN, SyncBN, third-party).

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
    """Replace ``module.train``: keep norms in evaluation mode, including those
    replaced later, as mmengine replaces SyncBN on one GPU."""
    type(module).train(module, mode)
    for child in module.modules():
        if hasattr(child, 'running_mean'):
            child.eval()
    return module


def freeze_layers(module: nn.Module, names: set[str]) -> nn.Module:
    """Freeze some layers and parameters of a module in place.

    A fully frozen part stays in evaluation mode even after ``train()``,
    including its layers without parameters; the rest trains.

    Args:
        module: Any module. It is changed in place.
        names: Names of parameters and layers, as :func:`layer_names` returns
            them.

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
    """Keep fully frozen parts in evaluation mode; return whether the module is
    one."""
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
    """Freeze the stem of a backbone and its stages up to one, in place.

    Args:
        module: A backbone whose stages are known, see ``stages.py``.
        last: Number of the last frozen stage; 0 is the stem.
        key: Config key of the option, for error messages.

    Returns:
        The same module.

    Raises:
        ValueError: If the class has no known stages, or not that one.
    """
    numbers = stage_numbers(module)
    if not numbers:
        raise ValueError(
            f'{key} must not be set for {type(module).__name__}, whose stages '
            f'are not known, got {last!r}. List the names of layers: '
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
    """Freeze the parts of a module whose names match, in place.

    Args:
        module: Any module. It is changed in place.
        patterns: Names of modules, including their contents, and of
            parameters. ``*`` matches anything, dots too, ``?`` one character
            and ``[12]`` one of these: ``'layer[12]'``, ``'*.norm'``.
        key: Config key of the option, for error messages.

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
    inside = {
        n for n in layer_names(module) if matched & set(_name_and_parents(n))
    }
    return freeze_layers(module, inside)


def _name_and_parents(name: str) -> Iterator[str]:
    """Yield a name and its parents: ``a.b.c``, ``a.b``, ``a``."""
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
