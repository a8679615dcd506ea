"""Construction of a config's optimizer and of its state."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn


def build_optimizer(
    model: nn.Module, wrapper: Any
) -> torch.optim.Optimizer | None:
    """Build the optimizer of a config as a run does.

    It updates all tensors at once (``foreach``), as torch does on GPUs.

    Returns:
        The optimizer; None if the config has none.
    """
    if not wrapper:
        return None
    wrapper = wrapper.deepcopy()
    for key in ('dtype', 'loss_scale', 'use_fsdp'):
        wrapper.pop(key, None)
    wrapper.type = 'OptimWrapper'  # AmpOptimWrapper needs a GPU
    with DefaultScope.overwrite_default_scope('mmdet'):
        optimizer = build_optim_wrapper(model, wrapper).optimizer
    for group in optimizer.param_groups:
        if 'foreach' in group:
            group['foreach'] = True
    return optimizer


def fill_state(optimizer: torch.optim.Optimizer | None) -> list[Tensor]:
    """Return the tensors of an optimizer's state after its first update."""
    if optimizer is None:
        return []
    trained = [
        p
        for group in optimizer.param_groups
        for p in group['params']
        if p.requires_grad
    ]
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    for parameter in trained:
        parameter.grad = None
    return [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
