"""Number formats and names shared by the tables and charts of strata."""

from __future__ import annotations

from .record import FREQUENCIES, BinGain, Estimate, StrataGain

#: Heads of the families of bins.
FAMILIES = {
    'all': 'all classes',
    'frequency': 'frequency, by training images (r / c / f)',
    'training_annotations': 'training annotations of the class',
    'training_images': 'training images of the class',
    'size': 'object size',
}


def ap_name(gain: StrataGain) -> str:
    """Box or mask AP."""
    return 'box AP' if gain.iou_type == 'bbox' else 'mask AP'


def quantity(gain: StrataGain) -> str:
    """Name the axis on which gains (or APs) are drawn."""
    what = ap_name(gain)
    if gain.control is None:
        return f'{what}, %'
    return f'{what}: run \N{MINUS SIGN} control, points'


def describe(gain: StrataGain) -> str:
    """Say in one line what was compared."""
    runs = gain.run
    if gain.control is not None:
        runs += f' \N{MINUS SIGN} {gain.control}'
    return (
        f'{runs}\n{ap_name(gain)} in %, {gain.protocol.upper()} protocol, '
        f'{gain.num_images:,} images'
    )


def bin_label(row: BinGain) -> str:
    """``rare (r)``; other bins as they are."""
    name = FREQUENCIES.get(row.label)
    return f'{name} ({row.label})' if name else row.label


def short(name: str, longest: int = 30) -> str:
    """A class name that fits beside a chart, without its middle."""
    if len(name) <= longest:
        return name
    half = longest // 2
    return f'{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[half + 1 - longest :]}'


def format_estimate(estimate: Estimate, gain: StrataGain) -> str:
    """``+1.2 [-0.3, +2.8]`` in points; ``-`` where nothing was measured."""
    form = '.1f' if gain.control is None else '+.1f'
    values = estimate.value, estimate.low, estimate.high
    value, low, high = (points(x, form) for x in values)
    return f'{value} [{low}, {high}]' if low and high else value or '-'


def points(value: float | None, form: str) -> str:
    """A fraction of 1 in points; empty for None."""
    # + 0.0 because a rounded -0.04 is no negative number to a reader
    text = '' if value is None else format(round(100 * value, 1) + 0.0, form)
    return text.replace('-', '\N{MINUS SIGN}')
