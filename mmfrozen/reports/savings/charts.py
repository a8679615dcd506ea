"""Draw charts of what freezing saves in a training step."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ...cost import Flops
from ...tracing.trace_pair import Savings
from ...tracing.traced_step import ComponentCost
from ..page import COLOURS
from .comparison import match_components, saved, thin_out
from .tables import GIB, GIGA, percent

TERA = 1e12

#: Opacity of a side's colour by kind of FLOPs.
KINDS = {'forward': 1.0, 'inputs': 0.65, 'weights': 0.35}
SIDE_COLOURS = (COLOURS['frozen'], COLOURS['finetuned'])


def component_chart(savings: Savings, macs: bool = False) -> Figure:
    """Draw stacked bars of FLOPs by component, frozen above its control."""
    rows = [
        row for row in match_components(savings) if _share(savings, row) > 1e-3
    ]
    chart = Figure(figsize=(9, 0.8 + 0.56 * len(rows)), layout='constrained')
    axes = chart.add_subplot()
    scale = GIGA * (2 if macs else 1) * savings.work.batch_size
    for place, (_, *costs) in enumerate(rows):
        for side, cost in enumerate(costs):
            _stack(axes, place + 0.4 * side - 0.2, cost.flops, side, scale)
        _note(axes, place, [cost.flops.total for cost in costs], scale)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f'{"GMACs" if macs else "GFLOPs"} per image')
    axes.margins(x=0.1)
    _clean(axes)
    handles = [
        Patch(color=colour, alpha=alpha, label=f'{side.label}, {kind}')
        for side, colour in zip(savings.sides, SIDE_COLOURS, strict=True)
        for kind, alpha in KINDS.items()
    ]
    chart.legend(
        handles=handles, loc='outside upper center', ncols=2, frameon=False
    )
    return chart


def _share(
    savings: Savings, row: tuple[str, ComponentCost, ComponentCost]
) -> float:
    total = savings.control.step.total.flops.total
    return max(row[1].flops.total, row[2].flops.total) / max(1, total)


def _stack(
    axes: Axes, place: float, flops: Flops, side: int, scale: float
) -> None:
    left = 0.0
    parts = (flops.forward, flops.backward_input, flops.backward_weight)
    for value, alpha in zip(parts, KINDS.values(), strict=True):
        axes.barh(
            place,
            value / scale,
            0.36,
            left,
            color=SIDE_COLOURS[side],
            alpha=alpha,
            linewidth=0,
        )
        left += value / scale


def _note(axes: Axes, place: int, totals: Sequence[int], scale: float) -> None:
    """Write the saving next to the end of the bars."""
    share = saved(totals[0], totals[1])
    if share is not None and abs(share) >= 5e-3:
        axes.annotate(
            f'{-100 * share:+.0f} %',
            (max(totals) / scale, place),
            (4, 0),
            textcoords='offset points',
            va='center',
            color=COLOURS['gain' if share > 0 else 'loss'],
        )


def memory_chart(savings: Savings) -> Figure:
    """Draw stacked bars of the content of each side's memory at its peak."""
    chart = Figure(figsize=(9, 2.1), layout='constrained')
    axes = chart.add_subplot()
    looks = (('#4d4d4d', 1.0), ('#a6a6a6', 1.0), (None, 1.0), (None, 0.4))
    for place, side in enumerate(savings.sides):
        left = 0.0
        for value, (grey, alpha) in zip(
            side.step.peak_parts.values(), looks, strict=True
        ):
            axes.barh(
                place,
                value / GIB,
                0.6,
                left,
                color=grey or SIDE_COLOURS[place],
                alpha=alpha,
                linewidth=0,
            )
            left += value / GIB
        axes.annotate(
            f'{left:.1f} GiB, in the {side.step.peak_phase}',
            (left, place),
            (4, 0),
            textcoords='offset points',
            va='center',
        )
    axes.set_yticks((0, 1), [side.label for side in savings.sides])
    axes.invert_yaxis()
    axes.set_xlabel('GiB')
    axes.margins(x=0.22)
    _clean(axes)
    handles = [
        Patch(color=grey or SIDE_COLOURS[0], alpha=alpha, label=name)
        for name, (grey, alpha) in zip(
            savings.frozen.step.peak_parts, looks, strict=True
        )
    ]
    chart.legend(
        handles=handles, loc='outside upper center', ncols=4, frameon=False
    )
    return chart


def timeline_chart(
    savings: Savings, memory_bytes: int | None = None
) -> Figure:
    """Draw live bytes over the FLOPs done in the step, one line per side.

    Args:
        savings: The pair.
        memory_bytes: Memory of the GPU, shown as a line; None for no line.
    """
    chart = Figure(figsize=(9, 3.6), layout='constrained')
    axes = chart.add_subplot()
    for side, colour in zip(savings.sides, SIDE_COLOURS, strict=True):
        points = thin_out(side.step.timeline, 600)
        x = [flops / TERA for flops, _ in points]
        y = [nbytes / GIB for _, nbytes in points]
        axes.plot(x, y, color=colour, label=side.label, linewidth=1.4)
        axes.fill_between(x, y, color=colour, alpha=0.12, linewidth=0)
        turn = side.step.timeline[side.step.phases['forward'] - 1]
        axes.plot(
            turn[0] / TERA,
            turn[1] / GIB,
            'o',
            color=colour,
            label=f'{side.label}: backward pass begins',
        )
    if memory_bytes:
        axes.axhline(memory_bytes / GIB, color=COLOURS['loss'], linestyle='--')
        axes.annotate(
            f'{memory_bytes / GIB:.1f} GiB',
            (1, memory_bytes / GIB),
            (0, 2),
            xycoords=('axes fraction', 'data'),
            textcoords='offset points',
            ha='right',
            color=COLOURS['loss'],
        )
    axes.set_xlim(0)
    axes.set_ylim(0)
    axes.set_xlabel('TFLOPs done')
    axes.set_ylabel('GiB alive')
    _clean(axes)
    chart.legend(loc='outside upper center', ncols=2, frameon=False)
    return chart


def ap_chart(savings: Savings, ap: tuple[float, float]) -> Figure:
    """Draw cost against AP, with an arrow from control to frozen run.

    Args:
        savings: The pair.
        ap: AP of the frozen run and of its control.
    """
    chart = Figure(figsize=(6, 3.6), layout='constrained')
    axes = chart.add_subplot()
    batch = savings.work.batch_size
    costs = [
        side.step.total.flops.total / batch / GIGA for side in savings.sides
    ]
    axes.annotate(
        '',
        (costs[0], ap[0]),
        (costs[1], ap[1]),
        arrowprops=dict(
            arrowstyle='-|>',
            color=COLOURS['gain' if ap[0] >= ap[1] else 'loss'],
            linewidth=2,
            shrinkA=9,
            shrinkB=9,
        ),
    )
    for side, cost, value, colour in zip(
        savings.sides, costs, ap, SIDE_COLOURS, strict=True
    ):
        axes.scatter([cost], [value], s=70, color=colour, zorder=3)
        above = value >= max(ap) and ap[0] != ap[1]
        axes.annotate(
            f'{side.label}\nAP {value:.1f}, {cost:,.0f} GFLOPs',
            (cost, value),
            (0, 12 if above else -12),
            textcoords='offset points',
            ha='center',
            va='bottom' if above else 'top',
        )
    axes.set_xlabel('GFLOPs of a training step, per image')
    axes.set_ylabel('AP')
    axes.margins(x=0.35, y=0.7)
    _clean(axes)
    return chart


def _clean(axes: Axes) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(length=0)


def headline(savings: Savings) -> str:
    """Return the result in one sentence."""
    frozen, control = (side.step for side in savings.sides)
    shares = [
        saved(a, b) or 0.0
        for a, b in (
            (frozen.total.flops.total, control.total.flops.total),
            (frozen.peak_bytes, control.peak_bytes),
            (frozen.gradient_bytes, control.gradient_bytes),
        )
    ]
    flops, peak, gradients = (
        f'{percent(abs(share))} {"more" if share < 0 else less}'
        for share, less in zip(shares, ('fewer', 'less', 'less'), strict=True)
    )
    what = 'a training step'
    if savings.left_out:
        what = f'the counted part of {what}, without '
        what += f'{", ".join(savings.left_out)},'
    return (
        f'Frozen, {what} takes {flops} FLOPs than '
        f'{savings.control.label}, {peak} memory at its peak, and '
        f'{gradients} gradient traffic between GPUs.'
    )
