"""What is computed by mmcv's operators, compiled and over torchvision.

A case makes its inputs from a seed with numpy, whose numbers depend on no
version of torch, calls mmcv's public functions, and returns all results and
gradients. `record.py` stores those of compiled mmcv.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import mmcv.ops as ops
import numpy as np
import torch
from torch import Tensor

Outputs = dict[str, Tensor]


class Numbers:
    """Seeded inputs."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self._draw = np.random.default_rng(seed)
        self._dtype = dtype

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        numbers = np.asarray(self._draw.standard_normal(shape) * scale)
        return torch.from_numpy(numbers).to(self._dtype)

    def leaf(self, *shape: int, scale: float = 1.0) -> Tensor:
        return self.normal(*shape, scale=scale).requires_grad_()

    def boxes(self, count: int, size: int) -> Tensor:
        """(count, 4): some reach out of the image, some have no area."""
        start = self._draw.uniform(-size / 8, size, (count, 2))
        sides = self._draw.uniform(0, size / 2, (count, 2))
        sides[: count // 10] = 0
        boxes = np.concatenate((start, start + sides), axis=1)
        boxes[count // 2 :] = boxes[count // 2 :].round()  # ties
        return torch.from_numpy(boxes).to(self._dtype)

    def rois(self, count: int, images: int, size: int) -> Tensor:
        index = torch.from_numpy(self._draw.integers(images, size=(count, 1)))
        boxes = self.boxes(count, size)
        return torch.cat((index.to(boxes.dtype), boxes), dim=1)

    def scores(self, count: int, *, ties: bool = False) -> Tensor:
        """(count,): all different, or in steps of 1/32."""
        steps = self._draw.permutation(count) + 1
        scores = (steps % 32 + 1) / 32 if ties else steps / count
        return torch.from_numpy(scores).to(self._dtype)


def with_gradients(out: Tensor, **leaves: Tensor) -> Outputs:
    """The result, and the gradients of a weighted sum of it."""
    weights = Numbers(99, out.dtype).normal(*out.shape)
    (out * weights).sum().backward()
    found = {'out': out.detach()}
    for name, leaf in leaves.items():
        if leaf.grad is not None:  # not everything in a layer is used
            found[f'grad {name}'] = leaf.grad
    return found


def roi_align(
    mode: str, ratio: int, aligned: bool, size: int, dtype: torch.dtype
) -> Outputs:
    draw = Numbers(1, dtype)
    x = draw.leaf(2, 2, 12, 17)
    rois = draw.rois(10, 2, 64)
    out = ops.roi_align(x, rois, size, 0.25, ratio, mode, aligned)
    return with_gradients(out, x=x)


def nms(offset: int, threshold: float, min_score: float) -> Outputs:
    draw = Numbers(2)
    dets, index = ops.nms(
        draw.boxes(300, 200), draw.scores(300), threshold, offset, min_score,
        100,
    )  # fmt: skip
    return {'dets': dets, 'index': index}


def batched_nms(kind: str, agnostic: bool) -> Outputs:
    draw = Numbers(3)
    labels = torch.arange(200) % 7
    dets, index = ops.batched_nms(
        draw.boxes(200, 100),
        draw.scores(200),
        labels,
        dict(type=kind, iou_threshold=0.6),
        class_agnostic=agnostic,
    )
    return {'dets': dets, 'index': index}


def soft_nms(method: str, offset: int, min_score: float) -> Outputs:
    draw = Numbers(4)
    dets, index = ops.soft_nms(
        draw.boxes(150, 80), draw.scores(150), 0.3, 0.5, min_score, method,
        offset,
    )  # fmt: skip
    return {'dets': dets, 'index': index}


def nms_match(threshold: float) -> Outputs:
    draw = Numbers(5)
    dets = torch.cat((draw.boxes(120, 60), draw.scores(120)[:, None]), dim=1)
    groups = ops.nms_match(dets, threshold)
    return {
        'length': torch.tensor([len(g) for g in groups]),
        'index': torch.cat(groups),
    }


def overlaps(mode: str, aligned: bool, offset: int) -> Outputs:
    draw = Numbers(6)
    first, second = draw.boxes(40, 50), draw.boxes(40, 50)
    return {'out': ops.bbox_overlaps(first, second, mode, aligned, offset)}


def deform_conv(
    groups: int, deform_groups: int, stride: int, dilation: int, start: float,
    dtype: torch.dtype,
) -> Outputs:  # fmt: skip
    draw = Numbers(7, dtype)
    x, weight = draw.leaf(2, 4, 6, 8), draw.leaf(4, 4 // groups, 3, 3)
    height, width = (
        (side + 2 - 2 * dilation - 1) // stride + 1 for side in (6, 8)
    )
    offset = draw.leaf(2, 18 * deform_groups, height, width, scale=start)
    out = ops.deform_conv2d(
        x, offset, weight, stride, 1, dilation, groups, deform_groups
    )
    return with_gradients(out, x=x, weight=weight, offset=offset)


def modulated_deform_conv(
    groups: int, deform_groups: int, bias: bool, start: float,
    dtype: torch.dtype,
) -> Outputs:  # fmt: skip
    draw = Numbers(8, dtype)
    x, weight = draw.leaf(2, 4, 4, 5), draw.leaf(4, 4 // groups, 3, 3)
    offset = draw.leaf(2, 18 * deform_groups, 4, 5, scale=start)
    mask = draw.leaf(2, 9 * deform_groups, 4, 5)
    leaves = dict(x=x, weight=weight, offset=offset, mask=mask)
    if bias:
        leaves['bias'] = draw.leaf(4)
    out = ops.modulated_deform_conv2d(
        x, offset, mask, weight, leaves.get('bias'), 1, 1, 1, groups,
        deform_groups,
    )  # fmt: skip
    return with_gradients(out, **leaves)


def switchable_atrous_conv() -> Outputs:
    layer = ops.SAConv2d(4, 6, 3, padding=1, use_deform=True)
    draw = Numbers(9)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(draw.normal(*parameter.shape, scale=0.3))
    x = draw.leaf(2, 4, 10, 10)
    leaves = dict(layer.named_parameters(), x=x)
    return with_gradients(layer(x), **leaves)


def _all(
    function: Callable[..., Outputs], *choices: tuple[Any, ...]
) -> Iterator[tuple[str, Callable[[], Outputs]]]:
    for options in itertools.product(*choices):
        words = ' '.join(str(o).removeprefix('torch.') for o in options)

        def call(options: tuple[Any, ...] = options) -> Outputs:
            return function(*options)

        yield f'{function.__name__} {words}'.strip(), call


DTYPES = (torch.float32, torch.float64)
CASES = dict(
    itertools.chain(
        _all(
            roi_align, ('avg', 'max'), (0, 2), (True, False), (2, 5), DTYPES
        ),
        _all(nms, (0, 1), (0.3, 0.5, 0.7), (0.0, 0.4)),
        _all(batched_nms, ('nms', 'soft_nms'), (True, False)),
        _all(
            soft_nms, ('naive', 'linear', 'gaussian'), (0, 1), (1e-3, 0.2)
        ),
        _all(nms_match, (0.3, 0.5, 0.7)),
        _all(overlaps, ('iou', 'iof'), (True, False), (0, 1)),
        # offsets of 0 lie on the edges of pixels, and of the padding
        _all(deform_conv, (1, 2), (1, 2), (1, 2), (1, 2), (0.0, 2.0), DTYPES),
        _all(
            modulated_deform_conv, (1, 2), (1, 2), (True, False), (0.0, 2.0),
            DTYPES,
        ),
        _all(switchable_atrous_conv),
    )
)  # fmt: skip
#: Where the arithmetic is mmcv's, results are equal bit by bit.
BITWISE = ('roi_align avg', 'nms', 'batched_nms', 'overlaps')
