"""Convolution columns at selected positions, for guided anchoring."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    features: Tensor,
    rows: Tensor,
    columns: Tensor,
    out: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Gather the patches around positions, for stride 1.

    Args:
        features: (1, C, H, W).
        rows: (M,) int64, rows of the positions in the convolution's output.
        columns: (M,) int64, columns of the positions.
        out: Output, (C * kernel_h * kernel_w, M).
        kernel_h: Kernel height in pixels.
        kernel_w: Kernel width in pixels.
        pad_h: Rows of zeros above and below.
        pad_w: Columns of zeros at both sides.
    """
    padded = F.pad(features[0], (pad_w, pad_w, pad_h, pad_h))
    patches = padded.unfold(1, kernel_h, 1).unfold(2, kernel_w, 1)
    chosen = patches[:, rows, columns]  # (C, M, kernel_h, kernel_w)
    out.copy_(chosen.permute(0, 2, 3, 1).reshape(out.shape))


def masked_col2im_forward(
    values: Tensor,
    rows: Tensor,
    columns: Tensor,
    out: Tensor,
    *,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Scatter values to positions.

    Args:
        values: (channels, M).
        rows: (M,) int64, rows of the positions.
        columns: (M,) int64, columns of the positions.
        out: Output, (1, channels, height, width); written at the positions
            only.
        height: Height of `out`; unused, like `width` and `channels`.
        width: Width of `out`.
        channels: Channels of `out`.
    """
    out[0, :, rows, columns] = values
