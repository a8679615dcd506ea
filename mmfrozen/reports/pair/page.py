"""Write the page and the chart that compare a pair of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import page
from ..runs.page import DPI
from ..runs.style import LOOKS, PANEL, plain
from ..strata.record import Estimate
from .comparison import IOU_TYPES, PairComparison
from .tables import make_tables

INTERVALS = (
    'Intervals of 95 % are bootstrapped over the {num} evaluated images, in '
    'pairs: both runs on the same resamples. "No difference shown" means '
    'that the interval contains zero. Intervals show how the figures of these '
    'two trained models vary with the evaluated images. Between seeds the '
    'differences can vary by more than the intervals{seed}: train several '
    'seeds, and compare them with `mmfrozen compare`. The same seed on '
    'another machine may give other figures.'
)
TIMES = (
    'Times are medians of {num} pairs of steps that both trained models '
    'took in turn, on the same batches, in one process ({threads} threads, '
    '{device}, torch {torch}); they exclude waiting for data. The ratio is '
    'the median over pairs, with quartiles.'
)
BUDGETS = (
    'Equal time gives the frozen run as many steps as fit into the training '
    'time of its control, with a schedule of its own of that length: the rate '
    'decays to the same value at its end. A run that is stopped before its '
    'rate has decayed would say nothing about one that was meant to be '
    'shorter. All times exclude evaluations and the start of the run.'
)
CAPTION = (
    'Every point is the end of a schedule. Bands and whiskers are intervals '
    'of one run over the images; those of the differences, in the tables, '
    'are narrower, since both runs are judged on the same images.'
)


def draw_pair(pair: PairComparison) -> Figure | None:
    """Draw AP against training time, or against steps without times.

    Returns:
        None if the runs share no AP.
    """
    gains = [{gain.name: gain for gain in b.gains} for b in pair.budgets]
    names = [ap for ap in IOU_TYPES.values() if ap in gains[0]]
    names = names or list(gains[0])[:1]
    if not names:
        return None
    chart = Figure(
        figsize=(PANEL[0] * 1.2 * len(names), PANEL[1] * 1.2),
        layout='constrained',
    )
    panels = chart.subplots(1, len(names), squeeze=False)[0]
    places = [pair.seconds(budget) for budget in pair.budgets]
    for name, axes in zip(names, panels, strict=True):
        plain(axes)
        runs = [found[name].run for found in gains]
        _draw(axes, pair.state, [place[0] for place in places], runs)
        control = gains[0][name].control
        _draw(axes, pair.control, [places[0][1]], [control])
        axes.set_ylabel(f'{name}, %')
        axes.set_xlabel(
            'training step' if pair.times is None else 'training time, s'
        )
        axes.margins(0.18)
    panels[0].legend(frameon=False, fontsize=8.5, loc='best')
    return chart


def _draw(
    axes: Axes, state: str, x: list[float], estimates: list[Estimate]
) -> None:
    colour, marker = LOOKS.get(state, LOOKS['unknown'])  # any folder name
    y, low, high = (
        np.array([np.nan if v is None else 100 * v for v in values])
        for values in zip(
            *((e.value, e.low, e.high) for e in estimates), strict=True
        )
    )
    axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    axes.errorbar(
        x,
        y,
        np.nan_to_num([y - low, high - y]),
        color=colour,
        marker=marker,
        ms=7,
        mec='white',
        lw=1.6,
        elinewidth=1.2,
        capsize=3,
        label=state,
    )


def describe(pair: PairComparison) -> list[str]:
    """Return notes on the figures, one paragraph each."""
    found = []
    if pair.times is not None:
        times = pair.times
        found.append(
            TIMES.format(
                num=times.run.num,
                threads=times.threads,
                device=times.device,
                torch=times.torch,
            )
        )
        if times.engine:
            found.append(times.engine)
    if len(pair.budgets) > 1:
        found.append(BUDGETS)
    if pair.num_images is None:
        found.append(
            'No intervals: they need the matches that StratifiedLVISMetric or '
            'StratifiedCocoMetric writes.'
        )
    else:
        seed = '' if pair.seed is None else f' (these have seed {pair.seed})'
        found.append(INTERVALS.format(num=pair.num_images, seed=seed))
    return found


def write_pair_page(folder: Path, pair: PairComparison) -> tuple[Path, ...]:
    """Write the page and the chart, replacing older ones.

    Returns:
        Paths of the page and, if there is one, the chart.
    """
    chart = draw_pair(pair)
    cost, *aps = make_tables(pair)
    parts = [page.section(cost.title, [page.table(cost.head, cost.rows)])]
    parts += [
        page.section(table.title, [page.table(table.head, table.rows)])
        for table in aps
    ]
    written = [folder / 'pair.html']
    if chart is not None:
        unit = 'steps' if pair.times is None else 'time'
        title = f'AP against training {unit}'
        parts.append(page.section(title, [page.figure(chart, CAPTION)]))
        written.append(folder / 'pair.png')
        page.save_png(chart, written[-1], dpi=DPI, bbox_inches='tight')
    notes = [page.paragraph(text, note=True) for text in describe(pair)]
    parts.append(page.section('How to read this', notes))
    page.write_page(
        written[0],
        f'{pair.experiment}: {pair.state} beside {pair.control}',
        parts,
        replace=True,
    )
    return tuple(written)
