"""Sampling and feature extraction of regions of interest for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .assign import assign
from .boxes import BoxCoder
from .dense import gather
from .sample import sample
from .truth import BatchGroundTruth, Padded


class Levels(NamedTuple):
    """The feature level from which each region is extracted.

    Attributes:
        order: (M,) int64, indices of the regions sorted by level.
        counts: Number of regions of each level.
    """

    order: Tensor
    counts: list[int]


class Rois(NamedTuple):
    """Regions of interest of a batch, positive ones first.

    Attributes:
        boxes: (M, 5): index of the image, x1, y1, x2, y2 in pixels.
        num_positive: Number P of positive regions.
        objects: (P,) int64, matched object of each positive region, as an
            index within its image.
        slots: (M,) int64, slot of each region among the N x S sampled slots.
        num_slots: Number of slots, N x S.
        is_ground_truth: (M,) bool, whether the region is an annotated box
            itself.
        box_levels: Levels of all regions.
        mask_levels: Levels of the positive regions; None without separate mask
            extractors.
    """

    boxes: Tensor
    num_positive: int
    objects: Tensor
    slots: Tensor
    num_slots: int
    is_ground_truth: Tensor
    box_levels: Levels
    mask_levels: Levels | None

    @property
    def images(self) -> Tensor:
        """Return the image index of each region, (M,) int64."""
        return self.boxes[:, 0].long()


def sample_rois(
    assigner: Any,
    sampler: Any,
    proposals: Padded,
    truth: BatchGroundTruth,
    extractors: Sequence[Any],
    keys: Tensor,
) -> Rois:
    """Assign objects to proposals and sample regions.

    Every number that later steps need on the CPU is copied there in a single
    transfer, the only synchronisation with the device.

    Args:
        assigner: MMDetection's ``MaxIoUAssigner``.
        sampler: MMDetection's ``RandomSampler``.
        proposals: Proposals of each image.
        truth: Ground truth of the batch.
        extractors: RoI extractors of the boxes and, if they are separate, of
            the masks.
        keys: (N, G + K), random in [0, 1), of the objects followed by the
            proposals.
    """
    assigned = assign(assigner, proposals.boxes, proposals.valid, truth)
    boxes, objects = proposals.boxes.float(), truth.valid.shape[1]
    if sampler.add_gt_as_proposals:
        number = torch.arange(1, objects + 1, device=boxes.device)
        itself = number.expand_as(truth.valid).where(truth.valid, -1)
        assigned = torch.cat((itself, assigned), dim=1)
        boxes = torch.cat((truth.boxes, boxes), dim=1)
    else:
        objects, keys = 0, keys[:, objects:]
    index, positive, negative = sample(sampler, assigned, keys)
    images = torch.arange(len(index), device=boxes.device, dtype=boxes.dtype)
    images = images[:, None, None].expand(*index.shape, 1)
    rois = torch.cat((images, gather(boxes, index)), dim=-1).flatten(0, 1)
    # sort slots: positive, negative, empty
    kind = (2 - 2 * positive.int() - negative.int()).flatten()
    kind, slots = kind.sort(stable=True)
    rois = rois[slots]
    # the box head reads all regions, the mask head positive ones
    left_out = torch.stack((kind > 1, kind > 0))
    number = max(len(e.roi_layers) for e in extractors)
    levels = _map_levels(extractors, rois)
    levels.masked_fill_(left_out[: len(levels)], number)
    levels, order = levels.sort()
    level = torch.arange(number, device=levels.device)
    counts = (levels[:, :, None] == level).sum(dim=1)
    empty, not_positive, *counts = torch.cat(
        (left_out.sum(dim=1), counts.flatten())
    ).tolist()
    total, num_positive = len(kind) - empty, len(kind) - not_positive
    kept = [
        Levels(
            order[i, : (total, num_positive)[i]],
            counts[i * number :][: len(e.roi_layers)],
        )
        for i, e in enumerate(extractors)
    ]
    chosen = index.flatten()[slots[:total]]
    found = gather(assigned, index).flatten()[slots[:num_positive]] - 1
    return Rois(
        rois[:total],
        num_positive,
        found,
        slots[:total],
        len(slots),
        chosen < objects,
        kept[0],
        kept[1] if len(kept) > 1 else None,
    )


def _map_levels(extractors: Sequence[Any], rois: Tensor) -> Tensor:
    """Return the level of each region, (extractors, M) int64."""
    kinds = {(type(e), e.finest_scale, len(e.roi_layers)) for e in extractors}
    different = extractors if len(kinds) > 1 else extractors[:1]
    levels = [e.map_roi_levels(rois, len(e.roi_layers)) for e in different]
    return torch.stack(levels).repeat(len(extractors) // len(levels), 1)


def refine(
    rois: Rois,
    deltas: Tensor,
    coder: BoxCoder,
    truth: BatchGroundTruth,
) -> Padded:
    """Decode refined boxes as proposals for the next cascade stage, without
    the annotated boxes.

    Args:
        rois: Regions of this stage.
        deltas: (M, 4), deltas of the class of each region.
        coder: Box coder of this stage.
        truth: Ground truth of the batch.
    """
    boxes = coder.decode(
        rois.boxes[:, 1:], deltas.float(), truth.shapes, rois.images
    )
    every = boxes.new_zeros(rois.num_slots, 4)
    every = every.index_copy(0, rois.slots, boxes)
    valid = torch.zeros_like(every[:, 0], dtype=torch.bool)
    valid = valid.index_copy(0, rois.slots, ~rois.is_ground_truth)
    count = len(truth.boxes)
    return Padded(every.view(count, -1, 4), valid.view(count, -1))


def extract(
    extractor: nn.Module,
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Levels,
) -> Tensor:
    """Extract region features, each from its own level.

    Args:
        extractor: MMDetection's ``SingleRoIExtractor``, whose layers are
            called.
        features: (N, C, H, W) of each level, finest first.
        rois: (M, 5).
        levels: Levels of the regions.

    Returns:
        (M, C, size, size).
    """
    rois = rois.type_as(features[0])[levels.order]
    parts = [
        layer(x, part)
        for layer, x, part in zip(
            extractor.roi_layers,
            features,
            rois.split(levels.counts),
            strict=True,
        )
        if len(part)
    ]
    if not parts:
        size = extractor.roi_layers[0].output_size
        parts = [features[0].new_zeros(0, extractor.out_channels, *size)]
    # every level stays in the graph, as DistributedDataParallel expects
    for x, count in zip(features, levels.counts, strict=True):
        if not count:
            parts[0] = parts[0] + 0 * x.flatten()[0]
    order = levels.order.sort().indices
    return torch.cat(parts).index_select(0, order)
