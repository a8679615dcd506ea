"""Synthetic annotations and proposals for a traced training step.

How many objects an image has, how many regions of interest are sampled and
how many of them are positive decides what a step costs; which objects they
are does not. So an image holds a grid of objects, and proposals are copies
of them, a little off, and boxes beside them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from ..cost.shape_mode import ShapeMode, empty

#: Sides of objects, as shares of half a cell of the grid.
SIDES = (0.9, 0.45, 0.65, 0.3)


def object_boxes(count: int, height: int, width: int) -> Tensor:
    """Lay objects out in the left halves of the cells of a grid.

    Returns:
        (count, 4), corners x1 y1 x2 y2 in pixels; no two overlap.
    """
    columns = max(1, math.ceil(math.sqrt(count)))
    cell_width, cell_height = width / columns, height / columns
    boxes = []
    for i in range(count):
        side = SIDES[i % len(SIDES)]
        x = (i % columns) * cell_width + 0.02 * cell_width
        y = (i // columns) * cell_height + 0.02 * cell_height
        boxes.append(
            (x, y, x + side * cell_width / 2, y + side * 0.95 * cell_height)
        )
    return torch.tensor(boxes).reshape(-1, 4)


def proposal_boxes(
    objects: Tensor, count: int, positives: int, height: int, width: int
) -> Tensor:
    """Make proposals of which exactly so many are positive.

    Args:
        objects: From :func:`object_boxes`.
        count: Of all proposals.
        positives: Of those with an IoU above 0.85 with an object; the
            others have one of 0.
        height: Of the image, pixels.
        width: Of the image, pixels.

    Returns:
        (count, 4), corners; positives first.
    """
    if not len(objects):
        objects, positives = object_boxes(1, height, width), 0
    index = torch.arange(count) % len(objects)
    boxes = objects[index]
    sides = boxes[:, 2:] - boxes[:, :2]
    # off by up to 5 % of a side, each copy in its own way
    off = sides * ((torch.arange(count) // len(objects)) % 25 / 500)[:, None]
    near = boxes[:positives] + off[:positives].repeat(1, 2)
    # the right half of a cell is empty
    shift = width / max(1, math.ceil(math.sqrt(len(objects)))) / 2
    far = boxes[positives:] + boxes.new_tensor((shift, 0, shift, 0))
    made = torch.cat((near, far - off[positives:].repeat(1, 2)))
    limit = made.new_tensor((width, height, width, height))
    return made.clamp(min=0).minimum(limit)


def make_samples(
    batch_size: int,
    shape: tuple[int, int],
    *,
    objects: int,
    num_classes: int,
) -> list[DetDataSample]:
    """Annotate images that are not there: boxes, labels, masks, stuff.

    One image is as the other, so that much is computed once for all.

    Args:
        batch_size: Images.
        shape: Height and width of each, pixels.
        objects: Of each.
        num_classes: Labels are 0 to this, one after the other.
    """
    height, width = shape
    boxes = object_boxes(objects, height, width)
    masks = draw_masks(boxes, height, width)
    no_masks = UnreadMasks([], height, width)
    samples = []
    for _ in range(batch_size):
        sample = DetDataSample(metainfo=_metainfo(height, width))
        sample.gt_instances = InstanceData(
            bboxes=boxes.clone(),
            labels=torch.arange(objects) % num_classes,
            masks=masks,
        )
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.long),
            masks=no_masks,
        )
        sample.proposals = InstanceData(
            bboxes=proposal_boxes(boxes, 2000, 500, height, width),
            scores=torch.full((2000,), 0.5),
        )
        sample.gt_sem_seg = PixelData(
            sem_seg=torch.zeros(1, 1, 1, dtype=torch.long).expand(
                1, height, width
            )
        )
        samples.append(sample)
    return samples


class UnreadMasks(BitmapMasks):
    """Masks that nobody writes, whose crops nobody reads.

    What MMDetection lacks: its ``crop_and_resize`` copies the whole mask of an
    object for every region of interest, seconds a step on a CPU. This does
    the same operators on shapes. Its heads copy what is annotated.
    """

    def __deepcopy__(self, memo: Any) -> UnreadMasks:
        return self

    def crop_and_resize(
        self,
        bboxes: np.ndarray,
        out_shape: tuple[int, int],
        inds: np.ndarray,
        device: str = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> BitmapMasks:
        if ShapeMode.current is None:
            return super().crop_and_resize(
                bboxes, out_shape, inds, device, interpolation, binarize
            )
        if len(self.masks) and len(bboxes):
            index = torch.arange(len(bboxes), dtype=torch.float32)[:, None]
            rois = torch.cat((index, torch.from_numpy(bboxes)), dim=1)
            drawn = empty(*self.masks.shape, dtype=torch.uint8)
            chosen = drawn.index_select(0, torch.from_numpy(inds))
            masks = chosen.to(dtype=rois.dtype)[:, None]
            roi_align(masks, rois, out_shape, 1.0, 0, 'avg', True)
        crops = np.zeros((len(bboxes), *out_shape), dtype=np.uint8)
        return BitmapMasks(crops, *out_shape)


def draw_masks(boxes: Tensor, height: int, width: int) -> BitmapMasks:
    """Fill boxes."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, box in zip(masks, boxes.round().long().tolist(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = 1
    return UnreadMasks(masks.numpy(), height, width)


def _metainfo(height: int, width: int) -> dict[str, Any]:
    size = (height, width)
    return dict(
        img_id=0,
        img_path='0.jpg',
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
        flip=False,
        flip_direction=None,
        border=[0, height, 0, width],  # what CenterNet and CornerNet read
        tokens_positive=None,
    )
