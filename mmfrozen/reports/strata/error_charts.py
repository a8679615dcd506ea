"""Draw charts of error types and of calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...evaluation.error_types import TYPES
from ..page import COLOURS
from .bars import whisker
from .record import FREQUENCIES, ErrorCost, StrataGain
from .text import bin_label

#: Colours of the run and of its control.
RUNS = (COLOURS['frozen'], COLOURS['finetuned'])


def draw_errors(gain: StrataGain) -> Figure:
    """Draw bars by type of error, in panels for all classes and each group."""
    panels = [
        rows
        for by in ('all', 'frequency')
        for rows in group_by_bin(gain, by)
        if rows[0].bin.num_classes
    ]
    chart = Figure(figsize=(9.5, 3.1), layout='constrained')
    axes = chart.subplots(
        1, len(panels), sharex=True, sharey=True, squeeze=False
    )
    for one, rows in zip(axes[0], panels, strict=True):
        one.set_title(bin_label(rows[0].bin), fontsize=10, loc='left', pad=4)
        _error_bars(one, rows, gain)
    axes[0, 0].set_yticks(range(len(TYPES)), TYPES)
    axes[0, 0].invert_yaxis()
    chart.supxlabel(
        'AP50 that would be gained without these errors, points', fontsize=10
    )
    _legend(chart)
    return chart


def _legend(chart: Figure) -> None:
    chart.legend(
        *chart.axes[0].get_legend_handles_labels(),
        loc='outside upper left',
        ncols=2,
        frameon=False,
    )


def group_by_bin(gain: StrataGain, by: str) -> list[list[ErrorCost]]:
    """Return the error costs of each bin of a family."""
    groups: dict[str, list[ErrorCost]] = {}
    for row in gain.errors:
        if row.bin.family == by:
            groups.setdefault(row.bin.label, []).append(row)
    return list(groups.values())


def _error_bars(
    axes: Axes, rows: Sequence[ErrorCost], gain: StrataGain
) -> None:
    names = [name for name in (gain.run, gain.control) if name is not None]
    height = 0.76 / len(names)
    places = np.arange(len(rows))
    for index, (name, colour) in enumerate(zip(names, RUNS, strict=False)):
        found = [(row.bin.ap, row.bin.control)[index] for row in rows]
        ends = places + (index - (len(names) - 1) / 2) * height
        values = [100 * (x.value or 0) if x else 0 for x in found]
        axes.barh(ends, values, height=height, color=colour, label=name)
        for place, estimate in zip(ends, found, strict=True):
            if estimate:
                whisker(axes, estimate, place)
    axes.tick_params(axis='y', length=0)
    axes.grid(axis='x', color='#e4e4e4')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right', 'left']].set_visible(False)


def draw_calibration(gain: StrataGain) -> Figure:
    """Draw precision against score, in panels for all classes and groups."""
    wanted = [
        row
        for row in gain.calibration[0]
        if row.by in ('all', 'frequency') and sum(row.nums)
    ]
    chart = Figure(figsize=(9.5, 2.9), layout='constrained')
    axes = chart.subplots(
        1, len(wanted), sharex=True, sharey=True, squeeze=False
    )
    names = (gain.run, gain.control)
    for one, row in zip(axes[0], wanted, strict=True):
        title = FREQUENCIES.get(row.name, row.name)
        one.set_title(title, fontsize=10, loc='left', pad=4)
        one.plot((0, 1), (0, 1), color='#999', linewidth=1, linestyle=':')
        for found, name, colour in zip(
            gain.calibration, names, RUNS, strict=False
        ):
            own = next(
                x for x in found if (x.by, x.name) == (row.by, row.name)
            )
            points = [
                (score, precision)
                for score, precision in zip(
                    own.scores, own.precisions, strict=True
                )
                if score is not None and precision is not None
            ]
            one.plot(
                *np.array(points).reshape(-1, 2).T,
                marker='o',
                markersize=4,
                color=colour,
                label=name,
            )
        one.grid(color='#eee')
        one.set_aspect('equal')
    axes[0, 0].set_ylabel('precision at IoU 0.5')
    chart.supxlabel('score', fontsize=10)
    _legend(chart)
    return chart
