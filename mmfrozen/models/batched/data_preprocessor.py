"""A data preprocessor that normalises images of one size as a batch."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import SampleList
from torch import Tensor

from ...registry import MODELS


@MODELS.register_module()
class BatchedDetDataPreprocessor(DetDataPreprocessor):
    """MMDetection's ``DetDataPreprocessor``, faster for images of one size.

    What MMDetection lacks: it normalises and pads image by image, synchronises
    at each copy to the device, and copies all masks even if they need no
    padding. Here the images are stacked as bytes first. Images of several
    sizes are processed by MMDetection's code. Arguments and results are
    MMDetection's.

    Example config::

        data_preprocessor=dict(type='BatchedDetDataPreprocessor')
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault('non_blocking', True)
        super().__init__(*args, **options)

    def forward(
        self, data: dict[str, Any], training: bool = False
    ) -> dict[str, Any]:
        """Override MMDetection's method of the same name."""
        images = data['inputs']
        if not isinstance(images, (list, tuple)) or not _are_alike(images):
            return super().forward(data, training)  # type: ignore[no-any-return]
        batch = torch.stack(self.cast_data(list(images)))
        # Channels are flipped here, not by MMDetection's code below: it would
        # copy an index of the channels to the device, and synchronise.
        converts, self._channel_conversion = self._channel_conversion, False
        try:
            if converts:
                batch = batch.flip(1)
            data = dict(data, inputs=batch)
            return super().forward(data, training)  # type: ignore[no-any-return]
        finally:
            self._channel_conversion = converts

    def pad_gt_masks(self, batch_data_samples: SampleList) -> None:
        """Override MMDetection's method; do not copy masks that already have
        the batch's size."""
        smaller = [
            sample
            for sample in batch_data_samples
            if 'masks' in sample.gt_instances
            and (
                sample.gt_instances.masks.height,
                sample.gt_instances.masks.width,
            )
            != tuple(sample.batch_input_shape)
        ]
        if smaller:
            super().pad_gt_masks(smaller)


def _are_alike(images: Any) -> bool:
    return (
        all(isinstance(i, Tensor) and i.dim() == 3 for i in images)
        and len({(i.shape, i.dtype) for i in images}) == 1
    )
