"""Notice that the weights of a module are no longer what they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..freezing import digest


@dataclass
class _Kept:
    """A tensor, where it is kept, and what it was."""

    names: dict[str, Any]
    name: str
    tensor: Tensor
    version: int
    address: int
    digest: str


class WeightsWatch:
    """Remembers the tensors of a module.

    Args:
        module: Its parameters and buffers as they are now.
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
        """Whether a tensor was exchanged, moved or written to.

        What was written with the same bits, as distributed wrappers write
        buffers, is no change. What is written through ``.data`` has the
        version that it had, see :meth:`differs`.
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
        """Whether the bits of a tensor are others."""
        return any(digest(kept.tensor) != kept.digest for kept in self._kept)
