"""Compute AP by class frequency, training counts, object size and category."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

from ..run_files import Stratum
from .bootstrap import lost_variance, lost_variance_of_mean, student_interval
from .greedy import AREAS
from .ground_truth import GroundTruth
from .matches import Matches

#: Least training images of a common and of a frequent category: LVIS v1's
#: rare categories have 1 to 10, common ones 11 to 100 (Gupta et al. 2019).
COMMON, FREQUENT = 11, 101


@dataclass(frozen=True)
class TrainingCounts:
    """Numbers of training images and annotations of each category.

    Attributes:
        images: (num_categories,) number of images with the category.
        instances: (num_categories,) number of annotations, without crowds.
        source: File from which they were read.
    """

    images: NDArray[np.int64]
    instances: NDArray[np.int64]
    source: str

    def only(self, keep: NDArray[np.bool_]) -> TrainingCounts:
        """Keep the counts of some categories.

        Args:
            keep: (num_categories,) bool.
        """
        return replace(
            self, images=self.images[keep], instances=self.instances[keep]
        )


@dataclass(frozen=True)
class Bins:
    """A binning of the categories.

    Attributes:
        by: ``'frequency'``, ``'training_images'``,
            ``'training_annotations'``, ``'size'``, ``'category'`` or
            ``'all'``.
        names: Names of the bins, lowest first.
        lows: Least count of each bin, or least area in square pixels for
            ``'size'``, inclusive; None without a bound.
        highs: Greatest count or area of each bin, inclusive; None without a
            bound.
        members: (num_categories,) index of each category's bin; -1 for none.
    """

    by: str
    names: tuple[str, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    members: NDArray[np.int64]


def training_counts(
    train: str | Path | Mapping[str, Any], gt: GroundTruth
) -> TrainingCounts:
    """Count the training images and annotations of each category.

    Args:
        train: The training annotation file, or its content.
        gt: Ground truth with the categories to count.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its categories do not match those of ``gt``.
    """
    is_file = isinstance(train, str | Path)
    source = str(train) if is_file else 'training annotations'
    if is_file and not Path(source).is_file():
        raise FileNotFoundError(
            'train_ann_file must be an existing annotation file, got '
            f'{source!r}. Correct the path.'
        )
    try:
        coco = hotcoco.COCO(source if is_file else dict(train))  # type: ignore
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(
            'train_ann_file must be an annotation file of COCO or LVIS, got '
            f'{source!r} ({error}). Correct it, or download it again.'
        ) from error
    names = {i: x['name'] for i, x in coco.cats.items()}
    wanted = list(
        zip(gt.category_ids.tolist(), gt.category_names, strict=True)
    )
    for category, name in wanted:
        if names.get(category) != name:
            raise ValueError(
                'train_ann_file must have the categories of ann_file, got '
                f'{names.get(category)!r} instead of {name!r} for id '
                f'{category} in {source!r}. Use the training file of '
                f'{gt.source!r}.'
            )
    return TrainingCounts(
        images=np.array(
            [len(coco.get_img_ids(cat_ids=[c])) for c, _ in wanted], np.int64
        ),
        instances=np.array(
            [
                len(coco.get_ann_ids(cat_ids=[c], iscrowd=False))
                for c, _ in wanted
            ],
            np.int64,
        ),
        source=source,
    )


def stated_counts(gt: GroundTruth) -> TrainingCounts | None:
    """Return the training counts that an LVIS file states, or None."""
    if gt.image_counts is None or gt.instance_counts is None:
        return None
    return TrainingCounts(
        gt.image_counts,
        gt.instance_counts,
        f'image_count and instance_count in {gt.source}',
    )


def frequency_bins(
    gt: GroundTruth, counts: TrainingCounts | None = None
) -> Bins | None:
    """Return LVIS's bins r, c and f.

    They are taken from the file, or computed from the training counts; None if
    both are missing.
    """
    names = ('r', 'c', 'f')
    if gt.frequencies:
        members = np.array([names.index(x) for x in gt.frequencies])
    elif counts is not None:
        members = np.digitize(counts.images, [COMMON, FREQUENT])
    else:
        return None
    return Bins(
        'frequency',
        names,
        (None, COMMON, FREQUENT),
        (COMMON - 1, FREQUENT - 1, None),
        members.astype(np.int64),
    )


def log_spaced_bins(
    counts: NDArray[np.integer], by: str, per_decade: int = 2
) -> Bins:
    """Bin counts evenly on a logarithmic axis: 1-3, 4-9, 10-31...

    Args:
        counts: (num_categories,) training images or annotations.
        by: ``'training_images'`` or ``'training_annotations'``.
        per_decade: Number of bins for each factor of ten.

    Returns:
        Bins up to the greatest count; the bin ``'0'`` exists only if a
        category has count 0.
    """
    greatest = int(counts.max(initial=1))
    edges = [1]  # least count of each bin
    step = 0
    while edges[-1] <= greatest:
        step += 1
        # rounding makes powers of ten exact, so that ceil does not raise them
        edge = int(np.ceil(round(10 ** (step / per_decade), 6)))
        if edge > edges[-1]:
            edges.append(edge)
    lows = edges[:-1]
    highs = [edge - 1 for edge in edges[1:]]
    if (counts == 0).any():
        lows, highs = [0, *lows], [0, *highs]
    return Bins(
        by,
        tuple(
            str(a) if a == b else f'{a}-{b}'
            for a, b in zip(lows, highs, strict=True)
        ),
        tuple(lows),
        tuple(highs),
        np.searchsorted(lows, counts, side='right') - 1,
    )


def default_bins(gt: GroundTruth, counts: TrainingCounts | None) -> list[Bins]:
    """Return bins by frequency, training annotations and training images.

    Binnings whose counts are unknown are left out.
    """
    frequency = frequency_bins(gt, counts)
    bins = [] if frequency is None else [frequency]
    if counts is not None:
        bins += [
            log_spaced_bins(counts.instances, 'training_annotations'),
            log_spaced_bins(counts.images, 'training_images'),
        ]
    return bins


def stratify(
    matches: Matches,
    bins: Sequence[Bins],
    weights: NDArray[np.integer] | None = None,
    *,
    confidence: float = 0.95,
) -> list[Stratum]:
    """Compute AP of each bin, object size and category, with intervals.

    Args:
        matches: Matches of one evaluation.
        bins: Binnings of its categories.
        weights: (B, num_images) from :func:`~.bootstrap.image_weights`; None
            for no intervals.
        confidence: Confidence level of the intervals.

    Returns:
        Strata in the order of ``bins``, then sizes, then categories.
    """
    number = len(matches.category_ids)
    nothing = (None,) * number
    each = Bins(
        'category', matches.category_names, nothing, nothing, np.arange(number)
    )
    whole = _columns(matches, 'all', weights)
    strata = [
        x
        for b in bins
        for x in _strata(b, whole, _images(matches, b), confidence)
    ]
    for area, (low, high) in AREAS.items():
        if area != 'all':
            size = Bins(
                'size', (area,), (low,), (high,), np.zeros(number, int)
            )
            columns = _columns(matches, area, weights)
            images = _images(matches, size, area)
            strata += _strata(size, columns, images, confidence)
    images = matches.num_gt_images()
    return [*strata, *_strata(each, whole, images, confidence)]


Columns = tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.int64],
    NDArray[np.int64],
]


def _images(
    matches: Matches, bins: Bins, area: str = 'all'
) -> NDArray[np.int64]:
    """Count the images with counted annotations of each bin, (bins,)."""
    return np.array(
        [
            matches.num_images_of(bins.members == index, area)
            for index in range(len(bins.names))
        ]
    )


def _columns(
    matches: Matches, area: str, weights: NDArray[np.integer] | None
) -> Columns:
    """Return AP, AP on resamples, instances and images of each category."""
    once = np.ones((1, len(matches.image_ids)), np.int32)
    every = once if weights is None else np.vstack([once, weights])
    point, *drawn = matches.ap_per_class(area=area, image_weights=every)
    draws = np.array(drawn).reshape(-1, len(point))
    instances = matches.num_instances(area)
    return point, draws, instances, matches.num_gt_images(area)


def _strata(
    bins: Bins,
    columns: Columns,
    num_images: NDArray[np.int64],
    confidence: float,
) -> Iterator[Stratum]:
    """Yield the stratum of each bin."""
    point, drawn, instances, images = columns
    value = in_bins(bins, point, mean)
    draws = in_bins(bins, drawn, mean)
    lost = in_bins(bins, lost_variance(drawn, images), lost_variance_of_mean)
    low, high = student_interval(value, draws, confidence, num_images, lost)
    sizes = in_bins(bins, np.ones_like(instances), np.sum)
    absent = in_bins(bins, (instances == 0).astype(int), np.sum)
    total = in_bins(bins, instances, np.sum)
    for i, name in enumerate(bins.names):
        yield Stratum(
            by=bins.by,
            name=name,
            low=bins.lows[i],
            high=bins.highs[i],
            num_categories=int(sizes[i]),
            num_absent=int(absent[i]),
            num_instances=int(total[i]),
            ap=or_none(value[i]),
            ap_low=or_none(low[i]),
            ap_high=or_none(high[i]),
        )


def in_bins(bins: Bins, values: NDArray[Any], what: Any) -> NDArray[Any]:
    """Reduce (..., categories) to (..., bins) with a mean or sum."""
    if bins.by == 'category':
        return values
    members = [bins.members == index for index in range(len(bins.names))]
    return np.stack([what(values[..., m], axis=-1) for m in members], axis=-1)


def mean(values: NDArray[np.float64], axis: int = -1) -> Any:
    """Return the mean without NaN; NaN if all values are NaN."""
    there = ~np.isnan(values)
    with np.errstate(invalid='ignore'):
        return np.where(there, values, 0).sum(axis) / there.sum(axis)


def or_none(value: Any) -> float | None:
    """Return a float, or None for NaN, which JSON cannot hold."""
    return None if value is None or np.isnan(value) else float(value)
