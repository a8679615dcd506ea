"""RetinaNet's batched targets give the losses of MMDetection."""

import copy

import pytest
import torch
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from .conftest import make_batch
from .test_steps import boxes


@pytest.mark.parametrize('pos_weight', [-1, 2.0])
def test_losses_are_those_of_mmdetection(pos_weight):
    init_default_scope('mmdet')
    settings = ConfigDict(
        type='RetinaHead',
        num_classes=7,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss'),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
                ignore_iof_thr=0.5,
            ),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=pos_weight,
            debug=False,
        ),
    )
    plain = MODELS.build(copy.deepcopy(settings))
    settings.type = 'BatchedRetinaHead'
    fast = MODELS.build(settings)
    fast.load_state_dict(plain.state_dict())
    assert not fast.fallback_reason
    torch.manual_seed(0)
    features = [torch.randn(3, 8, s, s) for s in (16, 8, 4)]
    batch = make_batch(
        [boxes(5, 0), boxes(0, 1), boxes(9, 2)],
        ignored=[[[10, 10, 90, 90]], [], []],
    )
    for sample in batch['data_samples']:
        sample.set_metainfo(dict(pad_shape=(128, 128)))
    objects, ignored, metas = unpack_gt_instances(batch['data_samples'])
    found, wanted = (
        head.loss_by_feat(*head(features), objects, metas, ignored)
        for head in (fast, plain)
    )
    assert sum(wanted['loss_bbox']) > 0
    for name, levels in wanted.items():
        for ours, theirs in zip(found[name], levels, strict=True):
            assert float(ours) == pytest.approx(float(theirs), rel=1e-4)
