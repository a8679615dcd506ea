"""Write the HTML report of what freezing saves in a training step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...tracing.largest_batch import MARGIN, LargestBatch
from ...tracing.trace_pair import Savings
from ..page import figure, paragraph, section, table, write_page
from .charts import (
    ap_chart,
    component_chart,
    headline,
    memory_chart,
    timeline_chart,
)
from .tables import (
    batch_rows,
    condition_lines,
    flop_head,
    flop_rows,
    mebi,
    memory_head,
    memory_rows,
    total_head,
    total_rows,
    unit_name,
)

CONVENTIONS = (
    "A multiply-add is 2 FLOPs. The operators that ran in MMDetection's own "
    'loss(), forward and backward, on shapes alone, are counted: '
    'convolutions, matrix products, attention, interpolation and the '
    'operators of mmcv and torchvision. Norms, activations, pooling, losses '
    'and updates have no formula and are listed below with their calls.',
    'Gradients of inputs are what a component passes back to the components '
    'before it; gradients of weights are its own. Kept for backward is what '
    'autograd stores, each storage once, under the component that stored it '
    'first: so features of a frozen backbone count in the neck that trains on '
    'them.',
    'The peak is the largest sum of bytes alive after an operator: weights, '
    "gradients, the optimizer's state, tensors kept for backward, and "
    'temporary tensors. It does not include workspaces inside a kernel, an '
    "allocator's reserve, the CUDA context or buckets of distributed "
    'training.',
)


def write_report(
    path: Path,
    savings: Savings,
    *,
    macs: bool = False,
    memory_bytes: int | None = None,
    batches: Sequence[LargestBatch] = (),
    ap: tuple[float, float] | None = None,
) -> None:
    """Write the report.

    Args:
        path: Path of a new file.
        savings: The pair.
        macs: Show multiply-adds instead of FLOPs in bars and tables.
        memory_bytes: Memory of the GPU, shown as a line in the timeline.
        batches: Largest batches that fit into it.
        ap: AP of both, for the chart of cost against AP.

    Raises:
        FileExistsError: If the file exists.
    """
    parts = [paragraph(headline(savings))]
    parts += [paragraph(line, note=True) for line in condition_lines(savings)]
    parts.append(_compute(savings, macs))
    parts.append(_memory(savings, memory_bytes, batches))
    if ap is not None:
        parts.append(
            section(
                'Cost against AP',
                [
                    figure(
                        ap_chart(savings, ap),
                        'From the control to the frozen run; AP as given on '
                        'the command line. Better is to the left and up.',
                    )
                ],
            )
        )
    parts.append(_tables(savings, macs))
    write_page(path, f'What freezing saves: {_title(savings)}', parts)


def _title(savings: Savings) -> str:
    return Path(savings.frozen.description.partition(',')[0]).stem


def _compute(savings: Savings, macs: bool) -> str:
    return section(
        'Compute, by component',
        [
            figure(
                component_chart(savings, macs),
                f'{unit_name(macs)}; a training step, per image. From dark '
                'to light: forward pass, gradients of inputs, gradients of '
                'weights. Components under 0.1 % of the step are omitted.',
            )
        ],
    )


def _memory(
    savings: Savings,
    memory_bytes: int | None,
    batches: Sequence[LargestBatch],
) -> str:
    parts = [
        figure(
            memory_chart(savings),
            'Content of the memory of one GPU when a training step needs most '
            'of it.',
        ),
        figure(
            timeline_chart(savings, memory_bytes),
            'Bytes alive after each operator, against the FLOPs done until '
            'then. The frozen step ends earlier.',
        ),
    ]
    if batches:
        assert memory_bytes is not None
        parts += [
            paragraph(
                f'The largest batch whose step fits into {mebi(memory_bytes)} '
                f'MiB with {MARGIN:.0%} of its peak left free. This batch and '
                'the next larger one were traced:'
            ),
            table(
                ('', *(batch.label for batch in batches)),
                batch_rows(batches),
            ),
        ]
    return section('Memory', parts)


def _tables(savings: Savings, macs: bool) -> str:
    step = savings.control.step
    uncounted = [
        [name, *(str(s.step.uncounted.get(name, 0)) for s in savings.sides)]
        for name in step.uncounted
    ]
    return section(
        'Numbers',
        [
            table(total_head(savings), total_rows(savings, macs)),
            paragraph(f'{unit_name(macs)}, of a step, by component:'),
            table(flop_head(savings), flop_rows(savings, macs), totals=1),
            paragraph('Parameters, and bytes kept for the backward pass:'),
            table(memory_head(savings), memory_rows(savings), totals=1),
            *(paragraph(text, note=True) for text in CONVENTIONS),
            paragraph('Operators without a formula, calls per step:'),
            table(
                ('operator', *(side.label for side in savings.sides)),
                uncounted,
            ),
        ],
    )
