"""Draw charts of backbone drift and of the parts of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...cost import Flops
from ...freezing.drift import ALL
from ..page import replace_undrawable
from .charts import OVERALL, draw_curves
from .comparison import ComparedRun
from .costs import PARTS
from .step_costs import flops_unit, total_flops
from .style import (
    LOOKS,
    PANEL,
    add_legends,
    dashes,
    plain,
    progress_scale,
    thin,
)

#: Colours of the parts of a step, in the order of ``PARTS``.
PART_COLOURS = ('#b8c4ce', '#1f77b4', '#63a7d8', '#e07b39', '#8e44ad', '#ddd')
FLOPS = {
    'forward': ('forward', '#1f77b4'),
    'backward_input': ('backward for inputs', '#e07b39'),
    'backward_weight': ('backward for weights', '#f2b48b'),
}


def draw_drift(runs: Sequence[ComparedRun]) -> Figure | None:
    """Draw the drift of the backbone and AP, over the run and by stage.

    Returns:
        None if no run recorded a drift.
    """
    drifting = [run for run in runs if run.drift]
    if not drifting:
        return None
    evaluated = [
        ap
        for ap in OVERALL
        if any(ap in e.aps for run in runs for e in run.curve.evaluations)
    ]
    chart = Figure(
        figsize=(PANEL[0] * (2 + bool(evaluated)), PANEL[1] + 0.7),
        layout='constrained',
    )
    panels = chart.subplots(1, 2 + bool(evaluated), squeeze=False)[0]
    for axes in panels:
        plain(axes)
    scale = progress_scale(runs)
    styles = dashes(runs)
    for run in drifting:
        iters = [record.iter for record in run.drift]
        drift = [_drift(record.stages[ALL]) for record in run.drift]
        style = dict(color=LOOKS[run.state][0], ls=styles[run.experiment])
        places = scale.read(run, iters)
        if places:
            marker = '.' if len(places) < 10 else ''
            panels[0].plot(
                *thin(places, drift), lw=1.6, marker=marker, **style
            )
        _draw_stages(panels[-1], run, style)
    panels[0].set_ylabel('relative L2 of the move')
    panels[0].set_title('drift of the backbone', fontsize=9)
    panels[-1].set_title('by stage, at the end', fontsize=9)
    if evaluated:
        draw_curves(panels[1], runs, evaluated[-1], scale)
        panels[1].set_title(f'{evaluated[-1]}, %', fontsize=9)
    for axes in panels[:-1]:
        axes.set_xlabel(scale.name)
        axes.set_xlim(left=0)
    add_legends(chart, runs, lines=True)
    return chart


def _drift(stage: object) -> float:
    return getattr(stage, 'relative_l2', None) or 0.0


def _draw_stages(axes: Axes, run: ComparedRun, style: dict[str, Any]) -> None:
    stages = {
        replace_undrawable(name): _drift(stage)
        for name, stage in run.drift[-1].stages.items()
        if name != ALL
    }
    axes.plot(list(stages), list(stages.values()), marker='.', lw=1, **style)
    axes.tick_params(axis='x', rotation=45)


def draw_parts(runs: Sequence[ComparedRun]) -> Figure | None:
    """Draw time and FLOPs of a step by part, one bar per run.

    Returns:
        None if no run recorded times.
    """
    shown = sorted(
        (run for run in runs if run.cost and run.cost.seconds),
        key=lambda run: (run.experiment, list(LOOKS).index(run.state)),
    )
    if not shown:
        return None
    totals = [total_flops(run.cost) for run in shown]
    is_counted = any(totals)
    chart = Figure(
        figsize=(11.5, (1 + is_counted) * (0.26 * len(shown) + 1)),
        layout='constrained',
    )
    panels = chart.subplots(1 + is_counted, squeeze=False)[:, 0]
    _stack(panels[0], shown, _times(shown))
    panels[0].set_xlabel('time of a step, s (medians)')
    if is_counted:
        unit, name = flops_unit(max(t.total for t in totals if t))
        _stack(panels[1], shown, _flops(totals, unit))
        panels[1].set_xlabel(f'{name} of a step; a multiply-add is 2')
    return chart


#: Colour and lengths (one per run) of each part, by its name.
Bars = dict[str, tuple[str, list[float]]]


def _stack(axes: Axes, runs: Sequence[ComparedRun], bars: Bars) -> None:
    plain(axes)
    axes.grid(axis='y', visible=False)
    rows = range(len(runs))
    axes.set_yticks(rows, [run.label for run in runs], fontsize=8)
    axes.invert_yaxis()
    left = [0.0] * len(runs)
    for name, (colour, widths) in bars.items():
        axes.barh(rows, widths, 0.7, left, color=colour, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.legend(
        loc='lower left',
        bbox_to_anchor=(0, 1),
        ncols=len(bars),
        frameon=False,
        fontsize=8,
        handlelength=1,
        columnspacing=1.2,
    )


def _times(runs: Sequence[ComparedRun]) -> Bars:
    bars = {}
    for (part, name), colour in zip(PARTS.items(), PART_COLOURS, strict=True):
        widths = []
        for run in runs:
            assert run.cost is not None
            spread = run.cost.seconds.get(part)
            steps = run.cost.seconds['step'].num
            # if gradients are accumulated, not every step has an update
            widths.append(
                spread.median * spread.num / steps if spread else 0.0
            )
        bars[name] = colour, widths
    return bars


def _flops(totals: Sequence[Flops | None], unit: int) -> Bars:
    return {
        name: (colour, [getattr(t, field, 0) / unit for t in totals])
        for field, (name, colour) in FLOPS.items()
    }
