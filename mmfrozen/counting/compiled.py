"""The compiled operators of mmcv and torchvision: FLOPs, 2 a multiply-add.

mmcv's are plain functions of ``mmcv._ext`` that torch's dispatcher does not
see. :func:`watch_compiled` reports their calls; on tensors without data they
do nothing but return what has the right shape.

An interpolated value is 4 multiply-adds, 8 FLOPs. An IoU is 12 FLOPs: NMS
is counted as if it compared all pairs, though it stops early.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import torch
from mmcv import _ext
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .flops import Flops
from .formulas import BILINEAR

IOU = 12

#: Told the name, the arguments, the options and the result of a call.
Listener = Callable[[str, tuple[Any, ...], dict[str, Any], Any], None]
Formula = Callable[[tuple[Any, ...], dict[str, Any], Any], Flops]


def _roi_align(
    rois: Tensor, pooled: Tensor, scale: float, ratio: int, aligned: bool
) -> int:
    """FLOPs of the points that RoIAlign interpolates.

    Args:
        rois: (K, 5), batch index and corners in the image.
        pooled: Its output, or the output's gradient: (K, C, H, W).
        scale: Pixels of the map a pixel of the image.
        ratio: Points of a bin in each direction; 0 for one a pixel.
        aligned: Whether boxes may be smaller than a pixel of the map.
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


def _mmcv_roi_align(
    rois: Tensor, pooled: Tensor, options: dict[str, Any]
) -> int:
    return _roi_align(
        rois,
        pooled,
        options['spatial_scale'],
        options['sampling_ratio'],
        options['aligned'],
    )


def _deform_conv(x: Tensor, weight: Tensor, out: Tensor) -> tuple[int, int]:
    """FLOPs of the product and of the interpolation before it."""
    positions = out.shape[0] * prod(out.shape[2:]) * prod(weight.shape[2:])
    product = 2 * positions * weight.shape[0] * weight.shape[1]
    return product, BILINEAR * positions * x.shape[1]


def _deform_conv_forward(x: Tensor, weight: Tensor, out: Tensor) -> Flops:
    return Flops(forward=sum(_deform_conv(x, weight, out)))


def _deform_conv_inputs(x: Tensor, weight: Tensor, grad: Tensor) -> Flops:
    """The product, then values and two coordinates of each sample."""
    product, sampling = _deform_conv(x, weight, grad)
    return Flops(backward_input=product + 3 * sampling)


def _deform_conv_weights(x: Tensor, weight: Tensor, grad: Tensor) -> Flops:
    """The product, with the values interpolated anew."""
    product, sampling = _deform_conv(x, weight, grad)
    return Flops(backward_weight=product + sampling)


def _deform_conv_backward(x: Tensor, weight: Tensor, grad: Tensor) -> Flops:
    """All gradients at once, the weights' even if they are frozen."""
    return _deform_conv_inputs(x, weight, grad) + _deform_conv_weights(
        x, weight, grad
    )


def _ms_deform_attn(value: Tensor, locations: Tensor) -> int:
    """A head's channels at each location: interpolate, then weigh."""
    return (BILINEAR + 2) * prod(locations.shape[:-1]) * value.shape[3]


def _nms(boxes: Tensor) -> Flops:
    return Flops(forward=IOU * len(boxes) * (len(boxes) - 1) // 2)


def _carafe(features: Tensor, masks: Tensor, kernel_size: int) -> int:
    n, _, height, width = masks.shape
    return 2 * n * features.shape[1] * height * width * kernel_size**2


#: Of mmcv: from the arguments in order, the options and the result.
MMCV: dict[str, Formula] = {
    'roi_align_forward': lambda a, o, out: Flops(
        forward=_mmcv_roi_align(a[1], a[2], o)
    ),
    'roi_align_backward': lambda a, o, out: Flops(
        backward_input=_mmcv_roi_align(a[1], a[0], o)
    ),
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
    # of the values, the locations and the weights
    'ms_deform_attn_backward': lambda a, o, out: Flops(
        backward_input=3 * _ms_deform_attn(a[0], a[3])
    ),
    # of the features and of the kernels
    **dict.fromkeys(
        ('carafe_forward', 'carafe_naive_forward'),
        lambda a, o, out: Flops(forward=_carafe(a[0], a[1], o['kernel_size'])),
    ),
    **dict.fromkeys(
        ('carafe_backward', 'carafe_naive_backward'),
        lambda a, o, out: Flops(
            backward_input=2 * _carafe(a[1], a[2], o['kernel_size'])
        ),
    ),
    **dict.fromkeys(
        ('nms', 'softnms', 'nms_match', 'nms_rotated', 'nms_quadri'),
        lambda a, o, out: _nms(a[0]),
    ),
}

#: Of torchvision, which torch's dispatcher does see.
TORCHVISION: dict[str, Formula] = {
    'torchvision::roi_align': lambda a, o, out: Flops(
        forward=_roi_align(a[1], out, a[2], a[5], a[6])
    ),
    'torchvision::_roi_align_backward': lambda a, o, out: Flops(
        backward_input=_roi_align(a[1], a[0], a[2], a[9], a[10])
    ),
    'torchvision::deform_conv2d': lambda a, o, out: _deform_conv_forward(
        a[0], a[1], out
    ),
    'torchvision::_deform_conv2d_backward': lambda a, o, out: (
        _deform_conv_backward(a[1], a[2], a[0])
    ),
    'torchvision::nms': lambda a, o, out: _nms(a[0]),
}

#: Of mmcv, but without arithmetic.
MOVES = frozenset(
    {'get_compiler_version', 'get_compiling_cuda_version', 'masked_im2col'}
)


def _keep_all(boxes: Tensor, *args: Any, **options: Any) -> Tensor:
    return torch.arange(len(boxes))


def _attend(value: Tensor, *args: Any, **options: Any) -> Tensor:
    batch, _, heads, channels = value.shape
    return value.new_empty(batch, args[2].shape[1], heads * channels)


#: What operators return on tensors without data; others fill arguments.
SHAPES: dict[str, Callable[..., Any]] = {
    'nms': _keep_all,
    'softnms': _keep_all,
    'nms_rotated': _keep_all,
    'nms_quadri': _keep_all,
    'nms_match': lambda boxes, **options: [[i] for i in range(len(boxes))],
    'ms_deform_attn_forward': _attend,
}


@contextlib.contextmanager
def watch_compiled(
    listener: Listener, has_data: Callable[[Tensor], bool] = lambda t: True
) -> Iterator[None]:
    """Report every call of a compiled operator of mmcv.

    Args:
        listener: Told of each call, after it.
        has_data: Whether the operator can run on a tensor.
    """
    originals = {
        name: function
        for name, function in vars(_ext).items()
        if callable(function) and not name.startswith('_')
    }
    for name, function in originals.items():
        setattr(
            _ext,
            name,
            functools.partial(_call, name, function, listener, has_data),
        )
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(_ext, name, function)


def _call(
    name: str,
    function: Callable[..., Any],
    listener: Listener,
    has_data: Callable[[Tensor], bool],
    *args: Any,
    **options: Any,
) -> Any:
    tensors = [a for a in args if isinstance(a, Tensor)]
    if all(map(has_data, tensors)):
        # what it calls of torch's in turn is part of its own formula
        with _disable_current_modes():
            out = function(*args, **options)
    else:
        shape = SHAPES.get(name)
        out = shape(*args, **options) if shape else None
    with _disable_current_modes():
        listener(name, args, options, out)
    return out
