"""The largest batch that fits into some memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..cost.shape_mode import ShapeMode
from .pair import Variant
from .trace_pair import Savings
from .training_step import trace_step
from .workload import Workload, with_batch

UNITS = {
    'GB': 10**9,
    'GIB': 2**30,
    'G': 2**30,
    'MB': 10**6,
    'MIB': 2**20,
    'M': 2**20,
}
#: Share of the predicted peak that is left free: an H200 needed up to 1.4 %
#: more for Mask R-CNN (docs/measuring.md); other detectors are not measured.
MARGIN = 0.05
#: No larger batch is looked for.
LIMIT = 128


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch that fits.

    Attributes:
        label: Of the side it is of.
        batch_size: Images; 0 if not even one fits.
        peak_bytes: Of a step with it, or with one image.
        next_bytes: Of a step with one image more.
    """

    label: str
    batch_size: int
    peak_bytes: int
    next_bytes: int


def parse_bytes(text: str, option: str = '--memory') -> int:
    """Read ``24GB`` (1e9 bytes each) or ``24GiB`` (2**30).

    Args:
        text: What was typed.
        option: Where, for the error.

    Raises:
        ValueError: If it is neither.
    """
    match = re.fullmatch(r'\s*([\d.]+)\s*([a-zA-Z]+)\s*', text)
    try:
        assert match is not None
        nbytes = int(float(match[1]) * UNITS[match[2].upper()])
        assert nbytes > 0
    except (AssertionError, KeyError, ValueError) as error:
        raise ValueError(
            f'{option} must be a size such as 24GB or 23.5GiB, got {text!r}. '
            'Correct it.'
        ) from error
    return nbytes


def find_largest_batch(
    variant: Variant,
    work: Workload,
    memory_bytes: int,
    *,
    mode: ShapeMode,
    known: dict[int, int] | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> LargestBatch:
    """Find the largest batch whose step fits.

    A line through two batch sizes gives the first guess; the answer itself
    and the batch one larger are traced.

    Args:
        variant: What trains.
        work: All but its batch size.
        memory_bytes: What there is.
        mode: That of the pair.
        known: Peak bytes by batch size.
        report: Told what is being done.
    """
    peaks = dict(known or {})

    def peak(batch_size: int) -> int:
        if batch_size not in peaks:
            report(f'{variant.label}: a batch of {batch_size}')
            peaks[batch_size] = trace_step(
                variant.cfg,
                with_batch(work, batch_size),
                change=variant.change,
                mode=mode,
            ).peak_bytes
        return peaks[batch_size]

    low, high = 0, LIMIT + 1  # fits, does not fit
    guess = 2
    while high - low > 1:
        guess = min(max(guess, low + 1), high - 1)
        if peak(guess) <= memory_bytes:
            low = guess
        else:
            high = guess
        guess = _extrapolate(peaks, memory_bytes, low, high)
    return LargestBatch(variant.label, low, peak(max(low, 1)), peak(low + 1))


def find_both(
    pair: tuple[Variant, Variant],
    savings: Savings,
    memory_bytes: int,
    *,
    mode: ShapeMode,
    report: Callable[[str], None] = lambda text: None,
) -> list[LargestBatch]:
    """Find the largest batch of the frozen one and of its control, with
    :data:`MARGIN` left."""
    return [
        find_largest_batch(
            variant,
            savings.work,
            int(memory_bytes / (1 + MARGIN)),
            mode=mode,
            known={savings.work.batch_size: side.step.peak_bytes},
            report=report,
        )
        for variant, side in zip(pair, savings.sides, strict=True)
    ]


def _extrapolate(
    peaks: dict[int, int], memory_bytes: int, low: int, high: int
) -> int:
    """Where a line through the two nearest batches meets the memory."""
    if len(peaks) < 2:
        return 4 if low else 1
    near = sorted(peaks, key=lambda b: abs(b - (low or high)))[:2]
    (a, b) = sorted(near)
    slope = (peaks[b] - peaks[a]) / (b - a)
    if slope <= 0:
        return (low + high) // 2
    guess = int(a + (memory_bytes - peaks[a]) / slope)
    # at an end already: look at the neighbour that decides
    return low + 1 if guess <= low else min(guess, high - 1)
