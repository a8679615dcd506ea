"""MMDetection's detectors and the same with batched heads, side by side."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import mmfrozen  # noqa: F401

STRIDES = [4, 8, 16, 32]
SIZE = 128


class KeyedSampler(RandomSampler):
    """MMDetection's sampler with given random numbers: the largest win."""

    def __init__(self, sampler, keys, places=None):
        super().__init__(
            sampler.num,
            sampler.pos_fraction,
            sampler.neg_pos_ub,
            sampler.add_gt_as_proposals,
        )
        self.keys, self.places, self.image = keys, places, 0

    def sample(self, assigned, instances, objects, **kwargs):
        keys = self.keys[self.image]
        self.image = (self.image + 1) % len(self.keys)
        if self.add_gt_as_proposals:
            g, k = len(objects), len(instances.priors)
            width = len(keys) - self.places
            keys = torch.cat((keys[:g], keys[width : width + k]))
        self.now = keys
        return super().sample(assigned, instances, objects, **kwargs)

    def random_choice(self, gallery, num):
        return gallery[self.now[gallery].topk(num).indices]


def config(cascade=False, agnostic=False, masks=True, classes=7, **options):
    """A detector of 16 channels without backbone weights to speak of."""
    coder = dict(
        type='DeltaXYWHBBoxCoder',
        target_means=[0.0, 0.0, 0.0, 0.0],
        target_stds=[0.1, 0.1, 0.2, 0.2],
    )
    box_head = dict(
        type='ConvFCBBoxHead',
        num_shared_convs=1,
        num_shared_fcs=1,
        conv_out_channels=16,
        in_channels=16,
        fc_out_channels=32,
        roi_feat_size=7,
        num_classes=classes,
        bbox_coder=coder,
        reg_class_agnostic=agnostic,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
        loss_bbox=dict(type='L1Loss'),
    )
    box_head.update(options.pop('box_head', {}))
    mask_head = dict(
        type='FCNMaskHead',
        num_convs=1,
        in_channels=16,
        conv_out_channels=16,
        num_classes=classes,
        loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
    )
    mask_head.update(options.pop('mask_head', {}))

    def extractor(size):
        return dict(
            type='SingleRoIExtractor',
            roi_layer=dict(
                type='RoIAlign', output_size=size, sampling_ratio=0
            ),
            out_channels=16,
            featmap_strides=STRIDES,
        )

    def rcnn(iou):
        return dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=iou,
                neg_iou_thr=iou,
                min_pos_iou=iou,
                match_low_quality=options.get('low_quality', False),
                ignore_iof_thr=options.get('ignore', -1),
            ),
            sampler=dict(
                type='RandomSampler',
                # a cascade takes all, as the order of its boxes differs
                num=512 if cascade else 32,
                pos_fraction=0.5 if cascade else 0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            mask_size=28,
            pos_weight=options.get('pos_weight', -1),
            debug=False,
        )

    ious = (0.5, 0.6, 0.7)
    roi_head = dict(
        type='CascadeRoIHead' if cascade else 'StandardRoIHead',
        bbox_roi_extractor=extractor(7),
        bbox_head=[copy.deepcopy(box_head) for _ in ious]
        if cascade
        else box_head,
        **(
            dict(mask_roi_extractor=extractor(14), mask_head=mask_head)
            if masks
            else {}
        ),
    )
    if cascade:
        roi_head.update(num_stages=3, stage_loss_weights=[1, 0.5, 0.25])
    return ConfigDict(
        type='MaskRCNN' if masks else 'FasterRCNN',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[120.0, 110.0, 100.0],
            std=[50.0, 60.0, 70.0],
            bgr_to_rgb=True,
            pad_mask=masks,
            pad_size_divisor=32,
        ),
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=8,
            out_indices=(0, 1, 2, 3),
            frozen_stages=4,
            norm_eval=True,
            norm_cfg=dict(type='BN'),
        ),
        neck=dict(
            type='FPN',
            in_channels=[8, 16, 32, 64],
            out_channels=16,
            num_outs=5,
        ),
        rpn_head=dict(
            type='RPNHead',
            in_channels=16,
            feat_channels=16,
            anchor_generator=dict(
                type='AnchorGenerator',
                scales=[8],
                ratios=[0.5, 1.0, 2.0],
                strides=[*STRIDES, 64],
            ),
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[1.0, 1.0, 1.0, 1.0],
            ),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
            loss_bbox=dict(type='L1Loss'),
        ),
        roi_head=roi_head,
        train_cfg=dict(
            rpn=dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=0.7,
                    neg_iou_thr=0.3,
                    min_pos_iou=0.3,
                    match_low_quality=True,
                    ignore_iof_thr=options.get('ignore', -1),
                ),
                sampler=dict(
                    type='RandomSampler',
                    num=64,
                    pos_fraction=0.5,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=False,
                ),
                allowed_border=options.get('border', -1),
                pos_weight=options.get('pos_weight', -1),
                debug=False,
            ),
            rpn_proposal=dict(
                nms_pre=200,
                max_per_img=100,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0,
            ),
            rcnn=[rcnn(i) for i in ious] if cascade else rcnn(0.5),
        ),
        test_cfg=dict(
            rpn=dict(
                nms_pre=200,
                max_per_img=100,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0,
            ),
            rcnn=dict(
                score_thr=0.0,
                nms=dict(type='nms', iou_threshold=0.5),
                max_per_img=20,
                mask_thr_binary=0.5,
            ),
        ),
    )


BATCHED = {
    'MaskRCNN': 'BatchedTwoStageDetector',
    'FasterRCNN': 'BatchedTwoStageDetector',
    'DetDataPreprocessor': 'BatchedDetDataPreprocessor',
    'RPNHead': 'BatchedRPNHead',
    'StandardRoIHead': 'BatchedStandardRoIHead',
    'CascadeRoIHead': 'BatchedCascadeRoIHead',
}


def build_pair(settings):
    """MMDetection's detector and the batched one, of equal weights."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    plain = MODELS.build(copy.deepcopy(settings)).train()
    for p in plain.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.05)
    batched = copy.deepcopy(settings)
    for part in (
        batched,
        batched.data_preprocessor,
        batched.rpn_head,
        batched.roi_head,
    ):
        part.type = BATCHED[part.type]
    fast = MODELS.build(batched).train()
    assert not fast.load_state_dict(plain.state_dict()).missing_keys
    return plain, fast


def make_batch(
    boxes, classes=7, ignored=None, shapes=None, masks=True, seed=0
):
    """Images of noise with the given boxes, one array an image."""
    rng = np.random.default_rng(seed)
    inputs, samples = [], []
    for i, b in enumerate(boxes):
        b = np.asarray(b, np.float32).reshape(-1, 4)
        h, w = shapes[i] if shapes else (SIZE, SIZE)
        pixels = rng.integers(0, 255, (3, h, w), dtype=np.uint8)
        inputs.append(torch.from_numpy(pixels))
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(h, w), ori_shape=(h, w), scale_factor=(1.0, 1.0)
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(b),
            labels=torch.from_numpy(rng.integers(0, classes, len(b))),
        )
        if masks:
            drawn = np.zeros((len(b), h, w), np.uint8)
            for mask, (x1, y1, x2, y2) in zip(
                drawn, b.astype(int), strict=True
            ):
                mask[max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1] = 1
                mask[rng.random((h, w)) < 0.1] = 0
            sample.gt_instances.masks = BitmapMasks(drawn, h, w)
        regions = np.zeros((0, 4)) if ignored is None else ignored[i]
        regions = np.asarray(regions, np.float32).reshape(-1, 4)
        sample.ignored_instances = InstanceData(
            bboxes=torch.from_numpy(regions),
            labels=torch.zeros(len(regions), dtype=torch.long),
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def give_keys(plain, fast, seed=0):
    """Let both sample with the same random numbers."""
    generator = torch.Generator().manual_seed(seed)

    def rpn_keys(assigned):
        keys = torch.rand(assigned.shape, generator=generator)
        # MMDetection numbers the anchors inside of an image alone
        usable = fast.rpn_head.usable
        every = torch.ones_like(assigned, dtype=torch.bool)
        every = every if usable is None else every & usable
        own = [k[u] for k, u in zip(keys, every, strict=True)]
        plain.rpn_head.sampler = KeyedSampler(plain.rpn_head.sampler, own)
        return keys

    anchors = fast.rpn_head._anchors
    find = anchors.usable

    def usable(*args):
        fast.rpn_head.usable = find(*args)
        return fast.rpn_head.usable

    anchors.usable = usable
    fast.rpn_head.sampling_keys = rpn_keys
    roi = plain.roi_head

    def roi_keys(proposals, count):
        keys = torch.rand(len(proposals.boxes), count, generator=generator)
        if not isinstance(roi.bbox_sampler, list):
            places = proposals.valid.shape[1]
            roi.bbox_sampler = KeyedSampler(roi.bbox_sampler, keys, places)
        return keys

    fast.roi_head.sampling_keys = roi_keys


def run(model, batch):
    """Losses and gradients of a step."""
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    losses = model(**data, mode='loss')
    total, logged = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    grads = {
        n: p.grad for n, p in model.named_parameters() if p.grad is not None
    }
    return {k: float(v.detach()) for k, v in logged.items()}, grads


def assert_equal_steps(settings, batch, rtol=1e-4):
    """Both take the same step."""
    plain, fast = build_pair(settings)
    assert not fast.rpn_head.fallback_reason
    assert not fast.roi_head.fallback_reason
    give_keys(plain, fast)
    with torch.random.fork_rng():
        found, found_grads = run(fast, batch)
        wanted, wanted_grads = run(plain, batch)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=rtol, abs=1e-6), name
    for name, grad in wanted_grads.items():
        scale = grad.abs().max().clamp(min=1e-6)
        error = (found_grads[name] - grad).abs().max() / scale
        assert error < 10 * rtol, (name, float(error))
    return found
