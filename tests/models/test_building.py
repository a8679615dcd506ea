"""Misspelt options and parts that do not fit are refused by name."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope

import mmfrozen  # noqa: F401  (registers)
from tests.tiny import ROOT as REPOSITORY


def load(name='mask_rcnn_r50_fpn_rpn2-4conv1fc_coco', **changes):
    cfg = Config.fromfile(REPOSITORY / f'configs/frozen/{name}.py')
    cfg.merge_from_dict(
        {
            'model.backbone.depth': 18,
            'model.neck.in_channels': [64, 128, 256, 512],
            **changes,
        }
    )
    return cfg.model


@pytest.mark.parametrize(
    ('key', 'nearest'),
    [
        ('model.rpn_haed', 'rpn_head'),
        ('model.backbone.dept', 'depth'),
        ('model.neck.out_chanels', 'out_channels'),
        ('model.rpn_head.feat_chanels', 'feat_channels'),
        ('model.rpn_head.norm_cgf', 'norm_cfg'),
        ('model.rpn_head.anchor_generator.stride', 'strides'),
        ('model.roi_head.mask_hed', 'mask_head'),
        ('model.roi_head.bbox_head.num_shared_conv', 'num_shared_convs'),
        ('model.roi_head.bbox_head.reg_class_agnostc', 'reg_class_agnostic'),
        ('model.roi_head.bbox_head.loss_bbox.loss_wieght', 'loss_weight'),
    ],
)
@pytest.mark.parametrize('registry', [MODELS, ROOT], ids=['mmdet', 'root'])
def test_misspelt_option_is_refused_with_the_nearest_name(
    key, nearest, registry
):
    model = load(**{key: 1})
    with pytest.raises(TypeError, match=f'got {key.split(".")[-1]!r}') as e:
        registry.build(ConfigDict(model, _scope_='mmdet'))
    assert f'Did you mean {nearest}' in str(e.value)
    assert '\n' not in str(e.value)


@pytest.mark.parametrize(
    'neck', [dict(type='AnySizeNASFPN'), dict(type='AnySizeBiFPN')]
)
def test_misspelt_option_of_our_necks_is_refused(neck):
    cfg = dict(neck, in_channels=[8, 8], stak_times=3)
    with pytest.raises(TypeError, match='Did you mean stack_times?'):
        MODELS.build(cfg)


def test_misspelt_option_of_a_frozen_backbone_is_refused():
    cfg = dict(
        type='FrozenBackbone',
        backbone=dict(type='TimmBackbone', modelname='resnet18'),
    )
    with pytest.raises(TypeError, match='TimmBackbone .* mean model_name?'):
        MODELS.build(cfg)


def test_misspelt_option_of_adapters_is_refused():
    cfg = dict(
        type='mmdet.FrozenBackbone',
        adapters=dict(reducton=4),
        backbone=dict(type='mmdet.ResNet', depth=18),
    )
    with pytest.raises(ValueError, match="got 'reducton'.*mean reduction"):
        MODELS.build(cfg)


def test_misspelt_type_is_refused_with_the_nearest_name():
    with pytest.raises(KeyError, match="got 'AnySizeBiFPM'.*AnySizeBiFPN"):
        MODELS.build(dict(type='AnySizeBiFPM', in_channels=[8]))
    with pytest.raises(KeyError, match="got 'ResNit'.*ResNet"):
        MODELS.build(load(**{'model.backbone.type': 'ResNit'}))


def test_error_inside_a_module_is_not_explained_away():
    def broken(**options):
        return dict(1, **options)  # its own mistake

    with pytest.raises(TypeError, match='not iterable'):
        MODELS.build(dict(type=broken, a=1))


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
def test_parts_that_do_not_fit_are_refused_at_build_time(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        MODELS.build(load(**changes))
    assert '\n' not in str(caught.value)


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
    cfg = Config.fromfile(REPOSITORY / f'configs/frozen/{name}.py')
    cfg.merge_from_dict(changes)
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg.model)


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
def test_detectors_of_the_host_are_let_pass(name):
    cfg = get_config(f'mmdet::{name}')
    scope = DefaultScope.overwrite_default_scope('mmdet')
    # Swin reads values while it is built
    with scope, torch.device('cpu' if 'swin' in name else 'meta'):
        MODELS.build(cfg.model)


def test_wrapping_twice_changes_nothing():
    from mmfrozen.models.building import check_builds

    before = MODELS.build_func
    check_builds(MODELS)
    assert MODELS.build_func is before
