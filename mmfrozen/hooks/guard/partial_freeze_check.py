"""A hook that checks the frozen part of a partially frozen model."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ...freezing import (
    changed_tensors,
    checkpoint_of,
    fingerprint,
    frozen_tensors,
)
from ..runner_access import find_model, optimizer_groups, write_record
from .frozen_faults import CONSTRUCTOR
from .second_build import find_unloaded


class PartialFreezeCheck(Hook):
    """The part of FrozenGuardHook that checks partially frozen models.

    It is not in the registry: FrozenGuardHook adds it to ``partial`` runs.
    Whatever is frozen at construction, in the backbone, the neck or the heads,
    must be loaded from a file, be in no optimizer, stay frozen, and stay
    bitwise the same.

    Args:
        model: The model as constructed.

    Raises:
        ValueError: If no part of the model is frozen.
    """

    priority = 'LOWEST'

    def __init__(self, model: nn.Module) -> None:
        self._names = frozen_tensors(model)
        if not self._names:
            raise ValueError(
                'A partial run must freeze something, got a '
                f'{type(model).__name__} in which every parameter trains. Set '
                'frozen_stages or frozen in FrozenBackbone, use FrozenModule, '
                "or set default_hooks.frozen_guard.state='finetuned'."
            )
        self._before: dict[str, str] = {}
        self._is_checked = False

    def take_fingerprint(
        self, model: nn.Module, config: Any, missing: list[str]
    ) -> None:
        """Fingerprint the frozen part, once all weights are loaded.

        Args:
            model: The model after loading.
            config: Config from which it was built.
            missing: Tensors whose load was not recorded.
        """
        frozen = [name for name in missing if name in self._names]
        checkpoint = checkpoint_of(model.backbone)
        random = find_unloaded(model, config, frozen, checkpoint)
        if random:
            raise ValueError(
                'Frozen parameters must be filled from init_cfg or load_from, '
                f'got {len(random)} random tensors, the first is {random[0]}. '
                'Give weights that contain them.'
            )
        self._before = self._fingerprint(model)
        self._is_checked = False

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check before the first step."""
        if not self._is_checked:
            self._is_checked = True
            self.check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check before a faulty checkpoint can overwrite a good one."""
        self.check(runner)
        write_record(runner, 'partial', verified_iter=runner.iter)

    def _fingerprint(self, model: nn.Module) -> dict[str, str]:
        return {
            name: bits
            for name, bits in fingerprint(model).items()
            if name in self._names
        }

    def check(self, runner: Runner) -> None:
        """Look for faults, and compare the frozen part bit by bit."""
        model = find_model(runner)
        held = {
            id(p)
            for group in optimizer_groups(runner.optim_wrapper)
            for p in group['params']
        }
        parameters = {
            n: p for n, p in model.named_parameters() if n in self._names
        }
        found = {
            'require grad again': [
                n for n, p in parameters.items() if p.requires_grad
            ],
            'are in the optimizer (set optim_wrapper.constructor='
            f"'{CONSTRUCTOR}')": [
                n for n, p in parameters.items() if id(p) in held
            ],
            'changed': changed_tensors(self._before, self._fingerprint(model)),
        }
        faults = [
            f'{len(names)} tensors {what}, the first is {names[0]}'
            for what, names in found.items()
            if names
        ]
        if faults:
            raise RuntimeError(
                'Frozen parameters must stay frozen and unchanged, got at '
                f'iteration {runner.iter} on rank {get_rank()}: '
                f'{"; ".join(faults)}. Find what unfreezes or changes them; '
                'the last good checkpoint is kept.'
            )
