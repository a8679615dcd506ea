"""A dataclass of the FLOPs of a part of a training step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Flops:
    """Floating-point operations, at 2 per multiply-add.

    Attributes:
        forward: FLOPs of the forward pass, including recomputation by
            activation checkpointing.
        backward_input: FLOPs of the gradients of activations.
        backward_weight: FLOPs of the gradients of parameters.
    """

    forward: int = 0
    backward_input: int = 0
    backward_weight: int = 0

    @property
    def backward(self) -> int:
        """Return the FLOPs of the backward pass."""
        return self.backward_input + self.backward_weight

    @property
    def total(self) -> int:
        """Return the FLOPs of the forward and the backward pass."""
        return self.forward + self.backward

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            self.forward + other.forward,
            self.backward_input + other.backward_input,
            self.backward_weight + other.backward_weight,
        )


def sum_flops(parts: Iterable[Flops]) -> Flops:
    """Return the sum of the FLOPs of parts."""
    return sum(parts, Flops())
