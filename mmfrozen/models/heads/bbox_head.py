"""A box head with norms after all layers, as in the frozen-backbone
paper."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from torch import Tensor, nn

from ...registry import MODELS
from .activations import set_activation


@MODELS.register_module()
class NormActConvFCBBoxHead(ConvFCBBoxHead):
    """A box head of convolutions and fully connected layers with norms.

    What MMDetection lacks: its `ConvFCBBoxHead` has no norm after fully
    connected layers and no activation but ReLU. Without ``norm_cfg`` and
    ``act_cfg`` this is MMDetection's head. With a norm the weights keep its
    state-dict keys (``shared_fcs.0.weight``); norms are added beside
    them (``shared_fcs.0.norm.weight``).

    Args:
        norm_cfg: Norm after every convolution and fully connected layer.
        act_cfg: Activation after each of these; ``None`` for ReLU.
        options: MMDetection's options: ``num_shared_convs``,
            ``num_shared_fcs``, ``conv_out_channels``, ``fc_out_channels``,
            ``num_classes``, ...

    Example config::

        bbox_head=dict(
            type='NormActConvFCBBoxHead',
            num_shared_convs=4,
            num_shared_fcs=2,
            norm_cfg=dict(type='SyncBN'),
            act_cfg=dict(type='SiLU'),
            in_channels=256,
            roi_feat_size=7,
            num_classes=80)
    """

    def __init__(
        self,
        *,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(norm_cfg=norm_cfg, **options)
        if norm_cfg is not None and options.get('init_cfg') is None:
            # MMDetection's init_cfg would also initialise the fcs' norms
            self.init_cfg[-1] = dict(
                type='Xavier',
                distribution='uniform',
                layer=_LinearNorm.__name__,
            )
        if act_cfg is not None:
            set_activation(self, act_cfg)
            self.relu = build_activation_layer(act_cfg)  # used by MMDetection

    def _add_conv_fc_branch(
        self, *args: Any, **kwargs: Any
    ) -> tuple[nn.ModuleList, nn.ModuleList, int]:
        convs, fcs, width = super()._add_conv_fc_branch(*args, **kwargs)
        if self.norm_cfg is not None:
            fcs = nn.ModuleList(
                _LinearNorm(fc.in_features, fc.out_features, self.norm_cfg)
                for fc in fcs
            )
        return convs, fcs, width


class _LinearNorm(nn.Linear):
    """A fully connected layer followed by a norm, hence without a bias."""

    def __init__(
        self, in_features: int, out_features: int, norm_cfg: dict[str, Any]
    ) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.norm = build_norm_layer(norm_cfg, out_features)[1]

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight)[..., None, None]  # (N, C, 1, 1)
        return self.norm(x)[..., 0, 0]  # type: ignore[no-any-return]
