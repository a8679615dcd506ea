"""Synthetic annotations and proposals for a traced training step.

How many objects an image has, how many regions of interest are sampled and
how many of them are positive decides what a step costs; which objects they
are does not. So an image holds objects of usual sizes, and proposals are
copies of them, a little off, and boxes beside them.
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

#: Sides of objects, as shares of the root of the image's area: eight
#: quantiles of the log-normal distribution through COCO's median, 0.106, and
#: its first and last decile, 0.024 and 0.472 (Singh and Davis, SNIP, CVPR
#: 2018), those in the middle first.
SIDES = (0.127, 0.088, 0.187, 0.060, 0.297, 0.038, 0.628, 0.018)
#: Of the ninth and all after it, the smaller half: eight of the others cover
#: half an image, and COCO's images hold seven objects in the mean.
CROWD_SIDES = (0.088, 0.060, 0.038, 0.018)
#: Steps of a sequence of points that fill a square evenly, however many.
STEPS = (0.7548776662466927, 0.5698402909980532)
#: How far a predicted box lies off its object, as a share of its sides.
PREDICTION_OFF = 0.06
#: Boxes that are looked at for such as hold no object.
CANDIDATES = 512


def object_boxes(count: int, height: int, width: int) -> Tensor:
    """Lay objects out over an image.

    Size and place of an object depend on its number alone: more objects are
    the same ones and others beside them.

    Returns:
        (count, 4), corners x1 y1 x2 y2 in pixels, within the image.
    """
    number = torch.arange(count)
    first = torch.tensor(SIDES)[number % len(SIDES)]
    others = torch.tensor(CROWD_SIDES)[number % len(CROWD_SIDES)]
    sides = torch.where(number < len(SIDES), first, others)
    return _place(number, sides, height, width)


def _place(number: Tensor, sides: Tensor, height: int, width: int) -> Tensor:
    """Boxes at places that depend on their number."""
    size = number.new_tensor((width, height), dtype=torch.float64)
    lengths = (sides[:, None] * math.sqrt(height * width)).minimum(size)
    share = (number[:, None] * size.new_tensor(STEPS) + 0.5) % 1
    corner = share * (size - lengths)
    return torch.cat((corner, corner + lengths), dim=1).float()


def proposal_boxes(
    objects: Tensor, count: int, positives: int, height: int, width: int
) -> Tensor:
    """Make proposals of which exactly so many are positive.

    Args:
        objects: From :func:`object_boxes`.
        count: Of all proposals.
        positives: Of those with an IoU above 0.8 with an object; the others
            have less than 0.3 with every one.
        height: Of the image, pixels.
        width: Of the image, pixels.

    Returns:
        (count, 4), corners; positives first.
    """
    if not len(objects):
        objects, positives = object_boxes(1, height, width), 0
    index = torch.arange(count)
    boxes = objects[index[:positives] % len(objects)]
    # off by up to 5 % of a side, each copy in its own way
    off = (index[:positives] // len(objects) % 25 / 500)[:, None]
    near = boxes + ((boxes[:, 2:] - boxes[:, :2]) * off).repeat(1, 2)
    limit = near.new_tensor((width, height, width, height))
    far = _boxes_beside(objects, height, width)
    far = far[index[positives:] % len(far)]
    return torch.cat((near.minimum(limit), far))


def _boxes_beside(objects: Tensor, height: int, width: int) -> Tensor:
    """Boxes of objects' sizes where no object is."""
    number = torch.arange(CANDIDATES)
    sides = torch.tensor(SIDES)[number % len(SIDES)]
    boxes = _place(number + len(objects), sides, height, width)
    return boxes[bbox_overlaps(boxes, objects).amax(dim=1) < 0.3]


def boxes_at(centres: Tensor, objects: Tensor) -> Tensor:
    """Predict boxes as a trained detector does.

    Where an object is, its box, off by :data:`PREDICTION_OFF` of its sides;
    of several the smallest; elsewhere a box of one pixel.

    Args:
        centres: (n, 2), x y of the places that predict, pixels.
        objects: (k, 4), corners.

    Returns:
        (n, 4), corners.
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
    """Annotate images that are not there: boxes, labels, masks, stuff.

    One image is as the other, so that much is computed once for all.

    Args:
        batch_size: Images.
        shape: Height and width of each, pixels.
        objects: Of each.
        num_classes: Labels are 0 to this, one after the other.
        masks: Whether objects have masks.
        text: Names of classes, which detectors that read text are asked to
            find.
    """
    height, width = shape
    boxes = object_boxes(objects, height, width)
    drawn = draw_masks(boxes, height, width)
    no_masks = UnreadMasks([], height, width)
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
    )
