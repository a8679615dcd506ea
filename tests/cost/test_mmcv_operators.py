"""mmcv's and torchvision's operators: counts by hand."""

import pytest
import torch
import torchvision
from mmcv import _ext
from mmcv.ops import (
    CARAFEPack,
    DeformConv2d,
    ModulatedDeformConv2d,
    RoIAlign,
    batched_nms,
    nms,
    sigmoid_focal_loss,
)
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
)

from mmfrozen.cost import FlopCounter, Flops
from mmfrozen.cost.shape_mode import ShapeMode, drop_data, empty

ROIS = torch.tensor([[0.0, 0, 0, 16, 16], [0, 4, 4, 30, 20]])


def test_roi_align_counts_four_multiply_adds_a_sample():
    x = torch.randn(1, 6, 8, 8, requires_grad=True)
    with FlopCounter() as counter:
        RoIAlign(7, 0.25, sampling_ratio=2)(x, ROIS).sum().backward()
    samples = 2 * 7 * 7 * 2 * 2
    assert counter.total() == Flops(8 * 6 * samples, 8 * 6 * samples, 0)


def test_adaptive_roi_align_samples_by_the_size_of_each_region():
    x = torch.randn(1, 6, 8, 8)
    with FlopCounter() as counter:
        RoIAlign(2, 0.25, sampling_ratio=0)(x, ROIS)
    # 4 x 4 pixels in 2 x 2 bins; 4 x 6.5 pixels: 2 and ceil(3.25) a bin
    samples = 4 * (2 * 2) + 4 * (2 * 4)
    assert counter.total() == Flops(8 * 6 * samples)


def test_torchvisions_roi_align_and_nms_count_as_mmcvs():
    x = torch.randn(1, 6, 8, 8, requires_grad=True)
    boxes, scores = ROIS[:, 1:], torch.tensor([0.5, 0.4])
    with FlopCounter() as ours:
        RoIAlign(7, 0.25, sampling_ratio=2)(x, ROIS).sum().backward()
        nms(boxes, scores, 0.5)
    with FlopCounter() as theirs:
        torchvision.ops.roi_align(
            x, ROIS, 7, 0.25, sampling_ratio=2, aligned=True
        ).sum().backward()
        torchvision.ops.nms(boxes, scores, 0.5)
    assert ours.total() == theirs.total() != Flops()


def test_nms_counts_an_iou_for_every_pair():
    boxes = torch.rand(10, 4).cumsum(dim=1)
    with FlopCounter() as counter:
        nms(boxes, torch.rand(10), 0.5)
    assert counter.total() == Flops(12 * 45)


@pytest.mark.parametrize('modulated', (False, True))
def test_deformable_convolution_is_a_convolution_of_samples(modulated):
    kind = ModulatedDeformConv2d if modulated else DeformConv2d
    layer = kind(4, 6, 3, padding=1, bias=False)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    offset = torch.zeros(2, 18, 5, 5, requires_grad=True)
    mask = (torch.ones(2, 9, 5, 5),) if modulated else ()
    with FlopCounter(layer) as counter:
        layer(x, offset, *mask).sum().backward()
    product = 2 * 2 * 25 * 9 * 6 * 4
    sampling = 8 * 2 * 25 * 9 * 4
    assert counter.flops() == {
        '': Flops(
            product + sampling,
            product + 3 * sampling,
            product + sampling,
        )
    }


def test_frozen_deformable_convolution_computes_no_weight_gradient():
    layer = DeformConv2d(4, 6, 3, padding=1)
    layer.requires_grad_(False)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    with FlopCounter(layer) as counter:
        layer(x, torch.zeros(2, 18, 5, 5)).sum().backward()
    assert counter.total().backward_weight == 0
    assert counter.total().backward_input > 0


def test_deformable_attention_counts_on_shapes():
    levels = torch.tensor([[4, 4], [2, 2]])
    starts = torch.tensor([0, 16])
    with ShapeMode(), FlopCounter() as counter:
        value = empty(2, 20, 8, 32).requires_grad_()
        locations = empty(2, 5, 8, 2, 4, 2)
        weights = empty(2, 5, 8, 2, 4)
        out = MultiScaleDeformableAttnFunction.apply(
            value, levels, starts, locations, weights, 64
        )
        assert out.shape == (2, 5, 256)
        out.sum().backward()
    flops = 10 * 2 * 5 * 8 * 2 * 4 * 32
    assert counter.total() == Flops(flops, 3 * flops, 0)


def test_what_a_focal_loss_is_made_of_is_listed():
    with ShapeMode(), FlopCounter() as counter:
        scores = empty(4, 3).requires_grad_()
        sigmoid_focal_loss(
            scores, torch.zeros(4, dtype=torch.long), 2.0, 0.25, None, 'sum'
        ).backward()
    assert counter.uncounted['sigmoid'] == 2, 'forward and backward'


@pytest.mark.parametrize(
    'make',
    (
        lambda: (ModulatedDeformConv2d(4, 4, 3, padding=1), (4, 18, 9)),
        lambda: (CARAFEPack(4, 2), (4,)),
    ),
    ids=('modulated deformable convolution', 'CARAFE'),
)
def test_operators_have_shapes_and_counts_without_data(make):
    layer, channels = make()
    drop_data(layer)
    with ShapeMode(), FlopCounter(layer) as counter:
        inputs = [empty(2, c, 6, 6).requires_grad_() for c in channels]
        out = layer(*inputs)
        out.sum().backward()
    assert out.shape[:2] == (2, 4)
    total = counter.total()
    assert total.forward > 0 and total.backward_input > total.forward
    assert all(x.grad.shape == x.shape for x in inputs)


def test_nms_without_data_keeps_all_boxes():
    with ShapeMode(), FlopCounter():
        kept, index = batched_nms(
            empty(7, 4),
            empty(7),
            torch.zeros(7),
            dict(type='nms', iou_threshold=0.5),
        )
    assert kept.shape == (7, 5) and len(index) == 7


def test_mmcv_is_as_before_after_counting():
    before = _ext.carafe_forward
    with pytest.raises(ZeroDivisionError), FlopCounter():
        assert _ext.carafe_forward is not before
        raise ZeroDivisionError
    assert _ext.carafe_forward is before
