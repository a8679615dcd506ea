"""A hook that reads losses from the device only when they are logged."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from ..registry import HOOKS


@HOOKS.register_module()
class BufferedRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook`` without a synchronisation per step.

    MMEngine's hook reads every loss of every step, and so synchronises at the
    end of each step; the GPU then idles while the next step is prepared. With
    this hook losses stay on the device until a ``LoggerHook`` writes them;
    every value is recorded as before, in the same order.

    Example config::

        default_hooks = dict(
            runtime_info=dict(type='mmfrozen.BufferedRuntimeInfoHook'))
    """

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Buffer the losses; record all of them when they are logged."""
        if outputs is not None:
            self._waiting.append(
                {
                    k: v.detach() if isinstance(v, Tensor) else v
                    for k, v in outputs.items()
                }
            )
        if self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            self.every_n_inner_iters(batch_idx, hook.interval)
            for hook in runner.hooks
            if isinstance(hook, LoggerHook)
        ):
            self._record(runner)

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Record the losses, as a checkpoint contains their history."""
        self._record(runner)
        checkpoint['message_hub'] = runner.message_hub.state_dict()

    def after_train(self, runner: Runner) -> None:
        """Record the remaining losses."""
        self._record(runner)
        super().after_train(runner)

    def _record(self, runner: Runner) -> None:
        """Record all buffered values, with a single synchronisation."""
        steps, self._waiting = self._waiting, []
        tensors = [
            v for s in steps for v in s.values() if isinstance(v, Tensor)
        ]
        if tensors:
            numbers = iter(
                torch.stack([t.double().reshape(()) for t in tensors]).tolist()
            )
        for step in steps:
            for name, value in step.items():
                runner.message_hub.update_scalar(
                    f'train/{name}',
                    next(numbers) if isinstance(value, Tensor) else value,
                )
