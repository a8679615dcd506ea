"""A table of text cells, for console and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table


@dataclass(frozen=True)
class TextTable:
    """A table with formatted cells; absent values are ``-``.

    Attributes:
        title: Title, with units and conventions.
        head: Titles of the columns.
        rows: Text of the cells.
        pairs: Rows below a line, such as differences between rows.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    pairs: Sequence[Sequence[str]] = ()


def draw_table(table: TextTable) -> Table:
    """Draw a table for the console; long names are folded."""
    drawn = Table(
        title=table.title,
        box=SIMPLE_HEAD,
        title_justify='left',
        min_width=len(table.title),
    )
    drawn.add_column(table.head[0], overflow='fold')
    for title in table.head[1:]:
        drawn.add_column(
            title.replace(' ', '\n'), justify='right', no_wrap=True
        )
    for row in table.rows:
        drawn.add_row(*row)
    if table.pairs:
        drawn.add_section()
    for row in table.pairs:
        drawn.add_row(*row)
    return drawn


def markdown(table: TextTable) -> str:
    """Return a table in Markdown, with its title above it."""
    lines = [table.head, ['---'] * len(table.head), *table.rows, *table.pairs]
    rows = [
        f'| {" | ".join(cell.replace("|", "&#124;") for cell in line)} |'
        for line in lines
    ]
    return '\n'.join([table.title, '', *rows, ''])
