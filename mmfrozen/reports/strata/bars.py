"""Draw bar charts of strata and of the classes that changed most."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..page import COLOURS
from .record import BinGain, ClassGain, Estimate, StrataGain
from .text import FAMILIES, bin_label, format_estimate, quantity, short


def draw_bins(gain: StrataGain) -> Figure:
    """Draw one bar per bin with its interval, one panel per family."""
    families = {
        name: rows
        for name in FAMILIES
        if (rows := [r for r in gain.family(name) if r.num_classes])
    }
    heights = [len(rows) + 1.2 for rows in families.values()]
    chart = Figure(
        figsize=(9.5, 0.31 * sum(heights) + 0.8), layout='constrained'
    )
    panels = chart.subplots(
        len(families), 1, height_ratios=heights, sharex=True, squeeze=False
    )
    for axes, (name, rows) in zip(panels[:, 0], families.items(), strict=True):
        axes.set_title(FAMILIES[name], fontsize=10, loc='left', pad=4)
        _bars(axes, rows, gain)
    panels[-1, 0].set_xlabel(quantity(gain))
    return chart


def _bars(axes: Axes, rows: Sequence[BinGain], gain: StrataGain) -> None:
    for y, row in enumerate(rows):
        value = 100 * (row.shown.value or 0)
        axes.barh(y, value, height=0.62, color=_colour(row.shown, gain))
        whisker(axes, row.shown, y)
        plural = 'class' if row.num_classes == 1 else 'classes'
        _write_beside(axes, y, format_estimate(row.shown, gain))
        counts = f'{row.num_classes:,} {plural}, {row.num_instances:,} inst.'
        _write_beside(axes, y, counts, column=1)
    _rows_axis(axes, [bin_label(row) for row in rows])
    axes.grid(axis='x', color='#e4e4e4')


def _rows_axis(axes: Axes, labels: Sequence[str]) -> None:
    axes.axvline(0, color='#222', linewidth=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis='y', length=0)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right', 'left']].set_visible(False)


def _write_beside(axes: Axes, y: float, text: str, column: int = 0) -> None:
    """Write text to the right of a row, in columns of fixed width."""
    axes.annotate(
        text,
        (1, y),
        (10 + 120 * column, 0),
        xycoords=('axes fraction', 'data'),
        textcoords='offset points',
        va='center',
        fontsize=9,
        annotation_clip=False,
    )


def _colour(estimate: Estimate, gain: StrataGain) -> str:
    if gain.control is None:
        return COLOURS['frozen']
    return COLOURS['gain' if (estimate.value or 0) >= 0 else 'loss']


def whisker(axes: Axes, estimate: Estimate, y: float) -> None:
    """Draw the interval of an estimate, if there is one."""
    if estimate.low is None or estimate.high is None:
        return
    ends = 100 * estimate.low, 100 * estimate.high
    axes.plot(ends, (y, y), color='#222', linewidth=1.2, zorder=3)
    for end in ends:
        axes.plot((end, end), (y - 0.14, y + 0.14), color='#222', lw=1.2)


def draw_classes(
    gained: Sequence[ClassGain], lost: Sequence[ClassGain], gain: StrataGain
) -> Figure:
    """Draw the classes that changed most, with their intervals."""
    rows = [*gained, *reversed(lost)]
    chart = Figure(figsize=(9.5, 0.3 * len(rows) + 1.2), layout='constrained')
    axes = chart.subplots()
    for y, row in enumerate(rows):
        has_interval = row.shown.low is not None
        colour = _colour(row.shown, gain)
        whisker(axes, row.shown, y)
        axes.scatter(
            100 * (row.shown.value or 0),
            y,
            s=46,
            color=colour if has_interval else 'white',
            edgecolors=colour,
            linewidths=1.6,
            zorder=4,
        )
        _write_beside(axes, y, format_estimate(row.shown, gain))
        counts = f'{row.train_annotations:,} train, {row.val_instances:,} val'
        _write_beside(axes, y, counts, column=1)
    _rows_axis(axes, [f'{short(row.name)} ({row.frequency})' for row in rows])
    what = 'AP' if gain.control is None else 'difference'
    interval = f' [{gain.confidence:.0%}]' if gain.num_resamples else ''
    _write_beside(axes, -1, what + interval)
    _write_beside(axes, -1, 'annotations', column=1)
    if gained and lost:
        edge = len(gained) - 0.5
        axes.axhline(edge, color='#bbb', linewidth=0.8, linestyle=':')
    axes.set_xlabel(quantity(gain))
    axes.grid(color='#eee')
    return chart
