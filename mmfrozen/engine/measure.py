"""Compare and time variants that compute the same features."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import one_line

Run = Callable[[Tensor], list[Tensor]]
ROUNDS = 3
#: A variant is chosen only if it takes less than this fraction of the eager
#: time.
MAX_TIME_RATIO = 0.97


@dataclass
class Variant:
    """One variant of the forward pass, and its measurements.

    Attributes:
        name: Name for the log.
        run: Function that takes images and returns the levels.
        tolerance: Maximum accepted relative difference of a level.
        first_seconds: Seconds of the first call, including preparation.
        seconds: Seconds of the fastest later call.
        error: Largest relative difference of a level from the eager one.
        fault: Why it cannot be used, in one line; None if it can be used.
    """

    name: str
    run: Run
    tolerance: float = 0.0
    first_seconds: float = 0.0
    seconds: float = float('inf')
    error: float = 0.0
    fault: str | None = None


def pick_fastest(
    eager: Variant,
    variants: list[Variant],
    images: Tensor,
    wanted: list[Tensor],
) -> Variant:
    """Return the fastest variant whose features agree with the eager ones.

    Args:
        eager: The eager forward pass.
        variants: Variants to try; their times, errors and faults are set.
            Those that already have a fault are skipped.
        images: (N, 3, H, W). They must not be the recorded images, for which
            values wrongly recorded as constants would be correct.
        wanted: The eager features of the images.

    Returns:
        One of the variants, or ``eager`` if none is faster.
    """
    for variant in variants:
        if not variant.fault:
            _check(variant, images, wanted)
    usable = [variant for variant in variants if not variant.fault]
    if not usable:
        return eager
    for _ in range(ROUNDS):  # interleaved, so that other loads affect all
        for variant in (eager, *usable):
            variant.seconds = min(
                variant.seconds, seconds(variant.run, images)
            )
    best = min(usable, key=lambda variant: variant.seconds)
    return best if best.seconds < eager.seconds * MAX_TIME_RATIO else eager


def _check(variant: Variant, images: Tensor, wanted: list[Tensor]) -> None:
    start = time.perf_counter()
    try:
        found = variant.run(images)
        variant.error = difference(found, wanted)
    except Exception as error:  # a compiler or a kernel may raise anything
        variant.fault = one_line(error)
        return
    variant.first_seconds = time.perf_counter() - start
    if not variant.error <= variant.tolerance:  # also true for NaN
        variant.fault = (
            'the features are not finite'
            if math.isnan(variant.error)
            else f'its features differ by {variant.error:.1e}'
        )


def difference(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Return the largest relative difference of a level, in the 2-norm.

    It is infinity if number, shape or dtype of the levels differ.
    """
    if [(x.shape, x.dtype) for x in found] != [
        (x.shape, x.dtype) for x in wanted
    ]:
        return float('inf')
    errors = [
        (a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-12)
        for a, b in zip(found, wanted, strict=True)
    ]
    return float(torch.stack(errors).max())


def seconds(run: Run, images: Tensor) -> float:
    """Return the seconds of one call."""
    _wait(images)
    start = time.perf_counter()
    run(images)
    _wait(images)
    return time.perf_counter() - start


def _wait(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
