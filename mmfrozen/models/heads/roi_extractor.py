"""RoI extractor that keeps RoIAlign in fp32 under any precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from ...registry import MODELS


@MODELS.register_module()
class Float32RoIExtractor(SingleRoIExtractor):
    """MMDetection's extractor for mixed precision.

    What MMDetection lacks: it rounds boxes to the dtype of the features. In
    bf16 that leaves multiples of 4 pixels from 512 on, of 8 from 1,024 on;
    and mmcv's compiled RoIAlign has no bf16 on CPUs. Here boxes and features
    are fp32, and so is the output, which the next convolution takes in the
    precision of autocast. Without mixed precision this is MMDetection's
    extractor.

    Example config::

        bbox_roi_extractor=dict(
            type='Float32RoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32])
    """

    #: Batched heads call the layers themselves.
    in_float32 = True

    def forward(
        self, feats: Sequence[Tensor], rois: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Extract the features of boxes.

        Args:
            feats: One (N, C, H, W) a level, finest first.
            rois: (M, 5): number of the image, x1, y1, x2, y2 in pixels.

        Returns:
            (M, C, output_size, output_size) in fp32.
        """
        with torch.autocast(rois.device.type, enabled=False):
            return super().forward(  # type: ignore[no-any-return]
                tuple(x.float() for x in feats), rois.float(), *args, **kwargs
            )
