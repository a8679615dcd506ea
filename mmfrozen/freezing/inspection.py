"""Reports of which parameters of a module are frozen and which train."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..run_files import ModuleReport, ParameterCounts
from .stages import ADAPTERS, num_stages, stage_numbers

#: Pattern of Dropout, DropPath, DropBlock and StochasticDepth of any library.
RANDOM_LAYER = re.compile(r'drop|stochastic_?depth', re.IGNORECASE)


def find_faults(
    module: nn.Module, optimizer_groups: Iterable[dict[str, Any]] = ()
) -> list[str]:
    """Return the ways in which a module that should be frozen is not.

    Call it after ``train()`` of the whole model, as in a training loop.

    Args:
        module: The module that should be frozen.
        optimizer_groups: ``optimizer.param_groups`` of the run.

    Returns:
        One phrase per fault, such as ``'2 parameters require grad, the first
        is conv1.weight'``; empty if the module is frozen.
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
    """Return whether a layer draws random numbers in its forward pass."""
    if not layer.training:
        return False
    if RANDOM_LAYER.search(type(layer).__name__):
        return True
    # attention that passes its rate to a function: torch's, then timm's
    rate = getattr(layer, 'dropout', 0)
    rate = getattr(getattr(layer, 'attn_drop', None), 'p', rate)
    return isinstance(rate, float) and rate > 0


def _is_moving(layer: nn.Module) -> bool:
    """Return whether a layer's forward pass updates running statistics.

    Integer buffers are index tables, and a convolution's buffers are not
    statistics.
    """
    return (
        layer.training
        and not isinstance(layer, nn.modules.conv._ConvNd)
        and any(b.is_floating_point() for b in layer.buffers(recurse=False))
    )


def count_parameters(module: nn.Module) -> ParameterCounts:
    """Count the parameters and the trainable parameters of a module."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return ParameterCounts(
        total=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
    )


def describe(model: nn.Module) -> list[ModuleReport]:
    """Return a report on the trainable parameters of each part of a model.

    Call it after ``train()`` of the model, as in a training loop.

    Returns:
        One report per child of the model, in order; the backbone is split by
        stage, if its stages are known, and the RoI head by its children. The
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
    if hasattr(backbone, ADAPTERS):
        name = f'backbone.{ADAPTERS}'
        rows.append(_report(name, [getattr(backbone, ADAPTERS)]))
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
    moving = sum(
        layer.training and getattr(layer, 'running_mean', None) is not None
        for layer in layers.values()
    )
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
    """Hash every parameter and buffer bit by bit.

    Returns:
        Hexadecimal digests by tensor name, for :func:`changed_tensors`.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: digest(tensor) for name, tensor in tensors}


def digest(tensor: torch.Tensor) -> str:
    """Hash the bytes of a tensor of any dtype and device."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    data = flat.numpy().tobytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def changed_tensors(
    before: dict[str, str], after: dict[str, str]
) -> list[str]:
    """Return the names of tensors that differ between two fingerprints."""
    return sorted(
        name
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    )
