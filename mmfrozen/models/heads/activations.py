"""A helper that replaces the activations of MMDetection's convolutions."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule, build_activation_layer
from torch import nn


def set_activation(module: nn.Module, act_cfg: dict[str, Any]) -> None:
    """Replace the activation of every ``ConvModule`` that has one.

    Args:
        module: Any module. It is changed in place.
        act_cfg: Config of an activation without parameters, so that the
            state-dict keys do not change.
    """
    for child in module.modules():
        if isinstance(child, ConvModule) and child.with_activation:
            child.activate = build_activation_layer(act_cfg)
