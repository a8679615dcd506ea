"""This module draws the figures of docs/results.md from the records."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..page import COLOURS
from ..runs.seeds import paired_gain
from ..runs.style import LOOKS, PANEL, plain
from .cells import CAPACITIES, PAIR, SEEDS, STEPS, Cell
from .record import ClaimRun

Records = Mapping[Cell, ClaimRun]


def draw_charts(records: Records) -> dict[str, tuple[Figure, str]]:
    """Draw the figures for which runs are recorded.

    Returns:
        Figure and caption by name; figures without records are left out.
    """
    drawn = {
        'capacity': (
            _draw_capacity(records),
            'Claim 1. Box AP, frozen less fine-tuned, against the share of '
            'parameters that train when frozen; each seed, their mean and '
            "Student's 95 % interval.",
        ),
        'annotations': (
            _draw_bins(records),
            'Claim 3. Box AP, frozen less fine-tuned, of classes with so '
            'many training annotations; each seed and their mean.',
        ),
        'schedule': (
            _draw_schedule(records),
            'Claim 4. Box AP of both states and drift of the fine-tuned '
            'backbone against the length of the schedule; means over seeds.',
        ),
    }
    return {
        name: (chart, caption)
        for name, (chart, caption) in drawn.items()
        if chart is not None
    }


def _panels(number: int) -> tuple[Figure, list[Axes]]:
    chart = Figure(
        figsize=(PANEL[0] * number + 1, PANEL[1] + 0.4), layout='constrained'
    )
    panels = list(chart.subplots(1, number, squeeze=False)[0])
    for axes in panels:
        plain(axes)
    return chart, panels


def _pairs(
    records: Records, variant: str, steps: int = STEPS
) -> list[tuple[ClaimRun, ClaimRun]]:
    """Return the frozen and fine-tuned run of each seed that has both."""
    found = [
        [records.get(Cell(variant, state, steps, seed)) for state in PAIR]
        for seed in SEEDS
    ]
    return [(a, b) for a, b in found if a and b]


def _draw_capacity(records: Records) -> Figure | None:
    known = {name: _pairs(records, name) for name in CAPACITIES}
    known = {name: pairs for name, pairs in known.items() if pairs}
    if not known:
        return None
    chart, [axes] = _panels(1)
    chart.set_figwidth(1.4 * chart.get_figwidth())
    for name, pairs in known.items():
        sizes = pairs[0][0].parameters
        share = 100 * sizes.trainable / sizes.total
        gaps = [
            100 * (run.last['box AP'] - control.last['box AP'])
            for run, control in pairs
        ]
        axes.plot([share - 1.5] * len(gaps), gaps, 'o', color='#999', ms=4)
        error = None
        if len(gaps) > 1:
            gain = paired_gain(gaps, [0.0] * len(gaps))
            error = gain.gain - gain.low
        axes.errorbar(
            share,
            fmean(gaps),
            error,
            fmt='D',
            color=COLOURS['frozen'],
            capsize=3,
        )
        axes.annotate(
            f'{CAPACITIES[name]}\n{fmean(gaps):+.1f}',
            (share, 1),
            (0, 4),
            xycoords=('data', 'axes fraction'),
            textcoords='offset points',
            ha='center',
            fontsize=8,
        )
    axes.axhline(0, color='#222', lw=0.8)
    axes.set(
        xlabel='parameters that train when frozen, %',
        ylabel='box AP, frozen - fine-tuned',
        xlim=(20, 100),
    )
    return chart


def _draw_bins(records: Records) -> Figure | None:
    pairs = _pairs(records, 'nas-fpn')
    if not pairs:
        return None
    chart, [axes] = _panels(1)
    names = [bin_.name for bin_ in pairs[0][0].bins]
    lines = [
        [
            100 * (a.ap - b.ap)
            for a, b in zip(run.bins, control.bins, strict=True)
        ]
        for run, control in pairs
    ]
    for line in lines:
        axes.plot(names, line, '.', color='#bbb')
    means = [fmean(values) for values in zip(*lines, strict=True)]
    axes.plot(names, means, 'D-', color=COLOURS['frozen'])
    axes.axhline(0, color='#222', lw=0.8)
    axes.set(
        xlabel='training annotations of a class',
        ylabel='box AP, frozen - fine-tuned',
    )
    return chart


def _draw_schedule(records: Records) -> Figure | None:
    lengths = [
        steps
        for steps in (STEPS // 2, STEPS, 2 * STEPS)
        if _pairs(records, 'nas-fpn', steps)
    ]
    if not lengths:
        return None
    chart, [left, right] = _panels(2)
    for index, state in enumerate(PAIR):
        colour, marker = LOOKS[state]
        runs = [
            [pair[index] for pair in _pairs(records, 'nas-fpn', steps)]
            for steps in lengths
        ]
        aps = [100 * fmean(r.last['box AP'] for r in group) for group in runs]
        left.plot(lengths, aps, marker + '-', color=colour, label=state)
        if state == 'finetuned':
            drift = [fmean(r.drift for r in group) for group in runs]
            right.plot(lengths, drift, marker + '-', color=colour)
    left.legend(frameon=False, fontsize=8)
    left.set(xlabel='training steps', ylabel='box AP, %')
    right.set(xlabel='training steps', ylabel='drift, relative L2')
    return chart
