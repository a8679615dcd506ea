"""Make a table of the frozen and trained parameters of a model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ..run_files import ModuleReport


def parameter_table(rows: Sequence[ModuleReport], title: str) -> Table:
    """Make a table with one row per module of a model, and their sum.

    Args:
        rows: Modules, from :func:`mmfrozen.freezing.describe`.
        title: Title of the table.

    Returns:
        Parameters in millions (M, 1e6), and numbers of norm layers whose
        running statistics are updated in training.
    """
    table = Table(title=title)
    table.add_column('part', no_wrap=True)
    table.add_column('state', no_wrap=True)
    for head in ('all, M', 'trains, M', 'norms move'):
        table.add_column(head, justify='right')
    for row in rows:
        counts = row.parameters
        _add(
            table,
            row.name,
            row.status,
            counts.total,
            counts.trainable,
            row.moving_norms,
        )
    table.add_section()
    total = sum(row.parameters.total for row in rows)
    trainable = sum(row.parameters.trainable for row in rows)
    moving = sum(row.moving_norms for row in rows)
    share = f'{trainable / max(total, 1):.1%} trains'
    _add(table, 'sum', share, total, trainable, moving)
    return table


def _add(
    table: Table,
    name: str,
    state: str,
    total: int,
    trainable: int,
    moving: int,
) -> None:
    table.add_row(
        name,
        state,
        f'{total / 1e6:.3f}',
        f'{trainable / 1e6:.3f}',
        str(moving),
    )
