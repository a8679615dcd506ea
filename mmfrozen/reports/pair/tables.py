"""Make the tables of a pair for console and HTML: cost first, then AP."""

from __future__ import annotations

from ...run_files import Spread
from ..runs.costs import show, show_ratio
from ..strata.record import Estimate
from ..strata.text import points
from ..text_table import TextTable
from .comparison import ApGain, Budget, PairComparison

DASH = '\N{EN DASH}'


def make_tables(pair: PairComparison) -> list[TextTable]:
    """Make the table of costs, and one of AP for each budget."""
    return [_cost(pair), *(_aps(pair, budget) for budget in pair.budgets)]


def _cost(pair: PairComparison) -> TextTable:
    rows = []
    if pair.times is not None:
        times = pair.times
        rows.append(
            [
                'time of a step, s',
                _spread(times.run, '.2f'),
                _spread(times.control, '.2f'),
                'x ' + _spread(times.ratio, '.2f'),
            ]
        )
    for row in pair.costs:
        a, b = (show(x, row.unit) for x in (row.run, row.control))
        name = row.name.replace('trainable', 'trainable parameters')
        rows.append([name, a, b, show_ratio(row.ratio)])
    return TextTable(
        'Cost of a training step',
        ['', pair.state, pair.control, 'ratio'],
        rows,
    )


def _aps(pair: PairComparison, budget: Budget) -> TextTable:
    steps = f'{budget.run_steps:,}'
    if budget.run_steps != budget.control_steps:
        steps += f' and {budget.control_steps:,}'
    lengths = f'{steps} steps'
    if pair.times is not None:
        a, b = pair.seconds(budget)
        lengths += f', {a:,.0f} and {b:,.0f} s'
    return TextTable(
        f'AP in %, {budget.title}: {lengths}',
        ['', pair.state, pair.control, 'difference [95 %]', ''],
        [
            [
                gain.name,
                _ap(gain.run),
                _ap(gain.control),
                _difference(gain),
                gain.verdict,
            ]
            for gain in budget.gains
        ],
    )


def _ap(estimate: Estimate) -> str:
    return points(estimate.value, '.1f') or '-'


def _difference(gain: ApGain) -> str:
    value, low, high = (
        points(x, '+.1f')
        for x in (gain.gain.value, gain.gain.low, gain.gain.high)
    )
    return f'{value} [{low}, {high}]' if low and high else value or '-'


def _spread(spread: Spread, form: str) -> str:
    lower, median, upper = (
        format(x, form) for x in (spread.lower, spread.median, spread.upper)
    )
    return f'{median} [{lower}{DASH}{upper}]'
