"""Count the FLOPs of one training step of a run, while it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ...cost import FlopCounter
from ...freezing.components import component_namer
from ...run_files import StepFlops


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

    def _record_operator(self, *call: Any) -> None:
        if self.error is None:
            try:
                super()._record_operator(*call)
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
        self._name: Callable[[str], str]  # while it counts
        self.result: StepFlops | None = None
        self.note: str | None = None

    @property
    def is_due(self) -> bool:
        """Whether no step was tried yet."""
        return not (self._counter or self.result or self.note)

    def start(self, model: nn.Module) -> None:
        """Count from here on.

        Args:
            model: The detector, without a distributed wrapper.
        """
        if self._counter:
            return  # somebody looks at a failed step again
        counter = HarmlessCounter(model)
        try:
            self._name = component_namer(model)
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
            components = counter.flops(self._name)
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
