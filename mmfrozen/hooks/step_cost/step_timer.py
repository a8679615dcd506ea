"""A timer that splits a training step into parts without synchronising."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

import numpy as np
import torch

from ...run_files import Spread

#: Name of the whole iteration, which is the sum of the parts.
STEP = 'step'


class Clock(Protocol):
    """A clock that records time marks and measures between them."""

    name: str

    def mark(self) -> Any:
        """Record the current time, without waiting."""

    def is_past(self, mark: Any) -> bool:
        """Return whether the device has reached a mark."""

    def seconds(self, begin: Any, end: Any) -> float:
        """Return the seconds between two marks that are past."""


class CpuClock:
    """A clock of the work of the CPU."""

    name = 'CPU clock'
    mark = staticmethod(time.perf_counter)

    def is_past(self, mark: float) -> bool:
        """Return True: a CPU mark is past once it is recorded."""
        return True

    def seconds(self, begin: float, end: float) -> float:
        """Return the difference in seconds."""
        return end - begin


class CudaClock:
    """A clock of the work of a GPU, by CUDA events in its stream.

    MMDetection runs ahead of the device: a CPU clock would attribute the wait
    to whatever first reads a result. Events are read once they have completed.
    """

    name = 'CUDA events'

    def mark(self) -> torch.cuda.Event:
        """Record an event; costs microseconds."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def is_past(self, mark: torch.cuda.Event) -> bool:
        """Return whether the event has completed, without waiting."""
        return bool(mark.query())

    def seconds(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the seconds between two events; CUDA returns milliseconds."""
        return float(begin.elapsed_time(end)) / 1000


class StepTimer:
    """Timer that splits iterations into parts.

    Each part ends where the next one begins, so that the parts of a step sum
    to the whole step.

    Args:
        clock: Clock that records the time marks.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._marks: list[tuple[str, Any]] = []
        self._pending: deque[list[tuple[str, Any]]] = deque()

    @property
    def part(self) -> str | None:
        """Return the part being timed; None outside of a step."""
        return self._marks[-1][0] if self._marks else None

    def begin(self, part: str) -> None:
        """Begin a step, discarding an unfinished one."""
        self._marks = [(part, self.clock.mark())]

    def enter(self, part: str) -> None:
        """End the current part and begin another; no effect outside a step."""
        if self._marks:
            self._marks.append((part, self.clock.mark()))

    def finish(self, next_part: str, *, keep: bool) -> None:
        """End a step and begin the next at the same moment.

        Args:
            next_part: First part of the next step.
            keep: Whether to measure the step that ends.
        """
        end = (next_part, self.clock.mark())
        if keep and self._marks:
            self._pending.append([*self._marks, end])
        self._marks = [end]

    def read(self) -> list[dict[str, float]]:
        """Return the steps that the device has finished.

        Returns:
            Seconds of each part and of the whole step, one dict per step.
        """
        steps = []
        while self._pending and self.clock.is_past(self._pending[0][-1][1]):
            marks = self._pending.popleft()
            step: dict[str, float] = {}
            for (part, begin), (_, end) in zip(marks, marks[1:], strict=False):
                seconds = self.clock.seconds(begin, end)
                step[part] = step.get(part, 0.0) + seconds
            step[STEP] = sum(step.values())
            steps.append(step)
        return steps


class StepSample:
    """A sample of bounded size, spread evenly over all steps of a run.

    When it is full, every second step is dropped, and from then on every
    second one is taken.

    Args:
        size: Maximum number of steps to hold.
    """

    def __init__(self, size: int = 2000) -> None:
        self._size = size
        self._stride = 1
        self._steps: list[dict[str, float]] = []
        self.num_seen = 0

    def add(self, step: dict[str, float]) -> None:
        """Count a step, and keep it if the sampling stride selects it."""
        if self.num_seen % self._stride == 0:
            self._steps.append(step)
            if len(self._steps) == self._size:
                del self._steps[1::2]
                self._stride *= 2
        self.num_seen += 1

    def spreads(self) -> dict[str, Spread]:
        """Return median and quartiles by part, over the steps that have it."""
        return spreads(self._steps)


def spreads(steps: list[dict[str, float]]) -> dict[str, Spread]:
    """Return median and quartiles by part, over the steps that have it."""
    result = {}
    for part in dict.fromkeys(name for step in steps for name in step):
        values = [step[part] for step in steps if part in step]
        lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
        result[part] = Spread(
            float(lower), float(median), float(upper), len(values)
        )
    return result
