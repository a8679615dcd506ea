"""Confidence intervals by resampling images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

#: Draws of the images, wherever an interval is not asked for otherwise.
RESAMPLES = 200
#: What is in fewer images has no interval: one of 95 % would cover 90 %
#: (``benchmarks/interval_coverage.py``).
MIN_IMAGES = 10


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
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Student's t interval with the standard error of the resamples.

    It is centred on the measured value: an image that is drawn twice brings
    the same hits twice, so that AP on resamples is higher than AP on as many
    new images. Percentiles of 200 resamples cover too little, above all of
    few images (``benchmarks/interval_coverage.py``).

    Args:
        value: (C,) on all images.
        draws: (B, C) on resamples of them.
        confidence: Share of the data sets whose interval covers the mean.
        num_images: (C,) images that a value comes from; what comes from
            fewer than ``MIN_IMAGES`` has no interval. None for many.

    Returns:
        Lower and upper ends, (C,); NaN where there is none, and where fewer
        than half of the resamples have a value.
    """
    there = np.isfinite(draws)
    number = there.sum(0)
    known = (number > 1) & (number * 2 >= len(draws))
    mean = np.where(there, draws, 0).sum(0) / np.maximum(number, 1)
    squares = np.where(there, (draws - mean) ** 2, 0).sum(0)
    error = np.sqrt(squares / np.maximum(number - 1, 1))
    tail = (1 + confidence) / 2
    if num_images is None:
        half = stats.norm.ppf(tail) * error
    else:
        known &= num_images >= MIN_IMAGES
        free = np.maximum(num_images - 1, 1)
        half = stats.t.ppf(tail, free) * error * np.sqrt(1 + 1 / free)
    half = np.where(known, half, np.nan)
    return value - half, value + half
