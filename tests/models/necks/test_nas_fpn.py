"""Against MMDetection's neck, at sizes it refuses, and inside a detector."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.necks import NASFPN
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from torch._subclasses.fake_tensor import FakeTensorMode

from mmfrozen.models.necks.nas_fpn import AnySizeNASFPN, _resize

CHANNELS = [4, 8, 12, 16]  # C2 to C5
STRIDES = [8, 16, 32, 64, 128]


def build(**options):
    options = dict(start_level=1, stack_times=2, out_channels=8) | options
    torch.manual_seed(0)
    neck = AnySizeNASFPN(CHANNELS, options.pop('out_channels'), **options)
    neck.init_weights()
    return neck.eval()


def build_stock():
    return NASFPN(CHANNELS, 8, 5, 2, start_level=1).eval()


def make_levels(height, width, batch=1, round_size=math.ceil):
    """Features as a backbone with strides 4 to 32 gives them."""
    torch.manual_seed(1)
    levels = []
    height, width = round_size(height / 2), round_size(width / 2)
    for channels in CHANNELS:
        height = max(1, round_size(height / 2))
        width = max(1, round_size(width / 2))
        levels.append(torch.randn(batch, channels, height, width))
    return levels


@pytest.mark.parametrize('size', [(128, 128), (256, 384), (640, 128)])
def test_output_equals_mmdetections_where_the_mmdetection_is_defined(size):
    ours, stock = build(), build_stock()
    stock.load_state_dict(ours.state_dict())  # strict: the keys are equal
    levels = make_levels(*size, batch=2)
    for got, expected in zip(ours(levels), stock(levels), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_state_dict_moves_to_mmdetection_and_back(norm):
    norm_cfg = dict(type=norm, requires_grad=True)
    if norm == 'GN':
        norm_cfg['num_groups'] = 2
    ours = build(norm_cfg=norm_cfg, act_cfg=dict(type='SiLU'))
    stock = NASFPN(CHANNELS, 8, 5, 2, start_level=1, norm_cfg=norm_cfg)
    assert list(ours.state_dict()) == list(stock.state_dict())
    ours.load_state_dict(stock.state_dict())


SIZES = [
    (64, 96),
    (96, 64),
    (1, 1),
    (1, 700),
    (700, 1),
    (100, 150),
    (150, 100),
    (127, 129),
    (129, 127),
    (801, 1333),
]


@pytest.mark.parametrize('size', SIZES)
def test_every_size_gives_levels_of_the_input_over_the_stride(size):
    outputs = build()(make_levels(*size))
    for output, stride in zip(outputs, STRIDES, strict=True):
        expected = tuple(math.ceil(side / stride) for side in size)
        assert tuple(output.shape) == (1, 8, *expected)
        assert output.isfinite().all()


@pytest.mark.parametrize('size', SIZES)
def test_backbone_that_rounds_down_keeps_its_sizes(size):
    levels = make_levels(*size, round_size=math.floor)
    outputs = build()(levels)
    for output, level in zip(outputs[:3], levels[1:], strict=True):
        assert output.shape[-2:] == level.shape[-2:]
        assert output.isfinite().all()


def test_host_still_fails_where_a_side_is_at_most_96_pixels():
    """If this fails, the class docstring is out of date."""
    with pytest.raises(RuntimeError, match='too small'):
        build_stock()(make_levels(640, 96))
    build_stock()(make_levels(640, 97))


def test_resizing_never_leaves_the_grid_of_the_strides():
    """A coarse cell holds the largest of exactly the pixels that it covers."""
    fine = -torch.rand(1, 1, 25, 37)  # negative: padding with 0 would show
    coarse = _resize(fine, 2, (7, 10))
    for row in range(7):
        for column in range(10):
            covered = fine[
                ..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4
            ]
            assert coarse[0, 0, row, column] == covered.max()
    back = _resize(coarse, -2, (25, 37))
    rows, columns = torch.arange(25) // 4, torch.arange(37) // 4
    assert torch.equal(back, coarse[..., rows, :][..., columns])


def test_host_leaves_the_grid_at_sizes_that_are_no_multiple():
    """Why the output differs there; if this fails, compare there as well."""
    ours, stock = build(), build_stock()
    stock.load_state_dict(ours.state_dict())
    levels = make_levels(800, 1333)
    p3 = stock(levels)[0]
    assert (p3 - ours(levels)[0]).abs().max() > 1e-2


def test_batched_output_equals_single_outputs():
    neck, levels = build(), make_levels(100, 150, batch=3)
    singles = [neck([x[i : i + 1] for x in levels]) for i in range(3)]
    for level, output in enumerate(neck(levels)):
        single = torch.cat([outputs[level] for outputs in singles])
        torch.testing.assert_close(output, single)


def test_output_and_gradients_are_bitwise_the_same_twice():
    results = []
    for _ in range(2):
        neck = build(act_cfg=dict(type='SiLU'))
        outputs = neck(make_levels(100, 150))
        sum(x.square().sum() for x in outputs).backward()
        results.append([*outputs, *(p.grad for p in neck.parameters())])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_activation_of_every_merge_is_the_one_asked_for():
    neck = build(act_cfg=dict(type='SiLU'))
    stock = build_stock()
    stock.load_state_dict(neck.state_dict())
    levels = make_levels(128, 128)
    assert not torch.allclose(neck(levels)[0], stock(levels)[0])
    for module in stock.modules():
        if isinstance(module, torch.nn.ReLU):
            module.forward = F.silu
    for got, expected in zip(neck(levels), stock(levels), strict=True):
        torch.testing.assert_close(got, expected)


def test_forward_and_backward_run_on_fake_tensors():
    with FakeTensorMode():
        neck = AnySizeNASFPN(CHANNELS, 8, start_level=1, stack_times=2)
        levels = [
            torch.empty(2, channels, 1024 // stride, 1024 // stride)
            for channels, stride in zip(CHANNELS, [4, 8, 16, 32], strict=True)
        ]
        outputs = neck(levels)
        sum(x.sum() for x in outputs).backward()
    assert [x.shape[-1] for x in outputs] == [128, 64, 32, 16, 8]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(in_channels=[]), 'in_channels must be a list of positive'),
        (dict(in_channels=256), 'got 256'),
        (dict(in_channels=[256, 0]), r'got \[256, 0\]'),
        (dict(in_channels=[256, 1.5]), r'got \[256, 1.5\]'),
        (dict(out_channels=0), 'out_channels must be a whole number of at'),
        (dict(num_outs=4), 'num_outs must be 5, .* got 4'),
        (dict(stack_times=0), 'stack_times must be a whole number of at'),
        (dict(start_level=4), 'leave 1 to 5 of the 4 .* got 4'),
        (dict(start_level=-1), 'start_level must leave .* got -1'),
        (dict(in_channels=[8] * 6), 'leave 1 to 5 of the 6 .* got 0'),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else '',
)
def test_bad_option_is_refused_in_one_line(options, message):
    options = dict(type='mmdet.AnySizeNASFPN', in_channels=CHANNELS) | options
    with pytest.raises(ValueError, match=message) as caught:
        MODELS.build(options)
    text = str(caught.value)
    assert 'model.neck.' in text and text.endswith('.')
    assert '\n' not in text


@pytest.mark.parametrize('wrong', ['too few', 'too many', 'channels'])
def test_wrong_inputs_are_refused_in_one_line(wrong):
    levels = make_levels(64, 64)
    inputs = {
        'too few': levels[1:],
        'too many': [*levels, levels[-1]],
        'channels': [*levels[:3], levels[0]],
    }[wrong]
    with pytest.raises(ValueError, match=r'got \[4, 8, 12, 16\]') as caught:
        build()(inputs)
    assert '\n' not in str(caught.value)


def test_levels_that_do_not_halve_are_refused_in_one_line():
    levels = make_levels(256, 256)
    levels[3] = torch.randn(1, 16, 16, 16)  # a dilated last stage
    with pytest.raises(ValueError, match=r'halve in size, got \[\(32'):
        build()(levels)


def build_mask_rcnn(num_classes):
    extractor = dict(
        type='SingleRoIExtractor',
        out_channels=32,
        featmap_strides=STRIDES,
        finest_scale=112,
    )
    match = dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.3,
        ignore_iof_thr=-1,
    )
    sample = dict(
        type='RandomSampler', num=32, pos_fraction=0.5, neg_pos_ub=-1
    )
    deltas = dict(type='DeltaXYWHBBoxCoder')
    return dict(
        type='MaskRCNN',
        data_preprocessor=dict(
            type='DetDataPreprocessor', pad_mask=True, pad_size_divisor=1
        ),
        backbone=dict(type='ResNet', depth=18),
        neck=dict(
            type='AnySizeNASFPN',
            in_channels=[64, 128, 256, 512],
            out_channels=32,
            stack_times=2,
            start_level=1,
            act_cfg=dict(type='SiLU'),
        ),
        rpn_head=dict(
            type='RPNHead',
            in_channels=32,
            feat_channels=32,
            anchor_generator=dict(
                type='AnchorGenerator',
                scales=[4],
                ratios=[0.5, 1.0, 2.0],
                strides=STRIDES,
            ),
            bbox_coder=deltas,
        ),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                extractor, roi_layer=dict(type='RoIAlign', output_size=7)
            ),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=32,
                fc_out_channels=32,
                num_classes=num_classes,
                bbox_coder=deltas,
            ),
            mask_roi_extractor=dict(
                extractor, roi_layer=dict(type='RoIAlign', output_size=14)
            ),
            mask_head=dict(
                type='FCNMaskHead',
                num_convs=1,
                in_channels=32,
                conv_out_channels=32,
                num_classes=num_classes,
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=match,
                sampler=sample,
                allowed_border=-1,
                pos_weight=-1,
            ),
            rpn_proposal=dict(
                nms_pre=200,
                max_per_img=100,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0,
            ),
            rcnn=dict(
                assigner=match,
                sampler=dict(sample, add_gt_as_proposals=True),
                mask_size=28,
                pos_weight=-1,
            ),
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
                max_per_img=10,
                mask_thr_binary=0.5,
            ),
        ),
    )


def test_mask_rcnn_trains_and_predicts_on_an_odd_image():
    register_all_modules()
    torch.manual_seed(0)
    detector = MODELS.build(ConfigDict(build_mask_rcnn(num_classes=3)))
    detector.init_weights()
    packed = demo_mm_inputs(
        1, [(3, 100, 150)], num_items=[4], num_classes=3, with_mask=True
    )
    packed = detector.data_preprocessor(packed, training=True)
    data = packed['inputs'], packed['data_samples']
    losses = detector.loss(*data)
    assert {'loss_rpn_cls', 'loss_cls', 'loss_bbox', 'loss_mask'} <= set(
        losses
    )
    total, _ = detector.parse_losses(losses)
    assert total.isfinite()
    total.backward()
    for name, parameter in detector.neck.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name

    detector.eval()
    with torch.no_grad():
        (result,) = detector.predict(*data)
    assert result.pred_instances.masks.shape[-2:] == (100, 150)
