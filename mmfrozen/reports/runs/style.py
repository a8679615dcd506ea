"""Define colours, markers, legends and axes for the charts of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..page import COLOURS
from .comparison import ComparedRun
from .step_costs import flops_unit, total_flops

#: Colour and marker of each state.
LOOKS = {
    'frozen': (COLOURS['frozen'], 'o'),
    'partial': ('#63a7d8', 'D'),
    'thawed': ('#8e44ad', 'P'),
    'finetuned': (COLOURS['finetuned'], 's'),
    'scratch': (COLOURS['scratch'], '^'),
    'unknown': ('#222222', 'X'),
}
DASHES = ('-', '--', '-.', ':')
BLOCKS = 150  # points of a thinned curve
PANEL = (3.6, 2.7)  # inches


@dataclass(frozen=True)
class Scale:
    """A horizontal axis for the progress of training.

    Attributes:
        name: Name and unit.
        read: Returns the positions of a run's training steps on the axis;
            None for a run without the necessary data.
    """

    name: str
    read: Callable[[ComparedRun, Sequence[int]], list[float] | None]


def find_scales(runs: Sequence[ComparedRun]) -> list[Scale]:
    """Return the axes: epochs or steps, training time, and FLOPs if known."""
    progress = progress_scale(runs)
    ends = [run.curve.steps[-1].seconds for run in runs if run.curve.steps]
    unit, seconds = ('h', 3600) if max(ends, default=0) > 5400 else ('min', 60)
    scales = [progress, Scale(f'training time, {unit}', _time(seconds))]
    most = max((_all_flops(run) for run in runs), default=0)
    if most:
        scales.append(_flops_scale(most))
    return scales


def progress_scale(runs: Sequence[ComparedRun]) -> Scale:
    """Return an axis of epochs if known for all runs, else of steps."""
    if all(run.iters_per_epoch for run in runs):
        return Scale('epoch', _epochs)
    return Scale('training step', lambda run, iters: [float(i) for i in iters])


def _epochs(run: ComparedRun, iters: Sequence[int]) -> list[float] | None:
    length = run.iters_per_epoch
    return [i / length for i in iters] if length else None


def _time(
    unit: int,
) -> Callable[[ComparedRun, Sequence[int]], list[float] | None]:
    def read(run: ComparedRun, iters: Sequence[int]) -> list[float] | None:
        seconds = [run.curve.seconds_at(i) for i in iters]
        return [s / unit for s in seconds if s is not None] or None

    return read


def _step_flops(run: ComparedRun) -> int:
    """Return the FLOPs of a step in all processes; 0 if not known."""
    flops = total_flops(run.cost)
    return flops.total * run.cost.world_size if flops and run.cost else 0


def _all_flops(run: ComparedRun) -> int:
    steps = run.curve.steps
    return _step_flops(run) * steps[-1].iter if steps else 0


def _flops_scale(most: int) -> Scale:
    unit, name = flops_unit(most)

    def read(run: ComparedRun, iters: Sequence[int]) -> list[float] | None:
        flops = _step_flops(run)
        return [flops * i / unit for i in iters] if flops else None

    return Scale(f'training {name} of all processes', read)


def name_experiments(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """Return a letter for each experiment; empty if there is only one."""
    names = list(dict.fromkeys(run.experiment for run in runs))
    if len(names) < 2:
        return {}
    letters = [
        (ascii_uppercase[i // 26 - 1] if i >= 26 else '')
        + ascii_uppercase[i % 26]
        for i in range(len(names))
    ]
    return dict(zip(names, letters, strict=True))


def dashes(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """Return a line style for each experiment."""
    names = dict.fromkeys(run.experiment for run in runs)
    return {name: DASHES[i % len(DASHES)] for i, name in enumerate(names)}


def plain(axes: Axes) -> None:
    """Style axes plainly: a light grid, no upper and right frame."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(color='#e8e8e8', lw=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def add_legends(
    chart: Figure, runs: Sequence[ComparedRun], *, lines: bool
) -> None:
    """Add a legend of states above a chart and of experiments below it.

    Args:
        chart: The chart.
        runs: The runs in the chart.
        lines: Whether runs are drawn as lines rather than dots.
    """
    states = {run.state for run in runs}
    entries = []
    for state, (colour, marker) in LOOKS.items():
        style: dict[str, Any] = (
            dict(ls='-', lw=2) if lines else dict(ls='', marker=marker)
        )
        if state in states:
            entries.append(Line2D([], [], color=colour, label=state, **style))
    style = dict[str, Any](frameon=False, fontsize=8.5)
    chart.legend(
        handles=entries, loc='outside upper left', ncols=len(entries), **style
    )
    styles = dashes(runs)
    entries = [
        Line2D(
            [],
            [],
            color='#555',
            lw=1.5,
            ls=styles[name] if lines else '',
            label=name if lines else f'{letter}  {name}',
        )
        for name, letter in name_experiments(runs).items()
    ]
    if entries:
        chart.legend(
            handles=entries,
            loc='outside lower left',
            ncols=max(1, int(chart.get_figwidth() / 3.2)),
            handlelength=2.5 if lines else 0,
            **style,
        )


def thin(
    x: Sequence[float], y: Sequence[float]
) -> tuple[Sequence[float], Sequence[float]]:
    """Average the points of a long curve in ``BLOCKS`` blocks."""
    if len(x) <= 2 * BLOCKS:
        return x, y
    return _averages(x), _averages(y)


def _averages(values: Sequence[float]) -> list[float]:
    blocks = np.array_split(np.asarray(values, float), BLOCKS)
    return [float(np.mean(block)) for block in blocks]
