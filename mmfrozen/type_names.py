"""Names of the classes that configs build."""

from __future__ import annotations

from typing import Any


def type_name(kind: Any) -> str:
    """Name a class, however a config's ``type`` writes it: ``'ResNet'``,
    ``'mmdet.ResNet'`` or the class itself; empty for anything else."""
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]
