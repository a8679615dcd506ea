"""Compare a traced training step with that of its control."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ...tracing.trace_pair import Savings
from ...tracing.traced_step import ComponentCost


@dataclass(frozen=True)
class Quantity:
    """One quantity of the frozen step and of its control's.

    Attributes:
        name: Name of the quantity.
        unit: ``'FLOPs'``, ``'B'`` or ``''``.
        frozen: Value of the frozen step.
        control: Value of the control's step.
    """

    name: str
    unit: str
    frozen: int
    control: int

    @property
    def saved(self) -> float | None:
        """Share of the control that is saved: 0.4 is 40 % less."""
        return saved(self.frozen, self.control)


def saved(frozen: float, control: float) -> float | None:
    """Return the saved share of the control; None for a control of 0."""
    return 1 - frozen / control if control else None


def compare_totals(savings: Savings) -> list[Quantity]:
    """Return the totals of both steps."""
    sides = [side.step for side in savings.sides]
    totals = [step.total for step in sides]
    flops = [total.flops for total in totals]
    state = f'state of {sides[0].optimizer or "no optimizer"}'
    rows: dict[tuple[str, str], list[int]] = {
        ('forward', 'FLOPs'): [f.forward for f in flops],
        ('gradients of activations', 'FLOPs'): [
            f.backward_input for f in flops
        ],
        ('gradients of weights', 'FLOPs'): [f.backward_weight for f in flops],
        ('step', 'FLOPs'): [f.total for f in flops],
        ('parameters', ''): [t.parameters for t in totals],
        ('trainable', ''): [t.trainable for t in totals],
        ('kept for backward', 'B'): [t.saved_bytes for t in totals],
        ('weights and buffers', 'B'): [s.parameter_bytes for s in sides],
        ('gradients, also all-reduced', 'B'): [
            s.gradient_bytes for s in sides
        ],
        (state, 'B'): [s.optimizer_bytes for s in sides],
        ('peak of the step', 'B'): [s.peak_bytes for s in sides],
    }
    return [Quantity(*key, *values) for key, values in rows.items()]


def match_components(
    savings: Savings,
) -> Iterator[tuple[str, ComponentCost, ComponentCost]]:
    """Yield the components of both steps by name, in the frozen one's order.

    A component that one step lacks is empty there.
    """
    frozen, control = (
        {c.name: c for c in side.step.components} for side in savings.sides
    )
    names = [n for n in frozen if n != 'other']
    names += [n for n in control if n not in frozen and n != 'other']
    for name in [*names, 'other']:
        yield (
            name,
            frozen.get(name, ComponentCost(name)),
            control.get(name, ComponentCost(name)),
        )


def to_record(savings: Savings) -> dict[str, Any]:
    """Return plain data for JSON, with fewer points in the timelines."""
    record = asdict(savings)
    for side in ('frozen', 'control'):
        step = record[side]['step']
        step['timeline'] = thin_out(step['timeline'], 400)
    record['left_out'] = savings.left_out
    record['unit_of_flops'] = '2 per multiply-add'
    record['totals'] = [
        {**asdict(q), 'saved': q.saved} for q in compare_totals(savings)
    ]
    return record


def thin_out(
    timeline: list[tuple[int, int]], points: int
) -> list[tuple[int, int]]:
    """Keep the highest point of each interval, and the first and last point.

    Args:
        timeline: FLOPs so far and live bytes.
        points: Number of intervals of equal FLOPs.
    """
    if not timeline:
        return []
    width = max(1, -(-timeline[-1][0] // points))
    kept: dict[int, tuple[int, int]] = {}
    for flops, nbytes in timeline:
        stretch = flops // width
        if stretch not in kept or nbytes > kept[stretch][1]:
            kept[stretch] = (flops, nbytes)
    return [timeline[0], *kept.values(), timeline[-1]]
