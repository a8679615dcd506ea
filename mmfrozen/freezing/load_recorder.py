"""A recorder of which tensors of a module were loaded from a file; needs torch
only."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from torch import nn

from ..type_names import type_name

# Norms that a class adds to its outputs and that a classifier may lack (norm0
# to norm2 of Swin and of mmpretrain's ConvNeXt): with scale 1 and shift 0 they
# only normalise, and the neck's first convolution can express any other scale
# and shift.
OUTPUT_NORM = re.compile(r'(out_?)?norms?[_.]?\d+\.(weight|bias)')


def is_output_norm(name: str) -> bool:
    """Return whether a backbone's tensor is named like an output norm's."""
    return OUTPUT_NORM.fullmatch(name) is not None


class LoadRecorder:
    """Recorder of which tensors of a module are filled from state dicts.

    It records every load that goes through a module's
    ``_load_from_state_dict``: torch's, mmengine's and the backbones' own.
    Tensors of another shape count as missing, since loaders skip them.

    Three kinds of tensors need no source: integer buffers (counters, and index
    tables such as Swin's ``relative_position_index``), buffers that a layer
    computes while it loads (the standardisation of DetectoRS's convolutions),
    and output norms that are the identity.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._before = {
            name: tensor.clone()
            for name, tensor in module.named_buffers()
            if tensor.is_floating_point()
        }
        parameters = dict(module.named_parameters())
        self._loadable = {
            name
            for name in module.state_dict()
            if name in parameters or name in self._before
        }
        self._filled: set[str] = set()
        # register_load_state_dict_pre_hook is public only since torch 2.5
        self._handles = [
            child._register_load_state_dict_pre_hook(
                partial(self._record, f'{name}.' if name else '', child)
            )
            for name, child in module.named_modules()
        ]

    def _record(
        self,
        own: str,
        child: nn.Module,
        state_dict: dict[str, torch.Tensor],
        prefix: str,
        *_: Any,
    ) -> None:
        tensors = {**child._parameters, **child._buffers}
        for name, tensor in tensors.items():
            source = state_dict.get(prefix + name)
            if (
                tensor is not None
                and source is not None
                and source.shape == tensor.shape
            ):
                self._filled.add(own + name)

    def stop(self) -> list[str]:
        """Stop recording and return the names of tensors that were not
        loaded."""
        for handle in self._handles:
            handle.remove()
        now = self._module.state_dict()
        return sorted(
            name
            for name in self._loadable - self._filled
            if not self._is_computed(name, now[name])
            and not self._is_identity(name, now[name])
        )

    def _is_computed(self, name: str, tensor: torch.Tensor) -> bool:
        before = self._before.get(name)
        return before is not None and not torch.equal(
            before, tensor.to(before.device)
        )

    def _is_identity(self, name: str, tensor: torch.Tensor) -> bool:
        if not is_output_norm(name):
            return False
        norm = self._module.get_submodule(name.rpartition('.')[0])
        if getattr(norm, 'running_mean', None) is not None:
            return False  # default statistics do not normalise
        value = 1.0 if name.endswith('weight') else 0.0
        return bool((tensor == value).all())


def is_pretrained(init_cfg: dict[str, Any]) -> bool:
    """Return whether an ``init_cfg`` loads a checkpoint: ``'Pretrained'``,
    with or without a scope, or MMEngine's class ``PretrainedInit``."""
    name = type_name(init_cfg.get('type', 'Pretrained'))
    return name in ('Pretrained', 'PretrainedInit')


def checkpoint_of(module: nn.Module) -> str | None:
    """Return the checkpoint that a module's config loads; None without one.

    It is in ``init_cfg``, or in ``pretrained`` if the class stores it there
    (DetectoRS always does).
    """
    init_cfg = getattr(module, 'init_cfg', None)
    for cfg in init_cfg if isinstance(init_cfg, list) else [init_cfg]:
        # PVT's configs leave the type out
        if isinstance(cfg, dict) and is_pretrained(cfg):
            return cfg.get('checkpoint')
    pretrained = getattr(module, 'pretrained', None)
    return pretrained if isinstance(pretrained, str) else None
