"""A meter of the training steps of one start of a run."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..runner_access import optim_wrappers, replace_method
from .memory_energy import EnergyMeter, MemoryMeter
from .step_context import autocast_name, dtype_name
from .step_flops import StepFlopsCounter
from .step_timer import Clock, CpuClock, CudaClock, StepSample, StepTimer


class StepMeter:
    """Meter of the time, memory, energy, FLOPs and batch shapes of steps.

    Hooks on the model's preprocessor and backbone, and wrappers of the
    optimizer's ``backward`` and ``step``, mark where each part of a step
    begins; they do not change what is computed.

    Args:
        model: The detector, in its distributed wrapper if it has one.
        optim_wrapper: Optimizer wrapper of the run.
        warmup: Number of first steps that are not timed.
        count_flops: Whether to count the FLOPs of the step after the warm-up.
        is_compiled: Whether ``torch.compile`` was applied to the forward pass;
            if so, nothing inside it is measured.
        clock: A clock; by default CUDA events on a GPU, else the CPU's.
    """

    def __init__(
        self,
        model: nn.Module,
        optim_wrapper: OptimWrapper,
        *,
        warmup: int,
        count_flops: bool,
        is_compiled: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._wrapped = model
        self.model = model.module if is_model_wrapper(model) else model
        self.device = next(model.parameters()).device
        is_cuda = self.device.type == 'cuda'
        self.timer = StepTimer(
            clock or (CudaClock() if is_cuda else CpuClock())
        )
        self.sample = StepSample()
        self.memory = MemoryMeter(self.device)
        self.energy = EnergyMeter(self.device)
        self.flops = StepFlopsCounter()
        self.shapes: Counter[tuple[int, int, int]] = Counter()
        self.dtype = dtype_name(next(model.parameters()).dtype)
        self._backbone_note: str | None = None
        self._warmup = warmup
        self._num_begun = 0
        self._step = 0
        self._shape: tuple[int, int, int] | None = None
        self._is_in_step = False
        self._is_counted = False
        self._undo: list[Callable[[], Any]] = []
        if not count_flops:
            self.flops.note = 'Not counted: count_flops=False'
        elif is_compiled:
            self.flops.note = 'Not counted: the model is compiled'
        self._watch_model(is_compiled)
        self._watch_optimizer(optim_wrapper)

    def resume(self, num_done: int) -> None:
        """Start measuring, or resume it after a validation.

        Args:
            num_done: Number of training steps done.
        """
        self.timer.begin('data')
        self.memory.reset()
        self.energy.begin(num_done)

    def begin_step(self, step: int) -> None:
        """Begin a step, after the loader has returned a batch.

        Args:
            step: The step that begins, counted from 1.
        """
        self.timer.enter('hooks')
        self._num_begun += 1
        self._step = step
        self._shape = None
        self._is_in_step = True
        self._is_counted = False
        if self._num_begun > self._warmup and self.flops.is_due:
            self._count_this_step()

    def mark_updated(self) -> None:
        """Mark that the weights have been updated and the hooks follow."""
        self.timer.enter('hooks')
        self._is_in_step = False
        self.memory.sample_cuda()
        if self._shape:
            self.shapes[self._shape] += 1

    def finish_step(self) -> None:
        """Finish a step after all hooks, before the next batch is loaded."""
        is_warm = self._num_begun > self._warmup
        self.timer.finish('data', keep=is_warm and not self._is_counted)

    def pause(self, num_done: int) -> None:
        """Pause measuring, at a validation or the end of training."""
        self.energy.end(num_done)

    def read(self) -> list[dict[str, float]]:
        """Return the steps timed since the last call."""
        steps = self.timer.read()
        for step in steps:
            self.sample.add(step)
        return steps

    def notes(self) -> dict[str, str]:
        """Return why values are missing, by field of the record."""
        notes = {
            'seconds.backbone': self._backbone_note,
            'flops': self.flops.note,
            'joules_per_step': self.energy.note,
        }
        if not self.sample.num_seen:
            notes['seconds'] = f'The first {self._warmup} steps are not timed'
        if self.flops.is_due:
            notes['flops'] = 'Not counted yet'
        return {name: note for name, note in notes.items() if note}

    def close(self) -> None:
        """Remove all hooks and wrappers from the model and the optimizer."""
        while self._undo:
            self._undo.pop()()

    def wait(self) -> None:
        """Synchronise with the device; not to be called during training."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def _count_this_step(self) -> None:
        """Count the FLOPs of this step, from the batch to the backward pass.

        Counting ends with the step in any case, as a failed step must not
        leave a counter active.
        """
        train_step = self._wrapped.train_step
        self._is_counted = True

        @functools.wraps(train_step)
        def counted(*args: Any, **kwargs: Any) -> Any:
            try:
                return train_step(*args, **kwargs)
            finally:
                self.flops.stop(self._step, self._shape)
                if self.flops.is_due:
                    self.flops.note = 'Not counted: no data_preprocessor ran'
                undo()

        undo = replace_method(self._wrapped, 'train_step', counted)

    def _watch_model(self, is_compiled: bool) -> None:
        preprocessor = getattr(self.model, 'data_preprocessor', None)
        if isinstance(preprocessor, nn.Module):
            self._hook(preprocessor, self._begin_forward, self._see_batch)
        backbone = getattr(self.model, 'backbone', None)
        if is_compiled:  # a hook would break the graph
            self._backbone_note = 'Not timed: the model is compiled'
        elif isinstance(backbone, nn.Module):
            self._hook(backbone, self._enter_backbone, self._leave_backbone)
        else:
            self._backbone_note = (
                f'Not timed: {type(self.model).__name__} has none of its own'
            )

    def _hook(
        self,
        module: nn.Module,
        before: Callable[..., None],
        after: Callable[..., None],
    ) -> None:
        self._undo += [
            module.register_forward_pre_hook(_Probe(before)).remove,
            module.register_forward_hook(_Probe(after)).remove,
        ]

    def _begin_forward(self, _: nn.Module, __: object) -> None:
        if self._is_in_step and self.timer.part == 'hooks':
            self.timer.enter('forward')

    def _see_batch(self, _: nn.Module, __: object, batch: Any) -> None:
        if self.timer.part != 'forward':
            return
        inputs = batch.get('inputs') if isinstance(batch, dict) else None
        if isinstance(inputs, Tensor) and inputs.ndim == 4:
            number, _channels, height, width = inputs.shape
            self._shape = number, height, width
        if self._num_begun == 1:
            self.dtype += autocast_name(self.device.type)
        if self._is_counted:
            self.flops.start(self.model)

    def _enter_backbone(self, _: nn.Module, __: object) -> None:
        if self.timer.part == 'forward':
            self.timer.enter('backbone')

    def _leave_backbone(self, _: nn.Module, __: object, ___: object) -> None:
        if self.timer.part == 'backbone':
            self.timer.enter('forward')

    def _watch_optimizer(self, wrapper: OptimWrapper) -> None:
        for one in optim_wrappers(wrapper):
            backward, step = one.backward, one.step
            self._undo += [
                replace_method(one, 'backward', self._time_backward(backward)),
                replace_method(one, 'step', self._time_update(step)),
            ]

    def _time_backward(
        self, backward: Callable[..., Any]
    ) -> Callable[..., Any]:
        @functools.wraps(backward)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.memory.sample_resident()
            self.timer.enter('backward')
            result = backward(*args, **kwargs)
            self.timer.enter('hooks')
            self.flops.stop(self._step, self._shape)
            return result

        return timed

    def _time_update(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)  # schedulers set attributes on step
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.timer.enter('optimizer')
            return step(*args, **kwargs)

        return timed


class _Probe:
    """A callback into the meter that does nothing in copies of the model.

    Args:
        call: The method to call; None to do nothing.
    """

    def __init__(self, call: Callable[..., None] | None = None) -> None:
        self._call = call

    def __call__(self, *args: Any) -> None:
        if self._call is not None:
            self._call(*args)

    def __reduce__(self) -> tuple[type[_Probe], tuple[()]]:
        return _Probe, ()
