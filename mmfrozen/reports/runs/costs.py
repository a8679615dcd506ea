"""Compare the measured costs of two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from ...run_files import STEP_COST, RunRecord, StepCost
from .step_costs import choose, read_step_costs, total_flops
from .work_dir import read_run

#: Parts of a step in their order, with their names in tables.
PARTS = {
    'data': 'data',
    'backbone': 'backbone forward',
    'forward': 'rest of forward',
    'backward': 'backward',
    'optimizer': 'optimizer',
    'hooks': 'other hooks',
}
#: Name of the time of a step according to MMDetection's own log.
LOGGED = 'time of a step, as logged'
#: Fields that have to be equal for two costs to be comparable.
CONDITIONS = {
    'batch_shape': 'batch (N, H, W)',
    'dtype': 'dtype',
    'device': 'device',
    'world_size': 'processes',
    'accumulative_counts': 'steps an update',
    'timer': 'timer',
}


@dataclass(frozen=True)
class CostRow:
    """A quantity of a run and its control.

    Attributes:
        name: Name of the quantity.
        unit: ``'FLOPs'``, ``'bytes'``, ``'s'``, ``'J'`` or
            ``'parameters'``.
        run: Value of the run; None where it was not measured.
        control: Value of its control, likewise.
        ratio: Run over control; None where it is not defined.
    """

    name: str
    unit: str
    run: float | None
    control: float | None
    ratio: float | None


@dataclass(frozen=True)
class CostComparison:
    """Comparison of the costs of two runs.

    Attributes:
        run: Work dir of the run.
        control: Work dir of its control.
        rows: Quantities.
        warnings: Differences in conditions, and missing records.
    """

    run: str
    control: str
    rows: list[CostRow]
    warnings: list[str]


def compare(
    run: StepCost | None,
    control: StepCost | None,
    logged: Sequence[float | None] = (None, None),
) -> list[CostRow]:
    """Compare the cost of a training step of a run and its control.

    Args:
        run: Cost of the frozen run; None if it has no record.
        control: Cost of its control, likewise.
        logged: Times of a step in MMDetection's log, which are added if one
            of the two has no measured times.

    Returns:
        FLOPs, times (medians), memory and energy of one process.
    """
    pair = (run, control)
    flops = [total_flops(cost) for cost in pair]
    rows = [
        _row(name, 'FLOPs', *(getattr(f, field, None) for f in flops))
        for name, field in (
            ('forward', 'forward'),
            ('backward for inputs', 'backward_input'),
            ('backward for weights', 'backward_weight'),
            ('FLOPs of a step', 'total'),
        )
    ]
    for part, name in {**PARTS, 'step': 'time of a step'}.items():
        spreads = [cost.seconds.get(part) if cost else None for cost in pair]
        rows.append(
            _row(name, 's', *(s.median if s else None for s in spreads))
        )
    for name, field in (
        ('CUDA allocated, peak', 'cuda_allocated_peak_bytes'),
        ('CUDA reserved, peak', 'cuda_reserved_peak_bytes'),
        ('resident set in steps, peak', 'resident_peak_bytes'),
        ('resident set of the process, peak', 'process_peak_bytes'),
    ):
        sizes = [
            getattr(cost.memory, field) if cost else None for cost in pair
        ]
        rows.append(_row(name, 'bytes', *sizes))
    joules = [cost.joules_per_step if cost else None for cost in pair]
    rows.append(_row('energy of a step', 'J', *joules))
    if not all(cost and cost.seconds for cost in pair):
        rows.append(_row(LOGGED, 's', *logged))
    return [r for r in rows if (r.run, r.control) != (None, None)]


def _row(
    name: str, unit: str, run: float | None, control: float | None
) -> CostRow:
    ratio = run / control if run is not None and control else None
    return CostRow(name, unit, run, control, ratio)


def find_differences(run: StepCost, control: StepCost) -> list[str]:
    """Return the differences in the conditions of two costs, one per line."""
    found = []
    for field, name in CONDITIONS.items():
        a, b = getattr(run, field), getattr(control, field)
        if a != b:
            found.append(f'{name} differs: {a} and {b}')
    if run.flops and control.flops:
        a, b = run.flops.batch_shape, control.flops.batch_shape
        if a != b:
            found.append(f'FLOPs were counted for other batches: {a} and {b}')
    for name in sorted({*run.versions} & {*control.versions}):
        a, b = run.versions[name], control.versions[name]
        if a != b:
            found.append(f'{name} differs: {a} and {b}')
    return found


def compare_work_dirs(run: Path, control: Path) -> CostComparison:
    """Compare step costs and trainable parameters of two work dirs.

    Args:
        run: Work dir of the run.
        control: Work dir of its control.

    Raises:
        FileNotFoundError: If a path is not a work dir.
        ValueError: If they are the same, or a file in one cannot be read.
    """
    if Path(run).resolve() == Path(control).resolve():
        raise ValueError(
            f'Two runs are required, got {str(run)!r} twice. Name the control.'
        )
    records = [read_run(path) for path in (run, control)]
    costs = [choose(read_step_costs(path)) for path in (run, control)]
    warnings = [
        f'{path} has no {STEP_COST.name}: add '
        'mmfrozen.StepCostHook to its config'
        for path, cost in zip((run, control), costs, strict=True)
        if cost is None
    ]
    if costs[0] and costs[1]:
        warnings += find_differences(costs[0], costs[1])
    rows = compare(
        costs[0], costs[1], [record.step_seconds for record in records]
    )
    return CostComparison(
        str(run), str(control), rows + _parameter_rows(records), warnings
    )


def _parameter_rows(records: list[RunRecord]) -> list[CostRow]:
    models = [r.backbone.model if r.backbone else None for r in records]
    rows = [
        _row(name, 'parameters', *(getattr(m, field, None) for m in models))
        for name, field in (('trainable', 'trainable'), ('all', 'total'))
    ]
    return rows if any(models) else []


def comparison_table(comparison: CostComparison) -> Table:
    """Draw a comparison as a table, in readable units."""
    table = Table(
        title='One training step; a multiply-add is 2 FLOPs',
        caption='\n'.join(comparison.warnings) or None,
    )
    table.add_column('')
    for path in (comparison.run, comparison.control):
        table.add_column(path, justify='right', overflow='fold')
    table.add_column('ratio', justify='right')
    unit = None
    for row in comparison.rows:
        if row.unit != unit and unit is not None:
            table.add_section()
        unit = row.unit
        table.add_row(
            row.name,
            show(row.run, unit),
            show(row.control, unit),
            show_ratio(row.ratio),
        )
    return table


def show_ratio(ratio: float | None) -> str:
    """Format a ratio to the control, as ``'x 0.83'``."""
    return '-' if ratio is None else f'x {ratio:.2f}'


def show(value: float | None, unit: str) -> str:
    """Format a quantity with its unit."""
    if value is None:
        return '-'
    if unit == 'FLOPs':
        return f'{value / 1e9:,.1f} GFLOPs'
    if unit == 'bytes':
        return f'{value / 2**30:.2f} GiB'
    if unit == 'parameters':
        return f'{value / 1e6:.2f} M'
    return f'{value:.4g} {unit}'
