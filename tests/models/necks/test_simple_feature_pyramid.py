"""Sizes, grid, gradients and refusals of the simple feature pyramid."""

import math

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict

from .test_nas_fpn import build_mask_rcnn

VIT = dict(
    type='FrozenBackbone',
    backbone=dict(
        type='TimmBackbone',
        model_name='vit_small_patch16_dinov3',
        out_indices=(1,),
        model_args=dict(depth=2, embed_dim=48),
    ),
)


def build(in_channels=8, **options):
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            type='SimpleFeaturePyramid',
            in_channels=in_channels,
            out_channels=4,
            **options,
        )
    ).eval()


def make_map(height=6, width=9, channels=8, batch=2):
    return torch.randn(
        batch,
        channels,
        height,
        width,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize(
    'in_stride, strides',
    [
        (16, (4, 8, 16, 32, 64)),
        (16, (8, 16, 32, 64, 128)),
        (16, (16, 32)),
        (14, (7, 14, 28, 56)),
        (14, (3.5, 7, 14, 28, 56)),
        (16, (4,)),
    ],
)
@pytest.mark.parametrize('size', [(6, 9), (1, 1), (5, 2)])
def test_levels_have_the_size_of_their_strides(in_stride, strides, size):
    neck = build(in_stride=in_stride, strides=strides)
    levels = neck([make_map(*size)])
    assert len(levels) == len(strides)
    for level, stride in zip(levels, strides, strict=True):
        expected = [math.ceil(side * in_stride / stride) for side in size]
        assert list(level.shape) == [2, 4, *expected]
        assert level.isfinite().all()


@pytest.mark.parametrize(
    'norm_cfg', [None, dict(type='BN'), dict(type='GN', num_groups=2)]
)
def test_every_parameter_gets_a_gradient(norm_cfg):
    neck = build(norm_cfg=norm_cfg).train()
    levels = neck([make_map()])
    torch.manual_seed(2)
    sum((x * torch.rand_like(x)).sum() for x in levels).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_layers_are_those_of_the_paper():
    """Doubled twice with norm and GELU between, doubled, as is, pooled;
    then 1 x 1 and 3 x 3, each with a layer norm; P6 without weights."""
    kinds = [
        [type(layer).__name__ for layer in stage] for stage in build().stages
    ]
    double, out = 'ConvTranspose2d', ['Conv2d', 'LayerNorm2d'] * 2
    assert kinds == [
        [double, 'LayerNorm2d', 'GELU', double, *out],
        [double, *out],
        out,
        ['MaxPool2d', *out],
    ]
    weights = build().stages[0].state_dict()
    assert weights['0.weight'].shape == (8, 4, 2, 2)
    assert weights['4.weight'].shape == (4, 2, 1, 1)
    assert weights['6.weight'].shape == (4, 4, 3, 3)


def test_last_level_takes_every_second_value_of_the_one_before():
    *_, p5, p6 = build()([make_map(8, 12)])
    assert torch.equal(p6, p5[..., ::2, ::2])


def test_a_position_reaches_only_the_cells_around_it():
    """No level drifts off its grid: a change at the bottom right corner of
    the map leaves the top left of every level alone."""
    neck = build()
    first = make_map(16, 16)
    second = first.clone()
    second[..., 15, 15] += 1
    for a, b in zip(neck([first]), neck([second]), strict=True):
        change = (a - b).abs().amax((0, 1))
        if len(change) == 4:
            break  # the level that takes every second value of the last
        rows, columns = change.nonzero().T
        assert min(rows.min(), columns.min()) >= len(change) * 15 // 16 - 1
        assert change[-1, -1] > 0


def test_batched_output_equals_single_outputs():
    neck, batch = build(), make_map(batch=3)
    singles = [neck([batch[i : i + 1]]) for i in range(3)]
    for level, output in enumerate(neck([batch])):
        single = torch.cat([outputs[level] for outputs in singles])
        torch.testing.assert_close(output, single)


def test_vision_transformer_with_the_pyramid_feeds_five_levels():
    backbone = MODELS.build(ConfigDict(VIT))
    neck = build(in_channels=[48])
    levels = neck(backbone(torch.randn(1, 3, 100, 150)))
    assert [tuple(x.shape[-2:]) for x in levels] == [
        (28, 40),
        (14, 20),
        (7, 10),
        (4, 5),
        (2, 3),
    ]


def test_mask_rcnn_on_a_frozen_transformer_trains_and_predicts():
    register_all_modules()
    torch.manual_seed(0)
    config = build_mask_rcnn(num_classes=3)
    config['backbone'] = VIT
    config['neck'] = dict(
        type='SimpleFeaturePyramid',
        in_channels=48,
        out_channels=32,
        strides=(8, 16, 32, 64, 128),
    )
    detector = MODELS.build(ConfigDict(config))
    detector.init_weights()
    detector.train()
    packed = demo_mm_inputs(
        1, [(3, 100, 150)], num_items=[4], num_classes=3, with_mask=True
    )
    packed = detector.data_preprocessor(packed, training=True)
    data = packed['inputs'], packed['data_samples']
    total, _ = detector.parse_losses(detector.loss(*data))
    total.backward()
    assert total.isfinite()
    assert all(p.grad is None for p in detector.backbone.parameters())
    for name, parameter in detector.neck.named_parameters():
        assert parameter.grad is not None, name
    detector.eval()
    with torch.no_grad():
        (result,) = detector.predict(*data)
    assert result.pred_instances.masks.shape[-2:] == (100, 150)


@pytest.mark.parametrize(
    'key, options',
    [
        ('in_channels', dict(in_channels=[8, 8])),
        ('in_channels', dict(in_channels=6)),
        ('in_channels', dict(in_channels='8')),
        ('out_channels', dict(out_channels=0)),
        ('in_stride', dict(in_stride=0)),
        ('in_stride', dict(in_stride='16')),
        ('strides', dict(strides=())),
        ('strides', dict(strides=(2, 4, 8))),
        ('strides', dict(strides=(4, 16))),
        ('strides', dict(strides=(32, 64))),
        ('strides', dict(strides=(8, 4))),
        ('strides', dict(strides=16)),
        ('strides', dict(strides=('4', '8'))),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(key, options):
    config = dict(type='SimpleFeaturePyramid', in_channels=8) | options
    with pytest.raises(ValueError, match=f'^model.neck.{key} must') as caught:
        MODELS.build(ConfigDict(config))
    text = str(caught.value)
    assert 'got' in text and text.endswith('.') and '\n' not in text


@pytest.mark.parametrize(
    'maps', [[], [make_map()] * 2, [make_map(channels=4)]]
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(maps):
    with pytest.raises(ValueError, match='the one map') as caught:
        build()(maps)
    assert 'got 8' in str(caught.value) and '\n' not in str(caught.value)
