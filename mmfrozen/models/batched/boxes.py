"""Box overlaps and box coding for batches of images."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from torch import Tensor

EPS = 1e-6
#: Limit at which MMDetection's coder clips predicted log ratios of sizes.
MAX_RATIO = abs(math.log(16 / 1000))


def overlaps(first: Tensor, second: Tensor, over: str = 'union') -> Tensor:
    """Compute the overlap of each pair of boxes of the same image.

    The arithmetic is that of MMDetection's ``bbox_overlaps``, without its
    intermediate tensors of corner coordinates for every pair.

    Args:
        first: (N, K, 4), corners in pixels.
        second: (N or 1, P, 4), corners in pixels.
        over: Area by which intersections are divided: ``'union'`` for IoU,
            ``'first'`` or ``'second'`` for the area of that box.

    Returns:
        (N, K, P).
    """
    a = first.float()[:, :, None].unbind(dim=-1)  # (N, K, 1) each
    b = second.float()[:, None].unbind(dim=-1)  # (N or 1, 1, P) each
    width = torch.minimum(a[2], b[2])
    width.sub_(torch.maximum(a[0], b[0])).clamp_(min=0)
    height = torch.minimum(a[3], b[3])
    height.sub_(torch.maximum(a[1], b[1])).clamp_(min=0)
    shared = width.mul_(height)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    if over == 'union':
        area = torch.add(*areas, out=height).sub_(shared)
    else:
        area = areas[0 if over == 'first' else 1]
    return shared.div_(area.clamp(min=EPS))


class BoxCoder:
    """MMDetection's box delta coder, with its constants cached on the device.

    Args:
        coder: MMDetection's coder, which provides the settings. It copies its
            means to the device on each call, and each copy synchronises.
    """

    def __init__(self, coder: DeltaXYWHBBoxCoder) -> None:
        if self.find_fallback_reason(coder):
            return  # the head falls back to MMDetection's step
        self.means, self.stds = list(coder.means), list(coder.stds)
        self.clip_border = coder.clip_border
        self._constants: dict[Any, tuple[Tensor, Tensor]] = {}

    @staticmethod
    def find_fallback_reason(coder: Any) -> str | None:
        """Return why a coder has no batched form; None if it has one."""
        if type(coder) is not DeltaXYWHBBoxCoder or coder.add_ctr_clamp:
            return f'box coder {type(coder).__name__}'
        return None

    def _moments(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._constants:
            self._constants[device] = tuple(  # type: ignore[assignment]
                torch.tensor(values, device=device, dtype=torch.float)
                for values in (self.means, self.stds)
            )
        return self._constants[device]

    def encode(self, priors: Tensor, objects: Tensor) -> Tensor:
        """Encode boxes as deltas, as MMDetection's coder does.

        Args:
            priors: (..., 4), corners in pixels.
            objects: (..., 4), corners in pixels.

        Returns:
            (..., 4); not finite where an object has no area.
        """
        means, stds = self._moments(priors.device)
        priors, objects = priors.float(), objects.float()
        centres = (priors[..., :2] + priors[..., 2:]) * 0.5
        sides = priors[..., 2:] - priors[..., :2]
        shift = ((objects[..., :2] + objects[..., 2:]) * 0.5).sub_(centres)
        growth = (objects[..., 2:] - objects[..., :2]).div_(sides).log_()
        deltas = torch.cat((shift.div_(sides), growth), dim=-1)
        return deltas.sub_(means).div_(stds)

    def decode(
        self,
        priors: Tensor,
        deltas: Tensor,
        shapes: list[tuple[int, int]] | None,
        images: Tensor | None = None,
    ) -> Tensor:
        """Decode deltas to boxes, as MMDetection's coder does.

        Args:
            priors: (N, K, 4) or (M, 4), corners in pixels.
            deltas: Deltas of one class, in the shape of `priors`.
            shapes: Height and width in pixels of each image, to which boxes
                are clipped; None for no clipping.
            images: (M,) int64, the image of each box; needed if `priors` is
                (M, 4).

        Returns:
            Boxes, in the shape of `priors`.
        """
        means, stds = self._moments(priors.device)
        deltas = deltas * stds + means
        centres = (priors[..., :2] + priors[..., 2:]) * 0.5
        sides = priors[..., 2:] - priors[..., :2]
        centres = centres + sides * deltas[..., :2]
        growth = deltas[..., 2:].clamp(min=-MAX_RATIO, max=MAX_RATIO)
        half = sides * growth.exp() * 0.5
        boxes = torch.cat((centres - half, centres + half), dim=-1)
        if shapes is None or not self.clip_border:
            return boxes
        if len(set(shapes)) == 1:
            height, width = shapes[0]
            boxes[..., 0::2].clamp_(min=0, max=width)
            boxes[..., 1::2].clamp_(min=0, max=height)
            return boxes
        limits = torch.tensor([(w, h, w, h) for h, w in shapes])
        limits = limits.to(boxes, non_blocking=True)
        limits = limits[:, None] if images is None else limits[images]
        return boxes.clamp(min=0).minimum(limits)
