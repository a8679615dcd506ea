"""The classes that configs build."""

from __future__ import annotations

from typing import Any

#: Packages whose classes are known by their names.
KNOWN = {'mmcv', 'mmdet', 'mmengine', 'mmfrozen'}


def type_name(kind: Any) -> str:
    """Name a class, however a config's ``type`` writes it: ``'ResNet'``,
    ``'mmdet.ResNet'`` or the class itself; empty for anything else."""
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]


def find_type(kind: Any, registry: Any) -> Any:
    """Find what a registry would build for a config's ``type``; None if it
    would find nothing."""
    if not isinstance(kind, str):
        return kind
    try:
        with registry.switch_scope_and_registry(None) as current:
            return current.get(kind)
    except Exception:  # whatever a module raises that the type is in
        return None


def known_name(cls: Any) -> str:
    """Name a class of OpenMMLab's or of this package; empty for others,
    which may share a name with one of those, and nothing else."""
    package = str(getattr(cls, '__module__', '')).partition('.')[0]
    return type_name(cls) if package in KNOWN else ''
