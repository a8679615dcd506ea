"""Predictions of dense heads, concatenated over the feature levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class FlatPredictions(NamedTuple):
    """Predictions for the anchors of all levels, concatenated.

    Attributes:
        scores: (N, A, classes).
        deltas: (N, A, 4).
        sizes: Height and width of each level's feature map.
    """

    scores: Tensor
    deltas: Tensor
    sizes: list[tuple[int, int]]


def sizes_of(levels: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Return the height and width of each level's feature map."""
    return [(x.shape[-2], x.shape[-1]) for x in levels]


def flatten(levels: Sequence[Tensor], width: int) -> Tensor:
    """Concatenate the predictions for the anchors of all levels.

    Args:
        levels: (N, anchors x width, H, W) of each level.
        width: Values predicted for each anchor.

    Returns:
        (N, A, width), in the order of the anchors.
    """
    count = len(levels[0])
    return torch.cat(
        [x.permute(0, 2, 3, 1).reshape(count, -1, width) for x in levels],
        dim=1,
    )


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Select rows of each image by index.

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
    """Return the largest values of each image, and their indices.

    A CPU sorts all values, as MMDetection does, so that ties are broken in the
    same way; on a GPU any tied value may win, as with MMDetection.

    Args:
        values: (N, A).
        count: Number of values to return for each image.
        stable: Whether the first of equal values wins on a CPU.
    """
    if values.device.type == 'cpu':
        values, index = values.sort(dim=1, descending=True, stable=stable)
        return values[:, :count], index[:, :count]
    found = values.topk(count)
    return found.values, found.indices
