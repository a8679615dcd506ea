"""Ask whether gradients are finite, without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

INFINITY = float('inf')


class Norms:
    """The largest magnitude of each tensor, read when it is asked for.

    On a GPU it is computed by a few kernels for all tensors and copied beside
    the work that follows, so that reading it later waits for nothing.

    Args:
        named: Tensors by name; none of them must be empty.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        self._names, tensors = [], []
        for name, tensor in named:
            self._names.append(name)
            tensors.append(tensor.detach())
        self._event: torch.cuda.Event | None = None
        if not tensors:
            self._values = torch.empty(0)
            return
        # of the largest: a sum of squares overflows where gradients do not
        norms = torch._foreach_norm(tensors, INFINITY)
        values = torch.stack([norm.float() for norm in norms])
        if values.is_cuda:
            pinned = torch.empty_like(values, device='cpu', pin_memory=True)
            self._values = pinned.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._values = values.cpu()

    def __len__(self) -> int:
        return len(self._names)

    def find_bad(self) -> list[str]:
        """Name what is not finite, the last registered first: gradients are
        computed in about that order."""
        if self._event:
            self._event.synchronize()
        found = (~torch.isfinite(self._values)).nonzero().flatten().tolist()
        return [self._names[i] for i in reversed(found)]


def gradient_norms(model: nn.Module) -> Norms:
    """Of all parameters that have a gradient."""
    return Norms(
        (name, p.grad)
        for name, p in model.named_parameters()
        if p.grad is not None and p.numel()
    )


class KeptBuffers:
    """What a forward pass moves besides gradients: running statistics of
    norms, and counts of losses. Frozen parts move none.

    Args:
        model: In training mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [
            (module, name, buffer.clone())
            for module in model.modules()
            if module.training
            for name, buffer in module.named_buffers(recurse=False)
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        """As they were."""
        for module, name, buffer in self._kept:
            getattr(module, name).copy_(buffer)


def find_bad_weights(model: nn.Module) -> list[str]:
    """Name trained parameters, and buffers of layers in training mode, that
    are not finite."""
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
