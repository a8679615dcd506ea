"""MMEngine file backends for atomic checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend

from ...atomic_write import write_bytes

BACKEND = 'mmfrozen.atomic'


@register_backend(BACKEND)
class AtomicBackend(LocalBackend):
    """Local file backend that writes atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file atomically."""
        write_bytes(filepath, obj)


class DeferredRemoval:
    """A proxy of a file backend that collects removals for later.

    Attributes:
        backend: The file backend.
        waiting: Function to call and path, for each removal.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.waiting: list[tuple[Any, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.waiting.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.waiting.append((self.backend.rmtree, path))
