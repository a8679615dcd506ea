"""Draw a scatter plot of gains against training annotations."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from .record import FREQUENCIES, ClassGain, StrataGain
from .text import points, quantity

FREQUENCY_COLOURS = {'r': '#8e44ad', 'c': '#d1930f', 'f': '#12888a'}
NONE_AT = 0.4  # position of classes without annotations on the log axis
TITLE = 'title:'  # marks links that become tooltips


def draw_by_annotations(gain: StrataGain) -> Figure:
    """Draw one dot per class against its training annotations, and the mean.

    The lower panel repeats the running mean and its interval at their own
    scale, because single classes vary much more than the mean.
    """
    has_mean = gain.running_mean is not None
    ratios = (5, 3) if has_mean else (1,)
    chart = Figure(figsize=(9.5, 7 if has_mean else 4.6), layout='constrained')
    panels = chart.subplots(
        len(ratios), 1, height_ratios=ratios, sharex=True, squeeze=False
    )[:, 0]
    dots, last = panels[0], panels[-1]
    limit = _limit(gain)
    classes = [row for row in gain.classes if row.shown.value is not None]
    for key, name in FREQUENCIES.items():
        group = [row for row in classes if row.frequency == key]
        _scatter(dots, group, f'{name} ({key}): {len(group)}', limit)
    for axes in panels:
        _style(axes, gain)
    low = -limit if gain.control is not None else 0
    dots.set_ylim(low * 1.06, limit * 1.06)
    dots.set_ylabel(quantity(gain))
    if has_mean:
        _mean(dots, gain, label='running mean')
        _mean(last, gain)
        last.set_ylabel('running mean')
    _count_axis(last, [row.train_annotations for row in classes])
    last.set_xlabel('training annotations of the class (log)')
    dots.legend(
        loc='lower left',
        bbox_to_anchor=(0, 1),
        ncols=5,
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.4,
    )
    return chart


def _limit(gain: StrataGain) -> float:
    """Return the limit of the axis in points: most dots are within it."""
    sizes = [
        abs(100 * row.shown.value)
        for row in gain.classes
        if row.shown.value is not None
    ]
    if gain.control is None:
        return 100
    top = float(np.quantile(sizes, 0.98)) if sizes else 1
    if len(sizes) < 50 and sizes:
        top = max(sizes)
    return min(100, max(1, math.ceil(1.1 * top)))


def num_outside(gain: StrataGain) -> int:
    """Count the classes that the chart draws as triangles at its edge."""
    limit = _limit(gain)
    return sum(
        row.shown.value is not None and abs(100 * row.shown.value) > limit
        for row in gain.classes
    )


def _scatter(
    axes: Axes, rows: Sequence[ClassGain], label: str, limit: float
) -> None:
    """Draw one dot per class; triangles at the edge for those beyond it."""
    for marker, low, high in (
        ('o', -limit, limit),
        ('^', math.nextafter(limit, math.inf), math.inf),
        ('v', -math.inf, math.nextafter(-limit, -math.inf)),
    ):
        shown = [row for row in rows if low <= _height(row) <= high]
        if not shown:
            continue
        heights = np.array([_height(row) for row in shown])
        marks = axes.scatter(
            [row.train_annotations or NONE_AT for row in shown],
            heights.clip(-limit, limit),
            s=18,
            marker=marker,
            color=FREQUENCY_COLOURS[shown[0].frequency],
            alpha=0.65,
            linewidths=0,
            label=label if marker == 'o' else None,
            zorder=2,
        )
        marks.set_urls([TITLE + _title(row) for row in shown])


def _height(row: ClassGain) -> float:
    return 100 * (row.shown.value or 0)


def _title(row: ClassGain) -> str:
    form, unit = ('.1f', '% AP') if row.gain is None else ('+.1f', 'points')
    return (
        f'{row.name}: {points(row.shown.value, form)} {unit}; '
        f'{row.train_annotations:,} training annotations, '
        f'{row.val_instances:,} instances evaluated'
    )


def add_titles(html: str) -> str:
    """Turn the links of the dots into tooltips."""
    return re.sub(
        rf'<a xlink:href="{TITLE}([^"]*)"[^>]*>(.*?)</a>',
        r'<g><title>\1</title>\2</g>',
        html,
        flags=re.DOTALL,
    )


def _style(axes: Axes, gain: StrataGain) -> None:
    if gain.control is not None:
        axes.axhline(0, color='#222', linewidth=1, zorder=1)
    axes.set_xscale('log')
    axes.grid(axis='y', color='#eee', zorder=0)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)


def _mean(axes: Axes, gain: StrataGain, label: str | None = None) -> None:
    curve = gain.running_mean
    assert curve is not None
    if curve.low:
        axes.fill_between(
            curve.annotations,
            100 * np.array(curve.low),
            100 * np.array(curve.high),
            color='#222',
            alpha=0.18,
            linewidth=0,
            zorder=3,
            label=label and f'{gain.confidence:.0%} interval',
        )
    axes.plot(
        curve.annotations,
        100 * np.array(curve.value),
        color='#222',
        linewidth=2,
        zorder=4,
        label=label,
    )


def _count_axis(axes: Axes, counts: Sequence[int]) -> None:
    """Label the log axis with plain numbers, and 0 at ``NONE_AT``."""
    top = max([*counts, 10])
    has_none = 0 in counts
    first = math.floor(math.log10(min([c for c in counts if c], default=1)))
    low = NONE_AT * 0.7 if has_none else 0.8 * 10**first
    axes.set_xlim(low, top * 1.3)
    ticks = [10.0**k for k in range(first, int(math.log10(top)) + 1)]
    axes.set_xticks([NONE_AT, *ticks] if has_none else ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f'{x:,.0f}' if x >= 1 else '0')
    )
