"""Check options of classes and functions against their signatures."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import did_you_mean

T = TypeVar('T', bound=Callable[..., Any])

EMPTY = inspect.Parameter.empty
#: Types of values in a config file; values of other types are not checked.
PLAIN = (type(None), bool, int, float, str, dict, list, tuple)


@dataclass(frozen=True)
class Option:
    """An option of a class or function, from its signature.

    Attributes:
        hint: Its annotation; ``EMPTY`` if there is none.
        default: Its default; ``EMPTY`` if there is none.
    """

    hint: Any
    default: Any


@functools.cache
def options_of(target: Any) -> tuple[dict[str, Option], bool]:
    """Return the options of a class or function.

    With ``**kwargs``, options of all parent classes are included, since some
    constructors skip their parent's.

    Returns:
        The options by name, and whether no others are accepted.
    """
    options: dict[str, Option] = {}
    is_whole = True
    for function, skipped in _constructors(target):
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # written in C
            return options, False
        hints = getattr(function, '__annotations__', {})
        scope = vars(sys.modules.get(function.__module__, types))
        for one in parameters[skipped:]:
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                hint = _evaluate(hints.get(one.name, EMPTY), scope)
                options.setdefault(one.name, Option(hint, one.default))
        if is_whole and not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return options, True
        is_whole = False
    return options, is_whole


def _constructors(target: Any) -> list[tuple[Callable[..., Any], int]]:
    """Return the constructors of a class and its parents, or the function
    itself, each with the number of first parameters that are no options."""
    if not isinstance(target, type):
        return [(inspect.unwrap(target), 0)]
    own = [vars(cls).get('__init__') for cls in target.__mro__[:-1]]
    return [(inspect.unwrap(init), 1) for init in own if init]


def _evaluate(hint: Any, scope: dict[str, Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, dict(scope))  # from an imported module's source
    except Exception:  # a name imported for type checkers only
        return EMPTY


def fits(value: Any, hint: Any, *, lenient: bool = False) -> bool:
    """Return whether a value fits a type annotation; True if undecidable.

    Args:
        value: The value of an option.
        hint: The annotation.
        lenient: Read annotations as MMDetection uses them: ``int`` for any
            number or flag, ``dict`` also for a list of dicts.
    """
    if not isinstance(value, PLAIN) or hint in (Any, EMPTY):
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one, lenient=lenient) for one in args)
    if origin is typing.Literal:
        return value in args
    if origin is typing.Annotated:
        return fits(value, args[0], lenient=lenient)
    kind = origin or hint
    if kind in (None, type(None)):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        if lenient:
            return isinstance(value, (int, float))
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is str:
        return isinstance(value, str)
    if not isinstance(kind, type):
        return True
    if issubclass(kind, (list, tuple, collections.abc.Sequence)):
        return isinstance(value, (list, tuple)) and _items_fit(
            value, kind, args, lenient
        )
    if issubclass(kind, (dict, collections.abc.Mapping)):
        return isinstance(value, (dict, list, tuple) if lenient else dict)
    return isinstance(value, kind) or (
        isinstance(value, str) and issubclass(kind, os.PathLike)
    )


def _items_fit(
    value: Any, kind: type, args: tuple[Any, ...], lenient: bool
) -> bool:
    """Return whether the items of a sequence fit its annotation; a list is
    accepted as a tuple."""
    if issubclass(kind, tuple) and len(args) > 1 and args[1] is not ...:
        hints = args
    else:
        hints = (args[0] if args else Any,) * len(value)
    return len(value) == len(hints) and all(
        fits(item, one, lenient=lenient)
        for item, one in zip(value, hints, strict=True)
    )


def describe_hint(hint: Any) -> str:
    """Return a type annotation in words, for messages."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return ' or '.join(
            dict.fromkeys(map(describe_hint, typing.get_args(hint)))
        )
    kind = typing.get_origin(hint) or hint
    words = {
        type(None): 'None',
        None: 'None',
        bool: 'True or False',
        int: 'a whole number',
        float: 'a number',
        str: 'a text',
    }
    if kind is typing.Literal:
        return ' or '.join(map(repr, typing.get_args(hint)))
    if kind in words:
        return words[kind]
    if not isinstance(kind, type):
        return str(kind).rpartition('.')[2]
    if issubclass(kind, (list, tuple, collections.abc.Sequence)):
        args = [a for a in typing.get_args(hint) if a is not ...]
        items = list(dict.fromkeys(map(describe_hint, args)))
        several = len(args) if issubclass(kind, tuple) and len(args) > 1 else 0
        of = f' of {" and ".join(items)}' if items else ''
        return f'a list{of}' + (f' ({several} items)' if several else '')
    if issubclass(kind, (dict, collections.abc.Mapping)):
        return 'a dict'
    return kind.__name__


def check_options(target: T) -> T:
    """Make a class or function refuse unknown options, with the nearest name.

    Python's own message lists no valid options and, before 3.13, suggests
    none. Nothing is checked if ``**kwargs`` forwards options.
    """
    known, is_whole = options_of(target)
    call: Any = target.__init__ if isinstance(target, type) else target
    if not is_whole:
        return target

    @functools.wraps(call)
    def checked(*args: Any, **options: Any) -> Any:
        for name in options:
            if name not in known:
                raise TypeError(
                    f'{target.__name__} must be given options that it has, '
                    f'got {name!r}{did_you_mean(name, known)}. It has '
                    f'{", ".join(known) or "none"}.'
                )
        return call(*args, **options)

    if not isinstance(target, type):
        return typing.cast(T, checked)
    target.__init__ = checked  # type: ignore[misc]
    return target
