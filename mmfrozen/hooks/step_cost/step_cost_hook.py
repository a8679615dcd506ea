"""A hook that records the cost of the training steps of a run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ...atomic_write import log_write_errors
from ...errors import check_count, one_line
from ...registry import HOOKS
from ...run_files import STEP_COST, StepCost
from .step_context import describe
from .step_meter import StepMeter
from .step_timer import Clock, spreads


def never_raises(method: Callable[..., None]) -> Callable[..., None]:
    """Decorate a hook method so that its errors never end the run.

    An error stops the measurement instead. The method is skipped while the
    hook is inactive.
    """

    @functools.wraps(method)
    def guarded(
        hook: StepCostHook, runner: Runner, *args: Any, **kwargs: Any
    ) -> None:
        if not hook.is_active:
            return
        try:
            method(hook, runner, *args, **kwargs)
        except Exception as error:
            hook.give_up(runner, error)

    return guarded


@HOOKS.register_module()
class StepCostHook(Hook):
    """Hook that records the cost of a training step, split into its parts.

    MMEngine's IterTimerHook measures only the time of a step and of its data
    loading, as running means on the CPU clock; nothing in MMDetection
    separates forward from backward, or measures FLOPs and energy. Every
    ``interval`` steps and at the end, this hook writes
    ``WORK_DIR/step_cost.json`` (a list of
    :class:`~mmfrozen.run_files.StepCost`, one for each start of the run).
    Every ``interval`` steps it also sends the scalars
    ``step_cost/PART_seconds``, medians since the previous ones.

    It works with any detector of MMDetection, and measures the main process.
    It does not change what the run computes, and never ends a run: a value
    that cannot be measured is None, with a note. CUDA events are read only
    once they have completed, so that nothing synchronises. The FLOPs of one
    step after the warm-up are counted; this step is not timed.

    Args:
        interval: Training steps between records.
        warmup: Number of first steps after a start that are not timed.
        count_flops: Whether to count the FLOPs of a step.
        clock: A clock for tests; by default the CPU's, or CUDA events.

    Raises:
        ValueError: If a number is out of range.

    Example config::

        default_hooks = dict(step_cost=dict(type='mmfrozen.StepCostHook'))
    """

    priority = 'HIGHEST'

    def __init__(
        self,
        interval: int = 50,
        warmup: int = 5,
        *,
        count_flops: bool = True,
        clock: Clock | None = None,
    ) -> None:
        check_count('default_hooks.step_cost.interval', interval)
        check_count('default_hooks.step_cost.warmup', warmup, 0)
        self.interval = interval
        self.warmup = warmup
        self.count_flops = count_flops
        self.is_active = False
        self._clock = clock
        self._end: _StepEnd | None = None
        self._meter: StepMeter  # set while active

    def before_run(self, runner: Runner) -> None:
        """Activate the hook in training only, and only in the main process."""
        self.is_active = is_main_process() and isinstance(
            runner.optim_wrapper, OptimWrapper
        )
        if self.is_active and self._end is None:
            self._end = _StepEnd(self)
            runner.register_hook(self._end)

    @never_raises
    def before_train(self, runner: Runner) -> None:
        """Build the meter for this start of the run."""
        self._earlier = self._read_earlier(runner)
        self._meter = StepMeter(
            runner.model,
            runner.optim_wrapper,
            warmup=self.warmup,
            count_flops=self.count_flops,
            is_compiled=bool(runner.cfg.get('compile')),
            clock=self._clock,
        )
        self._facts = describe(runner, self._meter.device)

    @never_raises
    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Begin a step, whose batch has been loaded."""
        self._meter.begin_step(runner.iter + 1)

    @never_raises
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Mark the end of the update, before all other hooks."""
        self._meter.mark_updated()

    @never_raises
    def before_val(self, runner: Runner) -> None:
        """Pause the meter for the validation."""
        self._meter.pause(runner.iter)

    @never_raises
    def after_train(self, runner: Runner) -> None:
        """Write the last record."""
        self._meter.pause(runner.iter)
        self._meter.wait()
        self.report(runner, runner.iter)
        self._stop()

    def report(
        self, runner: Runner, num_done: int, *, with_scalars: bool = False
    ) -> None:
        """Write the record.

        Args:
            runner: The runner.
            num_done: Number of training steps done.
            with_scalars: Whether to send the medians of the steps since the
                last report to the visualizer.
        """
        self._meter.energy.lap(num_done)
        window = spreads(self._meter.read())
        record = self._make_record(num_done)
        with log_write_errors(runner.logger.error):
            STEP_COST.write(Path(runner.work_dir), [*self._earlier, record])
        scalars = {
            f'step_cost/{part}_seconds': spread.median
            for part, spread in window.items()
        }
        if scalars and with_scalars:
            runner.visualizer.add_scalars(scalars, step=num_done)

    def give_up(self, runner: Runner, error: Exception) -> None:
        """Stop measuring; the run goes on."""
        runner.logger.warning(
            'StepCostHook must not end a run, so it stops measuring after '
            f'{one_line(error)}. {STEP_COST.name} keeps the records so far.'
        )
        self._stop()

    def _stop(self) -> None:
        self.is_active = False
        if hasattr(self, '_meter'):
            self._meter.close()

    def _read_earlier(self, runner: Runner) -> list[StepCost]:
        """Return the records of earlier starts of a resumed run."""
        if not runner.iter:
            return []
        try:
            return STEP_COST.read(Path(runner.work_dir)) or []
        except ValueError as error:
            runner.logger.warning(f'{error} A new record is started.')
            return []

    def _make_record(self, num_done: int) -> StepCost:
        meter = self._meter
        shapes = meter.shapes.most_common(1)
        return StepCost(
            **self._facts,
            end_iter=num_done,
            batch_shape=shapes[0][0] if shapes else None,
            num_batch_shapes=len(meter.shapes),
            dtype=meter.dtype,
            timer=meter.timer.clock.name,
            num_steps=meter.sample.num_seen,
            seconds=meter.sample.spreads(),
            memory=meter.memory.read(),
            joules_per_step=meter.energy.joules_per_step(),
            flops=meter.flops.result,
            notes=meter.notes(),
        )


class _StepEnd(Hook):
    """The part of StepCostHook that runs after all other hooks.

    It is not in the registry: StepCostHook adds it to the runner.

    Args:
        hook: The parent hook.
    """

    priority = 'LOWEST'

    def __init__(self, hook: StepCostHook) -> None:
        self._hook = hook

    @property
    def is_active(self) -> bool:
        """Return whether the parent hook still measures."""
        return self._hook.is_active

    def give_up(self, runner: Runner, error: Exception) -> None:
        """Stop the parent hook's measurement and log the error."""
        self._hook.give_up(runner, error)

    @never_raises
    def before_train_epoch(self, runner: Runner) -> None:
        """Start or resume the meter, as the data loader starts."""
        self._hook._meter.resume(runner.iter)

    @never_raises
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Finish the step, before the next batch is loaded."""
        if self.every_n_train_iters(runner, self._hook.interval):
            self._hook.report(runner, runner.iter + 1, with_scalars=True)
        self._hook._meter.finish_step()

    @never_raises
    def after_val(self, runner: Runner) -> None:
        """Resume the meter after the validation."""
        self._hook._meter.resume(runner.iter)
