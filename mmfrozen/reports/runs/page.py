"""Write the page and the charts of a comparison of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .. import page
from .charts import draw_costs, draw_learning
from .comparison import ComparedRun, Pair
from .costs import show, show_ratio
from .drift_charts import draw_drift, draw_parts
from .record import RunsRecord
from .tables import make_tables

CONVENTION = (
    'Costs are those of one training step in the main process; a '
    'multiply-add is 2 FLOPs. Memory is the peak that CUDA allocated, on '
    'other devices that of the resident set. Times are medians. AP, in per '
    'cent, is that of the last evaluation. Drift is the length of the '
    "backbone's move from its initialisation over the length before."
)
CHARTS = {
    'costs': (
        'Cost against AP',
        'An arrow leads from a control to its frozen run: green if AP rose, '
        'red if it fell; dotted if one was evaluated after less training. No '
        'arrow is drawn where measured costs differ by less than 2 %.',
    ),
    'learning': (
        'Learning curves',
        'Training time excludes evaluations. The first, largest losses are '
        'cut off. AP is drawn where a run was evaluated more than once.',
    ),
    'drift': (
        'Drift of the backbone',
        'A frozen backbone does not move.',
    ),
    'parts': (
        'What a step consists of',
        'Time by part, and FLOPs of forward and backward pass.',
    ),
}
DPI = 150


def draw_charts(
    runs: Sequence[ComparedRun], pairs: Sequence[Pair]
) -> dict[str, Figure]:
    """Draw the charts for which the runs have data, by name."""
    charts = {
        'costs': draw_costs(runs, pairs),
        'learning': draw_learning(runs),
        'drift': draw_drift(runs),
        'parts': draw_parts(runs),
    }
    return {name: chart for name, chart in charts.items() if chart}


def write_compare_page(
    path: Path, record: RunsRecord, charts: dict[str, Figure]
) -> None:
    """Write tables, charts and notes as one page.

    Raises:
        FileExistsError: If the file exists.
    """
    parts = [page.paragraph(CONVENTION, note=True)]
    for table in make_tables(record):
        pairs = [[_glue(cell) for cell in row] for row in table.pairs]
        rows = [*table.rows, *pairs]
        drawn = page.table(table.head, rows, totals=len(table.pairs))
        parts.append(page.section(table.title, [drawn]))
    for name, chart in charts.items():
        title, caption = CHARTS[name]
        parts.append(page.section(title, [page.figure(chart, caption)]))
    for pair in record.pairs:
        rows = [
            [
                row.name,
                show(row.run, row.unit),
                show(row.control, row.unit),
                show_ratio(row.ratio),
            ]
            for row in pair.costs
        ]
        head = ('one step', pair.run, pair.control, 'ratio')
        title = f'{pair.run} against {pair.control}'
        parts.append(page.section(title, [page.table(head, rows)]))
    if record.notes:
        notes = [page.paragraph(note, note=True) for note in record.notes]
        parts.append(page.section('Notes', notes))
    page.write_page(path, f'{len(record.runs)} runs side by side', parts)


def _glue(cell: str) -> str:
    """Prevent a line break within a ratio."""
    return cell.replace('x ', 'x\N{NO-BREAK SPACE}')


def write_pictures(folder: Path, charts: dict[str, Figure]) -> None:
    """Write the charts as PNG.

    Args:
        folder: A new or empty folder; see :func:`~..page.check_empty`.
        charts: Charts by name of the file.
    """
    for name, chart in charts.items():
        page.save_png(
            chart, folder / f'{name}.png', dpi=DPI, bbox_inches='tight'
        )
