"""Compute errors by type, confusions and calibration of category bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..run_files import Calibration, Confusion, ErrorGain
from .error_gains import count_errors, error_gains_per_class
from .error_types import CLS
from .matches import Matches
from .strata import Bins, in_bins, mean, or_none

#: Number of score bins from 0 to 1.
TENTHS = 10


def error_bins(matches: Matches, bins: Sequence[Bins]) -> list[Bins]:
    """Return the binnings used for errors, starting with all categories.

    Args:
        matches: Matches of one evaluation.
        bins: Binnings from :func:`~.strata.default_bins`.
    """
    every = np.zeros(len(matches.category_ids), np.int64)
    kept = [x for x in bins if x.by in ('frequency', 'training_annotations')]
    return [Bins('all', ('all',), (None,), (None,), every), *kept]


def error_gains(matches: Matches, bins: Sequence[Bins]) -> list[ErrorGain]:
    """Return the AP50 that each bin would gain by fixing each error type.

    Args:
        matches: Matches of one evaluation.
        bins: Binnings from :func:`error_bins`.
    """
    counts = count_errors(matches)
    return [
        ErrorGain(binning.by, part, name, int(num), or_none(gain))
        for name, gains in error_gains_per_class(matches).items()
        for binning in bins
        for part, num, gain in zip(
            binning.names,
            in_bins(binning, counts[name], np.sum),
            in_bins(binning, gains, mean),
            strict=True,
        )
    ]


def confusions(matches: Matches, frequency: Bins) -> list[Confusion]:
    """Count errors of type Cls by the true and the predicted frequency bin."""
    assert matches.errors is not None and matches.targets is not None
    confused = matches.errors == CLS
    true = matches.gt_categories[matches.targets[confused]]
    predicted = matches.categories[confused]
    number = len(frequency.names)
    table = np.zeros((number, number), np.int64)
    pairs = frequency.members[true], frequency.members[predicted]
    np.add.at(table, pairs, 1)
    return [
        Confusion(name, other, int(table[i, j]))
        for i, name in enumerate(frequency.names)
        for j, other in enumerate(frequency.names)
    ]


def calibrations(matches: Matches, bins: Sequence[Bins]) -> list[Calibration]:
    """Compare scores with precision in each bin of each binning."""
    counts = matches.ignored[0] & 1 == 0
    right = (matches.matched[0] & 1)[counts]
    scores = matches.scores[counts]
    categories = matches.categories[counts]
    tenth = np.clip((scores * TENTHS).astype(int), 0, TENTHS - 1)
    found = []
    for binning in bins:
        members = binning.members[categories]
        for index, name in enumerate(binning.names):
            own = members == index
            nums = np.bincount(tenth[own], minlength=TENTHS)
            with np.errstate(invalid='ignore'):
                means, shares = (
                    np.bincount(tenth[own], values[own], TENTHS) / nums
                    for values in (scores, right)
                )
            distance = np.abs(means - shares)[nums > 0]
            total = nums.sum()
            found.append(
                Calibration(
                    binning.by,
                    name,
                    float(distance @ nums[nums > 0] / total)
                    if total
                    else None,
                    [or_none(x) for x in means],
                    [or_none(x) for x in shares],
                    nums.tolist(),
                )
            )
    return found
