"""Import what is heavy and seldom used when it is first used."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Collection, Iterator
from typing import Any


class LateModule:
    """Stand in for a module until something of it is asked for.

    Args:
        name: Of the module.
        functions: Of it, that are asked for long before they are called.
    """

    def __init__(self, name: str, functions: Collection[str] = ()) -> None:
        self._name, self._functions = name, functions

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith('__'):  # Python's own questions
            raise AttributeError(attribute)
        if attribute not in self._functions:
            return self._find(attribute)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._find(attribute)(*args, **kwargs)

        return call

    def _find(self, attribute: str) -> Any:
        _take_away(self)
        return getattr(importlib.import_module(self._name), attribute)


@contextlib.contextmanager
def imported_late(
    name: str, functions: Collection[str] = ()
) -> Iterator[None]:
    """Give a stand-in to those who import a module meanwhile."""
    late = LateModule(name, functions)
    sys.modules.setdefault(name, late)  # type: ignore[arg-type]
    try:
        yield
    finally:
        _take_away(late)


def _take_away(late: LateModule) -> None:
    if sys.modules.get(late._name) is late:  # type: ignore[comparison-overlap]
        del sys.modules[late._name]
