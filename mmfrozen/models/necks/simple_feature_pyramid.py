"""A feature pyramid built from the single map of a plain vision
transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import check_count
from ...registry import MODELS
from .levels import option_error


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """The simple feature pyramid of ViTDet (Li et al. 2022, section 3).

    What MMDetection lacks: its necks expect several levels of halving size,
    while a plain ViT has one, of stride 16 (14 for DINOv2).

    Every level is computed from that map alone: finer levels by transposed
    convolutions that double the size, the level of the map's stride directly,
    and the next coarser level by max pooling; each then has a 1 x 1 and a
    3 x 3 convolution, each with a norm. Still coarser levels take every second
    row and column of the level before, like P6 in the paper. Odd sizes are
    halved rounding up, so that cell (i, j) of a level covers the pixels from
    (i, j) times its stride on.

    Args:
        in_channels: Channels of the map, as a number or a list of one.
        out_channels: Channels of every level.
        in_stride: Stride of the map: the patch size of the transformer.
        strides: Strides of the levels, each double the one before: 4 to 64 for
            P2 to P6, 8 to 128 for P3 to P7. The first is at least a quarter of
            ``in_stride`` and at most ``in_stride``.
        norm_cfg: Norm after every convolution; ``None`` for the paper's layer
            norm over the channels of each position.
        init_cfg: Initialisation; ``None`` for torch's own.

    Raises:
        ValueError: If options or inputs do not fit.

    Example config::

        backbone=dict(
            type='FrozenBackbone',
            backbone=dict(
                type='mmfrozen.TimmBackbone',
                model_name='vit_base_patch16_dinov3',
                out_indices=(11,))),       # the last of 12 blocks
        neck=dict(
            type='mmfrozen.SimpleFeaturePyramid',
            in_channels=768,
            out_channels=256,
            strides=(4, 8, 16, 32, 64))
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int = 256,
        *,
        in_stride: int = 16,
        strides: Sequence[float] = (4, 8, 16, 32, 64),
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels = _check_channels(in_channels)
        check_count('model.neck.out_channels', out_channels)
        self.out_channels = out_channels
        octaves = _octaves(in_stride, strides)
        self.norm_cfg = norm_cfg
        self.stages = nn.ModuleList(
            self._make_stage(octave) for octave in octaves if octave <= 1
        )
        self.num_subsampled = sum(octave > 1 for octave in octaves)

    def _make_stage(self, octave: int) -> nn.Sequential:
        """Build the layers that resize the map to 2**octave times its
        stride."""
        layers: list[nn.Module] = []
        channels = self.in_channels
        for i in range(-octave):
            if i:
                layers += [self._make_norm(channels), nn.GELU()]
            layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
            channels //= 2
        if octave == 1:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        for kernel in (1, 3):
            layers += [
                nn.Conv2d(
                    channels,
                    self.out_channels,
                    kernel,
                    padding=kernel // 2,
                    bias=False,  # the norm has one
                ),
                self._make_norm(self.out_channels),
            ]
            channels = self.out_channels
        return nn.Sequential(*layers)

    def _make_norm(self, channels: int) -> nn.Module:
        if self.norm_cfg is None:
            from timm.layers import LayerNorm2d

            return LayerNorm2d(channels)
        norm: nn.Module = build_norm_layer(self.norm_cfg, channels)[1]
        return norm

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute all levels from the single map.

        Args:
            inputs: A sequence of one (N, in_channels, H, W).

        Returns:
            One tensor per level, (N, out_channels, ~H x in_stride / stride,
            ...), finest first.

        Raises:
            ValueError: If the input is not one map of ``in_channels``.
        """
        channels = [x.shape[1] for x in inputs]
        if channels != [self.in_channels]:
            raise option_error(
                'in_channels must be those of the one map of the backbone, '
                f'which gives {channels}',
                self.in_channels,
                'Set it so, and model.backbone.out_indices to the last block',
            )
        levels = [stage(inputs[0]) for stage in self.stages]
        for _ in range(self.num_subsampled):
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return tuple(levels)


def _check_channels(in_channels: Any) -> int:
    listed = isinstance(in_channels, (list, tuple))
    value = in_channels[0] if listed and len(in_channels) == 1 else in_channels
    if type(value) is not int or value < 4 or value % 4:
        raise option_error(
            'in_channels must be a multiple of 4, of one map',
            in_channels,
            "Give the transformer's width",
        )
    return value


def _octaves(in_stride: Any, strides: Any) -> list[int]:
    """Return log2 of each level's stride relative to the map's."""
    if type(in_stride) is not int or in_stride < 1:
        raise option_error(
            'in_stride must be the patch size', in_stride, 'Set in_stride=16'
        )
    listed = isinstance(strides, (list, tuple)) and len(strides) > 0
    ratios = [
        s / in_stride if isinstance(s, (int, float)) else 0
        for s in (strides if listed else [0])
    ]
    first = ratios[0]
    if first not in (0.25, 0.5, 1) or ratios != [
        first * 2**i for i in range(len(ratios))
    ]:
        raise option_error(
            f'strides must double from one to the next and begin at '
            f'{in_stride / 4:g}, {in_stride / 2:g} or {in_stride}',
            strides,
            'Set strides=(4, 8, 16, 32, 64) for patches of 16',
        )
    return [int(math.log2(ratio)) for ratio in ratios]
