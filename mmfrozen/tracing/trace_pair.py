"""Trace the training steps of a config and of its control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..cost.shape_mode import ShapeMode
from .pair import Variant
from .traced_step import TracedStep
from .training_step import trace_step
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
        partial: Leave the heads out.
        report: Told what is being done.
        mode: That of other pairs, to go faster.

    Raises:
        CannotTraceError: With the part that failed.
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

    frozen, control = pair
    return Savings(work, trace(frozen), trace(control))
