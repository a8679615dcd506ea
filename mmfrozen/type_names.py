"""Find and name the classes that configs refer to."""

from __future__ import annotations

from typing import Any

#: Packages whose classes can be identified by name.
KNOWN = {'mmcv', 'mmdet', 'mmengine', 'mmfrozen'}


def type_name(kind: Any) -> str:
    """Return the class name of a config's ``type``: ``'ResNet'``,
    ``'mmdet.ResNet'`` or the class itself; empty for anything else."""
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]


def find_type(kind: Any, registry: Any) -> Any:
    """Return what a registry would build for a config's ``type``; None if it
    has no such entry."""
    if not isinstance(kind, str):
        return kind
    try:
        with registry.switch_scope_and_registry(None) as current:
            return current.get(kind)
    except Exception:  # any error of the module of that type
        return None


def known_name(cls: Any) -> str:
    """Return the name of a class of OpenMMLab or this package.

    It is empty for classes of other packages, which may have the same name
    but differ in everything else.
    """
    package = str(getattr(cls, '__module__', '')).partition('.')[0]
    return type_name(cls) if package in KNOWN else ''
