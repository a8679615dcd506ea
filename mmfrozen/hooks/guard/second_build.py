"""Tell what a module fills by itself from what is random.

Whatever fills a module, be it its constructor, ``init_weights``, a hub or
``torch.load``, gives the same values under any seed; random initialisation
does not. So the module is built once more, and no fill has to be observed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

SEED = 1_000_003
DEFAULTS = {'running_mean': 0.0, 'running_var': 1.0}


def find_random(
    module: nn.Module, config: Any, names: list[str], checkpoint: str | None
) -> list[str]:
    """Name those of a module's tensors that nothing has filled.

    Args:
        module: As it is at the start of the run, initialised.
        config: What it was built from; without one nothing counts as filled.
        names: Tensors whose load was not seen.
        checkpoint: What its config loads. Beside one, a tensor of one value
            is what the file lacks; a module that fills itself has filled it.
    """
    if not names:
        return []
    own, again = module.state_dict(), _build_again(config)
    return [
        name
        for name in names
        if not _is_filled(name, own, again, constants=not checkpoint)
    ]


def filled_share(module: nn.Module, config: Any) -> float:
    """Share of a module's weights, from 0 to 1, that are not random."""
    own, again = module.state_dict(), _build_again(config)
    sizes = [
        (t.numel(), _is_filled(name, own, again, constants=False))
        for name, t in own.items()
        if t.is_floating_point() and t.dim() > 1
    ]
    total = sum(size for size, _ in sizes)
    return sum(size for size, filled in sizes if filled) / max(total, 1)


def _build_again(config: Any) -> dict[str, Tensor]:
    """The tensors of a second build, under another seed."""
    if not isinstance(config, dict):
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
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
        return False  # no classifier has statistics of none
    return constants or bool((tensor != tensor.flatten()[0]).any())
