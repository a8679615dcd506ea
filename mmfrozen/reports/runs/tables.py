"""Make tables of compared runs, for console and HTML."""

from __future__ import annotations

from collections.abc import Sequence

from ..text_table import TextTable
from .costs import LOGGED, show_ratio
from .learning_curves import AP_NAMES
from .record import PairSummary, RunsRecord, RunSummary
from .seeds import CONFIDENCE, SeedSummary
from .step_costs import flops_unit

#: Cost rows for each ratio of a pair, in order of preference.
RATIOS = (
    ('FLOPs of a step',),
    ('CUDA allocated, peak', 'resident set in steps, peak'),
    ('time of a step', LOGGED),
    ('energy of a step',),
)

#: Length of a label, in characters, from which numbers replace it.
LONG = 16


def short_names(record: RunsRecord) -> dict[str, str]:
    """Return names for narrow tables by label: numbers if labels are long."""
    labels = [run.label for run in record.runs]
    is_long = max(map(len, labels)) >= LONG
    return {
        label: str(i) if is_long else label
        for i, label in enumerate(labels, 1)
    }


def make_tables(
    record: RunsRecord, names: dict[str, str] | None = None
) -> list[TextTable]:
    """Make the tables of AP, of AP over seeds, and of step costs.

    Args:
        record: The comparison.
        names: Names of the runs by label (default: the labels).

    Returns:
        Tables without empty columns.
    """
    names = names or {run.label: run.label for run in record.runs}
    tables = (
        _aps(record, names),
        *map(_seeds, record.seeds),
        _costs(record, names),
    )
    return [t for t in map(_without_empty, tables) if len(t.head) > 1]


def _aps(record: RunsRecord, names: dict[str, str]) -> TextTable:
    return TextTable(
        'AP of the last evaluation, %; differences in points',
        ['run', *AP_NAMES, 'at step'],
        [
            [
                names[run.label],
                *(number(run.aps.get(ap), '.1f', 100) for ap in AP_NAMES),
                number(run.step, ',d'),
            ]
            for run in record.runs
        ],
        [
            [
                f'{names[pair.run]} - {names[pair.control]}',
                *(number(pair.gains.get(ap), '+.1f', 100) for ap in AP_NAMES),
                '-',
            ]
            for pair in record.pairs
        ],
    )


def _seeds(summary: SeedSummary) -> TextTable:
    seeds = ', '.join(map(str, summary.seeds))
    return TextTable(
        f'{summary.experiment}, seeds {seeds}: AP, %, mean and deviation',
        ['', summary.run, summary.control, f'difference [{CONFIDENCE:.0%}]'],
        [
            [
                ap,
                _spread(gain.run, gain.run_spread),
                _spread(gain.control, gain.control_spread),
                f'{100 * gain.gain:+.1f} '
                f'[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]',
            ]
            for ap, gain in summary.gains.items()
        ],
        [],
    )


def _spread(mean: float, deviation: float) -> str:
    return f'{100 * mean:.1f} \N{PLUS-MINUS SIGN} {100 * deviation:.1f}'


def _costs(record: RunsRecord, names: dict[str, str]) -> TextTable:
    most = max(
        (run.flops.total for run in record.runs if run.flops), default=0
    )
    unit, flops = flops_unit(most)
    return TextTable(
        'One training step of one process; a multiply-add is 2 FLOPs',
        ['run', flops, 'GiB', 's', 'J', 'trained M', 'drift'],
        [[names[run.label], *_run_costs(run, unit)] for run in record.runs],
        [
            [
                f'{names[pair.run]} / {names[pair.control]}',
                *(_ratio(pair, names) for names in RATIOS),
                '-',
                '-',
            ]
            for pair in record.pairs
        ],
    )


def _run_costs(run: RunSummary, unit: float) -> list[str]:
    trained = run.parameters.trainable if run.parameters else None
    return [
        number(run.flops.total if run.flops else None, ',.2f', 1 / unit),
        number(run.peak_bytes, '.2f', 2**-30),
        number(run.step_seconds, '.3g'),
        number(run.joules_per_step, '.4g'),
        number(trained, '.2f', 1e-6),
        number(run.drift, '.2g'),
    ]


def number(value: float | None, form: str, factor: float = 1) -> str:
    """Format a number times a factor; ``-`` for None."""
    return '-' if value is None else format(factor * value, form)


def _ratio(pair: PairSummary, names: Sequence[str]) -> str:
    ratios = {row.name: row.ratio for row in pair.costs}
    found = (ratios[name] for name in names if ratios.get(name) is not None)
    return show_ratio(next(found, None))


def _without_empty(table: TextTable) -> TextTable:
    rows = [*table.rows, *table.pairs]
    used = [
        i for i in range(len(table.head)) if any(row[i] != '-' for row in rows)
    ]

    def keep(row: list[str]) -> list[str]:
        return [row[i] for i in used]

    return TextTable(
        table.title,
        keep(table.head),
        [keep(row) for row in table.rows],
        [keep(row) for row in table.pairs],
    )
