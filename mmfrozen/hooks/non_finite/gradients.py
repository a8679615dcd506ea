"""Check whether gradients are finite, without synchronising."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Norms:
    """Norms of tensors, computed now and read later.

    On a GPU a few kernels compute the norms of all tensors, and an
    asynchronous copy overlaps with the work that follows, so that reading them
    later does not wait.

    Args:
        named: Tensors by name; none may be empty.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        self._names, self._tensors = [], []
        for name, tensor in named:
            self._names.append(name)
            self._tensors.append(tensor.detach())
        self._event: torch.cuda.Event | None = None
        self._values = torch.empty(0)
        if not self._tensors:
            return
        is_cuda = self._tensors[0].is_cuda
        # The 2-norm can overflow although all terms are finite, which find_bad
        # checks; on CPUs the maximum norm takes 20 times as long.
        order = float('inf') if is_cuda else 2.0
        norms = torch._foreach_norm(self._tensors, order)
        self._values = torch.stack([norm.float() for norm in norms])
        if is_cuda:
            self._tensors = []
            host = torch.empty_like(
                self._values, device='cpu', pin_memory=True
            )
            self._values = host.copy_(self._values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def find_bad(self) -> list[str]:
        """Return the names of non-finite tensors, the last registered first.

        This is about the order in which gradients are computed.
        """
        if self._event:
            self._event.synchronize()
        found = (~torch.isfinite(self._values)).nonzero().flatten().tolist()
        return [
            self._names[i]
            for i in reversed(found)
            if self._event or not torch.isfinite(self._tensors[i]).all()
        ]


def gradient_norms(model: nn.Module) -> Norms:
    """Compute the norms of all gradients of a model."""
    return Norms(
        (name, p.grad)
        for name, p in model.named_parameters()
        if p.grad is not None and p.numel()
    )


class BufferSnapshot:
    """A copy of the buffers that a forward pass updates.

    These are running statistics of norms, and counters in losses. Frozen parts
    update no buffers.

    Args:
        model: The model, in training mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [
            (module, name, buffer.clone())
            for module in model.modules()
            if module.training
            for name, buffer in module.named_buffers(recurse=False)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the buffers."""
        for module, name, buffer in self._kept:
            getattr(module, name).copy_(buffer)


def find_bad_weights(model: nn.Module) -> list[str]:
    """Return the names of non-finite trainable tensors.

    These are parameters that require grad, and buffers of layers in training
    mode.
    """
    parameters = [
        (name, p) for name, p in model.named_parameters() if p.requires_grad
    ]
    buffers = [
        (f'{prefix}.{name}', buffer)
        for prefix, module in model.named_modules()
        if module.training
        for name, buffer in module.named_buffers(recurse=False)
        if buffer.is_floating_point()
    ]
    tensors = [(n, t) for n, t in (*parameters, *buffers) if t.numel()]
    return Norms(tensors).find_bad()[::-1]
