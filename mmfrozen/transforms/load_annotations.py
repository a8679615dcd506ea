"""An annotation loader that does not rasterise masks."""

from __future__ import annotations

from typing import Any

from mmdet.datasets.transforms import LoadAnnotations

from ..registry import TRANSFORMS
from .compact_masks import CompactMasks
from .crops import encode


@TRANSFORMS.register_module()
class LoadCompactAnnotations(LoadAnnotations):
    """MMDetection's ``LoadAnnotations`` with masks that are rasterised late.

    What MMDetection lacks: it draws every mask over the whole image, then
    resizes, crops, flips and pads whole images. The result here is the same,
    bit by bit, for a fraction of the time and memory
    (:class:`~mmfrozen.transforms.CompactMasks`), in any pipeline.

    Required keys: as MMDetection's. Added keys: as MMDetection's, with
    ``gt_masks`` a ``CompactMasks``, which is a ``BitmapMasks``.

    Raises:
        ValueError: If an instance has no mask although ``with_mask`` is set.

    Example config::

        dict(
            type='mmfrozen.LoadCompactAnnotations',
            with_bbox=True,
            with_mask=True)
    """

    def _load_masks(self, results: dict[str, Any]) -> None:
        instances = results.get('instances', [])
        lacking = sum('mask' not in one for one in instances)
        if lacking:
            raise ValueError(
                'Every instance must have a mask when with_mask=True, got '
                f'{lacking} of {len(instances)} without in '
                f'{results.get("img_path")!r}. Annotate segmentations, or '
                'set with_mask=False.'
            )
        if not self.poly2mask:
            super()._load_masks(results)
            return
        height, width = results['ori_shape']
        results['gt_masks'] = CompactMasks(
            [
                encode(mask, height, width)
                for mask in self._process_masks(results)
            ],
            height,
            width,
        )
