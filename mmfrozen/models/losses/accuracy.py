"""Accuracy of classifiers without a background class."""

from __future__ import annotations

import torch
from torch import Tensor


def object_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Share of the objects whose class has the highest score.

    MMDetection's ``accuracy`` would count regions of background, for which
    these classifiers have no class. Nothing here waits for the device.

    Args:
        scores: (N, C), of the classes, without background.
        labels: (N,) int64; C is background.

    Returns:
        Per cent; 0 without objects.
    """
    objects = labels < scores.size(1)
    right = (scores.argmax(dim=1) == labels) & objects
    return 100 * right.sum() / torch.clamp(objects.sum(), min=1)
