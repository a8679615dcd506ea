"""Distinguish loaded from random weights by building a module twice.

Loaded weights are the same under any seed, no matter whether the constructor,
``init_weights``, a hub or ``torch.load`` loads them; random weights are not.
So the module is built a second time under another seed, and loading need not
be observed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

SEED = 1_000_003
DEFAULTS = {'running_mean': 0.0, 'running_var': 1.0}


def find_unloaded(
    module: nn.Module, config: Any, names: list[str], checkpoint: str | None
) -> list[str]:
    """Return the names of a module's tensors that were not loaded.

    Args:
        module: The module as initialised at the start of the run.
        config: Config from which it was built; without one, no tensor counts
            as loaded.
        names: Names of tensors whose loading was not recorded.
        checkpoint: Checkpoint named in its config. With a checkpoint, a tensor
            of a single repeated value counts as not loaded; without one, the
            module loads its weights itself, and such a tensor counts as
            loaded.
    """
    if not names:
        return []
    own, again = module.state_dict(), _build_again(config)
    return [
        name
        for name in names
        if not _is_filled(name, own, again, constants=not checkpoint)
    ]


def loaded_fraction(module: nn.Module, config: Any) -> float:
    """Return the fraction of a module's weights, 0 to 1, that were loaded."""
    own, again = module.state_dict(), _build_again(config)
    sizes = [
        (t.numel(), _is_filled(name, own, again, constants=False))
        for name, t in own.items()
        if t.is_floating_point() and t.dim() > 1
    ]
    total = sum(size for size, _ in sizes)
    return sum(size for size, filled in sizes if filled) / max(total, 1)


def _build_again(config: Any) -> dict[str, Tensor]:
    """Return the state dict of a second build, under another seed."""
    if not isinstance(config, dict):
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)  # not those of GPUs
        module = MODELS.build(copy.deepcopy(config))
        if hasattr(module, 'init_weights'):
            module.init_weights()
    return module.state_dict()


def _is_filled(
    name: str,
    own: dict[str, Tensor],
    again: dict[str, Tensor],
    *,
    constants: bool,
) -> bool:
    tensor = own[name].cpu()
    if name not in again or not torch.equal(tensor, again[name].cpu()):
        return False
    default = DEFAULTS.get(name.rpartition('.')[2])
    if default is not None and bool((tensor == default).all()):
        return False  # no trained classifier has default statistics
    return constants or bool((tensor != tensor.flatten()[0]).any())
