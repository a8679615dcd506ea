"""Checks of FrozenGuardHook on the config and on the loaded weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import nn

from ...freezing import checkpoint_of, digest, is_pretrained
from ...freezing.weights_file import check_file, is_local
from ..runner_access import KEY, backbone_tensors
from .second_build import find_unloaded, loaded_fraction

THAW = 'or use configs/finetuned/'


def check_init(model: nn.Module, state: str, key: str) -> None:
    """Check the config keys that name the backbone's weights.

    Args:
        model: The detector.
        state: State given to FrozenGuardHook.
        key: Config key of the backbone's own class.
    """
    init_cfg = getattr(model, 'init_cfg', None)
    if isinstance(init_cfg, dict) and is_pretrained(init_cfg):
        raise ValueError(
            'model.init_cfg must be None, since it fills the backbone instead '
            f'of its classifier, got {init_cfg.get("checkpoint")!r}. Use '
            f'load_from, and name the classifier as {key}.init_cfg.checkpoint.'
        )
    checkpoint = checkpoint_of(model.backbone)
    if state == 'scratch' and checkpoint:
        raise ValueError(
            f'{key}.init_cfg must be None from scratch, got '
            f'{checkpoint!r}. Set it to None, {THAW}.'
        )
    if checkpoint and is_local(checkpoint):
        check_file(checkpoint, f'{key}.init_cfg.checkpoint')
        _check_prefix(model.backbone.init_cfg, checkpoint, key)


def _check_prefix(init_cfg: Any, checkpoint: str, key: str) -> None:
    prefix = init_cfg.get('prefix') if isinstance(init_cfg, dict) else None
    if not prefix or checkpoint.endswith('.safetensors'):  # it has no prefix
        return
    weights = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    keys = list(weights.get('state_dict', weights))
    if not any(k.startswith(prefix.rstrip('.') + '.') for k in keys):
        raise ValueError(
            f'{key}.init_cfg.prefix must begin some of the keys of '
            f'{checkpoint!r}, got {prefix!r}; its first key is {keys[0]}. '
            'Correct the prefix or remove it.'
        )


def check_stages(
    backbone: nn.Module, state: str, groups: list[dict[str, Any]]
) -> None:
    """Check that all of the backbone is frozen, or that all of it trains."""
    idle = [n for n, p in backbone.named_parameters() if not p.requires_grad]
    moving = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    name = type(backbone).__name__
    if state == 'frozen' and moving:
        slow = {
            id(p) for g in groups if not g.get('lr', 1) for p in g['params']
        }
        more = (
            ' A learning rate of 0 (lr_mult=0) freezes nothing: gradients '
            'are computed and statistics move.'
            if any(id(p) in slow for p in moving.values())
            else ''
        )
        stages = getattr(backbone, 'frozen_stages', None)
        if hasattr(backbone, 'num_stages') and stages is not None:
            raise ValueError(
                f'{KEY}.frozen_stages must cover all '
                f'{backbone.num_stages} stages of {name} in a frozen '
                f'config, got {stages}. Set frozen_stages='
                f'{backbone.num_stages}, {THAW}.{more}'
            )
        raise ValueError(
            f'{KEY} must be frozen from construction on, got '
            f'{len(moving)} trainable parameters in {name}, the first '
            f"is {next(iter(moving))}. Write type='FrozenBackbone', "
            f"backbone=dict(type='{name}', ...), {THAW}.{more}"
        )
    if state != 'frozen' and idle:
        raise ValueError(
            f'{KEY} must train every stage in a {state} config, got '
            f'{len(idle)} frozen parameters in {name}, the first is '
            f'{idle[0]}. Set frozen_stages=-1 or frozen=False, or use '
            'configs/frozen/.'
        )


def check_filled(
    backbone: nn.Module, config: Any, missing: list[str], key: str
) -> None:
    """Check that every tensor was loaded from a classifier, in any way.

    Args:
        backbone: The initialised backbone.
        config: Config from which it was built.
        missing: Tensors whose load was not recorded.
        key: Config key of the backbone's own class.
    """
    checkpoint = checkpoint_of(backbone)
    missing = find_unloaded(backbone, config, missing, checkpoint)
    if not missing:
        return
    name = type(backbone).__name__
    if not checkpoint:
        raise ValueError(
            f'{key}.init_cfg must name a classifier, or {name} must fill '
            f'itself, got None, which leaves {len(missing)} tensors random, '
            f"the first is {missing[0]}. Set init_cfg=dict(type='Pretrained', "
            'checkpoint=...), or use configs/scratch/.'
        )
    more = f' and {len(missing) - 5} more' if len(missing) > 5 else ''
    raise ValueError(
        f'{key}.init_cfg.checkpoint must fill every tensor of {name}, got '
        f'{checkpoint!r}, which leaves {len(missing)} random: '
        f'{", ".join(missing[:5])}{more}. Give the weights of that '
        'architecture.'
    )


def check_random(backbone: nn.Module, config: Any, key: str) -> None:
    """Check that a backbone from scratch does not load weights by itself."""
    share = loaded_fraction(backbone, config)
    if share > 0.5:  # not 0: position tables are equal under any seed
        raise ValueError(
            f'{key} must be random from scratch, got a '
            f'{type(backbone).__name__} that fills {share:.0%} of its weights '
            f'itself. Remove what names them, {THAW}.'
        )


def check_same(
    backbone: nn.Module, checkpoint: Mapping[str, Any], key: str
) -> None:
    """Check that a detector checkpoint has the same backbone, bit by bit."""
    own = backbone.state_dict()
    other = backbone_tensors(checkpoint.get('state_dict', checkpoint))
    differ = [
        name
        for name in other
        if name in own and digest(own[name]) != digest(other[name])
    ]
    if differ:
        raise ValueError(
            'load_from and resume must keep the classifier in a frozen run, '
            f'got a checkpoint whose backbone differs in {len(differ)} '
            f'tensors, the first is {differ[0]}. Set '
            f'{key}.init_cfg.checkpoint to the weights that it was trained '
            f'from, {THAW}.'
        )
