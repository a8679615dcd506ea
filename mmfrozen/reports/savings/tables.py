"""Make tables of what freezing saves in a training step."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ...tracing.largest_batch import MARGIN, LargestBatch
from ...tracing.trace_pair import Savings
from ...tracing.traced_step import ComponentCost
from .comparison import (
    Quantity,
    compare_totals,
    match_components,
    saved,
)

GIGA = 1e9
MEGA = 1e6
MIB = 2**20
GIB = 2**30


def percent(share: float | None) -> str:
    """Format a share as ``35.2 %``, without a line break; ``-`` for None."""
    return '-' if share is None else f'{100 * share + 0.0:.1f}\u00a0%'


def giga(flops: float, macs: bool = False) -> str:
    """Format FLOPs, or half as many multiply-adds, in units of 1e9."""
    return f'{flops / (2 if macs else 1) / GIGA:,.1f}'


def mebi(nbytes: float) -> str:
    """Format bytes in MiB."""
    return f'{nbytes / MIB:,.0f}'


def mega(number: float) -> str:
    """Format a number of parameters in millions."""
    return f'{number / MEGA:.2f}'


def unit_name(macs: bool) -> str:
    """Return the unit of FLOPs with its convention."""
    unit = 'GMACs, 1' if macs else 'GFLOPs, 2'
    return f'{unit} per multiply-add'


def flop_rows(savings: Savings, macs: bool = False) -> list[list[str]]:
    """Return the rows for :func:`flop_head`; the last is the sum."""

    def row(name: str, *costs: ComponentCost) -> list[str]:
        cells = [name]
        for cost in costs:
            flops = cost.flops
            for value in (
                flops.forward,
                flops.backward_input,
                flops.backward_weight,
            ):
                cells.append(giga(value, macs))
        totals = [cost.flops.total for cost in costs]
        return [*cells, percent(saved(totals[0], totals[1]))]

    rows = [row(*matched) for matched in match_components(savings)]
    totals = [side.step.total for side in savings.sides]
    return [*rows, row('sum', *totals)]


def flop_head(savings: Savings) -> list[str]:
    """Return the column titles of the FLOPs by component."""
    return [
        'component',
        *(
            f'{side.label}: {what}'
            for side in savings.sides
            for what in ('forward', 'inputs', 'weights')
        ),
        'saved',
    ]


def memory_rows(savings: Savings) -> list[list[str]]:
    """Return the rows for :func:`memory_head`; the last is the sum."""

    def row(name: str, a: ComponentCost, b: ComponentCost) -> list[str]:
        return [
            name,
            mega(a.parameters),
            mega(a.trainable),
            mega(b.trainable),
            mebi(a.saved_bytes),
            mebi(b.saved_bytes),
            percent(saved(a.saved_bytes, b.saved_bytes)),
        ]

    rows = [row(*matched) for matched in match_components(savings)]
    a, b = (side.step.total for side in savings.sides)
    return [*rows, row('sum', a, b)]


def memory_head(savings: Savings) -> list[str]:
    """Return the column titles of parameters and memory by component."""
    frozen, control = (side.label for side in savings.sides)
    return [
        'component',
        'parameters, M',
        f'{frozen}: trains, M',
        f'{control}: trains, M',
        f'{frozen}: kept, MiB',
        f'{control}: kept, MiB',
        'saved',
    ]


def total_rows(savings: Savings, macs: bool = False) -> list[list[str]]:
    """Return the rows for :func:`total_head`."""
    batch = savings.work.batch_size
    quantities = compare_totals(savings)
    step = next(q for q in quantities if q.name == 'step')
    image = Quantity(
        'step per image', 'FLOPs', step.frozen // batch, step.control // batch
    )
    quantities.insert(quantities.index(step) + 1, image)
    return [
        [
            f'{q.name}{_unit(q.unit, macs)}',
            _show(q.frozen, q.unit, macs),
            _show(q.control, q.unit, macs),
            percent(q.saved),
        ]
        for q in quantities
    ]


def total_head(savings: Savings) -> list[str]:
    """Return the column titles of the totals."""
    what = 'the part of a step that ran' if savings.left_out else 'a step'
    return [what, *(side.label for side in savings.sides), 'saved']


def _unit(unit: str, macs: bool) -> str:
    if unit == 'FLOPs':
        return ', GMACs' if macs else ', GFLOPs'
    return ', MiB' if unit == 'B' else ', M'


def _show(value: int, unit: str, macs: bool) -> str:
    if unit == 'FLOPs':
        return giga(value, macs)
    return mebi(value) if unit == 'B' else mega(value)


def draw(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], totals: int
) -> Table:
    """Draw a table for the terminal, with a line above its totals."""
    table = Table(title=title, title_justify='left')
    table.add_column(head[0], no_wrap=True)
    for name in head[1:]:
        table.add_column(name, justify='right')
    for index, row in enumerate(rows):
        if totals and index == len(rows) - totals:
            table.add_section()
        table.add_row(*row)
    return table


def draw_all(savings: Savings, macs: bool = False) -> list[Table]:
    """Draw the three tables of a pair."""
    partial = 'PARTIAL, see above: ' if savings.left_out else ''
    return [
        draw(
            f'{partial}FLOPs of a step ({unit_name(macs)}): forward pass, '
            'gradients of inputs, gradients of weights',
            flop_head(savings),
            flop_rows(savings, macs),
            1,
        ),
        draw(
            f'{partial}Parameters, and bytes kept for the backward pass',
            memory_head(savings),
            memory_rows(savings),
            1,
        ),
        draw(
            f'{partial}Sums', total_head(savings), total_rows(savings, macs), 0
        ),
    ]


def batch_rows(batches: Sequence[LargestBatch]) -> list[list[str]]:
    """Return the rows of the largest batches, one column per side."""
    return [
        ['images', *(str(batch.batch_size) for batch in batches)],
        ['peak, MiB', *(mebi(batch.peak_bytes) for batch in batches)],
        ['one more, MiB', *(mebi(batch.next_bytes) for batch in batches)],
    ]


def draw_batches(batches: Sequence[LargestBatch], memory: str) -> Table:
    """Draw the table of the largest batch of each side."""
    head = ['', *(batch.label for batch in batches)]
    title = f'Largest batch in {memory}, {MARGIN:.0%} of its peak left free'
    return draw(title, head, batch_rows(batches), 0)


def condition_lines(savings: Savings) -> list[str]:
    """Return the conditions of the measurement and warnings, one per line."""
    work = savings.work
    step = savings.frozen.step
    lines = [f'{side.label}: {side.description}' for side in savings.sides]
    lines.append(
        f'batch: {work.batch_size} x 3 x {work.shape[0]} x {work.shape[1]} '
        f'({work.shape_source}), {work.dtype}; {work.objects} objects per '
        'image'
    )
    if step.rois:
        counts = ', '.join(
            f'{name} {rois:.4g} ({positives:.4g} positive)'
            for name, (rois, positives) in step.rois.items()
        )
        lines.append(f'RoIs per image: {counts}')
    if step.positives:
        counts = ', '.join(
            f'{name} {count:.4g}' for name, count in step.positives.items()
        )
        lines.append(f'positives per image, by assigner: {counts}')
    lines[:0] = left_out_lines(savings)
    lines[:0] = [
        f'WARNING: the backbone of {side.label} gets no gradient, although '
        f'{trains / 1e6:.1f} M of its parameters require one: look for '
        'no_grad in its forward pass'
        for side in savings.sides
        if (trains := _idle_parameters(side.step.components))
    ]
    return lines


def left_out_lines(savings: Savings) -> list[str]:
    """Return a line on what is left out; empty for complete steps."""
    if not savings.left_out:
        return []
    line = f'PARTIAL: without {", ".join(savings.left_out)}'
    failure = savings.frozen.step.failure
    if failure:
        line += (
            f'; the forward pass failed with {failure}, the backward pass '
            'begins at the part that ran. Savings are those of this part, not '
            'of a whole step'
        )
    return [line]


def _idle_parameters(components: Sequence[ComponentCost]) -> int:
    """Return the trainable parameters of a backbone without gradients.

    It is 0 if FLOPs for weight gradients were counted in the backbone.
    """
    parts = [c for c in components if c.name.startswith('backbone')]
    moves = any(c.flops.backward_weight for c in parts)
    return 0 if moves else sum(c.trainable for c in parts)


def describe_uncounted(savings: Savings, most: int = 8) -> str:
    """Return a line on the operators without a formula."""
    step = savings.control.step
    names = list(step.uncounted.items())
    shown = ', '.join(f'{name} x {calls}' for name, calls in names[:most])
    more = f' and {len(names) - most} more' if len(names) > most else ''
    share = step.uncounted_elements / max(1, step.total.flops.total)
    return (
        f'without a formula ({savings.control.label}): {shown}{more}; at one '
        f'operation per element they would add {100 * share:.1f} %'
    )
