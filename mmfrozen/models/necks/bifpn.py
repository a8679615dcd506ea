"""A BiFPN neck for inputs of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_activation_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import check_count
from ...registry import MODELS
from .levels import (
    check_in_channels,
    check_levels,
    check_start_level,
    option_error,
)


@MODELS.register_module()
class AnySizeBiFPN(BaseModule):
    """BiFPN (Tan et al. 2020, EfficientDet, arXiv 1911.09070, section 3).

    What MMDetection lacks: its package has no BiFPN; the one in its folder
    ``projects/EfficientDet`` is not installed, takes three backbone levels,
    returns five and needs sizes that are multiples of 128.

    Each repeat has a top-down and a bottom-up pass. A node computes the
    weighted mean of its inputs (fast normalised fusion: weights are clipped at
    0 and divided by their sum), then activation, 3 x 3 convolution and norm.
    Coarser maps are upsampled by repetition, finer ones max-pooled 3 x 3, so
    that cell (i, j) of a level covers the pixels from (i, j) times its stride
    on. One difference from EfficientDet: there, the first repeat projects the
    backbone's middle levels twice; here, they are projected once.

    Args:
        in_channels: Channels of all levels of the backbone, finest first.
        out_channels: Channels of every level of the output.
        num_outs: Levels of the output, at least two; those that the backbone
            lacks are max-pooled from its coarsest level.
        stack_times: Number of repeats; EfficientDet has 3 (D0) to 8 (D7).
        start_level: First backbone level to use: 1 for P3 to P7 if the
            backbone returns C2 to C5.
        separable: Whether to use depthwise separable convolutions, as in
            EfficientDet; plain ones have 8 times the parameters.
        norm_cfg: Norm after every convolution.
        act_cfg: Activation before every 3 x 3 convolution.
        init_cfg: ``None`` for Caffe2Xavier in every Conv2d.

    Raises:
        ValueError: If options or inputs do not fit.

    Example config::

        neck=dict(
            type='AnySizeBiFPN',
            in_channels=[256, 512, 1024, 2048],
            start_level=1,                 # P3 to P7, strides 8 to 128
            out_channels=256,
            stack_times=5,
            norm_cfg=dict(type='SyncBN'))
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        *,
        num_outs: int = 5,
        stack_times: int = 3,
        start_level: int = 0,
        separable: bool = True,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(
            init_cfg=init_cfg or dict(type='Caffe2Xavier', layer='Conv2d')
        )
        check_in_channels(in_channels)
        check_count('model.neck.out_channels', out_channels)
        check_count('model.neck.stack_times', stack_times)
        if type(num_outs) is not int or num_outs < 2:
            raise option_error(
                'num_outs must be at least 2 levels to merge',
                num_outs,
                'Set num_outs=5',
            )
        check_start_level(start_level, len(in_channels), num_outs)
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.start_level = start_level
        self.lateral_convs = nn.ModuleList(
            ConvModule(
                channels, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None
            )
            for channels in in_channels[start_level:]
        )
        self.repeats = nn.ModuleList(
            _Repeat(
                out_channels,
                num_outs,
                separable,
                norm_cfg,
                act_cfg or dict(type='SiLU'),
            )
            for _ in range(stack_times)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Merge the levels ``stack_times`` times.

        Args:
            inputs: (N, C, H, W) of each backbone level, finest first.

        Returns:
            ``num_outs`` tensors (N, out_channels, H, W): the first have the
            sizes of the backbone's levels from ``start_level`` on, each
            further one half the size of the one before, rounded up.

        Raises:
            ValueError: If the levels are not those of ``in_channels``, or do
                not halve from one to the next.
        """
        check_levels(inputs, self.in_channels, self.start_level)
        levels = [
            conv(x)
            for conv, x in zip(
                self.lateral_convs, inputs[self.start_level :], strict=True
            )
        ]
        while len(levels) < self.num_outs:
            levels.append(_halve(levels[-1]))
        for repeat in self.repeats:
            levels = repeat(levels)
        return tuple(levels)


class _Repeat(nn.Module):
    """One top-down and one bottom-up pass."""

    def __init__(
        self, channels: int, num_levels: int, separable: bool, *cfgs: Any
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _Node(2, channels, separable, *cfgs) for _ in range(num_levels - 1)
        )
        # the coarsest level has no top-down node
        self.up = nn.ModuleList(
            _Node(2 if i == num_levels - 1 else 3, channels, separable, *cfgs)
            for i in range(1, num_levels)
        )

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        merged = list(levels)
        for i in reversed(range(len(levels) - 1)):
            coarser = _double(merged[i + 1], levels[i].shape[-2:])
            merged[i] = self.down[i]([levels[i], coarser])
        out = merged[:1]
        for i in range(1, len(levels)):
            finer = _fit(_halve(out[-1]), levels[i].shape[-2:])
            inner = [merged[i]] if i < len(levels) - 1 else []
            out.append(self.up[i - 1]([levels[i], *inner, finer]))
        return out


class _Node(nn.Module):
    """A weighted mean of maps of one size, followed by a convolution."""

    def __init__(
        self,
        num_inputs: int,
        channels: int,
        separable: bool,
        norm_cfg: dict[str, Any] | None,
        act_cfg: dict[str, Any],
    ) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.act = build_activation_layer(act_cfg)
        if separable:
            self.depthwise = nn.Conv2d(
                channels, channels, 3, padding=1, groups=channels, bias=False
            )
        self.conv = ConvModule(
            channels,
            channels,
            1 if separable else 3,
            padding=0 if separable else 1,
            norm_cfg=norm_cfg,
            act_cfg=None,
        )
        self.separable = separable

    def forward(self, maps: list[Tensor]) -> Tensor:
        weights = self.weights.clamp(min=0)
        weights = weights / (weights.sum() + 1e-4)
        x = sum(w * x for w, x in zip(weights, maps, strict=True))
        x = self.act(x)
        if self.separable:
            x = self.depthwise(x)
        return self.conv(x)  # type: ignore[no-any-return]


def _halve(x: Tensor) -> Tensor:
    """Max-pool to half the size, rounded up."""
    return F.max_pool2d(x, 3, stride=2, padding=1)


def _double(x: Tensor, size: Sequence[int]) -> Tensor:
    return _fit(F.interpolate(x, scale_factor=2, mode='nearest'), size)


def _fit(x: Tensor, size: Sequence[int]) -> Tensor:
    """Crop to a size; repeat the last row or column if it is missing, as
    happens with a backbone that rounds its sizes down."""
    x = x[..., : size[0], : size[1]]
    missing = size[0] - x.shape[-2], size[1] - x.shape[-1]
    if any(missing):
        x = F.pad(x, (0, missing[1], 0, missing[0]), mode='replicate')
    return x
