"""Make the tables of a comparison by strata, for console and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import JustifyMethod
from rich.table import Table

from .record import FREQUENCIES, BinGain, ClassGain, StrataGain
from .text import bin_label, describe, format_estimate, points, short

#: Names of the families in tables.
TITLES = {
    'all': '',
    'frequency': 'frequency',
    'training_annotations': 'train annotations',
    'training_images': 'train images',
    'size': 'object size',
}


def bin_head(gain: StrataGain) -> list[str]:
    """Return the column titles for :func:`bin_rows`."""
    return ['bin', *_ap_head(gain), 'classes', 'absent', 'instances']


def bin_rows(gain: StrataGain) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the title and rows of each family, starting with all classes."""
    for name, title in TITLES.items():
        rows = [
            [
                bin_label(row),
                *_ap_cells(row, gain),
                f'{row.num_classes:,}',
                f'{row.num_absent:,}',
                f'{row.num_instances:,}',
            ]
            for row in gain.family(name)
            if row.num_classes or row.num_absent
        ]
        if rows:
            yield title, rows


def class_head(gain: StrataGain) -> list[str]:
    """Return the column titles for :func:`class_rows`."""
    counts = ('train annotations', 'train images', 'val instances')
    return ['class', 'group', *_ap_head(gain), *counts, 'val images']


def class_rows(rows: Sequence[ClassGain], gain: StrataGain) -> list[list[str]]:
    """Return one row per class."""
    return [
        [
            row.name,
            row.frequency,
            *_ap_cells(row, gain),
            f'{row.train_annotations:,}',
            f'{row.train_images:,}',
            f'{row.val_instances:,}',
            f'{row.val_images:,}',
        ]
        for row in rows
    ]


def bin_table(gain: StrataGain) -> Table:
    """Draw the table of bins, with one section per family."""
    table = _table(describe(gain))
    for name in ('bin', *_ap_head(gain), 'classes', 'absent', 'inst.'):
        _add_column(table, name, name != 'bin')
    for title, rows in bin_rows(gain):
        table.add_section()
        if title:
            table.add_row(title, style='dim')
        for row in rows:
            table.add_row(*row)
    return table


def class_table(gain: StrataGain) -> Table:
    """Draw the table of classes that gained most and that lost most."""
    titles = ('gained most', 'lost most')
    if gain.control is None:
        titles = ('highest AP', 'lowest AP')
    table = _table(
        f'classes in at least {gain.min_images} of the images; train, val: '
        'annotations'
    )
    for name in ('class', '', *_ap_head(gain), 'train', 'val'):
        _add_column(table, name, name != 'class')
    for name, rows in zip(titles, gain.most(), strict=True):
        table.add_section()
        table.add_row(name if rows else f'none {name}', style='dim')
        for row in rows:
            table.add_row(
                short(row.name, 20),
                row.frequency,
                *_ap_cells(row, gain),
                f'{row.train_annotations:,}',
                f'{row.val_instances:,}',
            )
    return table


def error_head(gain: StrataGain) -> list[str]:
    """Return the column titles for :func:`error_rows`."""
    names = ['run'] if gain.control is None else ['run', 'control']
    return [
        'bin',
        'error',
        *_cost_head(gain),
        *(f'errors, {x}' for x in names),
    ]


def error_rows(gain: StrataGain) -> list[list[str]]:
    """Return one row for each bin and type of error."""
    return [
        [
            bin_label(row.bin),
            row.type,
            *_ap_cells(row.bin, gain),
            f'{row.num_errors:,}',
            *([f'{row.num_control_errors:,}'] if gain.control else []),
        ]
        for row in gain.errors
        if row.bin.num_classes
    ]


def error_table(gain: StrataGain) -> Table:
    """Draw the table of error costs for all classes and each frequency."""
    table = _table('AP50 gained without the errors of one type, points')
    for name in ('error', *_cost_head(gain), 'errors'):
        _add_column(table, name, name != 'error')
    label = None
    for row in gain.errors:
        if (
            row.bin.family not in ('all', 'frequency')
            or not row.bin.num_classes
        ):
            continue
        if row.bin.label != label:
            label = row.bin.label
            table.add_section()
            table.add_row(bin_label(row.bin), style='dim')
        table.add_row(
            row.type, *_ap_cells(row.bin, gain), f'{row.num_errors:,}'
        )
    return table


def confusion_rows(gain: StrataGain) -> list[list[str]]:
    """Return numbers of confusions, one row for each pair of groups."""
    return [
        [
            f'{FREQUENCIES[first.true]} called {FREQUENCIES[first.predicted]}',
            *(f'{x.num:,}' for x in (first, *others)),
        ]
        for first, *others in zip(*gain.confusions, strict=True)
    ]


def calibration_rows(gain: StrataGain) -> list[list[str]]:
    """Return calibration errors, one row per frequency, one column per run."""
    return [
        [
            FREQUENCIES.get(pair[0].name, pair[0].name),
            *('-' if x.error is None else f'{x.error:.3f}' for x in pair),
        ]
        for pair in zip(*gain.calibration, strict=True)
        if pair[0].by in ('all', 'frequency') and sum(pair[0].nums)
    ]


def _add_column(table: Table, name: str, is_number: bool) -> None:
    justify: JustifyMethod = 'right' if is_number else 'left'
    table.add_column(name, justify=justify, no_wrap=True)


def _table(title: str) -> Table:
    # little padding, so that tables fit into 80 columns
    return Table(
        title=title,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _ap_head(gain: StrataGain, what: str = 'AP') -> list[str]:
    interval = f' [{gain.confidence:.0%}]' if gain.num_resamples else ''
    if gain.control is None:
        return [f'{what}{interval}']
    return [what, 'control', f'difference{interval}']


def _cost_head(gain: StrataGain) -> list[str]:
    return _ap_head(gain, 'cost')


def _ap_cells(row: BinGain | ClassGain, gain: StrataGain) -> list[str]:
    if row.control is None:
        return [format_estimate(row.shown, gain)]
    levels = (row.ap.value, row.control.value)
    return [
        *(points(value, '.1f') or '-' for value in levels),
        format_estimate(row.shown, gain),
    ]
