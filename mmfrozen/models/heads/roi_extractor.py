"""An RoI extractor that keeps RoIAlign in fp32 under mixed precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from ...registry import MODELS


@MODELS.register_module()
class Float32RoIExtractor(SingleRoIExtractor):
    """MMDetection's ``SingleRoIExtractor`` in fp32, for mixed precision.

    What MMDetection lacks: it rounds boxes to the dtype of the features. In
    bf16, coordinates then become multiples of 4 pixels from 512 on and of 8
    from 1,024 on; and mmcv's compiled RoIAlign has no bf16 kernel for CPUs.
    Here boxes and features are fp32, and so is the output, which autocast
    converts for the next convolution. Without mixed precision this is
    MMDetection's extractor.

    Example config::

        bbox_roi_extractor=dict(
            type='Float32RoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32])
    """

    #: Read by the batched heads, which call the layers directly.
    in_float32 = True

    def forward(
        self, feats: Sequence[Tensor], rois: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Extract the features of boxes.

        Args:
            feats: (N, C, H, W) of each level, finest first.
            rois: (M, 5): index of the image, x1, y1, x2, y2 in pixels.

        Returns:
            (M, C, output_size, output_size) in fp32.
        """
        with torch.autocast(rois.device.type, enabled=False):
            return super().forward(  # type: ignore[no-any-return]
                tuple(x.float() for x in feats), rois.float(), *args, **kwargs
            )
