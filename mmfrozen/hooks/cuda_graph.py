"""Replay the static part of a training step as a CUDA graph."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..models.batched.cuda_graph import GraphedStaticPart
from ..models.batched.detector import BatchedTwoStageDetector


@HOOKS.register_module()
class CUDAGraphHook(Hook):
    """Launches backbone, neck and region proposals as one CUDA graph.

    What MMEngine lacks: its ``compile`` waits for minutes and compiles anew
    for each number of objects. With large scale jitter all batches have one
    shape, and what does not depend on the objects can be captured at the
    first batch. The step is the same, without the time that Python takes to
    launch some hundred kernels; their activations stay allocated. It needs
    one GPU, a :class:`~mmfrozen.models.batched.detector
    .BatchedTwoStageDetector` and no accumulation of gradients, and says so in
    the log where that is not given.

    Example config::

        custom_hooks = [
            dict(type='NumClassCheckHook'), dict(type='CUDAGraphHook')]
    """

    def before_train(self, runner: Runner) -> None:
        """Prepare the model; the capture is at its first batch."""
        model = _unwrapped(runner)
        reason = _why_not(runner, model)
        if reason:
            runner.logger.warning(
                f'CUDAGraphHook must have {reason}. The step runs as it is.'
            )
            return
        model.run_static = GraphedStaticPart(model)

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        vars(_unwrapped(runner)).pop('run_static', None)


def _unwrapped(runner: Runner) -> Any:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def _why_not(runner: Runner, model: Any) -> str | None:
    if not isinstance(model, BatchedTwoStageDetector):
        return f'a BatchedTwoStageDetector, got {type(model).__name__}'
    if get_world_size() > 1:
        return f'one process, got {get_world_size()}'
    if getattr(runner.optim_wrapper, '_accumulative_counts', 1) > 1:
        return 'optim_wrapper.accumulative_counts=1'
    if not torch.cuda.is_available():
        return 'a CUDA device, got none'
    return None
