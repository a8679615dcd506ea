"""Predictions of dense heads in one tensor of all levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Flat(NamedTuple):
    """Predictions for the anchors of all levels, one after the other.

    Attributes:
        scores: (N, A, classes).
        deltas: (N, A, 4).
        sizes: Height and width of each level.
    """

    scores: Tensor
    deltas: Tensor
    sizes: list[tuple[int, int]]


def sizes_of(levels: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Height and width of each level."""
    return [(x.shape[-2], x.shape[-1]) for x in levels]


def flatten(levels: Sequence[Tensor], width: int) -> Tensor:
    """Put the predictions for the anchors of all levels one after the other.

    Args:
        levels: (N, anchors x width, H, W) each.
        width: Numbers that an anchor has.

    Returns:
        (N, A, width), in the order of the anchors.
    """
    count = len(levels[0])
    return torch.cat(
        [x.permute(0, 2, 3, 1).reshape(count, -1, width) for x in levels],
        dim=1,
    )


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Take rows of each image.

    Args:
        values: (N or 1, A, ...).
        index: (N, K) int64.

    Returns:
        (N, K, ...).
    """
    if len(values) == 1 != len(index):
        return values[0][index]
    offsets = torch.arange(len(index), device=index.device)[:, None]
    return values.flatten(0, 1)[index + offsets * values.shape[1]]


def largest(
    values: Tensor, count: int, *, stable: bool
) -> tuple[Tensor, Tensor]:
    """Take the largest numbers of each image, and where they are.

    A CPU sorts all, as MMDetection does, so that the same of equal numbers
    win; on a GPU any of them may, as with MMDetection.

    Args:
        values: (N, A).
        count: So many of each image.
        stable: Whether the first of equal numbers wins on a CPU.
    """
    if values.device.type == 'cpu':
        values, index = values.sort(dim=1, descending=True, stable=stable)
        return values[:, :count], index[:, :count]
    found = values.topk(count)
    return found.values, found.indices
