"""Compute confidence intervals by bootstrapping over images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

#: Default number of bootstrap resamples of the images.
RESAMPLES = 200
#: Least number of images for an interval: with fewer images, a 95 % interval
#: would cover only 90 to 93 % (``benchmarks/interval_coverage.py``).
MIN_IMAGES = 20


def image_weights(
    num_images: int, resamples: int, seed: int = 0
) -> NDArray[np.int32]:
    """Draw images with replacement, B times.

    The same arguments give the same weights, so that two runs on the same
    images can be compared by a paired bootstrap:
    ``a.ap_per_class(image_weights=w) - b.ap_per_class(image_weights=w)``.

    Args:
        num_images: Number of images in the evaluation.
        resamples: Number of resamples, B.
        seed: Seed of numpy's generator.

    Returns:
        (B, num_images) int32: how often each image was drawn; rows sum to
        ``num_images``.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((resamples, num_images), np.int32)
    for row in weights:
        drawn = generator.integers(num_images, size=num_images)
        row[:] = np.bincount(drawn, minlength=num_images)
    return weights


def student_interval(
    value: NDArray[np.float64],
    draws: NDArray[np.float64],
    confidence: float,
    num_images: NDArray[np.int64] | None = None,
    lost: NDArray[np.float64] | float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Student's t intervals from the standard error of the resamples.

    An interval is centred on the measured value: an image that is drawn twice
    has the same true positives twice, so AP on resamples is biased upwards.
    The coverage of percentile intervals of 200 resamples is too low, above
    all with few images (``benchmarks/interval_coverage.py``).

    Args:
        value: (P,) values on all images.
        draws: (B, P) values on resamples of the images.
        confidence: Confidence level.
        num_images: (P,) number of images from which each value was computed;
            a value of fewer than ``MIN_IMAGES`` has no interval. None for a
            normal approximation without this limit.
        lost: (P,) variance that the resamples lack, see
            :func:`lost_variance_of_mean`.

    Returns:
        Lower and upper bounds, (P,) each; NaN without an interval, also where
        fewer than half of the resamples have a value.
    """
    number = np.isfinite(draws).sum(0)
    known = (number > 1) & (number * 2 >= len(draws))
    tail = (1 + confidence) / 2
    quantile = stats.norm.ppf(tail)
    if num_images is not None:
        known &= num_images >= MIN_IMAGES
        quantile = stats.t.ppf(tail, np.maximum(num_images - 1, 1))
    half = quantile * np.sqrt(_variance(draws) + lost)
    half = np.where(known, half, np.nan)
    return value - half, value + half


def lost_variance(
    draws: NDArray[np.float64], num_images: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the variance that a bootstrap over few images misses.

    Resamples of n images have (n - 1) / n of the variance of new images, and
    those of a single image have none.

    Args:
        draws: (B, C) AP of each category on resamples.
        num_images: (C,) number of images with an instance of the category.

    Returns:
        (C,) missing variance; for a category in a single image, the average
        total variance of the others; NaN for a category in no image.
    """
    variance = _variance(draws)
    free = np.maximum(num_images - 1, 1)
    lost = np.where(num_images > 1, variance / free, np.nan)
    whole = (variance + lost)[num_images > 1]
    lost[num_images == 1] = whole.mean() if len(whole) else 0
    return lost


def lost_variance_of_mean(lost: NDArray[np.float64], axis: int = -1) -> Any:
    """Return :func:`lost_variance` of the mean over categories."""
    number = np.isfinite(lost).sum(axis)
    return np.nansum(lost, axis) / np.maximum(number, 1) ** 2


def _variance(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unbiased variance over the first axis; NaN is ignored."""
    there = np.isfinite(draws)
    number = there.sum(0)
    mean = np.where(there, draws, 0).sum(0) / np.maximum(number, 1)
    squares = np.where(there, (draws - mean) ** 2, 0).sum(0)
    return np.asarray(squares / np.maximum(number - 1, 1))
