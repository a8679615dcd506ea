"""A bit set of integers with vectorised membership tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class BitSet:
    """A set with one bit for each possible integer.

    Membership tests are faster than a binary search in sorted keys.

    Args:
        keys: The members, at least 0.
        end: Larger than every key that is tested.
    """

    def __init__(self, keys: NDArray[np.int64], end: int) -> None:
        self._bits = np.zeros(end // 8 + 1, np.uint8)
        np.bitwise_or.at(self._bits, keys >> 3, _bit(keys))

    def __call__(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Test which keys are members, elementwise."""
        return self._bits[keys >> 3] & _bit(keys) > 0


def _bit(keys: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.left_shift(1, keys & 7).astype(np.uint8)
