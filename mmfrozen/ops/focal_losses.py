"""Sigmoid and softmax focal losses, with gradients in closed form.

"Focal Loss for Dense Object Detection" (ICCV 2017), equation 5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import upcast

SMALLEST = torch.finfo(torch.float32).tiny  # mmcv clamps the log here


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
        target: (N,) int64; C or any other number outside [0, C) for
            background.
        weight: (C,) class weights, or empty.
        out: Output, (N, C).
        gamma: Focusing exponent, which down-weights easy samples.
        alpha: Weight of positives; negatives have 1 - alpha.
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
    """Write the gradient of the loss with respect to the logits, (N, C).

    The arguments are those of :func:`sigmoid_focal_loss_forward`.
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
        target: (N,) int64; negative for samples without a loss.
        weight: (C,) class weights, or empty.
        out: Output, (N,).
        gamma: Focusing exponent, which down-weights easy samples.
        alpha: Factor of the loss.
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
    """Write the gradient of the loss with respect to the logits, (N, C).

    The arguments are those of :func:`softmax_focal_loss_forward`; p times the
    derivative by p, (N,), is written to `buffer`.
    """
    p = _of_target(softmax, target)
    factor = alpha * (
        gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma
    )
    factor = _labelled(factor, weight, target)
    buffer.copy_(factor)
    columns = torch.arange(softmax.shape[1], device=target.device)
    is_target = (columns == target[:, None]).to(factor.dtype)
    grad.copy_(factor[:, None] * (is_target - upcast(softmax)))


def _probabilities(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    columns = torch.arange(logits.shape[1], device=target.device)
    return upcast(logits).sigmoid(), columns == target[:, None]


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=SMALLEST).log()


def _of_target(softmax: Tensor, target: Tensor) -> Tensor:
    label = target.clamp(min=0)[:, None]
    return upcast(softmax).gather(1, label)[:, 0]


def _labelled(value: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Multiply (N,) by class weights; set samples without a label to 0."""
    if len(weight):
        value = value * weight[target.clamp(min=0)]
    return value.where(target >= 0, 0)


def _weighted(
    value: Tensor, weight: Tensor, target: Tensor, classes: int
) -> Tensor:
    """Multiply (N, C) by the weight of each sample's class.

    Background has weight 1 here; mmcv reads out of bounds for it.
    """
    if not len(weight):
        return value
    known = (target >= 0) & (target < classes)
    rows = weight[target.clamp(0, classes - 1)].where(known, 1)
    return value * rows[:, None]
