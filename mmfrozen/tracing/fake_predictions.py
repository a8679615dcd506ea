"""Synthetic predictions where a detector's control flow depends on values.

A network without data predicts no boxes. Where MMDetection matches objects to
predictions, or reads a feature map at predicted boxes, synthetic boxes are
substituted, so that the config's own samplers reach the configured numbers of
regions of interest.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from mmcv.ops import multi_scale_deform_attn
from mmdet.models.dense_heads import AnchorHead
from mmdet.models.losses import FocalLoss
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.models.task_modules import (
    BaseAssigner,
    DynamicSoftLabelAssigner,
    MaskPseudoSampler,
    PseudoSampler,
    SimOTAAssigner,
)
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from ..cost.shape_mode import ShapeMode, ShapeTensor, empty
from ..models.batched.anchor_head import BatchedAnchorHead
from ..models.batched.anchors import AnchorCache
from ..models.batched.mask_targets import PackedMasks
from ..models.batched.roi_heads import BatchedRoIs
from ..models.batched.rpn_head import BatchedRPNHead
from ..models.batched.truth import BatchGroundTruth, Padded
from ..models.losses import FederatedLoss
from .fake_targets import boxes_at, object_boxes, proposal_boxes
from .memoize import CachedCalls

#: Samplers that keep every positive.
TAKES_ALL = (PseudoSampler, MaskPseudoSampler)
#: Assigners whose priors begin with the x and y of a point.
TAKES_POINTS = (DynamicSoftLabelAssigner, SimOTAAssigner)
#: Methods of heads that return predicted boxes for later heads.
PROPOSING = ('loss_and_predict', 'refine_bboxes')


@dataclass
class SampleLog:
    """Numbers of samples that assigners and samplers chose, one entry per
    image.

    Attributes:
        rois: Numbers of positive and negative regions of interest, by head.
        positives: Number of positive priors or queries, by assigner, for
            assigners without a subsequent sampler.
    """

    rois: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    positives: dict[str, list[int]] = field(default_factory=dict)


def patch_predictions(
    model: nn.Module, shape: tuple[int, int], *, proposals: int | None = None
) -> SampleLog:
    """Patch a detector in place so that it uses synthetic predictions.

    Args:
        model: The detector.
        shape: Height and width of the images in pixels.
        proposals: If set, also replace real predicted boxes, by this many: a
            step with data then samples as many regions as one without.

    Returns:
        A log that is filled as the detector runs.
    """
    log = SampleLog()
    for path, module in model.named_modules():
        if isinstance(module, BatchedAnchorHead):
            _drop_anchors(module._anchors)
        if isinstance(module, BatchedRPNHead):
            # the number of boxes after NMS would depend on values
            module._needs_stock_proposals = lambda _: True
        if isinstance(module, FederatedLoss):
            # its file of frequencies may be missing
            module._weights = torch.ones(module.num_classes)
        if isinstance(module, BatchedRoIs):
            module.pack_masks = functools.partial(
                _pack_masks, module.pack_masks
            )
            module.sample = functools.partial(
                _sample_batch, module.sample, log, path, shape, proposals
            )
        for name, assigner, sampler in _assigners(module):
            assign = functools.partial(
                _assign, CachedCalls(assigner.assign), assigner, sampler, shape
            )
            if name.startswith('bbox_assigner') and sampler is not None:
                key = f'{path}.{name}'.replace('assigner', 'head')
                sampler.sample = functools.partial(
                    _sample, sampler.sample, log.rois.setdefault(key, [])
                )
            elif sampler is None or isinstance(sampler, TAKES_ALL):
                assign = functools.partial(
                    _count_positives,
                    assign,
                    log.positives.setdefault(f'{path}.{name}', []),
                )
            assigner.assign = assign
        for method in PROPOSING:
            if hasattr(module, method):
                proposing = functools.partial(
                    _propose, getattr(module, method), shape, proposals
                )
                setattr(module, method, proposing)
        if isinstance(module, AnchorHead):
            module._get_targets_single = CachedCalls(
                module._get_targets_single
            )
        if isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(
                functools.partial(_place_rois, shape), with_kwargs=True
            )
    return log


def _drop_anchors(cache: AnchorCache) -> None:
    """Make a cache return anchors without data in a ShapeMode: all images have
    one shape, and every anchor is used."""
    make = cache.anchors

    def anchors(*args: Any) -> Tensor:
        made = make(*args)
        return empty(*made.shape) if ShapeMode.current else made

    cache.anchors = anchors  # type: ignore[method-assign]


def _pack_masks(pack: Any, truth: BatchGroundTruth) -> PackedMasks | None:
    """Replace ``pack_masks`` of a batched head."""
    packed = pack(truth)
    if packed is None or ShapeMode.current is None:
        return packed
    bits = empty(*packed.bits.shape, dtype=torch.uint8)
    return packed._replace(bits=bits)


def _sample_batch(
    sample: Any,
    log: SampleLog,
    path: str,
    shape: tuple[int, int],
    count: int | None,
    stage: Any,
    proposals: Padded,
    truth: BatchGroundTruth,
) -> Any:
    """Replace ``sample`` of a batched head."""
    if isinstance(proposals.boxes, ShapeTensor) or count is not None:
        if count is None:
            count = proposals.boxes.shape[1]
            if type(proposals.valid) is not ShapeTensor:
                count = int(proposals.valid.sum(dim=1).max())
        positives = _num_positives(stage.sampler, count)
        boxes = torch.stack(
            [
                proposal_boxes(b[valid], count, positives, *shape)
                for b, valid in zip(truth.boxes, truth.valid, strict=True)
            ]
        )
        proposals = Padded(boxes, torch.ones(boxes.shape[:2]).bool())
    rois = sample(stage, proposals, truth)
    images, total = len(truth.boxes), len(rois.boxes)
    log.rois.setdefault(f'{path}.{stage.name}', []).append(
        (rois.num_positive / images, (total - rois.num_positive) / images)
    )
    return rois


def _sample(
    sample: Any, log: list[tuple[float, float]], *args: Any, **kwargs: Any
) -> Any:
    """Replace ``sampler.sample`` by one that logs the counts."""
    result = sample(*args, **kwargs)
    # PISA's sampler also returns weights of its negatives
    counted = result[0] if isinstance(result, tuple) else result
    log.append((len(counted.pos_inds), len(counted.neg_inds)))
    return result


def _assigners(
    module: nn.Module,
) -> Iterator[tuple[str, BaseAssigner, Any]]:
    """Yield a module's assigners: attribute name, assigner, and its sampler or
    None."""
    for name, value in vars(module).items():
        if not isinstance(value, (BaseAssigner, list)):
            continue
        assigners = value if isinstance(value, list) else [value]
        samplers = getattr(module, name.replace('assigner', 'sampler'), None)
        samplers = samplers if isinstance(samplers, list) else [samplers]
        if len(samplers) != len(assigners):
            samplers = [None] * len(assigners)
        several = isinstance(value, list)
        for i, pair in enumerate(zip(assigners, samplers, strict=True)):
            if isinstance(pair[0], BaseAssigner):
                yield f'{name}.{i}' if several else name, *pair


def _count_positives(
    assign: Any, counts: list[int], *args: Any, **kwargs: Any
) -> Any:
    result = assign(*args, **kwargs)
    # in NumPy, so that this is not recorded as an operator of the step
    counts.append(int((result.gt_inds.numpy() > 0).sum()))
    return result


def _assign(
    assign: Any,
    assigner: BaseAssigner,
    sampler: Any,
    shape: tuple[int, int],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Replace ``assigner.assign``."""
    objects = _find_objects((*args, *kwargs.values()))

    def fill(value: Any) -> Any:
        if isinstance(value, InstanceData):
            return _fill_instances(value, objects, assigner, sampler, shape)
        if isinstance(value, ShapeTensor):
            return value.synthetic_values()
        return value

    with torch.no_grad():
        return assign(
            *map(fill, args), **{k: fill(v) for k, v in kwargs.items()}
        )


def _propose(
    method: Any,
    shape: tuple[int, int],
    proposals: int | None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Replace a method that returns predicted boxes."""
    out = method(*args, **kwargs)
    found = out[-1] if isinstance(out, tuple) else out
    for results in found or ():
        boxes = results.get('bboxes')
        if not isinstance(boxes, Tensor) or boxes.shape[-1] != 4:
            continue
        if isinstance(boxes, ShapeTensor) or proposals is not None:
            count = len(boxes) if proposals is None else proposals
            made = _predicted_boxes(object_boxes(8, *shape), count, shape)
            made.made_up = True  # type: ignore[attr-defined]
            if count != len(boxes):
                for name in list(results.keys()):  # noqa: SIM118
                    results.pop(name)
            results.bboxes = made
    return out


def _find_objects(values: Any) -> Tensor:
    for value in values:
        if isinstance(value, InstanceData) and 'labels' in value:
            boxes = value.get('bboxes')
            if isinstance(boxes, Tensor) and type(boxes) is not ShapeTensor:
                return boxes
    return torch.zeros(0, 4)


def _fill_instances(
    instances: InstanceData,
    objects: Tensor,
    assigner: BaseAssigner,
    sampler: Any,
    shape: tuple[int, int],
) -> InstanceData:
    """Replace predictions without data.

    Proposals are replaced in place, as the sampler reads them next; other
    predictions are replaced in a copy for the assigner.
    """
    priors = instances.get('priors')
    if isinstance(priors, ShapeTensor) or hasattr(priors, 'made_up'):
        count = len(instances.priors)
        instances.priors = proposal_boxes(
            objects, count, _num_positives(sampler, count), *shape
        )
    copy = InstanceData()
    for name, value in instances.items():
        if isinstance(value, ShapeTensor):
            boxes = name == 'bboxes' and value.shape[-1] == 4
            if not boxes:
                value = value.synthetic_values()
            elif type(priors) is Tensor and len(priors) == len(value):
                with _disable_current_modes():  # not recorded as operators
                    value = boxes_at(_centres(priors, assigner), objects)
            else:
                value = _predicted_boxes(objects, len(value), shape)
        copy.set_field(value, name, dtype=type(value))
    return copy


def _centres(priors: Tensor, assigner: BaseAssigner) -> Tensor:
    """Return the centres of points with strides, or of anchors."""
    if isinstance(assigner, TAKES_POINTS):
        return priors[:, :2]
    return (priors[:, :2] + priors[:, 2:4]) / 2


def _num_positives(sampler: Any, count: int) -> int:
    wanted = getattr(sampler, 'num', count) * getattr(
        sampler, 'pos_fraction', 0.25
    )
    return min(count, int(wanted))


def _predicted_boxes(
    objects: Tensor, count: int, shape: tuple[int, int]
) -> Tensor:
    return proposal_boxes(objects, count, count // 10, *shape)


def _place_rois(
    shape: tuple[int, int], module: nn.Module, args: Any, kwargs: Any
) -> Any:
    """Replace regions without data before a feature map is read at them."""
    rois = kwargs.get('rois', args[1] if len(args) > 1 else None)
    if not isinstance(rois, ShapeTensor):
        return None
    batch = (kwargs.get('feats') or args[0])[0].shape[0]
    boxes = proposal_boxes(
        object_boxes(8, *shape), len(rois), len(rois) // 4, *shape
    )
    index = torch.arange(len(rois)) * batch // max(1, len(rois))
    made = torch.cat((index[:, None].float(), boxes), dim=1)
    if 'rois' in kwargs:
        return args, {**kwargs, 'rois': made}
    return (args[0], made, *args[2:]), kwargs


@contextmanager
def use_gpu_attention() -> Iterator[None]:
    """Trace mmcv's compiled multi-scale deformable attention, as on a GPU.

    On the CPU mmcv runs Python code instead, which saves more for the backward
    pass.
    """

    def attend(
        value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
    ) -> Tensor:
        function = multi_scale_deform_attn.MultiScaleDeformableAttnFunction
        starts = shapes.new_zeros(len(shapes))
        out: Tensor = function.apply(
            value, shapes, starts, locations, weights, 64
        )
        return out

    with mock.patch.object(
        multi_scale_deform_attn, 'multi_scale_deformable_attn_pytorch', attend
    ):
        yield


@contextmanager
def focal_losses_on_shapes() -> Iterator[None]:
    """Drop the data of focal loss targets, which on the CPU hold a value for
    every anchor and class."""
    compute = FocalLoss.forward

    def compute_on_shapes(*args: Any, **kwargs: Any) -> Tensor:
        mode = ShapeMode.current
        with mode.without_constants() if mode else nullcontext():
            loss: Tensor = compute(*args, **kwargs)
        return loss

    with mock.patch.object(FocalLoss, 'forward', compute_on_shapes):
        yield
