"""A cache of anchors, which depend on the feature map sizes only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

Size = tuple[int, int]
#: Maximum number of cached entries.
KEPT = 64


class AnchorCache:
    """Least-recently-used cache of anchors and their inside-the-image flags.

    Args:
        generator: MMDetection's prior generator.
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def anchors(self, sizes: list[Size], device: torch.device) -> Tensor:
        """Return the anchors of all levels, concatenated: (A, 4), corners in
        pixels."""

        def make() -> Tensor:
            levels = self.generator.grid_priors(sizes, device=device)
            return torch.cat([get_box_tensor(level) for level in levels])

        return self._keep(('anchors', *sizes, device), make)

    def usable(
        self,
        sizes: list[Size],
        metas: list[dict[str, Any]],
        border: float,
        device: torch.device,
    ) -> Tensor | None:
        """Return which anchors lie inside their image, as MMDetection's heads
        decide it: (N or 1, A) bool, or None if all of them do.

        Args:
            sizes: Height and width of each level.
            metas: MMDetection's meta information of each image.
            border: Pixels by which an anchor may extend beyond its image; a
                negative value allows any extent.
            device: Device of the anchors.

        Raises:
            ValueError: If an image has no anchor inside.
        """
        shapes = [
            (tuple(m['pad_shape'][:2]), tuple(m['img_shape'][:2]))
            for m in metas
        ]
        flags = [
            self._keep(
                ('usable', *sizes, device, border, *shape),
                lambda shape=shape: self._inside(
                    sizes, *shape, border, device
                ),
            )
            for shape in shapes
        ]
        if all(f is None for f in flags):
            return None
        if len(set(shapes)) == 1:
            return flags[0][None]
        every = torch.ones_like(next(f for f in flags if f is not None))
        return torch.stack([every if f is None else f for f in flags])

    def _inside(
        self,
        sizes: list[Size],
        pad_shape: Size,
        img_shape: Size,
        border: float,
        device: torch.device,
    ) -> Tensor | None:
        valid = torch.cat(self.generator.valid_flags(sizes, pad_shape, device))
        inside = anchor_inside_flags(
            self.anchors(sizes, device), valid, img_shape, border
        )
        if not inside.any():
            raise ValueError(
                f'An image must have an anchor inside, got none in '
                f'{img_shape} (height, width). Take larger images or smaller '
                'anchors, or set model.train_cfg.rpn.allowed_border=-1.'
            )
        return None if inside.all() else inside

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
