"""A NAS-FPN neck for inputs of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_activation_layer
from mmdet.models.necks import NASFPN
from torch import Tensor, nn

from ...errors import check_count
from ...registry import MODELS
from .levels import (
    check_in_channels,
    check_levels,
    check_start_level,
    option_error,
)

_NUM_LEVELS = 5  # the searched cell merges P3 to P7


@MODELS.register_module()
class AnySizeNASFPN(NASFPN):
    """NAS-FPN (arXiv 1904.07392) whose levels stay aligned at any input size.

    Same parameters and state-dict keys as MMDetection's `NASFPN`, and the same
    output where both sides of the input are multiples of 128, the stride of
    P7. What MMDetection lacks:

    - It halves P5 to P6 and P7 rounding down, and fails if nothing is left,
      for a side of at most 96 pixels.
    - It shrinks a map by the ratio of the sizes, rounded up, after padding
      it with zeros on both sides (mmcv/ops/merge_cells.py, `_resize`). At
      sizes that are not multiples of 128, this is not the ratio of the
      strides, so that features move away from their anchors, and the
      max-pooled zeros replace negative features.
    - Its activation is always ReLU.

    Here P6 and P7 are halved rounding up, and cell (i, j) of a level with
    stride s stands for the s x s pixels from (i * s, j * s) on, cut off at
    the border. A batch norm that trains needs more than one value a channel,
    hence more than one image where P7 is 1 x 1.

    Args:
        in_channels: Channels of all levels of the backbone, finest first.
        out_channels: Channels of every level of the output.
        num_outs: Levels of the output: 5.
        stack_times: Repeats of the searched cell: 7 in the paper, 5 in the
            frozen-backbone paper (CVPR 2022).
        start_level: First backbone level to use: 1 for P3 to P7 if the
            backbone returns C2 to C5.
        norm_cfg: Norm after every convolution.
        act_cfg: Activation before every 3 x 3 convolution; one without
            parameters keeps MMDetection's state-dict keys.
        init_cfg: `None` for MMDetection's: Caffe2Xavier in every Conv2d.

    Example::

        neck=dict(
            type='AnySizeNASFPN',
            in_channels=[256, 512, 1024, 2048],
            start_level=1,                 # P3 to P7, strides 8 to 128
            norm_cfg=dict(type='SyncBN'),
            act_cfg=dict(type='SiLU'))     # default: ReLU, as in MMDetection
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        *,
        num_outs: int = _NUM_LEVELS,
        stack_times: int = 5,
        start_level: int = 0,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        _check_options(
            in_channels, out_channels, num_outs, stack_times, start_level
        )
        super().__init__(
            list(in_channels),
            out_channels,
            num_outs,
            stack_times,
            start_level=start_level,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg or dict(type='Caffe2Xavier', layer='Conv2d'),
        )
        for _, pool in self.extra_downsamples:
            pool.ceil_mode = True
        if act_cfg is None:
            return
        for stage in self.fpn_stages:
            for cell in stage.values():
                if cell.with_out_conv:
                    activation = build_activation_layer(act_cfg)
                    cell.out_conv.activate = activation

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Merge the levels `stack_times` times.

        Args:
            inputs: (N, C, H, W) of each backbone level, finest first.

        Returns:
            Five tensors (N, out_channels, H, W): the first have the sizes of
            the backbone's levels from `start_level` on, each further one half
            the size of the one before, rounded up.

        Raises:
            ValueError: If the levels are not those of `in_channels`, or do
                not halve from one to the next.
        """
        check_levels(inputs, self.in_channels, self.start_level)
        levels = [
            conv(inputs[self.start_level + i])
            for i, conv in enumerate(self.lateral_convs)
        ]
        for downsample in self.extra_downsamples:
            levels.append(downsample(levels[-1]))
        for stage in self.fpn_stages:
            levels = _run_stage(stage, levels)
        return tuple(levels)


def _run_stage(stage: nn.ModuleDict, levels: list[Tensor]) -> list[Tensor]:
    """Run one searched cell on P3 to P7, with MMDetection's names."""
    p3, p4, p5, p6, p7 = levels
    sizes = {n: p.shape[-2:] for n, p in enumerate(levels, start=3)}

    def merge(name: str, x1: Tensor, x2: Tensor) -> Tensor:
        _, (from1, from2), (to,) = name.split('_')  # 'gp_64_4'
        size = sizes[int(to)]
        x1 = _resize(x1, int(to) - int(from1), size)
        x2 = _resize(x2, int(to) - int(from2), size)
        return stage[name](x1, x2, out_size=size)

    p4_1 = merge('gp_64_4', p6, p4)
    p4_2 = merge('sum_44_4', p4_1, p4)
    p3 = merge('sum_43_3', p4_2, p3)
    p4 = merge('sum_34_4', p3, p4_2)
    p5 = merge('sum_55_5', p5, merge('gp_43_5', p4, p3))
    p7 = merge('sum_77_7', p7, merge('gp_54_7', p5, p4_2))
    p6 = merge('gp_75_6', p7, p5)
    return [p3, p4, p5, p6, p7]


def _resize(x: Tensor, octaves: int, size: tuple[int, int]) -> Tensor:
    """Resize a map to a level `octaves` coarser (finer if negative).

    If a backbone rounds its sizes down, an upsampled map can lack the last row
    or column of `size`; MMDetection's cell then interpolates it.
    """
    if octaves > 0:
        x = F.max_pool2d(x, 2**octaves, ceil_mode=True)
    elif octaves < 0:
        x = F.interpolate(x, scale_factor=2**-octaves, mode='nearest')
    return x[..., : size[0], : size[1]]


def _check_options(
    in_channels: Any,
    out_channels: Any,
    num_outs: Any,
    stack_times: Any,
    start_level: Any,
) -> None:
    """Raise an error for options that cannot be built, in argument order."""
    check_in_channels(in_channels)
    check_count('model.neck.out_channels', out_channels)
    if num_outs != _NUM_LEVELS:
        raise option_error(
            f'num_outs must be {_NUM_LEVELS}, as in the searched cell',
            num_outs,
            'Leave it out',
        )
    check_count('model.neck.stack_times', stack_times)
    check_start_level(start_level, len(in_channels), _NUM_LEVELS)
