"""A FLOP counter for one training step of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ...cost import FlopCounter
from ...errors import one_line
from ...freezing.components import component_namer
from ...run_files import StepFlops


class SafeFlopCounter(FlopCounter):
    """A FLOP counter whose errors stop the count, not the step.

    Attributes:
        error: The first error; None if there was none.
    """

    error: Exception | None = None

    def record(self, func: Any, args: tuple[Any, ...], out: Any) -> None:
        """Count a successful call, unless the counter failed before."""
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
    """Counter of the FLOPs of one step.

    Attributes:
        result: The FLOPs; None if they were not counted.
        note: Why they were not counted; None if no reason is known.
    """

    def __init__(self) -> None:
        self._counter: SafeFlopCounter | None = None
        self._name: Callable[[str], str]  # set while it counts
        self.result: StepFlops | None = None
        self.note: str | None = None

    @property
    def is_due(self) -> bool:
        """Return whether no step has been counted or tried yet."""
        return not (self._counter or self.result or self.note)

    def start(self, model: nn.Module) -> None:
        """Start counting.

        Args:
            model: The detector, without a distributed wrapper.
        """
        if self._counter:
            return  # already counting: a failed step is being diagnosed
        counter = SafeFlopCounter(model)
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
        """Stop counting and keep the result; do nothing if not counting.

        Args:
            step: The counted step, from 1.
            batch_shape: Number, height and width of its images.
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
        self.note = f'Not counted: {one_line(error)}'
