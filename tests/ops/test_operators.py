"""What the records cannot show: no compiled operator to compare with on a
CPU, other dtypes, empty inputs, tensors without data, compilation."""

import itertools
import math

import mmcv.ops as ops
import numpy as np
import pytest
import torch
from mmcv import _ext
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

import mmfrozen_ext

from .cases import Numbers, with_gradients

pytestmark = pytest.mark.skipif(
    mmfrozen_ext.is_compiled(_ext), reason='mmcv has compiled operators'
)
HALVES = (torch.float16, torch.bfloat16)


def close(ours, theirs, tolerance=1e-5):
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=tolerance, atol=tolerance
        )


def roi_pool_by_hand(x, rois, size, scale):
    """Each bin of mmcv's RoIPool, pixel by pixel."""
    out = torch.zeros(len(rois), x.shape[1], size, size, dtype=x.dtype)
    for k, (image, *box) in enumerate(rois.tolist()):
        x1, y1 = box[0] * scale, box[1] * scale
        width = (box[2] + 1) * scale - x1
        height = (box[3] + 1) * scale - y1
        for i in range(size):
            for j in range(size):
                top = int(np.floor(i * height / size + y1))
                left = int(np.floor(j * width / size + x1))
                bottom = int(np.ceil((i + 1) * height / size + y1))
                right = int(np.ceil((j + 1) * width / size + x1))
                bin_ = x[
                    int(image),
                    :,
                    max(top, 0) : max(bottom, 0),
                    max(left, 0) : max(right, 0),
                ]
                if bin_.numel():
                    out[k, :, i, j] = bin_.flatten(1).amax(dim=1)
    return out


def test_roi_pool_takes_the_largest_pixel_of_each_bin():
    draw = Numbers(1, torch.float64)
    x = draw.leaf(2, 3, 9, 11)
    rois = draw.rois(12, 2, 40)
    ours = with_gradients(ops.roi_pool(x, rois, 3, 0.25), x=x)
    x.grad = None
    theirs = with_gradients(roi_pool_by_hand(x, rois, 3, 0.25), x=x)
    close(ours, theirs)


@pytest.mark.parametrize('gamma', (0.5, 2.0))
@pytest.mark.parametrize('weighted', (False, True))
def test_sigmoid_focal_loss_is_the_formula(gamma, weighted):
    draw = Numbers(2, torch.float64)
    logits = draw.leaf(30, 5, scale=4.0)
    target = torch.arange(30) % 6  # 5 is the background
    weight = draw.scores(5) if weighted else None
    ours = with_gradients(
        ops.sigmoid_focal_loss(logits, target, gamma, 0.3, weight, 'none'),
        logits=logits,
    )
    logits.grad = None
    labels = F.one_hot(target, 6)[:, :5]
    loss = py_sigmoid_focal_loss(
        logits, labels, gamma=gamma, alpha=0.3, reduction='none'
    )
    if weighted:
        rows = torch.cat((weight, weight.new_ones(1)))[target]
        loss = loss * rows[:, None]
    close(ours, with_gradients(loss, logits=logits))


@pytest.mark.parametrize('weighted', (False, True))
def test_softmax_focal_loss_is_the_formula(weighted):
    draw = Numbers(3, torch.float64)
    logits = draw.leaf(30, 5, scale=3.0)
    target = torch.arange(30) % 6 - 1  # -1 has no loss
    weight = draw.scores(5) if weighted else None
    ours = with_gradients(
        ops.softmax_focal_loss(logits, target, 2.0, 0.3, weight, 'sum'),
        logits=logits,
    )
    logits.grad = None
    known = target.clamp(min=0)
    p = logits.softmax(dim=1).gather(1, known[:, None])[:, 0]
    loss = -0.3 * (1 - p) ** 2 * p.log() * (target >= 0)
    if weighted:
        loss = loss * weight[known]
    close(ours, with_gradients(loss.sum(), logits=logits))


def test_deformable_attention_is_mmcvs_own_in_python():
    draw = Numbers(4, torch.float64)
    shapes = torch.tensor([[5, 6], [3, 2]])
    starts = torch.tensor([0, 30])
    leaves = dict(
        value=draw.leaf(2, 36, 3, 4),
        locations=draw.leaf(2, 7, 3, 2, 4, 2, scale=0.5),
        weights=draw.leaf(2, 7, 3, 2, 4),
    )
    value, locations, weights = leaves.values()
    out = MultiScaleDeformableAttnFunction.apply(
        value, shapes, starts, locations, weights, 64
    )
    ours = with_gradients(out, **leaves)
    for leaf in leaves.values():
        leaf.grad = None
    theirs = multi_scale_deformable_attn_pytorch(
        value, shapes, locations, weights
    )
    close(ours, with_gradients(theirs, **leaves), 1e-10)


@pytest.mark.parametrize('groups', (1, 2))
@pytest.mark.parametrize('scale', (1, 2))
def test_carafe_weighs_the_pixels_around_the_source(groups, scale):
    draw = Numbers(5, torch.float64)
    x = draw.leaf(2, 4, 5, 6)
    masks = draw.leaf(2, 9 * groups, 5 * scale, 6 * scale)
    ours = with_gradients(
        ops.carafe(x, masks, 3, groups, scale), x=x, masks=masks
    )
    x.grad = masks.grad = None
    patches = F.unfold(x, 3, padding=1).view(2, groups, 4 // groups, 9, 5, 6)
    patches = patches.repeat_interleave(scale, 4)
    patches = patches.repeat_interleave(scale, 5)
    kernels = masks.view(2, groups, 1, 9, 5 * scale, 6 * scale)
    theirs = (patches * kernels).sum(dim=3).flatten(1, 2)
    close(ours, with_gradients(theirs, x=x, masks=masks), 1e-10)


def test_masked_convolution_is_a_convolution_at_the_masked_positions():
    layer = ops.MaskedConv2d(3, 4, 3, padding=1)
    x = Numbers(6).normal(1, 3, 7, 9)
    mask = (Numbers(7).normal(1, 7, 9) > 0).float()
    dense = F.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x, mask), dense * mask)


def roi_align(x, rois):
    return ops.roi_align(x, rois, 7, 0.25, 2)


def deform(x, offset, weight):
    return ops.deform_conv2d(x, offset, weight, 1, 1)


def attend(value, locations, weights):
    return MultiScaleDeformableAttnFunction.apply(
        value,
        torch.tensor([[4, 5]]),
        torch.tensor([0]),
        locations,
        weights,
        64,
    )


def focal(logits):
    target = torch.arange(len(logits)) % 4
    return ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'none')


def carafe(x, masks):
    return ops.carafe(x, masks, 3, 1, 2)


def inputs_of(function):
    draw = Numbers(8)
    return {
        roi_align: lambda: (draw.leaf(2, 3, 9, 9), draw.rois(6, 2, 36)),
        deform: lambda: (
            draw.leaf(1, 2, 6, 6),
            draw.leaf(1, 18, 6, 6),
            draw.leaf(3, 2, 3, 3),
        ),
        attend: lambda: (
            draw.leaf(1, 20, 2, 4),
            draw.leaf(1, 3, 2, 1, 4, 2),
            draw.leaf(1, 3, 2, 1, 4),
        ),
        focal: lambda: (draw.leaf(8, 3),),
        carafe: lambda: (draw.leaf(1, 2, 4, 4), draw.leaf(1, 9, 8, 8)),
    }[function]()


FUNCTIONS = (roi_align, deform, attend, focal, carafe)


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('function', FUNCTIONS)
def test_halves_are_computed_in_fp32_and_rounded_once(function, dtype):
    narrow = [
        x.detach().to(dtype).requires_grad_() for x in inputs_of(function)
    ]
    wide = [x.detach().float().requires_grad_() for x in narrow]
    out, expected = function(*narrow), function(*wide)
    assert out.dtype == dtype
    assert torch.equal(out, expected.to(dtype))
    out.float().sum().backward()
    expected.sum().backward()
    for ours, theirs in zip(narrow, wide, strict=True):
        if theirs.grad is not None:
            assert torch.equal(ours.grad, theirs.grad.to(dtype))


@pytest.mark.parametrize('function', FUNCTIONS)
def test_operators_run_under_autocast(function):
    inputs = inputs_of(function)
    expected = function(*inputs)
    with torch.autocast('cpu', torch.bfloat16):
        out = function(*inputs)
    torch.testing.assert_close(
        out, expected, check_dtype=False, rtol=0.05, atol=0.05
    )
    out.float().sum().backward()


@pytest.mark.parametrize('dtype', HALVES)
def test_nms_of_halves_is_that_of_their_values_in_fp32(dtype):
    draw = Numbers(9)
    # areas overflow fp16 from 256 x 256 pixels on
    boxes, scores = (draw.boxes(60, 900) + 100).to(dtype), draw.scores(60)
    kept = ops.nms(boxes, scores.to(dtype), 0.5)[1]
    expected = ops.nms(boxes.float(), scores.to(dtype).float(), 0.5)[1]
    assert torch.equal(kept, expected) and len(kept) < 60


def test_of_equal_scores_the_earlier_box_is_kept():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(50, 1)
    assert ops.nms(boxes, torch.ones(50), 0.5)[1].tolist() == [0]


@pytest.mark.parametrize('function', FUNCTIONS)
def test_inputs_need_not_be_contiguous(function):
    inputs = inputs_of(function)
    turned = [
        x.detach().transpose(0, -1).contiguous().transpose(0, -1)
        for x in inputs
    ]
    torch.testing.assert_close(function(*turned), function(*inputs).detach())


def test_nothing_in_gives_nothing_out():
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    for mode in ('avg', 'max'):
        out = ops.roi_align(x, torch.zeros(0, 5), 7, 0.25, 0, mode)
        assert out.shape == (0, 3, 7, 7)
        out.sum().backward()
        assert not x.grad.any()
    assert ops.roi_pool(x, torch.zeros(0, 5), 7).shape == (0, 3, 7, 7)
    none = torch.zeros(0, 4), torch.zeros(0)
    for call in (ops.nms, ops.soft_nms):
        dets, index = call(*none, 0.5)
        assert dets.shape == (0, 5) and len(index) == 0
    assert ops.nms_match(torch.zeros(0, 5), 0.5) == []
    assert focal(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize('function', FUNCTIONS)
def test_shapes_are_known_without_data(function):
    inputs = inputs_of(function)
    expected = function(*inputs).shape
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(x) for x in inputs]
        if function is not attend:  # sizes of its levels are numbers
            assert function(*fake).shape == expected
    if function not in (attend, focal):
        assert function(*(x.to('meta') for x in inputs)).shape == expected


@pytest.mark.parametrize('function', (roi_align, deform, focal, carafe))
def test_operators_are_compiled_in_one_graph(function):
    inputs = inputs_of(function)
    compiled = torch.compile(function, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), function(*inputs))


def deform_roi_pool_in_loops(x, rois, offset, size, scale, ratio, gamma):
    """mmcv's CUDA kernel, as a loop over bins and points."""
    out = x.new_zeros(len(rois), x.shape[1], size, size)
    height, width = x.shape[2:]
    for k, roi in enumerate(rois):
        left, top, right, bottom = (v * scale - 0.5 for v in roi[1:])
        sides = bottom - top, right - left
        counts = [ratio or math.ceil(side / size) for side in sides]
        for i, j in itertools.product(range(size), repeat=2):
            start = (
                top + gamma * sides[0] * offset[k, 1, i, j],
                left + gamma * sides[1] * offset[k, 0, i, j],
            )
            for a, b in itertools.product(*map(range, counts)):
                y, z = (
                    s + n * side / size + (p + 0.5) * side / size / c
                    for s, n, side, p, c in zip(
                        start, (i, j), sides, (a, b), counts, strict=True
                    )
                )
                if not (-1 <= y <= height and -1 <= z <= width):
                    continue
                y, z = y.clamp(0, height - 1), z.clamp(0, width - 1)
                y0, z0 = int(y), int(z)
                y1, z1 = min(y0 + 1, height - 1), min(z0 + 1, width - 1)
                plane = x[int(roi[0])]
                value = (
                    plane[:, y0, z0] * (y0 + 1 - y) * (z0 + 1 - z)
                    + plane[:, y0, z1] * (y0 + 1 - y) * (z - z0)
                    + plane[:, y1, z0] * (y - y0) * (z0 + 1 - z)
                    + plane[:, y1, z1] * (y - y0) * (z - z0)
                )
                out[k, :, i, j] += value / (counts[0] * counts[1])
    return out


@pytest.mark.parametrize('ratio', [0, 2])
def test_deformable_roi_pooling_is_mmcvs_kernel_in_loops(ratio):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, 12, 14, generator=generator, dtype=torch.double)
    offset = torch.randn(3, 2, 2, 2, generator=generator, dtype=torch.double)
    rois = x.new_tensor(
        [[0, 3, 5, 20, 19], [1, -4, 0, 30, 25], [1, 8.3, 9.1, 12.2, 26.7]]
    )
    x.requires_grad_(), offset.requires_grad_()
    found = ops.deform_roi_pool(x, rois, offset, (2, 2), 0.5, ratio, 0.3)
    expected = deform_roi_pool_in_loops(x, rois, offset, 2, 0.5, ratio, 0.3)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=generator, dtype=x.dtype)
    ours = torch.autograd.grad((found * weights).sum(), (x, offset))
    theirs = torch.autograd.grad((expected * weights).sum(), (x, offset))
    torch.testing.assert_close(ours, theirs)


def test_offsets_of_a_larger_map_are_read_from_their_first_values():
    """DyHead gives the offsets of one level to the next."""
    generator = torch.Generator().manual_seed(5)
    x, weight, offset, mask = (
        torch.randn(shape, generator=generator).requires_grad_()
        for shape in ((2, 4, 4, 4), (3, 4, 3, 3), (2, 18, 8, 8), (2, 9, 8, 8))
    )
    leaves = x, weight, offset, mask

    def run(offset, mask):
        return ops.modulated_deform_conv2d(
            x, offset, mask, weight, None, 1, 1, 1, 1, 1
        )

    def first(tensor):
        number = tensor.shape[1] * 16
        return tensor.flatten(1)[:, :number].view(2, -1, 4, 4)

    found, expected = run(offset, mask), run(first(offset), first(mask))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), leaves),
        torch.autograd.grad(expected.square().sum(), leaves),
    )
    with pytest.raises(ValueError, match=r'size of its output, \(4, 4\)'):
        run(offset[..., :2, :2], mask)


def test_operator_that_is_left_out_says_what_to_install():
    with pytest.raises(NotImplementedError) as error:
        _ext.ball_query_forward(1, 2, 3)
    (line,) = str(error.value).splitlines()
    assert 'ball_query_forward' in line and 'mim install mmcv==2.1.0' in line
    with pytest.raises(AttributeError):
        _ = _ext.__no_such_thing__


def test_reports_of_mmcv_name_the_stand_in():
    from mmcv.ops import get_compiler_version, get_compiling_cuda_version

    assert 'torchvision' in get_compiler_version()
    assert get_compiling_cuda_version()
