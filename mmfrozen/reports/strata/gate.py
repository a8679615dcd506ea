"""Check whether a run is worse than its control, for scripts and CI."""

from __future__ import annotations

from collections.abc import Sequence

from .record import BinGain, StrataGain
from .text import points

#: Figures that can be watched, with the family and label of their bin.
WATCHED = {
    'AP': ('all', 'all'),
    'APr': ('frequency', 'r'),
    'APc': ('frequency', 'c'),
    'APf': ('frequency', 'f'),
}


def failures(gain: StrataGain, names: Sequence[str]) -> list[str]:
    """Return the figures of a run below the interval of its control.

    Args:
        gain: A run and its control, with intervals.
        names: Keys of ``WATCHED``.

    Returns:
        One line for each of these figures.

    Raises:
        ValueError: If there is no control or no interval to compare with.
    """
    bins = {(row.family, row.label): row for row in gain.bins}
    lines = []
    for name in names:
        row = bins.get(WATCHED[name])
        value, low, high = _bounds(row)
        if value is None or low is None:
            raise _nothing_to_compare(name)
        if value < low:
            figures = [points(x, '.1f') for x in (value, low, high)]
            lines.append(
                f'{name} of {gain.run} is {figures[0]}, below the '
                f'{gain.confidence:.0%} interval of {gain.control}: '
                f'[{figures[1]}, {figures[2]}].'
            )
    return lines


def check_watched(
    names: Sequence[str], *, has_control: bool, num_resamples: int
) -> None:
    """Refuse to watch figures without an interval, before they are computed.

    Raises:
        ValueError: If there is no control or no interval to compare with.
    """
    if names and not (has_control and num_resamples):
        raise _nothing_to_compare(names[0])


def _nothing_to_compare(name: str) -> ValueError:
    return ValueError(
        '--fail-below needs a run and the interval of its control, got none '
        f'for {name}. Give a CONTROL with results or matches.*.npz, a bin '
        'that has classes, and --resamples above 0.'
    )


def _bounds(row: BinGain | None) -> tuple[float | None, ...]:
    if row is None or row.control is None:
        return None, None, None
    return row.ap.value, row.control.low, row.control.high
