"""BiFPN by hand on one channel, at every size, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from torch import nn

from mmfrozen.models.necks.bifpn import AnySizeBiFPN, _double, _halve

from .test_nas_fpn import CHANNELS, STRIDES, make_levels


def build(**options):
    options = dict(start_level=1, stack_times=2, out_channels=8) | options
    torch.manual_seed(0)
    neck = AnySizeBiFPN(CHANNELS, options.pop('out_channels'), **options)
    neck.init_weights()
    return neck.eval()


class Same(nn.Module):
    """Stands for activation, convolution and norm."""

    def forward(self, x):
        return x


def test_one_repeat_is_the_papers_equations():
    """EfficientDet, section 3.3, with every convolution the identity."""
    neck = build(num_outs=3, stack_times=1, start_level=1, separable=False)
    repeat = neck.repeats[0]
    for node in (*repeat.down, *repeat.up):
        node.act = node.conv = Same()
        node.weights.data = torch.arange(1.0, 1 + len(node.weights))
    p3, p4, p5 = (torch.randn(1, 8, size, size) for size in (8, 4, 2))

    def mean(*terms):
        weights = range(1, 1 + len(terms))
        total = sum(w * x for w, x in zip(weights, terms, strict=True))
        return total / (sum(weights) + 1e-4)

    def up(x):
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def down(x):
        return F.max_pool2d(x, 3, stride=2, padding=1)

    p4_td = mean(p4, up(p5))
    p3_out = mean(p3, up(p4_td))
    p4_out = mean(p4, p4_td, down(p3_out))
    p5_out = mean(p5, down(p4_out))
    got = repeat([p3, p4, p5])
    for ours, expected in zip(got, (p3_out, p4_out, p5_out), strict=True):
        torch.testing.assert_close(ours, expected)


def test_negative_weight_counts_as_zero():
    node = build().repeats[0].down[0]
    node.act = node.depthwise = node.conv = Same()
    node.weights.data = torch.tensor([1.0, -3.0])
    x, other = torch.randn(2, 1, 8, 4, 4)
    torch.testing.assert_close(node([x, other]), x / (1 + 1e-4))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([math.ceil, math.floor]),
)
def test_every_size_gives_levels_of_the_backbones_sizes(height, width, rounds):
    levels = make_levels(height, width, round_size=rounds)
    outputs = build(stack_times=1)(levels)
    sizes = [x.shape[-2:] for x in levels[1:]]
    for _ in range(2):
        sizes.append([math.ceil(side / 2) for side in sizes[-1]])
    assert [tuple(x.shape[-2:]) for x in outputs] == [tuple(s) for s in sizes]
    assert all(x.isfinite().all() for x in outputs)


def test_resizing_keeps_cells_on_their_pixels():
    """Cell (i, j) of a level stands for the pixels from (2 i, 2 j) on."""
    fine = torch.arange(35.0).view(1, 1, 5, 7)
    coarse = _halve(fine)
    assert coarse.shape[-2:] == (3, 4)
    for row in range(3):
        for column in range(4):
            around = fine[
                ...,
                max(2 * row - 1, 0) : 2 * row + 2,
                max(2 * column - 1, 0) : 2 * column + 2,
            ]
            assert coarse[0, 0, row, column] == around.max()
    back = _double(coarse, (5, 7))
    rows, columns = torch.arange(5) // 2, torch.arange(7) // 2
    assert torch.equal(back, coarse[..., rows, :][..., columns])


def test_batched_output_equals_single_outputs():
    neck, levels = build(), make_levels(100, 150, batch=3)
    singles = [neck([x[i : i + 1] for x in levels]) for i in range(3)]
    for level, output in enumerate(neck(levels)):
        single = torch.cat([outputs[level] for outputs in singles])
        torch.testing.assert_close(output, single)


@pytest.mark.parametrize('separable', [True, False])
@pytest.mark.parametrize('num_outs', [2, 4, 6])
def test_every_parameter_gets_a_gradient(separable, num_outs):
    neck = build(
        start_level=2,
        num_outs=num_outs,
        separable=separable,
        norm_cfg=dict(type='BN'),
    ).train()
    outputs = neck(make_levels(256, 256, batch=2))
    assert len(outputs) == num_outs
    sum(x.square().sum() for x in outputs).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_parameters_of_a_separable_repeat_are_as_counted_by_hand():
    width = 8
    one, two = (
        sum(p.numel() for p in build(stack_times=n).parameters())
        for n in (1, 2)
    )
    # 4 nodes down and 4 up: 9 weights a channel, a matrix, a bias
    nodes = 8 * (9 * width + width * width + width)
    fusion = 4 * 2 + 3 * 3 + 2
    assert two - one == nodes + fusion


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(in_channels=[]), 'in_channels must be a list of positive'),
        (dict(in_channels=[256, 0]), r'got \[256, 0\]'),
        (dict(out_channels=0), 'out_channels must be a whole number of at'),
        (dict(stack_times=True), 'stack_times must be a whole .* got True'),
        (dict(num_outs=1), 'num_outs must be at least 2 .* got 1'),
        (dict(start_level=4), 'leave 1 to 5 of the 4 .* got 4'),
        (dict(num_outs=3), 'leave 1 to 3 of the 4 .* got 0'),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else '',
)
def test_bad_option_is_refused_in_one_line(options, message):
    options = dict(type='mmdet.AnySizeBiFPN', in_channels=CHANNELS) | options
    with pytest.raises(ValueError, match=message) as caught:
        MODELS.build(options)
    text = str(caught.value)
    assert 'model.neck.' in text and text.endswith('.') and '\n' not in text


def test_wrong_levels_are_refused_in_one_line():
    levels = make_levels(64, 64)
    with pytest.raises(ValueError, match=r'got \[4, 8, 12, 16\]'):
        build()(levels[1:])
    levels = make_levels(256, 256)
    levels[3] = torch.randn(1, 16, 16, 16)  # a dilated last stage
    with pytest.raises(ValueError, match=r'halve in size, got \[\(32'):
        build()(levels)


def test_strides_are_those_of_the_anchors():
    outputs = build()(make_levels(256, 384))
    assert [256 // x.shape[-2] for x in outputs] == STRIDES
