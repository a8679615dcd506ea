"""Freeze modules, check that they are frozen, describe them: plain torch.

A frozen module satisfies the six meanings of "frozen" (docs/design.md): no
parameter requires grad, no running statistic moves, dropout and stochastic
depth are off, nothing is kept for a backward pass, the weights came from a
classifier, and they stay bitwise what they were.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from .loading import LoadRecorder as LoadRecorder
from .loading import checkpoint_of as checkpoint_of
from .records import ModuleReport, ParameterCounts
from .stages import layer_names as layer_names
from .stages import stage_numbers as stage_numbers

# Dropout, DropPath, DropBlock, StochasticDepth, whoever wrote them.
RANDOM_LAYER = re.compile(r'drop|stochastic_?depth', re.IGNORECASE)


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
    parts += [prefix + n in names for n, p in module._parameters.items() if p is not None]
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


def num_stages(module: nn.Module) -> int:
    """Number of the last stage of a backbone that has parameters."""
    numbers = stage_numbers(module)
    return max(numbers[name] for name, _ in module.named_parameters())


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
    near = difflib.get_close_matches(pattern, names, cutoff=0.5)
    near = near or [n for n, _ in module.named_children()]
    return ValueError(
        f'{key} must match modules or parameters of '
        f'{type(module).__name__}, got {pattern!r}, which matches none. '
        f'Did you mean {" or ".join(near[:5])}?'
    )


def find_faults(
    module: nn.Module, optimizer_groups: Iterable[dict[str, Any]] = ()
) -> list[str]:
    """Say in which ways a module that should be frozen is not.

    Call it after ``train()`` of the whole model, as a training loop does.

    Args:
        module: The module that should be frozen.
        optimizer_groups: ``optimizer.param_groups`` of the run.

    Returns:
        One phrase a fault, such as ``'2 parameters require grad, the first
        is conv1.weight'``; empty when the module is frozen.
    """
    grads = [n for n, p in module.named_parameters() if p.requires_grad]
    owned = {id(p) for group in optimizer_groups for p in group['params']}
    groups = [n for n, p in module.named_parameters() if id(p) in owned]
    random, moving = [], []
    for name, child in module.named_modules():
        if _is_random(child):
            random.append(name)
        elif _is_moving(child):
            moving.append(name)
    found = [
        (grads, 'parameters require grad'),
        (groups, 'parameters are in the optimizer'),
        (
            moving,
            'layers with running statistics are in training mode',
        ),
        (random, 'dropout or stochastic depth layers are on'),
    ]
    return [
        f'{len(names)} {what}, the first is {names[0] or "the root"}'
        for names, what in found
        if names
    ]


def _is_random(layer: nn.Module) -> bool:
    """Whether a layer draws random numbers in its forward pass."""
    if not layer.training:
        return False
    if RANDOM_LAYER.search(type(layer).__name__):
        return True
    # attention that hands its rate to a function: torch's, then timm's
    rate = getattr(layer, 'dropout', 0)
    rate = getattr(getattr(layer, 'attn_drop', None), 'p', rate)
    return isinstance(rate, float) and rate > 0


def _is_moving(layer: nn.Module) -> bool:
    """Whether running statistics of a layer move in its forward pass.

    Index tables are integers; a convolution's buffers do not move.
    """
    return (
        layer.training
        and not isinstance(layer, nn.modules.conv._ConvNd)
        and any(b.is_floating_point() for b in layer.buffers(recurse=False))
    )


def count_parameters(module: nn.Module) -> ParameterCounts:
    """Count all and the trainable parameters of a module."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return ParameterCounts(
        total=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
    )


def describe(model: nn.Module) -> list[ModuleReport]:
    """Say what trains of each part of a model.

    Call it after ``train()`` of the model, as a training loop does.

    Returns:
        The model's children in their order: the backbone by stage, where
        its stages are known, and the RoI head by its own children. The
        counts add up to those of the model.
    """
    rows = []
    for name, child in model.named_children():
        if name == 'backbone' and stage_numbers(child):
            rows += _describe_stages(child)
        elif name == 'roi_head':
            rows += [
                _report(f'{name}.{part}', [module])
                for part, module in child.named_children()
            ]
            rows += _describe_own(f'{name}.', child)
        else:
            rows.append(_report(name, [child]))
    return rows + _describe_own('', model)


def _describe_stages(backbone: nn.Module) -> list[ModuleReport]:
    numbers = stage_numbers(backbone)
    modules = dict(backbone.named_modules())
    parameters = dict(backbone.named_parameters())
    rows = []
    for stage in range(num_stages(backbone) + 1):
        names = [n for n, number in numbers.items() if number == stage]
        rows.append(
            _report(
                f'backbone.stage {stage}' if stage else 'backbone.stem',
                [modules[n] for n in names if n in modules],
                [parameters[n] for n in names if n in parameters],
            )
        )
    return rows


def _describe_own(prefix: str, module: nn.Module) -> list[ModuleReport]:
    return [
        _report(prefix + name, [], [parameter])
        for name, parameter in module.named_parameters(recurse=False)
    ]


def _report(
    name: str,
    modules: Iterable[nn.Module],
    parameters: Iterable[nn.Parameter] = (),
) -> ModuleReport:
    layers = {id(m): m for module in modules for m in module.modules()}
    own = {id(p): p for p in parameters}
    for layer in layers.values():
        own.update((id(p), p) for p in layer.parameters(recurse=False))
    moving = sum(map(_is_moving, layers.values()))
    total = sum(p.numel() for p in own.values())
    trainable = sum(p.numel() for p in own.values() if p.requires_grad)
    if not total:
        status = 'empty'
    elif trainable == total:
        status = 'trained'
    else:
        status = 'partial' if trainable or moving else 'frozen'
    return ModuleReport(
        name, status, ParameterCounts(total, trainable), moving
    )


def fingerprint(module: nn.Module) -> dict[str, str]:
    """Digest every parameter and buffer, bit for bit.

    Returns:
        Hexadecimal digests by tensor name, for :func:`changed_tensors`.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: digest(tensor) for name, tensor in tensors}


def digest(tensor: torch.Tensor) -> str:
    """Digest the bytes of a tensor, whatever its dtype and device."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    data = flat.numpy().tobytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def changed_tensors(
    before: dict[str, str], after: dict[str, str]
) -> list[str]:
    """Name the tensors that two fingerprints do not share."""
    return sorted(
        name
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    )

