"""A tracker of how far a forward pass gets before it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._pytree import tree_flatten

#: Name for the losses, which a failed forward pass always lacks.
LOSSES = 'losses'


class Progress:
    """Tracker of the parameters read and the module outputs in a forward pass.

    Outputs are held until the enclosing module returns: when a module fails,
    the outputs of everything that completed before are left.

    Attributes:
        failure: Where and why it failed; None if it has not.
    """

    def __init__(self) -> None:
        self.failure: str | None = None
        self._read: set[int] = set()
        self._outputs: list[Tensor] = []
        self._starts: list[int] = []

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Track all modules that run inside."""
        handles = (
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def record(self, func: Any, args: Any, out: Any) -> None:
        """Record the tensors that an operator reads."""
        self._read.update(map(id, tree_flatten(args)[0]))

    def loss(self) -> Tensor | None:
        """Return the sum of the completed outputs, as a loss to go backward
        from; None if none of them requires grad."""
        sums = [output.float().sum() for output in self._outputs]
        self._outputs.clear()
        return sum(sums[1:], sums[0]) if sums else None

    def left_out(
        self, model: nn.Module, name: Callable[[str], str]
    ) -> list[str]:
        """Return the components that did not run, or not completely.

        Args:
            model: The model that ran.
            name: Function from a parameter's name to its component's name.
        """
        if self.failure is None:
            return []
        found: Counter[str] = Counter()
        read: Counter[str] = Counter()
        for path, parameter in model.named_parameters():
            found[name(path)] += 1
            read[name(path)] += id(parameter) in self._read
        return [
            f'part of {part}' if read[part] else part
            for part in found
            if read[part] < found[part]
        ] + [LOSSES]

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._starts.append(len(self._outputs))

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        del self._outputs[self._starts.pop() :]
        self._outputs += [
            value
            for value in tree_flatten(out)[0]
            if isinstance(value, Tensor) and value.requires_grad
        ]
