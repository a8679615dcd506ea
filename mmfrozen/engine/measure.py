"""Comparison and timing of ways to compute the same features."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Run = Callable[[Tensor], list[Tensor]]
ROUNDS = 3
#: A way is chosen only if it takes less than this fraction of the eager time.
WORTH_IT = 0.97


@dataclass
class Way:
    """One way of computing the features, and its measurements.

    Attributes:
        name: Name for the log.
        run: Takes images, returns the levels.
        tolerance: Maximum accepted relative difference of a level.
        first_seconds: Seconds of the first call, including preparation.
        seconds: Seconds of the fastest later call.
        error: Largest relative difference of a level from the eager one.
        fault: Why it cannot be used, in one line; None if it can.
    """

    name: str
    run: Run
    tolerance: float = 0.0
    first_seconds: float = 0.0
    seconds: float = float('inf')
    error: float = 0.0
    fault: str | None = None


def try_ways(
    plain: Way, ways: list[Way], images: Tensor, wanted: list[Tensor]
) -> Way:
    """Return the fastest way whose features equal the eager ones within
    tolerance.

    Args:
        plain: The eager forward pass.
        ways: Ways to try; their times, errors and faults are set. Those that
            already have a fault are skipped.
        images: (N, 3, H, W). They must not be the recorded images, for which
            values wrongly recorded as constants would be correct.
        wanted: The eager features of the images.

    Returns:
        One of the ways, or ``plain`` if none is faster.
    """
    for way in ways:
        if not way.fault:
            _check(way, images, wanted)
    usable = [way for way in ways if not way.fault]
    if not usable:
        return plain
    for _ in range(ROUNDS):  # interleaved: other loads affect all
        for way in (plain, *usable):
            way.seconds = min(way.seconds, seconds(way.run, images))
    best = min(usable, key=lambda way: way.seconds)
    return best if best.seconds < plain.seconds * WORTH_IT else plain


def _check(way: Way, images: Tensor, wanted: list[Tensor]) -> None:
    start = time.perf_counter()
    try:
        found = way.run(images)
        way.error = difference(found, wanted)
    except Exception as error:  # a compiler or a kernel may raise anything
        way.fault = one_line(error)
        return
    way.first_seconds = time.perf_counter() - start
    if not way.error <= way.tolerance:  # also true for NaN
        way.fault = (
            'the features are not finite'
            if math.isnan(way.error)
            else f'its features differ by {way.error:.1e}'
        )


def difference(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Return the largest relative difference of a level, in the 2-norm;
    infinity if number, shape or dtype of the levels differ."""
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


def one_line(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    text = str(error).strip().partition('\n')[0][:200]
    return f'{type(error).__name__}: {text}' if text else type(error).__name__
