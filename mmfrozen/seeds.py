"""Seed random generators from the position in the run alone.

Earlier draws have no effect, so that no generator state has to be saved. JAX
and Grain do the same with their keys.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class NumberedIndex(int):
    """A data set index that carries the key of its draw.

    Attributes:
        key: Seed, epoch, and number of the draw in the epoch, counted over
            all processes.
    """

    key: tuple[int, int, int]

    def __new__(cls, index: int, key: tuple[int, int, int]) -> NumberedIndex:
        """Make an index that is an int in every other respect."""
        self = super().__new__(cls, index)
        self.key = key
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (int(self), self.key)


def seed_all(
    key: tuple[int, ...], torch_seed: Callable[[int], Any] = torch.manual_seed
) -> None:
    """Seed Python's, numpy's and torch's generators.

    Args:
        key: Non-negative numbers that the seed is derived from.
        torch_seed: Function that seeds torch; by default the generators of all
            devices.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch_seed(seed)


@contextmanager
def seeded(index: int) -> Iterator[None]:
    """Seed the generators for one sample and restore them afterwards.

    Args:
        index: Index of the sample; a plain int changes nothing.
    """
    if not isinstance(index, NumberedIndex):
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_all(index.key, torch.default_generator.manual_seed)  # not the GPU's
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
