"""A hook that detects non-finite losses and gradients within one step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ...errors import check_count, require
from ...registry import HOOKS
from ...run_files import NON_FINITE, NonFiniteRecord
from ..runner_access import find_model, replace_method
from ..stop_together import AllRanksCheck, saves_now, stop
from .diagnosis import Batch, diagnose, explain
from .gradients import BufferSnapshot, Norms, find_bad_weights, gradient_norms

KEY = 'default_hooks.non_finite'
#: Maximum consecutive steps that a gradient scaler may skip.
MAX_OVERFLOWS = 50


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Hook that stops a run, or skips a step, if values are not finite.

    MMDetection's ``CheckInvalidLossHook`` checks every 50th loss, after the
    update, and reports only that it is not finite; gradients are not checked,
    and checkpoints with NaN are written. This hook checks the losses and
    gradients of every update. A one-line message names the loss, the images,
    the first gradient, the learning rate and the loss scale, and whether
    pixels, boxes or the features of the frozen backbone were already
    non-finite. The record is written to ``WORK_DIR/non_finite.json``. A
    checkpoint never contains non-finite weights.

    - A non-finite loss makes all gradients NaN, so that all processes detect
      it and act alike, without communication in each step.
    - ``stop``: on a GPU an update is checked when the next one is due, so
      that nothing synchronises; on a CPU it is checked before it is applied.
    - ``skip``: the update is not applied; weights, moments and running
      statistics stay bitwise the same. It synchronises with the GPU once per
      step.
    - A step that a gradient scaler skips (fp16) is not a fault, unless the
      loss is not finite, the scale has dropped to 1, or more than 50 steps in
      a row are skipped.

    It works with any ``OptimWrapper`` and with gradient accumulation.

    Args:
        policy: ``'stop'`` or ``'skip'``.
        max_in_a_row: Number of consecutive updates that ``skip`` skips before
            it stops the run.

    Raises:
        ValueError: If an option is unknown.
        RuntimeError: If losses, gradients or weights are not finite.

    Example config::

        default_hooks = dict(
            non_finite=dict(type='mmfrozen.NonFiniteHook', policy='skip'))
    """

    priority = 'ABOVE_NORMAL'  # runs before EMA, logs and checkpoints

    def __init__(self, policy: str = 'stop', max_in_a_row: int = 10) -> None:
        require(
            policy in ('stop', 'skip'),
            f'{KEY}.policy',
            "'stop' or 'skip'",
            policy,
            'Correct it.',
        )
        check_count(f'{KEY}.max_in_a_row', max_in_a_row, 0)
        self.policy, self.max_in_a_row = policy, max_in_a_row
        self._undo: list[Callable[[], None]] = []
        self._is_registered = False

    def before_run(self, runner: Runner) -> None:
        """Wrap the optimizer wrapper's methods.

        Hooks that time these methods wrap them later, so that the checks are
        included in their times.
        """
        self._remove()
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            return  # a test run
        reason = _unsupported_reason(runner)
        if reason:
            runner.logger.warning(
                f'NonFiniteHook must have {reason}. It checks nothing.'
            )
            return
        self._model = find_model(runner)
        self._scaler = getattr(wrapper, 'loss_scaler', None)
        self._checks_deferred = (
            self.policy == 'stop'
            and self._scaler is None  # a scaler synchronises anyway
            and _can_defer(self._model)
        )
        self._begin()
        self._undo = [
            replace_method(
                wrapper, 'backward', self._watched_backward(wrapper.backward)
            ),
            replace_method(wrapper, 'step', self._watched_step(wrapper.step)),
        ]
        if not self._is_registered:
            self._is_registered = True
            runner.register_hook(AllRanksCheck(self._check_weights))

    def _begin(self) -> None:
        self._losses: list[Tensor] = []
        self._batches: list[Batch] = []
        self._earlier: list[Batch] = []
        self._norms: Norms | None = None  # of an applied update
        self._bad: list[str] = []
        self._cause = ''
        self._is_end = False
        self._num_skipped = self._num_overflows = 0
        self._buffers: BufferSnapshot | None = None
        self._records: list[NonFiniteRecord] = []

    def before_train(self, runner: Runner) -> None:
        """Continue the file of a resumed run; wrap the model's train step."""
        if not self._undo:
            return
        if runner.iter:
            old = NON_FINITE.read(Path(runner.work_dir)) or []
            self._records = [x for x in old if x.iter <= runner.iter]
        watched = self._watched_train_step(runner, runner.model.train_step)
        self._undo.append(replace_method(runner.model, 'train_step', watched))

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Copy the buffers that ``skip`` restores, before each update."""
        if self._undo and self.policy == 'skip' and not self._batches:
            self._buffers = BufferSnapshot(self._model)

    def _watched_train_step(
        self, runner: Runner, train_step: Callable[..., Any]
    ) -> Callable[..., Any]:
        @functools.wraps(train_step)
        def watched(data: Any, *args: Any, **options: Any) -> Any:
            try:
                return train_step(data, *args, **options)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:
                line = self._explain_failure(runner, data)
                if line:  # only in this process: others may have no fault
                    raise RuntimeError(line) from error
                raise

        return watched

    def _explain_failure(self, runner: Runner, data: Any) -> str | None:
        """Return a message if non-finite values made a step fail."""
        bad = self._norms.find_bad() if self._norms else []
        batches = self._earlier if bad else [Batch(runner.iter + 1, data, {})]
        own = diagnose(runner, batches, bad, '')
        if not bad and not own.faulty_images:
            return None
        self._write(runner, [own], 'stopped')
        return explain([own], self._num_parameters())

    def _watched_backward(
        self, backward: Callable[..., Any]
    ) -> Callable[..., Any]:
        @functools.wraps(backward)
        def watched(loss: Tensor, **options: Any) -> Any:
            own = loss.detach()
            self._losses.append(own)
            # The factor is 1, or NaN if the loss is not finite; the gradient
            # all-reduce spreads NaN to all processes.
            return backward(loss * (own * 0 + 1), **options)

        return watched

    def _watched_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)  # schedulers set attributes on step
        def watched(**options: Any) -> None:
            norms = gradient_norms(self._model)
            losses, self._losses, self._is_end = self._losses, [], True
            if self._checks_deferred:
                if self._norms:
                    self._bad = self._norms.find_bad()
                self._norms = norms
            else:
                self._bad = norms.find_bad()
                if self._bad and self._scaler and self._is_overflow(losses):
                    self._bad = []
                elif self._bad:
                    return
                else:
                    self._num_skipped = self._num_overflows = 0
            step(**options)

        return watched

    def _is_overflow(self, losses: list[Tensor]) -> bool:
        """Return whether this is an fp16 overflow that the scaler skips.

        Such an overflow is not a fault.
        """
        is_finite = all(bool(torch.isfinite(loss)) for loss in losses)
        if not all(all_gather_object(is_finite)):
            return False
        self._num_overflows += 1
        self._cause = 'overflow'
        return (
            self._scaler.get_scale() > 1
            and self._num_overflows <= MAX_OVERFLOWS
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Report a fault, and stop or skip."""
        if not self._undo:
            return
        self._batches.append(
            Batch(runner.iter + 1, data_batch, _detached(outputs))
        )
        if not self._is_end:
            return
        self._is_end = False
        batches, self._batches = self._batches, []
        if self._checks_deferred:
            batches, self._earlier = self._earlier, batches
        if self._bad:
            self._handle_fault(runner, batches)
        self._cause = ''
        if saves_now(runner, by_epoch=False):
            self._check_pending(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the last update before validation and checkpoints."""
        self._check_pending(runner)

    def after_train(self, runner: Runner) -> None:
        """Check the last update and restore the wrapped methods."""
        self._check_pending(runner)
        self._remove()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights in the main process.

        AllRanksCheck checks them in all processes.
        """
        self._check_weights(runner)

    def _check_pending(self, runner: Runner) -> None:
        """Check the applied update that is still unchecked."""
        norms, self._norms = self._norms, None
        if norms:
            self._bad = norms.find_bad()
            if self._bad:
                self._handle_fault(runner, self._earlier)

    def _handle_fault(self, runner: Runner, batches: list[Batch]) -> None:
        """Stop or skip; all processes act alike, as their gradients agree."""
        bad, self._bad = self._bad, []
        self._num_skipped += 1
        ends = self.policy == 'stop' or self._num_skipped > self.max_in_a_row
        own = diagnose(runner, batches, bad, self._cause)
        records = all_gather_object(own)
        if is_main_process():
            self._write(runner, records, 'stopped' if ends else 'skipped')
        if self._buffers:
            self._buffers.restore()
        line = explain(records, self._num_parameters())
        if not ends:
            runner.logger.warning(f'{line} The step is skipped.')
            return
        if self.policy == 'skip':
            line += f' {self._num_skipped} updates in a row were like this.'
        stop(line)

    def _write(
        self, runner: Runner, records: list[NonFiniteRecord], action: str
    ) -> None:
        self._records += [
            dataclasses.replace(record, action=action) for record in records
        ]
        # a full disk, or two processes writing at once, must not hide the
        # fault
        with contextlib.suppress(OSError):
            NON_FINITE.write(Path(runner.work_dir), self._records)

    def _num_parameters(self) -> int:
        return sum(p.requires_grad for p in self._model.parameters())

    def _check_weights(self, runner: Runner) -> None:
        if not self._is_registered:
            return
        bad = find_bad_weights(self._model)
        if bad:
            raise RuntimeError(
                'A checkpoint must hold finite weights, got '
                f'{len(bad)} tensors at iteration {runner.iter} that are not, '
                f'the first is {bad[0]}. The last good checkpoint is kept: '
                'resume with a lower rate or optim_wrapper.clip_grad.'
            )

    def _remove(self) -> None:
        while self._undo:
            self._undo.pop()()


def _unsupported_reason(runner: Runner) -> str | None:
    if isinstance(runner.optim_wrapper, OptimWrapperDict):
        return 'one optimizer, got several'
    if is_model_wrapper(runner.model) and not isinstance(
        runner.model, DistributedDataParallel
    ):
        return f'whole gradients, got {type(runner.model).__name__}'
    return None


def _detached(outputs: Any) -> Any:
    return {  # detached, as they are kept until the next update
        name: value.detach() if isinstance(value, Tensor) else value
        for name, value in (outputs or {}).items()
    }


def _can_defer(model: torch.nn.Module) -> bool:
    return next(model.parameters()).is_cuda
