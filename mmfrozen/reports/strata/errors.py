"""Compare two runs by types of error, with paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...evaluation.bootstrap import image_weights
from ...evaluation.error_gains import count_errors, error_gains_per_class
from ...evaluation.error_strata import calibrations, confusions, error_bins
from ...evaluation.error_types import TYPES
from ...evaluation.match_detections import Matches
from ...evaluation.strata import Bins
from ...run_files import Calibration, Confusion, StrataRecord
from .paired_bootstrap import CHUNK, Samples, bin_gain
from .record import BinGain, ErrorCost, Estimate

Track = Callable[[Sequence[int]], Iterable[int]]


def have_error_types(runs: Sequence[Matches | StrataRecord]) -> bool:
    """Return whether all runs have error types; old records have none."""
    return all(run.errors is not None for run in runs)


def resample_errors(
    runs: Sequence[Matches],
    num_resamples: int,
    *,
    seed: int = 0,
    track: Track = iter,
) -> dict[str, list[Samples]]:
    """Compute AP50 gains by fixing errors, on the same resamples for all runs.

    Args: As for :func:`~.paired_bootstrap.resample`.

    Returns:
        Gains by type of error, one for each run.
    """
    num_images = len(runs[0].image_ids)
    weights = image_weights(num_images, max(num_resamples, 1), seed)
    chunks = [
        [
            error_gains_per_class(run, weights[start : start + CHUNK])
            for run in runs
        ]
        for start in track(range(0, num_resamples, CHUNK))
    ]
    values = [error_gains_per_class(run) for run in runs]
    none = np.empty((0, len(runs[0].category_ids)))
    return {
        name: [
            Samples(
                value[name],
                np.concatenate(
                    [none, *(chunk[index][name] for chunk in chunks)]
                ),
            )
            for index, value in enumerate(values)
        ]
        for name in TYPES
    }


def error_costs(
    runs: Sequence[Matches],
    samples: dict[str, list[Samples]],
    families: Sequence[Bins],
    confidence: float,
) -> tuple[ErrorCost, ...]:
    """Return what each type of error costs all classes and each bin.

    Args:
        runs: The run, and the control if there is one.
        samples: From :func:`resample_errors`.
        families: Binnings of the classes.
        confidence: Confidence level of the intervals.
    """
    counts = [count_errors(run) for run in runs]
    found = []
    for bins in error_bins(runs[0], families):
        for index, label in enumerate(bins.names):
            members = bins.members == index
            for name, own in samples.items():
                nums = [int(count[name][members].sum()) for count in counts]
                row = bin_gain(
                    runs[0], own, bins.by, label, members, 'all', confidence
                )
                found.append(
                    ErrorCost(
                        name, nums[0], nums[1] if nums[1:] else None, row
                    )
                )
    return tuple(found)


def describe_errors(
    runs: Sequence[Matches], families: Sequence[Bins]
) -> tuple[
    tuple[tuple[Confusion, ...], ...], tuple[tuple[Calibration, ...], ...]
]:
    """Return confusions of frequency bins, and calibration, of each run."""
    bins = error_bins(runs[0], families)
    (frequency,) = (x for x in bins if x.by == 'frequency')
    return (
        tuple(tuple(confusions(run, frequency)) for run in runs),
        tuple(tuple(calibrations(run, bins)) for run in runs),
    )


def recorded_costs(
    records: Sequence[StrataRecord], bins: Sequence[BinGain]
) -> tuple[ErrorCost, ...]:
    """Return the error costs of records, without intervals.

    Args:
        records: Records of the run, and of the control if there is one.
        bins: Bins of the same comparison, for their sizes.
    """
    sizes = {(row.family, row.label): row for row in bins}
    run, *rest = (
        {(x.by, x.name, x.type): x for x in record.errors or ()}
        for record in records
    )
    found = []
    for (by, name, kind), own in run.items():
        size = sizes.get((by, name))
        other = rest[0].get((by, name, kind)) if rest else None
        if size is None or (rest and other is None):
            continue  # a control without detections has no types of error
        gain = None
        if other and own.gain is not None and other.gain is not None:
            gain = Estimate(own.gain - other.gain)
        row = BinGain(
            by,
            name,
            size.num_classes,
            size.num_absent,
            size.num_instances,
            Estimate(own.gain),
            Estimate(other.gain) if other else None,
            gain or (Estimate(None) if rest else None),
        )
        number = other.num_errors if other else None
        found.append(ErrorCost(kind, own.num_errors, number, row))
    return tuple(found)
