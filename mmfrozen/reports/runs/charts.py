"""Draw charts of several runs: cost against AP, and learning curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..page import COLOURS
from .comparison import ComparedRun, Pair
from .step_costs import flops_unit, peak_bytes, total_flops
from .style import (
    LOOKS,
    PANEL,
    Scale,
    add_legends,
    dashes,
    find_scales,
    name_experiments,
    plain,
    thin,
)

#: APs that charts show, if a run has them.
OVERALL = ('box AP', 'mask AP', 'AP')
RARE = ('box APr', 'mask APr')
#: Relative difference of measured costs below which no arrow is drawn.
NOISE = 0.02


@dataclass(frozen=True)
class Cost:
    """A cost of a training step.

    Attributes:
        name: Name and unit.
        read: Returns the cost of a run; None where it is not known.
        noise: Relative difference, as a fraction of the larger value, below
            which two measured values do not differ significantly.
    """

    name: str
    read: Callable[[ComparedRun], float | None]
    noise: float = 0.0


def _flops(runs: Sequence[ComparedRun]) -> Cost:
    found = [total_flops(run.cost) for run in runs]
    unit, name = flops_unit(max((f.total for f in found if f), default=0))

    def read(run: ComparedRun) -> float | None:
        flops = total_flops(run.cost)
        return flops.total / unit if flops else None

    return Cost(f'{name} of a step', read)


def _gib(run: ComparedRun) -> float | None:
    size = peak_bytes(run.cost)
    return size / 2**30 if size else None


COSTS = (
    Cost('peak memory, GiB', _gib, NOISE),
    Cost('time of a step, s', lambda run: run.step_seconds, NOISE),
    Cost(
        'energy of a step, J',
        lambda run: run.cost.joules_per_step if run.cost else None,
        NOISE,
    ),
)


def draw_costs(
    runs: Sequence[ComparedRun], pairs: Sequence[Pair]
) -> Figure | None:
    """Draw cost against AP, with an arrow from each control to its run.

    Returns:
        A panel for each AP and each cost; None if no run has both.
    """
    rows = [ap for ap in (*OVERALL, *RARE) if any(ap in r.aps for r in runs)]
    known = (_flops(runs), *COSTS)
    costs = [c for c in known if any(c.read(r) for r in runs if r.aps)]
    if not rows or not costs:
        return None
    chart, panels = _grid(len(rows), len(costs))
    letters = name_experiments(runs)
    for ap, line in zip(rows, panels, strict=True):
        line[0].set_ylabel(f'{ap}, %')
        for cost, axes in zip(costs, line, strict=True):
            for pair in pairs:
                _arrow(axes, pair, ap, cost)
            for run in runs:
                _dot(axes, run, ap, cost, letters)
            axes.margins(0.16)
    for cost, axes in zip(costs, panels[-1], strict=True):
        axes.set_xlabel(cost.name)
    add_legends(chart, runs, lines=False)
    return chart


def _grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    chart = Figure(
        figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.6),
        layout='constrained',
    )
    panels = chart.subplots(
        rows, columns, sharex='col', sharey='row', squeeze=False
    )
    for axes in panels.flat:
        plain(axes)
    return chart, panels


def _place(
    run: ComparedRun, ap: str, cost: Cost
) -> tuple[float, float] | None:
    x, y = cost.read(run), run.aps.get(ap)
    return None if x is None or y is None else (x, 100 * y)


def _dot(
    axes: Axes,
    run: ComparedRun,
    ap: str,
    cost: Cost,
    letters: dict[str, str],
) -> None:
    place = _place(run, ap, cost)
    if place is None:
        return
    colour, marker = LOOKS[run.state]
    size = 12 if letters else 8
    axes.plot(*place, marker, color=colour, ms=size, mec='white', zorder=3)
    if letters:
        axes.annotate(
            letters[run.experiment],
            place,
            ha='center',
            va='center_baseline',
            fontsize=7,
            color='white',
            zorder=4,
        )


def _arrow(axes: Axes, pair: Pair, ap: str, cost: Cost) -> None:
    begin, end = (_place(run, ap, cost) for run in (pair.control, pair.run))
    if begin is None or end is None:
        return
    if abs(end[0] - begin[0]) < cost.noise * max(end[0], begin[0]):
        return
    colour = COLOURS['gain' if end[1] >= begin[1] else 'loss']
    axes.annotate(
        '',
        end,
        begin,
        arrowprops=dict(
            arrowstyle='-|>',
            color=colour,
            lw=1.6,
            ls='-' if pair.has_equal_training else ':',
            shrinkA=6,
            shrinkB=6,
        ),
        zorder=2,
    )


def draw_learning(runs: Sequence[ComparedRun]) -> Figure | None:
    """Draw AP and loss against progress, training time and FLOPs.

    Returns:
        None if nothing was logged.
    """
    if not any(run.curve.steps for run in runs):
        return None
    rows = [
        *(
            ap
            for ap in OVERALL
            if any(len(_points(run, ap)[0]) > 1 for run in runs)
        ),
        'loss',
    ]
    scales = find_scales(runs)
    chart, panels = _grid(len(rows), len(scales))
    for row, line in zip(rows, panels, strict=True):
        line[0].set_ylabel('loss' if row == 'loss' else f'{row}, %')
        for scale, axes in zip(scales, line, strict=True):
            draw_curves(axes, runs, row, scale)
    _leave_out_first_losses(panels[-1][0], runs)
    for scale, axes in zip(scales, panels[-1], strict=True):
        axes.set_xlabel(scale.name)
        axes.set_xlim(left=0)
    add_legends(chart, runs, lines=True)
    return chart


def draw_curves(
    axes: Axes, runs: Sequence[ComparedRun], row: str, scale: Scale
) -> None:
    """Draw one curve per run.

    Args:
        axes: Axes to draw on.
        runs: The runs.
        row: ``'loss'``, or the name of an AP.
        scale: The horizontal axis.
    """
    styles = dashes(runs)
    for run in runs:
        iters, values = _points(run, row)
        places = scale.read(run, iters) if iters else None
        if not places:
            continue
        x, y = thin(places, values)
        axes.plot(
            x,
            y,
            ls=styles[run.experiment],
            color=LOOKS[run.state][0],
            lw=1.1 if row == 'loss' else 1.6,
            marker='' if row == 'loss' or len(x) > 40 else '.',
            ms=5,
        )


def _points(run: ComparedRun, row: str) -> tuple[list[int], list[float]]:
    if row == 'loss':
        steps = [s for s in run.curve.steps if np.isfinite(s.loss)]
        return [s.iter for s in steps], [s.loss for s in steps]
    found = [e for e in run.curve.evaluations if row in e.aps]
    return [e.iter for e in found], [100 * e.aps[row] for e in found]


def _leave_out_first_losses(axes: Axes, runs: Sequence[ComparedRun]) -> None:
    """Limit the axis, as the first losses are much larger than the others."""
    losses = [loss for run in runs for loss in _points(run, 'loss')[1]]
    if len(losses) < 20:
        return
    low, high = np.quantile(losses, (0.002, 0.97))
    room = 0.08 * (high - low)
    if high > low:
        axes.set_ylim(low - room, high + room)
