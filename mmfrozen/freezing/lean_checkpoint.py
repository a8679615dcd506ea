"""Checkpoints without the frozen backbone, whose weights the classifier
provides."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import nn

from .inspection import digest
from .load_recorder import checkpoint_of

#: Key of the reference that replaces the backbone in a checkpoint.
REFERENCE = 'frozen_backbone'


def strip_backbone(checkpoint: dict[str, Any], backbone: nn.Module) -> None:
    """Replace the backbone's tensors in a checkpoint by a reference.

    Args:
        checkpoint: The checkpoint before it is written; its state dict and
            that of EMA are changed in place.
        backbone: The backbone; the caller has compared it with the state dict.
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


def restore_backbone(
    checkpoint: dict[str, Any], backbone: nn.Module, key: str
) -> None:
    """Replace the reference in a checkpoint by the backbone's tensors.

    Args:
        checkpoint: The loaded checkpoint; unchanged if it has no reference.
        backbone: The backbone, filled from its classifier.
        key: Config key of the backbone's own class.

    Raises:
        ValueError: If the checkpoint belongs to another classifier.
    """
    reference = checkpoint.get(REFERENCE)
    if reference is None:
        return
    if reference['digest'] != _digest(backbone):
        raise ValueError(
            'A checkpoint without its backbone (save_backbone=False) must be '
            'loaded with the classifier that it was trained on, got one of '
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
    """Return the name inside the backbone of a detector's tensor; None if it
    is outside."""
    bare = name.removeprefix('module.')
    is_own = bare.startswith('backbone.')
    return bare.removeprefix('backbone.') if is_own else None


def _digest(backbone: nn.Module) -> str:
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in backbone.state_dict().items():
        state.update(f'{name} {digest(tensor)}\n'.encode())
    return state.hexdigest()
