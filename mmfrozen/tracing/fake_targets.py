"""Synthetic annotations and proposals for a traced training step.

The cost of a step depends on how many objects an image has, how many regions
of interest are sampled and how many of them are positive, but not on which
objects they are. So an image holds objects of typical sizes, and proposals are
slightly shifted copies of them plus boxes beside them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from ..cost.shape_mode import ShapeMode, empty

#: Object sides, as fractions of the square root of the image's area: eight
#: quantiles of the log-normal distribution through COCO's median, 0.106, and
#: its first and last decile, 0.024 and 0.472 (Singh and Davis, SNIP, CVPR
#: 2018), middle ones first.
SIDES = (0.127, 0.088, 0.187, 0.060, 0.297, 0.038, 0.628, 0.018)
#: Sides of the ninth and all further objects, the smaller half: eight of the
#: others cover half an image, and COCO's images hold seven objects on average.
CROWD_SIDES = (0.088, 0.060, 0.038, 0.018)
#: Steps of a low-discrepancy sequence, which fills a square evenly with any
#: number of points.
STEPS = (0.7548776662466927, 0.5698402909980532)
#: Shift of a predicted box from its object, as a fraction of its sides.
PREDICTION_OFF = 0.06
#: Number of candidate boxes for negatives.
CANDIDATES = 512


def object_boxes(count: int, height: int, width: int) -> Tensor:
    """Return boxes of objects spread over an image.

    Size and position of an object depend only on its index: with a larger
    count, the first objects stay the same.

    Returns:
        (count, 4), corners x1 y1 x2 y2 in pixels, within the image.
    """
    number = torch.arange(count)
    first = torch.tensor(SIDES)[number % len(SIDES)]
    others = torch.tensor(CROWD_SIDES)[number % len(CROWD_SIDES)]
    sides = torch.where(number < len(SIDES), first, others)
    return _place(number, sides, height, width)


def _place(number: Tensor, sides: Tensor, height: int, width: int) -> Tensor:
    """Return boxes at positions that depend on their index."""
    size = number.new_tensor((width, height), dtype=torch.float64)
    lengths = (sides[:, None] * math.sqrt(height * width)).minimum(size)
    share = (number[:, None] * size.new_tensor(STEPS) + 0.5) % 1
    corner = share * (size - lengths)
    return torch.cat((corner, corner + lengths), dim=1).float()


def proposal_boxes(
    objects: Tensor, count: int, positives: int, height: int, width: int
) -> Tensor:
    """Return proposals of which an exact number is positive.

    Args:
        objects: The result of :func:`object_boxes`.
        count: Number of proposals.
        positives: Number of proposals with an IoU above 0.8 with an object;
            the others are below 0.3 with every object.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        (count, 4), corners in pixels; positives first.
    """
    if not len(objects):
        objects, positives = object_boxes(1, height, width), 0
    index = torch.arange(count)
    boxes = objects[index[:positives] % len(objects)]
    # shifted by up to 5 % of a side, each copy differently
    off = (index[:positives] // len(objects) % 25 / 500)[:, None]
    near = boxes + ((boxes[:, 2:] - boxes[:, :2]) * off).repeat(1, 2)
    limit = near.new_tensor((width, height, width, height))
    far = _boxes_beside(objects, height, width)
    far = far[index[positives:] % len(far)]
    return torch.cat((near.minimum(limit), far))


def _boxes_beside(objects: Tensor, height: int, width: int) -> Tensor:
    """Return boxes of object sizes with an IoU below 0.3 with all objects."""
    number = torch.arange(CANDIDATES)
    sides = torch.tensor(SIDES)[number % len(SIDES)]
    boxes = _place(number + len(objects), sides, height, width)
    return boxes[bbox_overlaps(boxes, objects).amax(dim=1) < 0.3]


def boxes_at(centres: Tensor, objects: Tensor) -> Tensor:
    """Return predicted boxes like those of a trained detector.

    A position inside objects predicts the box of the smallest of them, shifted
    by :data:`PREDICTION_OFF` of its sides; any other a box of one pixel.

    Args:
        centres: (n, 2), x y of the predicting positions in pixels.
        objects: (k, 4), corners in pixels.

    Returns:
        (n, 4), corners in pixels.
    """
    nothing = torch.cat((centres - 0.5, centres + 0.5), dim=1)
    if not len(objects):
        return nothing
    sides = objects[:, 2:] - objects[:, :2]
    inside = (
        (centres[:, None] > objects[:, :2])
        & (centres[:, None] < objects[:, 2:])
    ).all(dim=2)
    area = sides.prod(dim=1).expand_as(inside)
    smallest, index = area.where(inside, torch.inf).min(dim=1)
    boxes = objects + (sides * PREDICTION_OFF).repeat(1, 2)
    found = smallest.isfinite()[:, None]
    return boxes[index].where(found, nothing)


def make_samples(
    batch_size: int,
    shape: tuple[int, int],
    *,
    objects: int,
    num_classes: int,
    masks: bool = True,
    text: tuple[str, ...] = (),
) -> list[DetDataSample]:
    """Return synthetic annotations: boxes, labels, masks, semantic maps.

    All images are equal, so that much is computed only once.

    Args:
        batch_size: Number of images.
        shape: Height and width of each image in pixels.
        objects: Number of objects in each image.
        num_classes: Number of classes; labels cycle through them.
        masks: Whether objects have masks.
        text: Class names for the prompt of detectors that read text.
    """
    height, width = shape
    boxes = object_boxes(objects, height, width)
    drawn = draw_masks(boxes, height, width)
    no_masks = SyntheticMasks([], height, width)
    metainfo = _metainfo(height, width)
    if text:
        metainfo.update(text=text, custom_entities=True)
        num_classes = min(num_classes, len(text))
    samples = []
    for _ in range(batch_size):
        sample = DetDataSample(metainfo=metainfo)
        sample.gt_instances = InstanceData(
            bboxes=boxes.clone(),
            labels=torch.arange(objects) % num_classes,
        )
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.long),
        )
        if masks:
            sample.gt_instances.masks = drawn
            sample.ignored_instances.masks = no_masks
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


class SyntheticMasks(BitmapMasks):
    """Masks that are never modified and whose crops are never read.

    MMDetection's ``crop_and_resize`` copies an object's whole mask for every
    region of interest, which takes seconds per step on a CPU. This class runs
    the same operators on shapes. A deep copy, which heads make of
    annotations, returns the same object.
    """

    def __deepcopy__(self, memo: Any) -> SyntheticMasks:
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
    """Return masks that fill their boxes."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, box in zip(masks, boxes.round().long().tolist(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = 1
    return SyntheticMasks(masks.numpy(), height, width)


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
        border=[0, height, 0, width],  # read by CenterNet and CornerNet
    )
