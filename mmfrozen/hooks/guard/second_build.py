"""Tell what a backbone fills by itself from what is random."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

SEED = 1_000_003
DEFAULTS = {'running_mean': 0.0, 'running_var': 1.0}


class SecondBuild:
    """A module built and initialised once more, under another seed.

    Whatever fills a module, be it its constructor, ``init_weights``, a hub
    or ``torch.load``, gives the same values under any seed; random
    initialisation does not. So no fill has to be observed.

    Args:
        module: As it is at the start of the run, initialised.
        config: What it was built from; without one nothing counts as filled.
    """

    def __init__(self, module: nn.Module, config: Any) -> None:
        self._own = module.state_dict()
        self._again: dict[str, Tensor] = {}
        if isinstance(config, dict):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(SEED)
                again = MODELS.build(copy.deepcopy(config))
                if hasattr(again, 'init_weights'):
                    again.init_weights()
            self._again = again.state_dict()

    def find_random(self, names: list[str], constants: bool) -> list[str]:
        """Name those of these tensors that nothing has filled.

        Args:
            names: Tensors whose load was not seen.
            constants: Whether a tensor of one value counts as filled. It does
                where the module fills itself as a whole; beside a file that
                was loaded it is what the file lacks.
        """
        return [name for name in names if not self._is_filled(name, constants)]

    def filled_share(self) -> float:
        """Share of the weights, from 0 to 1, that are not random."""
        sizes = [
            (t.numel(), self._is_filled(name, constants=False))
            for name, t in self._own.items()
            if t.is_floating_point() and t.dim() > 1
        ]
        total = sum(size for size, _ in sizes)
        return sum(size for size, filled in sizes if filled) / max(total, 1)

    def _is_filled(self, name: str, constants: bool) -> bool:
        own, again = self._own[name].cpu(), self._again.get(name)
        if again is None or not torch.equal(own, again.cpu()):
            return False
        default = DEFAULTS.get(name.rpartition('.')[2])
        if default is not None and bool((own == default).all()):
            return False  # no classifier has statistics of none
        return constants or bool((own != own.flatten()[0]).any())
