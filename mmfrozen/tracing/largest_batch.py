"""A search for the largest batch whose training step fits into a memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..cost.shape_mode import ShapeMode
from ..errors import require
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
#: Largest batch size that is considered.
LIMIT = 128


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch that fits into a memory.

    Attributes:
        label: Label of the variant that trains.
        batch_size: Number of images; 0 if not even one fits.
        peak_bytes: Peak memory of a step with this batch, or with one image if
            not even one fits.
        next_bytes: Peak memory of a step with one more image.
    """

    label: str
    batch_size: int
    peak_bytes: int
    next_bytes: int


def parse_bytes(text: str, option: str = '--memory') -> int:
    """Return the bytes of a size such as ``24GB`` (1e9) or ``24GiB`` (2**30).

    Args:
        text: Number and unit, as typed by the user.
        option: Name of the command line option, for the error message.

    Raises:
        ValueError: If the text is not a positive number with a known unit.
    """
    match = re.fullmatch(r'\s*(\d{1,15}\.?\d*)\s*([a-zA-Z]+)\s*', text)
    unit = UNITS.get(match[2].upper(), 0) if match else 0
    nbytes = int(float(match[1]) * unit) if match else 0
    require(nbytes > 0, option, 'a size such as 24GB', text, 'Correct it.')
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
    """Find the largest batch whose step fits into a memory.

    Each guess is extrapolated from the peaks of two batch sizes. The result
    and the next larger batch are always traced.

    Args:
        variant: Config that trains, and the change applied to it.
        work: Workload of the step; its batch size is ignored.
        memory_bytes: Available memory.
        mode: The mode of earlier traces, whose cache saves time.
        known: Peak bytes of batch sizes that are already traced.
        report: Function that logs progress.
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
    """Find the largest batches of the frozen variant and of its control, with
    :data:`MARGIN` left free."""
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
    """Return the next batch size to trace, strictly between the bounds.

    It is where a line through the peaks of the two nearest traced batches
    reaches the available memory.
    """
    if len(peaks) < 2:
        return 4 if low else 1
    near = sorted(peaks, key=lambda b: abs(b - (low or high)))[:2]
    (a, b) = sorted(near)
    slope = (peaks[b] - peaks[a]) / (b - a)
    if slope <= 0:
        return (low + high) // 2
    guess = int(a + (memory_bytes - peaks[a]) / slope)
    # if the line gives a bound itself, trace the batch next to it
    return low + 1 if guess <= low else min(guess, high - 1)
