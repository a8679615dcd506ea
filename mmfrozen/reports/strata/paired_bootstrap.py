"""Compare two evaluations class by class, with paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...evaluation.bootstrap import (
    image_weights,
    lost_variance,
    lost_variance_of_mean,
    student_interval,
)
from ...evaluation.match_detections import AREAS, Matches
from ...evaluation.strata import Bins, mean, or_none
from .class_table import ClassTable
from .record import BinGain, ClassGain, Estimate, RunningMean

Array = NDArray[np.float64]

CHUNK = 10  # resamples between two steps of a progress bar
DECADES = 0.25  # width of the running mean, in powers of ten
MIN_CLASSES = 5  # classes that a running mean requires
GRID = 120  # points of the line of a running mean


@dataclass(frozen=True)
class Samples:
    """AP of one evaluation, on all images and on resamples of them.

    Attributes:
        value: (C,) AP of each category, NaN where it has no instance.
        draws: (B, C) AP on the resamples, likewise.
    """

    value: Array
    draws: Array

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Samples:
        """Wrap values without resamples; None becomes NaN."""
        value = np.array([np.nan if v is None else v for v in values])
        return cls(value, np.empty((0, len(value))))

    def __sub__(self, other: Samples) -> Samples:
        return Samples(self.value - other.value, self.draws - other.draws)


def resample(
    runs: Sequence[Matches],
    num_resamples: int,
    *,
    seed: int = 0,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> dict[str, list[Samples]]:
    """Compute the AP of runs on the same bootstrap resamples of the images.

    Images are drawn with replacement and count as often as they were drawn,
    in every run (Everingham et al., "Assessing the significance of
    performance differences on the PASCAL VOC challenges via bootstrapping").

    Args:
        runs: Runs that were matched with the same ground truth.
        num_resamples: Number of resamples, B; 0 for no intervals.
        seed: Seed of the bootstrap.
        track: Wraps the steps for a progress bar.

    Returns:
        Samples of each run, by area (``AREAS``).
    """
    num_images = len(runs[0].image_ids)
    weights = image_weights(num_images, max(num_resamples, 1), seed)
    weights = weights[:num_resamples]
    draws: dict[str, list[list[Array]]] = {
        area: [[] for _ in runs] for area in AREAS
    }
    for start in track(range(0, num_resamples, CHUNK)):
        chunk = weights[start : start + CHUNK]
        for area, found in draws.items():
            for run, parts in zip(runs, found, strict=True):
                parts.append(run.ap_per_class(area=area, image_weights=chunk))
    none = np.empty((0, len(runs[0].category_ids)))
    return {
        area: [
            Samples(run.ap_per_class(area=area), np.concatenate([none, *rows]))
            for run, rows in zip(runs, found, strict=True)
        ]
        for area, found in draws.items()
    }


def class_gains(
    table: ClassTable, samples: Sequence[Samples], confidence: float
) -> tuple[ClassGain, ...]:
    """Return the gain of every category of the ground truth, absent ones too.

    Args:
        table: Names and counts of the categories.
        samples: Samples of the run, and of the control if there is one.
        confidence: Confidence level of the intervals.
    """
    columns = [
        _estimates(
            s.value,
            s.draws,
            table.val_images,
            confidence,
            lost_variance(s.draws, table.val_images),
        )
        for s in _with_difference(samples)
    ]
    return tuple(
        table.row(index, *row)
        for index, row in enumerate(zip(*columns, strict=True))
    )


def bin_gains(
    matches: Matches,
    samples: dict[str, list[Samples]],
    families: Sequence[Bins],
    confidence: float,
) -> tuple[BinGain, ...]:
    """Return gains of all classes, of each bin, and of each object size."""
    every = np.ones(len(matches.category_ids), bool)

    def row(
        family: str, label: str, members: NDArray[np.bool_], area: str
    ) -> BinGain:
        return bin_gain(
            matches, samples[area], family, label, members, area, confidence
        )

    rows = [row('all', 'all', every, 'all')]
    for bins in families:
        rows += [
            row(bins.by, name, bins.members == index, 'all')
            for index, name in enumerate(bins.names)
        ]
    rows += [row('size', area, every, area) for area in AREAS if area != 'all']
    return tuple(rows)


def bin_gain(
    matches: Matches,
    samples: Sequence[Samples],
    family: str,
    label: str,
    members: NDArray[np.bool_],
    area: str,
    confidence: float,
) -> BinGain:
    """Return the gain of one bin.

    Args:
        matches: Matches of either run.
        samples: Samples of the run, and of the control if there is one.
        family: Criterion of the bin, see :class:`~.record.BinGain`.
        label: Name of the bin.
        members: (C,) bool, the categories in the bin.
        area: A key of ``AREAS``.
        confidence: Confidence level of the intervals.
    """
    instances = matches.num_instances(area)[members]
    num_images = matches.num_images_of(members, area)
    counts = matches.num_gt_images(area)
    estimates = [
        _estimates(
            mean(s.value[None, members]),
            mean(s.draws[:, members])[:, None],
            np.array([num_images]),
            confidence,
            lost_variance_of_mean(lost_variance(s.draws, counts)[members]),
        )[0]
        for s in _with_difference(samples)
    ]
    return BinGain(
        family=family,
        label=label,
        num_classes=int((instances > 0).sum()),
        num_absent=int((instances == 0).sum()),
        num_instances=int(instances.sum()),
        ap=estimates[0],
        control=estimates[1] if len(estimates) > 1 else None,
        gain=estimates[2] if len(estimates) > 1 else None,
    )


def running_mean(
    samples: Sequence[Samples],
    annotations: NDArray[np.int64],
    confidence: float,
    val_images: NDArray[np.int64] | None = None,
) -> RunningMean | None:
    """Return the mean gain (or AP) over classes of similar frequency.

    Args:
        samples: Samples of the run, and of the control if there is one.
        annotations: (C,) number of training annotations; classes without any
            are left out.
        confidence: Confidence level of the interval.
        val_images: (C,) number of evaluated images of each class; None
            without an interval.

    Returns:
        None with fewer than ``MIN_CLASSES`` classes. Values are NaN where no
        class is near.
    """
    shown = _with_difference(samples)[-1]
    known = (annotations > 0) & np.isfinite(shown.value)
    if known.sum() < MIN_CLASSES:
        return None
    place = np.log10(annotations[known])
    grid = np.linspace(place.min(), place.max(), GRID)
    kernel = np.exp(-(((grid[:, None] - place) / DECADES) ** 2) / 2)
    value = _smooth(shown.value[None, known], kernel)[0]
    value[kernel.sum(1) < 1] = np.nan
    lost = np.zeros(1)
    if val_images is not None:
        missing = lost_variance(shown.draws, val_images)[known]
        lost = kernel**2 @ np.nan_to_num(missing) / kernel.sum(1) ** 2
    low, high = student_interval(
        value, _smooth(shown.draws[:, known], kernel), confidence, None, lost
    )
    has_interval = len(shown.draws) > 0
    return RunningMean(
        annotations=tuple((10**grid).tolist()),
        value=tuple(value.tolist()),
        low=tuple(low.tolist()) if has_interval else (),
        high=tuple(high.tolist()) if has_interval else (),
        decades=DECADES,
    )


def _smooth(values: Array, kernel: Array) -> Array:
    """Return weighted means ignoring NaN: (B, C) -> (B, P)."""
    there = np.isfinite(values)
    weight = there @ kernel.T
    total = np.where(there, values, 0) @ kernel.T
    with np.errstate(invalid='ignore', divide='ignore'):
        means: Array = total / np.where(weight > 0, weight, np.nan)
    return means


def _with_difference(samples: Sequence[Samples]) -> list[Samples]:
    if len(samples) == 1:
        return list(samples)
    run, control = samples
    return [run, control, run - control]


def _estimates(
    value: Array,
    draws: Array,
    num_images: NDArray[np.int64],
    confidence: float,
    lost: Array | float,
) -> list[Estimate]:
    """Return the estimates of C values, with intervals from (B, C) draws."""
    low, high = student_interval(value, draws, confidence, num_images, lost)
    return [
        Estimate(or_none(v), or_none(a), or_none(b))
        for v, a, b in zip(value, low, high, strict=True)
    ]
