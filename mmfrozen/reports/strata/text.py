"""Format numbers and names for the tables and charts of strata."""

from __future__ import annotations

from .record import FREQUENCIES, BinGain, Estimate, StrataGain

#: Titles of the families of bins.
FAMILIES = {
    'all': 'all classes',
    'frequency': 'frequency, by training images (r / c / f)',
    'training_annotations': 'training annotations of the class',
    'training_images': 'training images of the class',
    'size': 'object size',
}


def ap_name(gain: StrataGain) -> str:
    """Return ``'box AP'`` or ``'mask AP'``."""
    return 'box AP' if gain.iou_type == 'bbox' else 'mask AP'


def quantity(gain: StrataGain) -> str:
    """Return the title of an axis of gains (or APs)."""
    what = ap_name(gain)
    if gain.control is None:
        return f'{what}, %'
    return f'{what}: run \N{MINUS SIGN} control, points'


def describe(gain: StrataGain) -> str:
    """Return a title in two lines: runs, then conditions."""
    runs = gain.run
    if gain.control is not None:
        runs += f' \N{MINUS SIGN} {gain.control}'
    return (
        f'{runs}\n{ap_name(gain)} in %, {gain.protocol.upper()} protocol, '
        f'{gain.num_images:,} images'
    )


def bin_label(row: BinGain) -> str:
    """Return the label of a bin, such as ``rare (r)`` or ``10-31``."""
    name = FREQUENCIES.get(row.label)
    return f'{name} ({row.label})' if name else row.label


def short(name: str, longest: int = 30) -> str:
    """Shorten a class name to ``longest`` characters by cutting its middle."""
    if len(name) <= longest:
        return name
    half = longest // 2
    return f'{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[half + 1 - longest :]}'


def format_estimate(estimate: Estimate, gain: StrataGain) -> str:
    """Format as ``+1.2 [-0.3, +2.8]`` in points; ``-`` if undefined."""
    form = '.1f' if gain.control is None else '+.1f'
    values = estimate.value, estimate.low, estimate.high
    value, low, high = (points(x, form) for x in values)
    return f'{value} [{low}, {high}]' if low and high else value or '-'


def points(value: float | None, form: str) -> str:
    """Format a fraction of 1 in points; empty for None."""
    # + 0.0 turns -0.0, from rounding, into 0.0
    text = '' if value is None else format(round(100 * value, 1) + 0.0, form)
    return text.replace('-', '\N{MINUS SIGN}')
