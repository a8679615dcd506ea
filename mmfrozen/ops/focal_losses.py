"""Focal losses of sigmoid and softmax, with gradients in closed form.

"Focal Loss for Dense Object Detection" (ICCV 2017), equation 5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import widened

SMALLEST = torch.finfo(torch.float32).tiny  # under which mmcv takes no log


def sigmoid_focal_loss_forward(
    logits: Tensor,
    target: Tensor,
    weight: Tensor,
    out: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Compute the loss of each class of each sample.

    Args:
        logits: (N, C).
        target: (N,) int64; C, or another number, for the background.
        weight: (C,) of each class, or empty.
        out: Filled: (N, C).
        gamma: Exponent by which easy samples are weighed down.
        alpha: Share of the positive ones.
    """
    p, positive = _probabilities(logits, target)
    loss = torch.where(
        positive,
        -alpha * (1 - p) ** gamma * _log(p),
        -(1 - alpha) * p**gamma * _log(1 - p),
    )
    out.copy_(_weighted(loss, weight, target, logits.shape[1]))


def sigmoid_focal_loss_backward(
    logits: Tensor,
    target: Tensor,
    weight: Tensor,
    grad: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Fill the gradient of the loss with respect to the logits, (N, C).

    Args are those of :func:`sigmoid_focal_loss_forward`.
    """
    p, positive = _probabilities(logits, target)
    found = torch.where(
        positive,
        -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p)),
        -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p),
    )
    grad.copy_(_weighted(found, weight, target, logits.shape[1]))


def softmax_focal_loss_forward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    out: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Compute the loss of each sample.

    Args:
        softmax: (N, C), probabilities.
        target: (N,) int64; below 0 for samples without a loss.
        weight: (C,) of each class, or empty.
        out: Filled: (N,).
        gamma: Exponent by which easy samples are weighed down.
        alpha: Factor of all.
    """
    p = _of_target(softmax, target)
    loss = -alpha * (1 - p) ** gamma * _log(p)
    out.copy_(_labelled(loss, weight, target))


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buffer: Tensor,
    grad: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Fill the gradient of the loss with respect to the logits, (N, C).

    Args are those of :func:`softmax_focal_loss_forward`; `buffer` is filled
    with p times the derivative by p, (N,).
    """
    p = _of_target(softmax, target)
    factor = alpha * (
        gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma
    )
    buffer.copy_(_labelled(factor, weight, target))
    columns = torch.arange(softmax.shape[1], device=target.device)
    is_target = (columns == target[:, None]).to(factor.dtype)
    grad.copy_(
        _labelled(factor, weight, target)[:, None]
        * (is_target - widened(softmax))
    )


def _probabilities(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    columns = torch.arange(logits.shape[1], device=target.device)
    return widened(logits).sigmoid(), columns == target[:, None]


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=SMALLEST).log()


def _of_target(softmax: Tensor, target: Tensor) -> Tensor:
    label = target.clamp(min=0)[:, None]
    return widened(softmax).gather(1, label)[:, 0]


def _labelled(value: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Apply class weights; leave samples without a label out. (N,)."""
    if len(weight):
        value = value * weight[target.clamp(min=0)]
    return value.where(target >= 0, 0)


def _weighted(
    value: Tensor, weight: Tensor, target: Tensor, classes: int
) -> Tensor:
    """Weigh (N, C) by the weight of each sample's class.

    mmcv reads beyond the weights for the background; it counts 1 here.
    """
    if not len(weight):
        return value
    known = (target >= 0) & (target < classes)
    rows = weight[target.clamp(0, classes - 1)].where(known, 1)
    return value * rows[:, None]
