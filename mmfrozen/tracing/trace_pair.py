"""Trace the training steps of a config and of its control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..cost.shape_mode import ShapeMode
from .pair import Variant
from .traced_step import TracedStep
from .training_step import CannotTraceError, trace_step
from .workload import Workload


@dataclass(frozen=True)
class Side:
    """One of the two steps.

    Attributes:
        label: Head of its columns.
        description: The config, and what was done to it.
        step: What it costs.
    """

    label: str
    description: str
    step: TracedStep


@dataclass(frozen=True)
class Savings:
    """A step with a frozen backbone beside its control's.

    Attributes:
        work: What both work on.
        frozen: The frozen one.
        control: What it is compared with.
    """

    work: Workload
    frozen: Side
    control: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """The frozen one, then its control."""
        return self.frozen, self.control

    @property
    def left_out(self) -> list[str]:
        """Components that are not in what is compared."""
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
        pair: From :func:`.pair.find_pair`.
        work: What both work on.
        partial: Where the forward passes fail, compare what ran before.
        report: Told what is being done.
        mode: That of other pairs, to go faster.

    Raises:
        CannotTraceError: With the part that failed, or if one of the two
            gets farther than the other.
    """
    mode = mode or ShapeMode()

    def trace(variant: Variant) -> Side:
        report(f'tracing {variant.description}')
        step = trace_step(
            variant.cfg,
            work,
            change=variant.change,
            mode=mode,
            partial=partial,
        )
        return Side(variant.label, variant.description, step)

    savings = Savings(work, *map(trace, pair))
    lacks = [side.step.left_out for side in savings.sides]
    if partial and lacks[0] != lacks[1]:
        frozen, control = (', '.join(names) or 'nothing' for names in lacks)
        raise CannotTraceError(
            'Both sides must lack the same parts to be compared, got '
            f'{savings.frozen.label} without {frozen} and '
            f'{savings.control.label} without {control}. Name a CONTROL that '
            'fails at the same part.'
        )
    return savings
