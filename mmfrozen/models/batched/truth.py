"""Ground truth of a batch as padded tensors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor


class Padded(NamedTuple):
    """Boxes of several images, padded with zeros.

    Attributes:
        boxes: (N, K, 4), corners in pixels; K is at least 1.
        valid: (N, K) bool, False for padding.
    """

    boxes: Tensor
    valid: Tensor


class BatchGroundTruth(NamedTuple):
    """Ground truth of a batch, on the device of the model.

    Attributes:
        boxes: (N, G, 4), corners in pixels, zeros for padding.
        labels: (N, G) int64.
        valid: (N, G) bool, False for padding.
        offsets: (N,) int64, number of objects in the preceding images.
        ignored: Regions to ignore; None if there are none.
        masks: MMDetection's masks, one container per image, on the CPU.
        shapes: Height and width in pixels of each image, without padding.
        metas: MMDetection's meta information of each image.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    offsets: Tensor
    ignored: Padded | None
    masks: list[Any]
    shapes: list[tuple[int, int]]
    metas: list[dict[str, Any]]

    @classmethod
    def of_samples(
        cls, samples: SampleList, device: torch.device
    ) -> BatchGroundTruth:
        """Collect the annotations of data samples."""
        return cls.of(*unpack_gt_instances(samples), device)

    @classmethod
    def of(
        cls,
        objects: Sequence[InstanceData],
        ignored: Sequence[InstanceData | None] | None,
        metas: list[dict[str, Any]],
        device: torch.device,
    ) -> BatchGroundTruth:
        """Collect annotations in the form in which MMDetection's heads get
        them."""
        counts = [len(o.bboxes) for o in objects]
        index, valid = _slot_indices(counts, device)
        boxes = _gather_padded(torch.cat(_box_list(objects, device)), index)
        labels = torch.cat([o.labels.to(device) for o in objects])
        labels = _gather_padded(labels, index)
        starts = [0, *itertools.accumulate(counts[:-1])]
        regions = [r for r in ignored or () if r is not None]
        has_regions = len(regions) == len(objects) and any(map(len, regions))
        return cls(
            boxes,
            labels,
            valid,
            on_device(torch.tensor(starts), device),
            pad(_box_list(regions, device)) if has_regions else None,
            [o.get('masks') for o in objects],
            [tuple(m['img_shape'][:2]) for m in metas],
            metas,
        )


def pad(boxes: Sequence[Tensor]) -> Padded:
    """Pad the boxes of several images into one tensor.

    Args:
        boxes: (K_i, 4) of each image.
    """
    index, valid = _slot_indices([len(b) for b in boxes], boxes[0].device)
    return Padded(_gather_padded(torch.cat(list(boxes)), index), valid)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device without synchronising."""
    if device.type != 'cuda':
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _slot_indices(
    counts: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the row index of each slot among all rows (one past the end for
    padding), and whether the slot is filled: (N, max(counts)) each."""
    width = max(1, *counts) if counts else 1
    total, start, rows, valid = sum(counts), 0, [], []
    for count in counts:
        filled = width - count
        rows += [*range(start, start + count), *[total] * filled]
        valid += [1] * count + [0] * filled
        start += count
    shape = (2, len(counts), width)
    both = on_device(torch.tensor(rows + valid), device).view(shape)
    return both[0], both[1].bool()


def _gather_padded(values: Tensor, index: Tensor) -> Tensor:
    filler = values.new_zeros(1, *values.shape[1:])
    return torch.cat((values, filler))[index]


def _box_list(
    instances: Sequence[InstanceData], device: torch.device
) -> list[Tensor]:
    return [
        get_box_tensor(i.bboxes).to(device).float().view(-1, 4)
        for i in instances
    ]
