"""Confidence intervals by resampling images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

#: Draws of the images, wherever an interval is not asked for otherwise.
RESAMPLES = 200
#: What is in fewer images has no interval: one of 95 % would cover 90 to 93 %
#: (``benchmarks/interval_coverage.py``).
MIN_IMAGES = 20


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


def student_interval(
    value: NDArray[np.float64],
    draws: NDArray[np.float64],
    confidence: float,
    num_images: NDArray[np.int64] | None = None,
    lost: NDArray[np.float64] | float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Student's t interval with the standard error of the resamples.

    It is centred on the measured value: an image that is drawn twice brings
    the same hits twice, so that AP on resamples is higher than AP on as many
    new images. Percentiles of 200 resamples cover too little, above all of
    few images (``benchmarks/interval_coverage.py``).

    Args:
        value: (P,) on all images.
        draws: (B, P) on resamples of them.
        confidence: Share of the data sets whose interval covers the mean.
        num_images: (P,) images that a value comes from; what comes from
            fewer than ``MIN_IMAGES`` has no interval. None for many.
        lost: (P,) variance that the resamples lack, see :func:`mean_lost`.

    Returns:
        Lower and upper ends, (P,); NaN where there is none, and where fewer
        than half of the resamples have a value.
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
    """Variance that resamples of few images lack.

    Resamples of n images vary by (n - 1) / n of what new images would, and
    those of a single image not at all.

    Args:
        draws: (B, C) AP of each category on resamples.
        num_images: (C,) images with an instance of it.

    Returns:
        (C,); that of the others on average where there is one image, NaN
        where there is none.
    """
    variance = _variance(draws)
    free = np.maximum(num_images - 1, 1)
    lost = np.where(num_images > 1, variance / free, np.nan)
    whole = (variance + lost)[num_images > 1]
    lost[num_images == 1] = whole.mean() if len(whole) else 0
    return lost


def mean_lost(lost: NDArray[np.float64], axis: int = -1) -> Any:
    """That of the mean over categories, of :func:`lost_variance`."""
    number = np.isfinite(lost).sum(axis)
    return np.nansum(lost, axis) / np.maximum(number, 1) ** 2


def _variance(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the values that are there, over the first axis."""
    there = np.isfinite(draws)
    number = there.sum(0)
    mean = np.where(there, draws, 0).sum(0) / np.maximum(number, 1)
    squares = np.where(there, (draws - mean) ** 2, 0).sum(0)
    return np.asarray(squares / np.maximum(number - 1, 1))
