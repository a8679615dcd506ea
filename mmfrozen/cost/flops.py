"""FLOPs of a part of a training step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Flops:
    """Floating-point operations, 2 a multiply-add.

    Attributes:
        forward: Of the forward pass; what activation checkpointing computes
            again counts again.
        backward_input: Of the gradients of activations.
        backward_weight: Of the gradients of parameters.
    """

    forward: int = 0
    backward_input: int = 0
    backward_weight: int = 0

    @property
    def backward(self) -> int:
        """FLOPs of the backward pass."""
        return self.backward_input + self.backward_weight

    @property
    def total(self) -> int:
        """FLOPs of the forward and the backward pass."""
        return self.forward + self.backward

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            self.forward + other.forward,
            self.backward_input + other.backward_input,
            self.backward_weight + other.backward_weight,
        )


def sum_flops(parts: Iterable[Flops]) -> Flops:
    """Add the FLOPs of parts."""
    return sum(parts, Flops())
