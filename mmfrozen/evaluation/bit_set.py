"""Many numbers, of which one asks whether they are there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class KeySet:
    """One bit for each number: faster to ask than sorted numbers.

    Args:
        keys: The numbers that are there.
        end: Above all numbers that are asked for.
    """

    def __init__(self, keys: NDArray[np.int64], end: int) -> None:
        self._bits = np.zeros(end // 8 + 1, np.uint8)
        np.bitwise_or.at(self._bits, keys >> 3, _bit(keys))

    def __call__(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of some numbers are there."""
        return self._bits[keys >> 3] & _bit(keys) > 0


def _bit(keys: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.left_shift(1, keys & 7).astype(np.uint8)
