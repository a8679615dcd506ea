"""Make the tables of a pair for console and HTML: cost first, then AP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ...run_files import Spread
from ..runs.costs import show
from ..strata.record import Estimate
from ..strata.text import points
from .comparison import ApGain, Budget, PairComparison

DASH = '\N{EN DASH}'


@dataclass(frozen=True)
class PairTable:
    """A table with formatted cells.

    Attributes:
        title: Title of the table.
        head: Titles of the columns.
        rows: Text of the cells.
    """

    title: str
    head: list[str]
    rows: list[list[str]]


def make_tables(pair: PairComparison) -> list[PairTable]:
    """Make the table of costs, and one of AP for each budget."""
    return [_cost(pair), *(_aps(pair, budget) for budget in pair.budgets)]


def _cost(pair: PairComparison) -> PairTable:
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
        ratio = '-' if row.ratio is None else f'x {row.ratio:.2f}'
        a, b = (show(x, row.unit) for x in (row.run, row.control))
        name = row.name.replace('trainable', 'trainable parameters')
        rows.append([name, a, b, ratio])
    return PairTable(
        'Cost of a training step',
        ['', pair.state, pair.control, 'ratio'],
        rows,
    )


def _aps(pair: PairComparison, budget: Budget) -> PairTable:
    steps = f'{budget.run_steps:,}'
    if budget.run_steps != budget.control_steps:
        steps += f' and {budget.control_steps:,}'
    lengths = f'{steps} steps'
    if pair.times is not None:
        a, b = pair.seconds(budget)
        lengths += f', {a:,.0f} and {b:,.0f} s'
    return PairTable(
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


def draw_table(table: PairTable) -> Table:
    """Draw a table for the console."""
    drawn = Table(
        title=table.title,
        box=SIMPLE_HEAD,
        title_justify='left',
        min_width=len(table.title),
    )
    for index, title in enumerate(table.head):
        justify: Any = 'right' if index else 'left'
        drawn.add_column(title, justify=justify, no_wrap=index > 0)
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
