"""Trackers of live and saved storages during a training step; they need torch
only."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class StorageTracker(TorchDispatchMode):
    """Dispatch mode that tracks the bytes of all tensors that operators
    create.

    A storage counts once, however many tensors view it, from the operator that
    created it until nothing references it. Temporary workspace of operators
    and memory reserved by an allocator are not included.

        with StorageTracker() as tracker:
            tracker.follow(model.parameters())
            loss = model(images).sum()
            loss.backward()
        tracker.peak_bytes

    Attributes:
        label: Label of the tensors created next; set by the caller.
        current_bytes: Bytes alive now.
        peak_bytes: Maximum bytes alive after any operator.
        peak_parts: Bytes at the peak, by label.
        timeline: Bytes alive after each operator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.label = ''
        self.current_bytes = 0
        self.peak_bytes = 0
        self.peak_parts: dict[str, int] = {}
        self._parts: dict[str, int] = {}
        self.timeline: list[int] = []
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.record(out)
        return out

    def record(self, out: Any) -> None:
        """Track the result of an operator."""
        if isinstance(out, Tensor):
            self._follow(out)
        elif isinstance(out, (list, tuple)):
            for item in out:
                if isinstance(item, Tensor):
                    self._follow(item)
        else:
            return
        self._look()
        self.timeline.append(self.current_bytes)

    def follow(self, tensors: Iterable[Tensor]) -> None:
        """Track existing tensors."""
        for tensor in tensors:
            self._follow(tensor)
        self._look()

    def _look(self) -> None:
        if self.current_bytes > self.peak_bytes:
            self.peak_bytes = self.current_bytes
            self.peak_parts = dict(self._parts)

    def _follow(self, tensor: Tensor) -> None:
        if tensor.layout is not torch.strided:
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        nbytes, label = storage.nbytes(), self.label

        def die(reference: Any) -> None:
            del self._alive[key]
            self.current_bytes -= nbytes
            self._parts[label] -= nbytes

        self._alive[key] = weakref.ref(storage, die)
        self.current_bytes += nbytes
        self._parts[label] = self._parts.get(label, 0) + nbytes


class SavedBytes:
    """Context manager that sums up what autograd saves for the backward pass.

    Every storage counts once, under the first owner that saved it; tensors
    that exist anyway (parameters, buffers) are excluded.

        with SavedBytes(model.parameters()) as saved:
            loss = model(images).sum()
        saved.total_bytes

    Args:
        present: Tensors to exclude.
        owner: Function that returns the name of the running component; None
            to count everything under ``''``.

    Attributes:
        by_owner: Saved bytes by name of the component.
    """

    def __init__(
        self,
        present: Iterable[Tensor] = (),
        owner: Callable[[], str] | None = None,
    ) -> None:
        self.by_owner: Counter[str] = Counter()
        self._owner = owner or (lambda: '')
        self._seen = {t.untyped_storage()._cdata for t in present}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(
            self._pack, lambda tensor: tensor
        )
        #: Keeps saved storages alive until the forward pass ends, so that
        #: their addresses stay unique.
        self._kept: list[Any] = []

    @property
    def total_bytes(self) -> int:
        """Return the sum of the saved bytes."""
        return sum(self.by_owner.values())

    def __enter__(self) -> SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)
        self._kept.clear()

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._kept.append(storage)
            self.by_owner[self._owner()] += storage.nbytes()
        return tensor
