"""FLOP formulas of the operators of torchvision and mmcv, at 2 per
multiply-add.

While FLOPs are counted, mmcv calls :mod:`mmfrozen.ops`, even if it has
compiled operators, so that torch's dispatcher sees the computation and it also
runs on tensors without data. RoIAlign and NMS are operators of torchvision.
For each other operator, one formula covers the whole mmcv kernel.

An interpolated value takes 4 multiply-adds, 8 FLOPs. An IoU takes 12 FLOPs:
NMS is counted as if it compared all pairs, though it stops early.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from mmcv import _ext
from torch import Tensor

from .. import ops
from .flops import Flops
from .formulas import BILINEAR

IOU = 12

#: Function from positional arguments, options and result to FLOPs.
Formula = Callable[[tuple[Any, ...], dict[str, Any], Any], Flops]


def _roi_align(
    rois: Tensor, pooled: Tensor, scale: float, ratio: int, aligned: bool
) -> int:
    """Return the FLOPs of the points that RoIAlign interpolates.

    Args:
        rois: (K, 5), batch index and corners in pixels of the image.
        pooled: Its output, or the output's gradient: (K, C, H, W).
        scale: Ratio of feature map size to image size.
        ratio: Sampling points per bin in each direction; 0 for one per pixel.
        aligned: Whether boxes may be smaller than one pixel of the map.
    """
    _, channels, height, width = pooled.shape
    if ratio > 0:
        grids = len(rois) * ratio**2
    else:
        sizes = (rois[:, 3:].detach() - rois[:, 1:3].detach()) * scale
        sizes = sizes if aligned else sizes.clamp(min=1)
        grid = (sizes / sizes.new_tensor((width, height))).ceil().clamp(min=0)
        grids = int(grid.prod(dim=1).sum())
    return BILINEAR * channels * grids * height * width


def _deform_conv(x: Tensor, weight: Tensor, out: Tensor) -> tuple[int, int]:
    """Return the FLOPs of the product and of the interpolation before it."""
    positions = out.shape[0] * prod(out.shape[2:]) * prod(weight.shape[2:])
    product = 2 * positions * weight.shape[0] * weight.shape[1]
    return product, BILINEAR * positions * x.shape[1]


def _deform_conv_forward(x: Tensor, weight: Tensor, out: Tensor) -> Flops:
    return Flops(forward=sum(_deform_conv(x, weight, out)))


def _deform_conv_inputs(x: Tensor, weight: Tensor, grad: Tensor) -> Flops:
    """Return the FLOPs of the product, and of the gradients of value and two
    coordinates of each sample."""
    product, sampling = _deform_conv(x, weight, grad)
    return Flops(backward_input=product + 3 * sampling)


def _deform_conv_weights(x: Tensor, weight: Tensor, grad: Tensor) -> Flops:
    """Return the FLOPs of the product, with the values interpolated again."""
    product, sampling = _deform_conv(x, weight, grad)
    return Flops(backward_weight=product + sampling)


def _deform_conv_backward(x: Tensor, weight: Tensor, grad: Tensor) -> Flops:
    """Return the FLOPs of all gradients, including the weight's even if it is
    frozen."""
    return _deform_conv_inputs(x, weight, grad) + _deform_conv_weights(
        x, weight, grad
    )


def _ms_deform_attn(value: Tensor, locations: Tensor) -> int:
    """Return the FLOPs to interpolate and weight a head's channels at each
    location."""
    return (BILINEAR + 2) * prod(locations.shape[:-1]) * value.shape[3]


def _nms(boxes: Tensor) -> Flops:
    return Flops(forward=IOU * len(boxes) * (len(boxes) - 1) // 2)


def _carafe(features: Tensor, masks: Tensor, kernel_size: int) -> int:
    n, _, height, width = masks.shape
    return 2 * n * features.shape[1] * height * width * kernel_size**2


#: Formulas of mmcv's operators; operators that they call are not counted.
MMCV: dict[str, Formula] = {
    'deform_conv_forward': lambda a, o, out: _deform_conv_forward(
        a[0], a[1], a[3]
    ),
    'deform_conv_backward_input': lambda a, o, out: _deform_conv_inputs(
        a[0], a[5], a[2]
    ),
    'deform_conv_backward_parameters': lambda a, o, out: (
        _deform_conv_weights(a[0], a[3], a[2])
    ),
    'modulated_deform_conv_forward': lambda a, o, out: _deform_conv_forward(
        a[0], a[1], a[6]
    ),
    'modulated_deform_conv_backward': lambda a, o, out: _deform_conv_backward(
        a[0], a[1], a[12]
    ),
    'ms_deform_attn_forward': lambda a, o, out: Flops(
        forward=_ms_deform_attn(a[0], a[3])
    ),
    # gradients of values, locations and weights
    'ms_deform_attn_backward': lambda a, o, out: Flops(
        backward_input=3 * _ms_deform_attn(a[0], a[3])
    ),
    **dict.fromkeys(
        ('carafe_forward', 'carafe_naive_forward'),
        lambda a, o, out: Flops(forward=_carafe(a[0], a[1], o['kernel_size'])),
    ),
    # gradients of the features and of the kernels
    **dict.fromkeys(
        ('carafe_backward', 'carafe_naive_backward'),
        lambda a, o, out: Flops(
            backward_input=2 * _carafe(a[1], a[2], o['kernel_size'])
        ),
    ),
    **dict.fromkeys(('softnms', 'nms_match'), lambda a, o, out: _nms(a[0])),
}

#: Formulas of torchvision's operators.
TORCHVISION: dict[str, Callable[[tuple[Any, ...], Any], Flops]] = {
    'torchvision::roi_align': lambda a, out: Flops(
        forward=_roi_align(a[1], out, a[2], a[5], a[6])
    ),
    'torchvision::_roi_align_backward': lambda a, out: Flops(
        backward_input=_roi_align(a[1], a[0], a[2], a[9], a[10])
    ),
    'torchvision::deform_conv2d': lambda a, out: _deform_conv_forward(
        a[0], a[1], out
    ),
    'torchvision::_deform_conv2d_backward': lambda a, out: (
        _deform_conv_backward(a[1], a[2], a[0])
    ),
    'torchvision::nms': lambda a, out: _nms(a[0]),
}


@contextlib.contextmanager
def watch_operators(call: Callable[..., Any]) -> Iterator[None]:
    """Make mmcv call mmfrozen's operators, and run those with a formula
    through `call`.

    Args:
        call: Function of the name, the operator, its arguments and its options
            that returns the operator's result.
    """
    originals = {name: getattr(_ext, name) for name in ops.__all__}
    for name in originals:
        operator = getattr(ops, name)
        if name in MMCV:
            operator = functools.partial(call, name, operator)
        setattr(_ext, name, operator)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(_ext, name, original)
