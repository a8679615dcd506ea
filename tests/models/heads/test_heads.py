"""Heads with norms and activations, against MMDetection's."""

import pytest
import torch
from mmdet.models.dense_heads import RetinaSepBNHead, RPNHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.registry import MODELS
from torch import nn

import mmfrozen  # noqa: F401  (registers)

NORM = dict(type='SyncBN', momentum=0.003, eps=1e-4)
SILU = dict(type='SiLU')
ANCHORS = dict(
    type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8]
)
BOX = dict(
    num_shared_convs=2,
    num_shared_fcs=2,
    in_channels=8,
    conv_out_channels=8,
    fc_out_channels=16,
    roi_feat_size=3,
    num_classes=5,
)
RPN = dict(in_channels=8, feat_channels=8, anchor_generator=ANCHORS)
RETINA = dict(
    num_ins=2,
    num_classes=5,
    in_channels=8,
    feat_channels=8,
    stacked_convs=2,
    anchor_generator=ANCHORS,
)


def build(kind, **options):
    torch.manual_seed(0)
    head = MODELS.build(dict(type=f'mmdet.{kind}', **options))
    head.init_weights()
    return head


def norms(head):
    return [m for m in head.modules() if isinstance(m, nn.SyncBatchNorm)]


@pytest.mark.parametrize(
    ('ours', 'stock', 'options'),
    [
        ('NormActConvFCBBoxHead', ConvFCBBoxHead, BOX),
        ('NormActRPNHead', RPNHead, RPN),
        ('NormActRPNHead', RPNHead, RPN | dict(num_convs=2)),
        ('NormActRetinaHead', RetinaSepBNHead, RETINA | dict(norm_cfg=NORM)),
    ],
)
def test_without_options_it_is_mmdetections_head(ours, stock, options):
    head, theirs = build(ours, **options), stock(**options)
    theirs.load_state_dict(head.state_dict())  # strict: the keys are equal
    x = (
        torch.randn(4, 8, 3, 3)
        if stock is ConvFCBBoxHead
        else [torch.randn(2, 8, 8, 8), torch.randn(2, 8, 4, 4)]
    )
    for a, b in zip(head.eval()(x), theirs.eval()(x), strict=True):
        torch.testing.assert_close(a, b)


def test_box_head_has_a_norm_and_the_activation_after_every_layer():
    head = build('NormActConvFCBBoxHead', norm_cfg=NORM, act_cfg=SILU, **BOX)
    assert len(norms(head)) == 4
    assert {(m.momentum, m.eps) for m in norms(head)} == {(0.003, 1e-4)}
    x = torch.randn(6, 8, 3, 3)
    y = x
    for conv in head.shared_convs:
        y = nn.functional.silu(conv.bn(conv.conv(y)))
    y = y.flatten(1)
    for fc in head.shared_fcs:
        z = y @ fc.weight.T
        z = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-4).sqrt()
        y = nn.functional.silu(z)  # the norm's scale is 1, its shift 0
    torch.testing.assert_close(head.train()(x)[0], head.fc_cls(y))


def test_box_head_keeps_mmdetections_names_and_initialisation():
    head = build('NormActConvFCBBoxHead', norm_cfg=NORM, act_cfg=SILU, **BOX)
    assert 'shared_fcs.0.weight' in head.state_dict()
    bound = (6 / (72 + 16)) ** 0.5  # Xavier's
    weight = head.shared_fcs[0].weight
    assert 0.9 * bound < weight.abs().max() <= bound
    std = head.fc_cls.weight.detach().std()
    assert std == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize('count', [1, 2])
def test_rpn_shares_convolutions_and_has_norms_of_each_level(count):
    head = build(
        'NormActRPNHead', num_convs=count, norm_cfg=NORM, act_cfg=SILU, **RPN
    ).train()
    assert len(head.rpn_convs) == count
    assert len(norms(head)) == 2 * count
    levels = [torch.randn(2, 8, 8, 8), 5 + torch.randn(2, 8, 4, 4)]
    scores, deltas = head(levels)
    assert [x.shape for x in scores] == [(2, 1, 8, 8), (2, 1, 4, 4)]
    assert [x.shape[1] for x in deltas] == [4, 4]
    first, second = (level[0].running_mean for level in head.rpn_norms)
    assert not torch.equal(first, second)
    sum(x.sum() for x in (*scores, *deltas)).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_retina_head_has_the_activation_after_every_norm():
    head = build('NormActRetinaHead', norm_cfg=NORM, act_cfg=SILU, **RETINA)
    assert sum(isinstance(m, nn.SiLU) for m in head.modules()) == 8
    assert len(norms(head)) == 8  # 2 levels x 2 branches x 2 convolutions
    scores, _ = head.train()(
        [torch.randn(2, 8, 8, 8), torch.randn(2, 8, 4, 4)]
    )
    assert scores[0].shape == (2, 5, 8, 8)


def test_rpn_activation_without_norm_is_refused():
    with pytest.raises(ValueError, match='rpn_head.act_cfg must be None'):
        build('NormActRPNHead', act_cfg=SILU, **RPN)
