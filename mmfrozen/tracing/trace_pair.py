"""Tracing of the training steps of a config and of its control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..cost.shape_mode import ShapeMode
from .pair import Variant
from .traced_step import TracedStep
from .training_step import CannotTraceError, trace_step
from .workload import Workload


@dataclass(frozen=True)
class TracedVariant:
    """One of the two traced steps.

    Attributes:
        label: Column head.
        description: The config, and the change applied to it.
        step: Cost of the step.
    """

    label: str
    description: str
    step: TracedStep


@dataclass(frozen=True)
class Savings:
    """The step with a frozen backbone and the control's step.

    Attributes:
        work: Workload of both steps.
        frozen: The step with the frozen backbone.
        control: The step that it is compared with.
    """

    work: Workload
    frozen: TracedVariant
    control: TracedVariant

    @property
    def sides(self) -> tuple[TracedVariant, TracedVariant]:
        """Return the frozen side, then the control."""
        return self.frozen, self.control

    @property
    def left_out(self) -> list[str]:
        """Return the components that the comparison lacks."""
        return self.frozen.step.left_out or self.control.step.left_out


def trace_pair(
    pair: tuple[Variant, Variant],
    work: Workload,
    *,
    partial: bool = False,
    report: Callable[[str], None] = lambda text: None,
    mode: ShapeMode | None = None,
) -> Savings:
    """Trace a config and its control on the same work.

    Args:
        pair: The result of :func:`.pair.find_pair`.
        work: Workload of both steps.
        partial: If the forward passes fail, compare the parts that ran before
            the failure.
        report: Function that logs progress.
        mode: The mode of earlier traces, whose cache saves time.

    Raises:
        CannotTraceError: If a step fails, or if partial steps fail at
            different parts.
    """
    mode = mode or ShapeMode()

    def trace(variant: Variant) -> TracedVariant:
        report(f'tracing {variant.description}')
        step = trace_step(
            variant.cfg,
            work,
            change=variant.change,
            mode=mode,
            partial=partial,
        )
        return TracedVariant(variant.label, variant.description, step)

    savings = Savings(work, *map(trace, pair))
    lacks = [side.step.left_out for side in savings.sides]
    if partial and lacks[0] != lacks[1]:
        frozen, control = (', '.join(names) or 'nothing' for names in lacks)
        raise CannotTraceError(
            'Both sides must lack the same parts to be compared, got '
            f'{savings.frozen.label} without {frozen} and '
            f'{savings.control.label} without {control}. Give a CONTROL that '
            'fails at the same part.'
        )
    return savings
