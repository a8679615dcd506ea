"""The accuracy of classifiers without a background class."""

from __future__ import annotations

import torch
from torch import Tensor


def object_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the percentage of objects whose class has the highest score.

    MMDetection's ``accuracy`` would count background regions, for which these
    classifiers have no class. Nothing here synchronises with the device.

    Args:
        scores: (N, C), scores of the classes, without background.
        labels: (N,) int64; C is background.

    Returns:
        Scalar tensor in per cent; 0 without objects.
    """
    objects = labels < scores.size(1)
    right = (scores.argmax(dim=1) == labels) & objects
    return 100 * right.sum() / torch.clamp(objects.sum(), min=1)
