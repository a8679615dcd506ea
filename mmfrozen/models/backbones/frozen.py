"""Build any host backbone frozen."""

from __future__ import annotations

from mmdet.registry import MODELS
from torch import nn

from ...freezing import freeze, freeze_norm


@MODELS.register_module()
def FrozenBackbone(  # noqa: N802  (registered, so named like a class)
    backbone: dict, frozen: bool = True, norm_eval: bool = True
) -> nn.Module:
    """Build a backbone, freeze it on the spot and return that same module.

    What the host lacks: EfficientNet, SwinTransformer, CSPDarknet, CSPNeXt,
    Darknet and MobileNetV2 freeze only in ``train()``, after the distributed
    wrapper and the optimizer were built (mmdetection #8208, #12345), and
    leave stochastic depth on. The ResNet family needs no wrapper: there,
    ``frozen_stages=4, norm_eval=True`` is all it takes.

    Args:
        backbone: Config of the backbone. Its own ``frozen_stages`` does not
            matter: all of it is frozen.
        frozen: False builds the control, in which every stage trains.
        norm_eval: Keep the running statistics of the norm layers fixed. A
            frozen backbone always does.

    Returns:
        The host's module; state-dict keys, class and config are untouched.

    Raises:
        ValueError: If a frozen backbone is asked to move its statistics.

    Example config::

        backbone=dict(
            type='FrozenBackbone',
            backbone=dict(
                type='SwinTransformer',
                init_cfg=dict(type='Pretrained', checkpoint='swin.pth')))
    """
    if frozen and not norm_eval:
        raise ValueError(
            'model.backbone.norm_eval must be True in a frozen backbone, got '
            'False. Leave it out, or set frozen=False for a control.'
        )
    module = MODELS.build(backbone)
    if frozen:
        return freeze(module)
    return freeze_norm(module) if norm_eval else module
