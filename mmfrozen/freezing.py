"""Freeze modules, check that they are frozen, describe them: plain torch.

A frozen module satisfies the six meanings of "frozen" (docs/design.md): no
parameter requires grad, no running statistic moves, dropout and stochastic
depth are off, nothing is kept for a backward pass, the weights came from a
classifier, and they stay bitwise what they were.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from .records import ParameterCounts

# Absent from checkpoints written before torch 0.4.1; unused in evaluation.
OPTIONAL_BUFFER = 'num_batches_tracked'
# Dropout, DropPath, DropBlock, StochasticDepth, whoever wrote them.
RANDOM_LAYER = re.compile(r'drop|stochastic_?depth', re.IGNORECASE)


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """Take the place of ``module.train``: whatever is asked, evaluate."""
    type(module).train(module, False)
    return module


def keep_in_eval(module: nn.Module) -> None:
    """Put a module and all inside it in evaluation mode for good.

    ``train()`` of the module, of any parent and of any child no longer has
    an effect. Class, parameters and state-dict keys stay as they are;
    copies and pickles of the module are kept in evaluation mode too.
    """
    for child in module.modules():
        child.train = partial(_stay_in_eval, child)  # type: ignore[method-assign]
    module.eval()


def freeze(module: nn.Module) -> nn.Module:
    """Freeze a whole module on the spot.

    Args:
        module: Any module. It is changed in place.

    Returns:
        The same module: no parameter requires grad, and it evaluates even
        after ``train()``.
    """
    module.requires_grad_(False)
    keep_in_eval(module)
    return module


def freeze_norm(module: nn.Module) -> nn.Module:
    """Keep the running statistics of every norm layer in a module fixed.

    Scale and shift go on training. A norm layer is what tracks running
    statistics, whichever class it is (BN, SyncBN, third-party).

    Returns:
        The same module.
    """
    for child in module.modules():
        if hasattr(child, 'running_mean'):
            keep_in_eval(child)
    return module


def find_faults(
    module: nn.Module, optimizer_groups: Iterable[dict[str, Any]] = ()
) -> list[str]:
    """Say in which ways a module that should be frozen is not.

    Call it after ``train()`` of the whole model, as a training loop does.

    Args:
        module: The module that should be frozen.
        optimizer_groups: ``optimizer.param_groups`` of the run.

    Returns:
        One phrase a fault, such as ``'2 parameters require grad, the first
        is conv1.weight'``; empty when the module is frozen.
    """
    grads = [n for n, p in module.named_parameters() if p.requires_grad]
    owned = {id(p) for group in optimizer_groups for p in group['params']}
    groups = [n for n, p in module.named_parameters() if id(p) in owned]
    random, moving = [], []
    for name, child in module.named_modules():
        if not child.training:
            continue
        if RANDOM_LAYER.search(type(child).__name__):
            random.append(name)
        elif any(True for _ in child.buffers(recurse=False)):
            moving.append(name)
    found = [
        (grads, 'parameters require grad'),
        (groups, 'parameters are in the optimizer'),
        (
            moving,
            'layers with running statistics are in training mode',
        ),
        (random, 'dropout or stochastic depth layers are on'),
    ]
    return [
        f'{len(names)} {what}, the first is {names[0] or "the root"}'
        for names, what in found
        if names
    ]


def count_parameters(module: nn.Module) -> ParameterCounts:
    """Count all and the trainable parameters of a module."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return ParameterCounts(
        total=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
    )


def fingerprint(module: nn.Module) -> dict[str, str]:
    """Digest every parameter and buffer, bit for bit.

    Returns:
        Hexadecimal digests by tensor name, for :func:`changed_tensors`.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: digest(tensor) for name, tensor in tensors}


def digest(tensor: torch.Tensor) -> str:
    """Digest the bytes of a tensor, whatever its dtype and device."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    data = flat.numpy().tobytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def changed_tensors(
    before: dict[str, str], after: dict[str, str]
) -> list[str]:
    """Name the tensors that two fingerprints do not share."""
    return sorted(
        name
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    )


class LoadRecorder:
    """Records which tensors of a module are filled from state dicts.

    It sees every load that goes through a module's
    ``_load_from_state_dict``: torch's, mmengine's and the hosts' own.
    Tensors of another shape count as missing, since loaders skip them.
    """

    def __init__(self, module: nn.Module) -> None:
        self._loadable = {
            name
            for name in module.state_dict()
            if not name.endswith(OPTIONAL_BUFFER)
        }
        self._filled: set[str] = set()
        # public as register_load_state_dict_pre_hook only since torch 2.5
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
                and (source.shape == tensor.shape)
            ):
                self._filled.add(own + name)

    def stop(self) -> list[str]:
        """Stop recording and name the tensors that nothing has filled."""
        for handle in self._handles:
            handle.remove()
        return sorted(self._loadable - self._filled)
