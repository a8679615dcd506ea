"""Parts of a detector that do not fit are refused by name."""

import pytest
import torch
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from torch import nn

from mmfrozen.fit import check_fit
from tests.tiny import ROOT


def load(name='mask_rcnn_r50_fpn_rpn2-4conv1fc_coco', **changes):
    cfg = Config.fromfile(ROOT / f'configs/frozen/{name}.py')
    cfg.merge_from_dict(
        {
            'model.backbone.depth': 18,
            'model.neck.in_channels': [64, 128, 256, 512],
            **changes,
        }
    )
    return cfg.model


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'model.neck.in_channels': [64, 128, 256]},
            r'model.neck.in_channels must be \[64, 128, 256, 512\], .* 4 '
            r'levels that ResNet gives, got \[64, 128, 256\]',
        ),
        (
            {'model.backbone.depth': 50},
            r'must be \[256, 512, 1024, 2048\], .* got \[64, 128, 256, 512\]',
        ),
        (
            {'model.backbone.out_indices': (1, 2, 3)},
            r'must be \[128, 256, 512\], .*out_indices',
        ),
        (
            {'model.neck.out_channels': 128},
            'model.rpn_head.in_channels must be 128, the out_channels of FPN',
        ),
        (
            {'model.rpn_head.anchor_generator.strides': [8, 16, 32, 64]},
            'model.rpn_head.anchor_generator.strides must list one stride '
            'for each of the 5 levels of FPN, got 4',
        ),
        (
            {'model.roi_head.bbox_roi_extractor.out_channels': 128},
            'bbox_roi_extractor.out_channels must be 256, .* got 128',
        ),
        (
            {'model.roi_head.mask_head.in_channels': 128},
            'mask_head.in_channels must be 256, .* got 128',
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(changes, message):
    model = MODELS.build(load(**changes))
    with pytest.raises(ValueError, match=message) as caught:
        check_fit(model)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'head'),
    [
        ('mask_rcnn_r50_fpn_rpn2-4conv1fc_coco', 'rpn_head'),
        ('retinanet_r50_fpn_12e_coco', 'bbox_head'),
    ],
)
def test_loss_of_regions_is_refused_in_a_head_on_anchors(name, head):
    loss = dict(type='mmfrozen.FederatedLoss', frequencies=[1] * 50)
    changes = {f'model.{head}.loss_cls': dict(loss, _delete_=True)}
    model = MODELS.build(load(name, **changes))
    with pytest.raises(
        ValueError,
        match=f'model.{head}.loss_cls must be a loss of anchors, got '
        'FederatedLoss, which is one of regions. Set it in',
    ) as caught:
        check_fit(model)
    assert '\n' not in str(caught.value)
    known = type(getattr(model, head))
    getattr(model, head).__class__ = type(known.__name__, (known,), {})
    check_fit(model)  # somebody else's head, which may know the loss


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        (
            'retinanet_rs101_coco',
            {'model.bbox_head.in_channels': 128},
            'model.bbox_head.in_channels must be 256',
        ),
        (
            'cascade_rcnn_rs101_coco',
            {'model.roi_head.bbox_head.1.in_channels': 64},
            'bbox_head.in_channels must be 256, .* got 64',
        ),
        (
            'faster_rcnn_rs101_coco',
            {'model.neck.in_channels': [64, 256, 512, 1024]},
            'levels that TimmBackbone gives, got',
        ),
    ],
)
def test_one_stage_cascade_and_timm_are_looked_at_too(name, changes, message):
    cfg = Config.fromfile(ROOT / f'configs/frozen/{name}.py')
    cfg.merge_from_dict(changes)
    model = MODELS.build(cfg.model)
    with pytest.raises(ValueError, match=message):
        check_fit(model)


@pytest.mark.parametrize(
    'name',
    [
        'yolox/yolox_tiny_8xb8-300e_coco.py',
        'detr/detr_r50_8xb2-150e_coco.py',
        'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
        'nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py',
        'regnet/mask-rcnn_regnetx-3.2GF_fpn_1x_coco.py',
        'detectors/detectors_htc-r50_1x_coco.py',
        'pafpn/faster-rcnn_r50_pafpn_1x_coco.py',
        'libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py',
        'cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',
        'guided_anchoring/ga-rpn_r50-caffe_fpn_1x_coco.py',
        'tridentnet/tridentnet_r50-caffe_1x_coco.py',
        'res2net/faster-rcnn_res2net-101_fpn_2x_coco.py',
    ],
)
def test_detectors_of_mmdetection_are_let_pass(name):
    cfg = get_config(f'mmdet::{name}')
    scope = DefaultScope.overwrite_default_scope('mmdet')
    # Swin reads values while it is built
    with scope, torch.device('cpu' if 'swin' in name else 'meta'):
        check_fit(MODELS.build(cfg.model))


class SimpleFeaturePyramid(FPN):
    """Somebody else's, with our name."""


class SkippingFPN(FPN):
    """Takes three of the four levels."""


@pytest.mark.parametrize('neck', [SimpleFeaturePyramid, SkippingFPN])
def test_necks_of_others_are_not_judged(neck):
    model = MODELS.build(load())
    model.neck = neck([64, 128, 256], 256, 5)
    check_fit(model)


class TimmBackbone(nn.Module):
    """Somebody else's, with our name and attribute."""

    channels = ('RGB',)


class SingleRoIExtractor(nn.Module):
    """Somebody else's, which gives fewer channels than a level has."""

    out_channels = 7


def test_backbones_and_extractors_of_others_are_not_judged():
    model = MODELS.build(load())
    model.backbone = TimmBackbone()
    model.roi_head.bbox_roi_extractor = SingleRoIExtractor()
    check_fit(model)


def test_detector_inside_a_detector_is_not_judged():
    model = MODELS.build(load())
    model.teacher = MODELS.build(load(**{'model.neck.out_channels': 128}))
    check_fit(model)


def test_extractor_that_concatenates_levels_is_not_judged():
    extractor = dict(
        type='GenericRoIExtractor',
        aggregation='concat',
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
        out_channels=256,
        featmap_strides=[4, 8, 16, 32],
    )
    model = MODELS.build(
        load(
            **{
                'model.roi_head.bbox_roi_extractor': dict(
                    extractor, _delete_=True
                ),
                'model.roi_head.bbox_head.in_channels': 1024,
            }
        )
    )
    check_fit(model)


def test_backbone_of_others_that_lists_all_its_channels_is_not_judged():
    model = MODELS.build(load())
    model.backbone.channels = [64, 64, 128, 256, 512]
    check_fit(model)
