"""Bytes of a cache are those of real features; what has none is refused."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmfrozen.cache_advice.features import trace_features, view_bytes
from mmfrozen.config_path import ROOT

SIZE = (64, 96)
BACKBONES = {
    'ResNet': dict(type='ResNet', depth=18),
    'a ViT, one map': dict(
        type='mmfrozen.TimmBackbone',
        model_name='vit_tiny_patch16_224',
        out_indices=(11,),
    ),
    'Swin': dict(
        type='SwinTransformer',
        embed_dims=24,
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 4, 8),
    ),
}
FIXED = dict(type='Resize', scale=SIZE[::-1], keep_ratio=False)


def config(backbone, *pipeline):
    return Config(
        dict(
            model=dict(type='MaskRCNN', backbone=backbone),
            train_dataloader=dict(dataset=dict(pipeline=list(pipeline))),
        )
    )


@pytest.mark.parametrize('kind', BACKBONES)
def test_bytes_are_those_of_the_features_that_the_backbone_returns(kind):
    backbone = dict(type='FrozenBackbone', backbone=BACKBONES[kind])
    shapes = trace_features(config(backbone, FIXED), SIZE)
    with torch.no_grad():
        levels = MODELS.build(backbone)(torch.zeros(1, 3, *SIZE))
    assert shapes == [tuple(level.shape[1:]) for level in levels]
    stored = [level.numpy().astype(np.float16) for level in levels]
    assert view_bytes(shapes, 'fp16') == sum(x.nbytes for x in stored)
    assert view_bytes(shapes, 'fp32') == 4 * view_bytes(shapes, 'int8')


def test_four_levels_of_r101_take_63_mb_and_one_of_a_vit_b_a_tenth():
    cfg = Config.fromfile(ROOT / 'frozen/mask_rcnn_r101_lvis.py')
    r101 = view_bytes(trace_features(cfg, (1024, 1024)), 'fp16')
    vit = dict(
        type='FrozenBackbone',
        backbone=dict(
            type='mmfrozen.TimmBackbone',
            model_name='vit_base_patch16_224',
            out_indices=(11,),
        ),
    )
    shapes = trace_features(config(vit, FIXED), (1024, 1024))
    assert r101 == 62_914_560
    assert 10 * view_bytes(shapes, 'fp16') == r101


FROZEN = dict(type='FrozenBackbone', backbone=BACKBONES['ResNet'])
SEMI_SUPERVISED = dict(type='SoftTeacher', detector=dict(backbone=FROZEN))


@pytest.mark.parametrize(
    'cfg, message',
    (
        (config(BACKBONES['ResNet'], FIXED), 'frozen as a whole, got'),
        (config({**FROZEN, 'adapters': {}}, FIXED), 'got adapters'),
        (config({**FROZEN, 'frozen_stages': 2}, FIXED), 'require grad'),
        (config(None, FIXED), 'got a MaskRCNN without one'),
        (
            Config(dict(model=SEMI_SUPERVISED)),
            'model.backbone must be set, got a SoftTeacher without one',
        ),
        (
            config(dict(type='ResNet', depth=1), FIXED),
            'must build in this environment',
        ),
        (
            config(FROZEN, dict(FIXED, keep_ratio=True)),
            'images of one size.*got Resize',
        ),
    ),
)
def test_config_without_a_cache_is_refused_in_one_line(cfg, message):
    with pytest.raises(ValueError, match=message) as error:
        trace_features(cfg, SIZE)
    assert '\n' not in str(error.value)
