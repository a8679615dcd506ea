"""Count the FLOPs of one training step of a run, while it is done."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..counting import FlopCounter
from ..drift import stage_of
from ..records import StepFlops


class HarmlessCounter(FlopCounter):
    """A counter that stops counting, not the step, when it fails.

    Attributes:
        error: What it failed with.
    """

    error: Exception | None = None

    def record(self, func: Any, args: tuple[Any, ...], out: Any) -> None:
        """Count a call that has succeeded, unless one before failed."""
        if self.error is None:
            try:
                super().record(func, args, out)
            except Exception as error:
                self.error = error

    def _record_mmcv(self, *call: Any) -> None:
        if self.error is None:
            try:
                super()._record_mmcv(*call)
            except Exception as error:
                self.error = error


class StepFlopsCounter:
    """Counts one step.

    Attributes:
        result: Of the count.
        note: Why there is none.
    """

    def __init__(self) -> None:
        self._counter: HarmlessCounter | None = None
        self.result: StepFlops | None = None
        self.note: str | None = None

    @property
    def is_due(self) -> bool:
        """Whether no step was tried yet."""
        return not (self._counter or self.result or self.note)

    def start(self, model: nn.Module) -> None:
        """Count from here on."""
        counter = HarmlessCounter(model)
        try:
            counter.__enter__()
        except Exception as error:
            self._fail(error)
        else:
            self._counter = counter

    def stop(
        self, step: int, batch_shape: tuple[int, int, int] | None
    ) -> None:
        """Stop, and keep what was counted; nothing if nothing was begun.

        Args:
            step: That was counted, from 1.
            batch_shape: Of its images.
        """
        counter, self._counter = self._counter, None
        if counter is None:
            return
        try:
            counter.__exit__(None, None, None)
            components = counter.flops(component_of)
            uncounted = {str(k): v for k, v in counter.uncounted.items()}
        except Exception as error:
            self._fail(error)
            return
        if counter.error:
            self._fail(counter.error)
        else:
            self.result = StepFlops(step, batch_shape, components, uncounted)

    def _fail(self, error: Exception) -> None:
        text = str(error).partition('\n')[0]
        self.note = f'Not counted: {type(error).__name__}: {text}'


def component_of(module: str) -> str:
    """The component that a module belongs to: ``neck``, ``backbone.layer3``.

    Args:
        module: Its name in the model; empty outside of all modules.
    """
    first, _, rest = module.partition('.')
    if first == 'backbone' and rest:
        return f'backbone.{stage_of(rest)}'
    if first == 'roi_head' and rest:
        return f'roi_head.{rest.partition(".")[0]}'
    return first or 'other'
