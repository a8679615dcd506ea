"""A region proposal network with norms, as in the frozen-backbone paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import build_activation_layer, build_norm_layer
from mmdet.models.utils import multi_apply
from torch import Tensor, nn

from ...registry import MODELS
from ..batched.rpn_head import BatchedRPNHead


@MODELS.register_module()
class NormActRPNHead(BatchedRPNHead):
    """A region proposal network with norms and any activation.

    What MMDetection lacks: `RPNHead` has no norm and no activation but ReLU.
    Here the convolutions are shared by all levels, while each level has its
    own norms, as the statistics differ (MMDetection's `RetinaSepBNHead` does
    the same). Without ``norm_cfg`` this is MMDetection's head.

    Args:
        norm_cfg: Norm after every convolution.
        act_cfg: Activation after each norm; ``None`` for ReLU.
        options: MMDetection's options: ``in_channels``, ``feat_channels``,
            ``num_convs``, ``anchor_generator``, ...

    Raises:
        ValueError: If ``act_cfg`` is set without ``norm_cfg``.

    Example config::

        rpn_head=dict(
            type='NormActRPNHead',
            num_convs=1,
            norm_cfg=dict(type='SyncBN'),
            act_cfg=dict(type='SiLU'),
            in_channels=256,
            feat_channels=256)
    """

    def __init__(
        self,
        *,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if norm_cfg is None and act_cfg is not None:
            raise ValueError(
                'model.rpn_head.act_cfg must be None without norm_cfg, got '
                f'{act_cfg}. Set norm_cfg, or act_cfg=None for the ReLU of '
                "MMDetection's RPNHead."
            )
        self.norm_cfg = norm_cfg
        self.act_cfg = act_cfg or dict(type='ReLU')
        super().__init__(**options)

    def _init_layers(self) -> None:
        super()._init_layers()
        if self.norm_cfg is None:
            return
        del self.rpn_conv
        self.rpn_convs = nn.ModuleList(
            nn.Conv2d(
                self.feat_channels if i else self.in_channels,
                self.feat_channels,
                3,
                padding=1,
                bias=False,  # the norm has one
            )
            for i in range(self.num_convs)
        )
        self.rpn_norms = nn.ModuleList(
            nn.ModuleList(
                build_norm_layer(self.norm_cfg, self.feat_channels)[1]
                for _ in self.rpn_convs
            )
            for _ in range(self.prior_generator.num_levels)
        )
        self.act = build_activation_layer(self.act_cfg)

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        """Score the anchors of all levels.

        Args:
            x: (N, in_channels, H, W) of each level, finest first.

        Returns:
            Scores, (N, anchors, H, W), and box deltas, (N, 4 x anchors, H, W),
            of each level.
        """
        if self.norm_cfg is None:
            return super().forward(x)  # type: ignore[no-any-return]
        return multi_apply(  # type: ignore[no-any-return]
            self._forward_level, x, self.rpn_norms
        )

    def _forward_level(
        self, x: Tensor, norms: nn.ModuleList
    ) -> tuple[Tensor, Tensor]:
        for conv, norm in zip(self.rpn_convs, norms, strict=True):
            x = self.act(norm(conv(x)))
        # boxes are decoded and matched in fp32, even under mixed precision
        return self.rpn_cls(x).float(), self.rpn_reg(x).float()
