"""Mask and box predictions for only the class that each region needs.

MMDetection's heads predict masks and boxes for every class (1,203 on LVIS) and
then select one. The results here are the same.
"""

from __future__ import annotations

import torch
from mmcv import cnn
from mmdet.models.roi_heads.bbox_heads import BBoxHead, ConvFCBBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import Tensor, nn

# configs build mmcv's classes, which compute the same as torch's
CONVOLUTIONS = (nn.Conv2d, cnn.Conv2d)
LINEARS = (nn.Linear, cnn.Linear)


def mask_logits(head: FCNMaskHead, x: Tensor, labels: Tensor) -> Tensor:
    """Predict the mask of each region for its class only.

    Args:
        head: Mask head whose layers are called.
        x: (P, C, h, w), features of the regions.
        labels: (P,) int64, class of each region.

    Returns:
        (P, 1, H, W).
    """
    for conv in head.convs:
        x = conv(x)
    if head.upsample is not None:
        x = head.upsample(x)
        if head.upsample_method == 'deconv':
            x = head.relu(x)
    if head.class_agnostic or type(head.conv_logits) not in CONVOLUTIONS:
        logits = head.conv_logits(x)
        if head.class_agnostic:
            return logits
        return logits.gather(
            1, labels[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        )
    weight = head.conv_logits.weight.flatten(1)[labels]  # (P, C)
    logits = torch.bmm(weight[:, None], x.flatten(2))
    bias = head.conv_logits.bias[labels]
    return (logits + bias[:, None, None]).view(-1, 1, *x.shape[2:])


def box_predictions(
    head: BBoxHead, x: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Predict class scores, and deltas if these do not depend on the class.

    Args:
        head: Box head whose layers are called.
        x: (M, C, h, w), features of the regions.

    Returns:
        Scores, (M, classes); deltas or None; and, if they are None, the
        features from which :func:`box_deltas` computes them.
    """
    if head.reg_class_agnostic or not selects(head):
        scores, deltas = head(x)
        return scores, deltas, None
    for conv in head.shared_convs:
        x = conv(x)
    if head.num_shared_fcs:
        x = _flat(head, x)
        for fc in head.shared_fcs:
            x = head.relu(fc(x))
    branches = []
    for convs, fcs in (
        (head.cls_convs, head.cls_fcs),
        (head.reg_convs, head.reg_fcs),
    ):
        y = x
        for conv in convs:
            y = conv(y)
        y = _flat(head, y)
        for fc in fcs:
            y = head.relu(fc(y))
        branches.append(y)
    return head.fc_cls(branches[0]), None, branches[1]


def selects(head: BBoxHead) -> bool:
    """Return whether the deltas of a single class can be computed alone."""
    return isinstance(head, ConvFCBBoxHead) and type(head.fc_reg) in LINEARS


def box_deltas(head: BBoxHead, x: Tensor, labels: Tensor) -> Tensor:
    """Predict the box deltas of each region for its class only.

    Args:
        head: Box head whose regression layer is applied.
        x: (M, C), the third result of :func:`box_predictions`.
        labels: (M,) int64, class of each region.

    Returns:
        (M, 4).
    """
    size = head.bbox_coder.encode_size
    weight = head.fc_reg.weight.view(-1, size, x.shape[1])[labels]
    bias = head.fc_reg.bias.view(-1, size)[labels]
    return torch.bmm(weight, x[:, :, None])[..., 0] + bias


def _flat(head: BBoxHead, x: Tensor) -> Tensor:
    if x.dim() > 2 and head.with_avg_pool:
        x = head.avg_pool(x)
    return x.flatten(1)
