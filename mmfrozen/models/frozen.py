"""Wrappers that build any module of MMDetection frozen, fully or in part."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from mmdet import registry as mmdet
from torch import nn

from .. import registry
from ..errors import did_you_mean
from ..freezing import (
    freeze,
    freeze_matching,
    freeze_norm,
    freeze_stages,
    is_kept_in_eval,
)
from .adapters import add_adapters

KEY = 'model.backbone'


@registry.MODELS.register_module()
def FrozenBackbone(  # noqa: N802  (registered, so named like a class)
    backbone: dict[str, Any],
    frozen: bool | Sequence[str] = True,
    norm_eval: bool = True,
    frozen_stages: int | None = None,
    adapters: dict[str, int] | None = None,
) -> nn.Module:
    """Build a backbone, freeze it in place and return the same module.

    What MMDetection lacks: a common way to freeze backbones. EfficientNet,
    SwinTransformer, CSPDarknet, CSPNeXt, Darknet and MobileNetV2 freeze only
    in ``train()``, after the distributed wrapper and the optimizer were built
    (mmdetection #8208, #12345), and leave stochastic depth on; others freeze
    nothing; each numbers its stages differently. The ResNet family needs no
    wrapper: ``frozen_stages=4, norm_eval=True`` is enough.

    Args:
        backbone: Config of the backbone. Its own ``norm_eval`` is ignored, and
            so is its ``frozen_stages`` if the whole backbone is frozen.
        frozen: True freezes the whole backbone. A list freezes the modules and
            parameters that it names, with ``*``, ``?`` and ``[12]`` as in file
            names. False builds the control: every stage trains.
        norm_eval: Whether to keep the running statistics of the norm layers
            fixed. Those of frozen layers are always fixed.
        frozen_stages: Freeze the stem (0) and the stages up to this one
            instead of all; docs/freezing.md says what a stage is.
        adapters: Residual branches that train beside the blocks, whether these
            are frozen or not: ``dict()`` for the defaults of
            ``adapters.add_adapters``, or ``dict(reduction=8, first_stage=3)``.
            The guard's state is then ``'partial'``.

    Returns:
        MMDetection's module with the same state-dict keys, class and config.

    Raises:
        ValueError: If the options contradict one another, or name a layer
            or stage that does not exist.

    Example config::

        backbone=dict(
            type='FrozenBackbone',
            # frozen_stages=2,  # only the stem and stages 1 and 2
            backbone=dict(
                type='SwinTransformer',
                init_cfg=dict(type='Pretrained', checkpoint='swin.pth')))
    """
    whole = frozen is True and frozen_stages is None
    if whole and not norm_eval:
        raise ValueError(
            f'{KEY}.norm_eval must be True in a frozen backbone, got False. '
            'Remove it, or set frozen=False for a control.'
        )
    if frozen_stages is not None and frozen is not True:
        raise ValueError(
            f'{KEY}.frozen_stages must not be set where frozen is set, got '
            f'{frozen_stages!r} beside frozen={frozen!r}. Keep one of them.'
        )
    module = mmdet.MODELS.build(backbone)
    if whole:
        freeze(module)
    else:
        _refuse_own_freezing(module)
        if hasattr(module, 'norm_eval'):
            module.norm_eval = norm_eval
        if frozen_stages is not None:
            freeze_stages(module, frozen_stages, f'{KEY}.frozen_stages')
        elif frozen is not False:
            freeze_matching(module, frozen, f'{KEY}.frozen')
        if norm_eval:
            freeze_norm(module)
    _check_branches(module)
    if adapters is not None:
        _check_adapters(adapters)
        add_adapters(module, **adapters)
    return module


@registry.MODELS.register_module()
def FrozenModule(  # noqa: N802  (registered, so named like a class)
    module: dict[str, Any],
    patterns: Sequence[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a neck or a head, freeze it in place and return the same module.

    What MMDetection lacks: a way to freeze a neck or a head (mmdetection
    #10776, #10804). Weights come from ``load_from``, or from an ``init_cfg``
    with ``prefix='neck'`` in the module's config.

    Args:
        module: Config of the module: a neck, an RPN, RoI, box or mask head.
        patterns: Names of the parts to freeze, with ``*``, ``?`` and
            ``[12]`` as in file names; None freezes all of it.
        options: What the detector adds to the configs of its parts, such as
            ``train_cfg``; passed to the module.

    Returns:
        MMDetection's module with the same state-dict keys and class.

    Raises:
        ValueError: If a pattern matches nothing.

    Example config::

        neck=dict(
            type='FrozenModule',
            patterns=['lateral_convs'],  # without it: the whole neck
            module=dict(
                type='FPN',
                in_channels=[256, 512, 1024, 2048],
                out_channels=256,
                num_outs=5))
    """
    built = mmdet.MODELS.build(dict(module, **options))
    if patterns is None:
        return freeze(built)
    return freeze_matching(built, patterns, 'patterns of FrozenModule')


def _check_adapters(adapters: Any) -> None:
    known = list(signature(add_adapters).parameters)[1:]
    if not isinstance(adapters, dict):
        raise ValueError(
            f'{KEY}.adapters must be a dict of {" and ".join(known)}, got '
            f'{adapters!r}. Write adapters=dict() for the defaults.'
        )
    for name in adapters:
        if name not in known:
            raise ValueError(
                f'{KEY}.adapters must have options that it knows, got '
                f'{name!r}{did_you_mean(name, known)}. It has '
                f'{" and ".join(known)}.'
            )


def _refuse_own_freezing(module: nn.Module) -> None:
    """Raise an error if the module freezes itself, which may happen too
    late."""
    stages = getattr(module, 'frozen_stages', -1)
    module.train()  # many modules freeze themselves in train()
    # 0 means the stem in some modules and nothing in others, so check the
    # effect
    if stages > -1 and not all(
        p.requires_grad for p in module.parameters() if p.dim() > 1
    ):
        raise ValueError(
            f'{KEY}.backbone.frozen_stages must not be set, got {stages}. Set '
            f'{KEY}.frozen_stages, which freezes before the optimizer is '
            'built.'
        )


def _check_branches(module: nn.Module) -> None:
    """Raise an error if a frozen stage evaluates a single branch: TridentNet
    trains three branches, but evaluates only one."""
    for child in module.modules():
        branch = getattr(child, 'test_branch_idx', -1)
        if branch != -1 and is_kept_in_eval(child):
            raise ValueError(
                f'{KEY}.backbone.test_branch_idx must be -1 where its stage '
                f'is frozen, got {branch}: training needs all branches. Set '
                'it to -1 here and in roi_head.'
            )
