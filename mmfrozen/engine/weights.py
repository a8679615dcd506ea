"""Detect changes of the weights of a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..freezing import digest


@dataclass
class _Kept:
    """A tensor, its owner, and its state when it was recorded."""

    names: dict[str, Any]
    name: str
    tensor: Tensor
    version: int
    address: int
    digest: str


class WeightsWatch:
    """A record of the tensors of a module that detects changes.

    Args:
        module: The module; its parameters and buffers are recorded now.
    """

    def __init__(self, module: nn.Module) -> None:
        self._kept = [
            _Kept(
                names,
                name,
                tensor,
                tensor._version,
                tensor.data_ptr(),
                digest(tensor),
            )
            for child in module.modules()
            for names in (child._parameters, child._buffers)
            for name, tensor in names.items()
            if tensor is not None
        ]

    def is_stale(self) -> bool:
        """Return whether a tensor was replaced, moved or written to.

        Writing the same bits, as distributed wrappers do to buffers, is not a
        change. Writing through ``.data`` does not change the version and is
        missed, see :meth:`differs`.
        """
        for kept in self._kept:
            tensor = kept.tensor
            if (
                kept.names.get(kept.name) is not tensor
                or tensor.data_ptr() != kept.address
            ):
                return True
            if tensor._version != kept.version:
                if digest(tensor) != kept.digest:
                    return True
                kept.version = tensor._version
        return False

    def differs(self) -> bool:
        """Return whether the bits of any tensor have changed."""
        return any(digest(kept.tensor) != kept.digest for kept in self._kept)
