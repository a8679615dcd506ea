"""Confidence intervals by resampling images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Draws of the images, wherever an interval is not asked for otherwise.
RESAMPLES = 200
#: What is in fewer images has no interval: resampling a handful of images
#: says nothing about the next one.
MIN_IMAGES = 5


def image_weights(
    num_images: int, resamples: int, seed: int = 0
) -> NDArray[np.int32]:
    """Draw images with replacement.

    The same arguments give the same weights, so that two runs on the same
    images are compared in pairs:
    ``a.ap_per_class(image_weights=w) - b.ap_per_class(image_weights=w)``.

    Args:
        num_images: Images of the evaluation.
        resamples: Number of draws, B.
        seed: Of numpy's generator.

    Returns:
        (B, num_images): how often each image was drawn; rows sum to
        ``num_images``.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((resamples, num_images), np.int32)
    for row in weights:
        drawn = generator.integers(num_images, size=num_images)
        row[:] = np.bincount(drawn, minlength=num_images)
    return weights


def interval(
    values: NDArray[np.float64], confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile interval over the first axis, leaving NaN out.

    Args:
        values: (B, ...), one row a resample.
        confidence: Share of the resamples that lies between the bounds.

    Returns:
        Lower and upper bound, (...); NaN where fewer than half of the
        resamples have a value.
    """
    rest = (1 - confidence) / 2
    columns = np.sort(values.reshape(len(values), -1), axis=0)  # NaN last
    number = np.isfinite(columns).sum(0)
    bounds = np.full((2, columns.shape[1]), np.nan)
    (kept,) = np.nonzero((number > 0) & (number * 2 >= len(values)))
    last = number[kept] - 1
    for bound, share in zip(bounds, (rest, 1 - rest), strict=True):
        place = share * last
        below = place.astype(int)
        lower = columns[below, kept]
        upper = columns[np.minimum(below + 1, last), kept]
        bound[kept] = lower + (upper - lower) * (place - below)
    low, high = bounds.reshape(2, *values.shape[1:])
    return low, high


def centred_interval(
    value: NDArray[np.float64],
    draws: NDArray[np.float64],
    confidence: float,
    num_images: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile interval of resamples, moved to the value of all images.

    An image that is drawn twice brings the same hits twice, so that AP on
    resamples is higher than AP on as many new images. On the mean over
    hundreds of classes with few instances this bias exceeds the width of
    the interval, which would lie beside the measured value. Differences
    between runs have hardly any of it.

    Args:
        value: (C,) on all images.
        draws: (B, C) on resamples of them.
        confidence: Share of the resamples between the ends.
        num_images: (C,) images that a value comes from; what comes from
            fewer than ``MIN_IMAGES`` has no interval. None for enough.

    Returns:
        Lower and upper ends, (C,); NaN where there is none.
    """
    if not len(draws):
        return np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    low, high = interval(draws, confidence)
    there = np.isfinite(draws)
    centre = np.where(there, draws, 0).sum(0) / np.maximum(there.sum(0), 1)
    shift = value - centre
    if num_images is not None:
        shift = np.where(num_images < MIN_IMAGES, np.nan, shift)
    return low + shift, high + shift
