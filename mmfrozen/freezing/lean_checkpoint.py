"""Checkpoints without their frozen backbone, which the classifier has."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import nn

from .inspection import digest
from .load_recorder import checkpoint_of

#: Of a checkpoint that refers to its backbone.
REFERENCE = 'frozen_backbone'


def take_out(checkpoint: dict[str, Any], backbone: nn.Module) -> None:
    """Put a reference in the place of the backbone's tensors.

    Args:
        checkpoint: Before it is written; its state dict, and that of EMA.
        backbone: Compared with the state dict before.
    """
    names = {}
    for part in ('state_dict', 'ema_state_dict'):
        state = checkpoint.get(part, {})
        names[part] = [n for n in state if _inside(n) is not None]
        for name in names[part]:
            del state[name]
    checkpoint[REFERENCE] = dict(
        digest=_digest(backbone),
        classifier=checkpoint_of(backbone),
        names=names,
    )


def put_back(
    checkpoint: dict[str, Any], backbone: nn.Module, key: str
) -> None:
    """Put the tensors of an initialised backbone where the reference is.

    Args:
        checkpoint: That was read; one with its backbone stays as it is.
        backbone: Filled from its classifier.
        key: Where the config of the backbone's class is.

    Raises:
        ValueError: If the checkpoint belongs to another classifier.
    """
    reference = checkpoint.get(REFERENCE)
    if reference is None:
        return
    if reference['digest'] != _digest(backbone):
        raise ValueError(
            'A checkpoint without its backbone (save_backbone=False) must '
            'meet the classifier that it was trained on, got one of '
            f'{reference["classifier"]!r} with digest {reference["digest"]}, '
            f'and a backbone of {checkpoint_of(backbone)!r} with '
            f'{_digest(backbone)}. Name that classifier as '
            f'{key}.init_cfg.checkpoint.'
        )
    own = backbone.state_dict()
    for part, names in reference['names'].items():
        for name in names:
            checkpoint[part][name] = own[_inside(name) or name].cpu()


def _inside(name: str) -> str | None:
    """The name inside the backbone, of a tensor of the whole detector."""
    bare = name.removeprefix('module.')
    is_own = bare.startswith('backbone.')
    return bare.removeprefix('backbone.') if is_own else None


def _digest(backbone: nn.Module) -> str:
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in backbone.state_dict().items():
        state.update(f'{name} {digest(tensor)}\n'.encode())
    return state.hexdigest()
