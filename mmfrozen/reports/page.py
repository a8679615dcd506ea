"""Write self-contained HTML pages of charts and tables."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from ..atomic_write import atomic_path, write_text

#: Colours of states and of gains and losses, in all charts.
COLOURS = {
    'frozen': '#1f77b4',
    'finetuned': '#e07b39',
    'scratch': '#7f7f7f',
    'gain': '#2a9d55',
    'loss': '#c0392b',
}

#: Fixed ids, so that the same data give the same file; text is kept as text.
SVG = {'svg.hashsalt': 'mmfrozen', 'svg.fonttype': 'none'}

STYLE = """
:root { color-scheme: light dark; --text: #222; --faint: #555;
        --paper: #fff; --stripe: #f4f4f4; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --faint: #aaa; --paper: #17191c; --stripe: #24282d; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text);
       background: var(--paper); max-width: 72rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
h1, h2 { overflow-wrap: anywhere; }  /* names of runs may be long */
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid var(--text); }
tbody tr:nth-child(even) { background: var(--stripe); }
tr.total td { border-top: 1px solid var(--text); font-weight: 600; }
section { overflow-x: auto; }  /* wide tables scroll on phones */
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figure svg, figure img { background: #fff; }  /* charts are black on white */
figcaption, .note { color: var(--faint); font-size: .9rem; }
"""


def paragraph(text: str, *, note: bool = False) -> str:
    """Return a paragraph of plain text as HTML."""
    return f'<p{" class=note" if note else ""}>{escape(text)}</p>'


def section(title: str, parts: Iterable[str]) -> str:
    """Return a section with a heading; its parts are HTML."""
    return f'<section><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, totals: int = 0
) -> str:
    """Return a table of text cells as HTML, the first column left-aligned.

    Args:
        head: Titles of the columns.
        rows: Text of the cells.
        totals: Number of rows at the end that are totals.
    """
    rows = list(rows)
    lines = []
    for index, row in enumerate(rows):
        mark = ' class=total' if index >= len(rows) - totals else ''
        cells = ''.join(f'<td>{escape(cell)}</td>' for cell in row)
        lines.append(f'<tr{mark}>{cells}</tr>')
    heads = ''.join(f'<th>{escape(title)}</th>' for title in head)
    return (
        f'<table><thead><tr>{heads}</tr></thead>'
        f'<tbody>{"".join(lines)}</tbody></table>'
    )


def figure(chart: Figure, caption: str) -> str:
    """Return a chart as inline SVG with a caption."""
    buffer = io.StringIO()
    with mpl.rc_context(SVG):
        draw_literally(chart).savefig(
            buffer, format='svg', bbox_inches='tight', metadata={'Date': None}
        )
    svg = re.search(r'<svg.*</svg>', buffer.getvalue(), re.DOTALL)
    assert svg is not None
    return (
        f'<figure>{svg.group()}<figcaption>{escape(caption)}'
        '</figcaption></figure>'
    )


def draw_literally(chart: Figure) -> Figure:
    """Make a chart draw its text literally, without formulas in `$`."""
    for text in chart.findobj(Text):
        text.set_parse_math(False)
        text.set_text(replace_undrawable(text.get_text()))
    for axis in chart.findobj(Axis):
        if isinstance(axis.get_major_locator(), FixedLocator):
            # drawing sets the tick labels again from the formatter, which
            # several panels may share
            texts = axis.get_major_formatter().format_ticks(
                axis.get_majorticklocs()
            )
            axis.set_ticklabels(list(map(replace_undrawable, texts)))
    return chart


def replace_undrawable(text: str) -> str:
    """Replace what fonts lack: control characters and lone surrogates."""
    return ''.join(
        '\N{REPLACEMENT CHARACTER}'
        if unicodedata.category(sign) in ('Cc', 'Cf', 'Cs') and sign != '\n'
        else sign
        for sign in text
    )


def save_png(chart: Figure, path: Path, **options: Any) -> None:
    """Write a chart as a PNG file atomically, with literal text.

    Args:
        chart: The chart.
        path: Path of the file; an older one is replaced.
        options: Options of ``Figure.savefig``.
    """
    with atomic_path(path) as part:
        draw_literally(chart).savefig(part, format='png', **options)


def write_page(
    path: Path, title: str, parts: Iterable[str], *, replace: bool = False
) -> None:
    """Write a page that needs no other file and no network.

    Args:
        path: Path of the file.
        title: Title of the page.
        parts: Content as HTML.
        replace: Whether an older page may be replaced.

    Raises:
        FileExistsError: If the file exists and may not be replaced.
    """
    if not replace:
        check_new(path)
    write_text(
        path,
        '<!doctype html><html lang=en><meta charset=utf-8>'
        '<meta name=viewport content="width=device-width">'
        f'<title>{escape(title)}</title><style>{STYLE}</style>'
        f'<h1>{escape(title)}</h1>{"".join(parts)}</html>\n',
        errors='backslashreplace',  # file names may contain any bytes
    )


def check_new(path: Path, option: str = '--html') -> None:
    """Refuse a path that exists, before its content is computed.

    Raises:
        FileExistsError: If the path exists; the message names the option.
    """
    if Path(path).exists():
        raise FileExistsError(
            f'{option} must name a new file, got {str(path)!r}, which exists. '
            'Remove it or choose another.'
        )


def check_empty(folder: Path) -> None:
    """Refuse a folder that is not empty, before charts are drawn.

    Raises:
        FileExistsError: If it is not empty, or not a folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f'--png must name a new or empty folder, got {str(folder)!r}, '
            'which is not. Remove it or choose another.'
        )
