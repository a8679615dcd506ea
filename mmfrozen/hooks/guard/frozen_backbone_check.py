"""A hook that checks a fully frozen backbone during a run."""

from __future__ import annotations

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from ...freezing import changed_tensors, fingerprint, strip_backbone
from ...freezing.drift import same_bits
from ..runner_access import KEY, backbone_tensors, find_backbone, write_record
from .frozen_faults import explain_changes, find_run_faults, remedy
from .init_checks import THAW


class FrozenBackboneCheck(Hook):
    """The part of FrozenGuardHook that runs after all other hooks.

    It is not in the registry: FrozenGuardHook adds it to frozen runs. It looks
    for faults before the first step and at every checkpoint; at every
    checkpoint, before the file is written, it also compares the backbone bit
    by bit. AllRanksCheck runs these checks in every process.

    Args:
        backbone: The backbone as constructed.
        save_backbone: Whether checkpoints include the backbone.
    """

    priority = 'LOWEST'

    def __init__(self, backbone: nn.Module, save_backbone: bool) -> None:
        self._save_backbone = save_backbone
        self.renew(backbone)

    def renew(self, backbone: nn.Module) -> None:
        """Reset for another ``train()`` of the same runner."""
        self._modules = dict(backbone.named_modules())
        self._before: dict[str, str] = {}
        self._is_checked = False

    def take_fingerprint(self, backbone: nn.Module) -> None:
        """Fingerprint the backbone, once the classifier is loaded."""
        self._before = fingerprint(backbone)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check before the first step, with the model in training mode."""
        if self._is_checked:
            return
        self._is_checked = True
        faults = find_run_faults(runner, self._modules)
        if faults:
            raise ValueError(
                f'{KEY} must be frozen, got: {"; ".join(faults)}. '
                f'{remedy(faults)}'
            )
        self._handle = find_backbone(runner).register_forward_hook(
            self._check_outputs
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check before a faulty checkpoint can overwrite a good one."""
        self.check(runner)
        own = find_backbone(runner).state_dict()
        for name, tensor in backbone_tensors(checkpoint['state_dict']).items():
            frozen = own[name].cpu()
            if same_bits(tensor, frozen):
                continue
            if tensor.dtype != frozen.dtype or not torch.equal(tensor, frozen):
                raise RuntimeError(
                    f'The checkpoint of iteration {runner.iter} must hold '
                    f'the frozen {KEY}, got another {name}. Find the hook '
                    'that writes to the file (EMA, averaging).'
                )
            tensor.copy_(frozen)  # EMA turns -0.0 into 0.0
        if not self._save_backbone:
            strip_backbone(checkpoint, find_backbone(runner))

    def check(self, runner: Runner) -> None:
        """Look for faults, and compare the backbone bit by bit."""
        backbone = find_backbone(runner)
        faults = find_run_faults(runner, self._modules)
        changed = changed_tensors(self._before, fingerprint(backbone))
        if not faults and not changed:
            write_record(runner, 'frozen', verified_iter=runner.iter)
            return
        advice = remedy(faults) if faults else explain_changes(changed)
        if changed:
            faults.append(
                f'{len(changed)} changed tensors, the first is {changed[0]}'
            )
        raise RuntimeError(
            f'{KEY} must stay frozen and bitwise equal to its classifier, got '
            f'at iteration {runner.iter} on rank {get_rank()}: '
            f'{"; ".join(faults)}. The last good checkpoint is kept. {advice}'
        )

    def _check_outputs(self, _: nn.Module, __: tuple, outputs: object) -> None:
        """Check at the first forward pass that it keeps no activations."""
        self._handle.remove()
        levels = outputs.values() if isinstance(outputs, dict) else outputs
        if any(isinstance(x, Tensor) and x.requires_grad for x in levels):
            raise ValueError(
                f'{KEY} must keep nothing for a backward pass, got features '
                'that require grad. Remove what trains inside or before it, '
                f'{THAW}.'
            )
