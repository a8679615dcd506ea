"""RetinaNet's head with norms and any activation, as in the frozen-backbone
paper."""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads import RetinaSepBNHead

from ...registry import MODELS
from ..batched.retina_head import BatchedAnchorTargets
from .activations import set_activation


@MODELS.register_module()
class NormActRetinaHead(BatchedAnchorTargets, RetinaSepBNHead):
    """RetinaNet's head with separate norms per level and any activation.

    What MMDetection lacks: its `RetinaSepBNHead` has no activation but ReLU.
    State-dict keys are MMDetection's.

    Args:
        act_cfg: Activation after every convolution; ``None`` for ReLU.
        options: MMDetection's options: ``num_classes``, ``num_ins`` (levels),
            ``norm_cfg``, ``in_channels``, ``anchor_generator``, ...

    Example config::

        bbox_head=dict(
            type='NormActRetinaHead',
            num_ins=5,
            norm_cfg=dict(type='SyncBN'),
            act_cfg=dict(type='SiLU'))
    """

    def __init__(
        self, *, act_cfg: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if act_cfg is not None:
            set_activation(self, act_cfg)
