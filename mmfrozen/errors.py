"""Helpers for error messages: one line with requirement, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: object, known: Iterable[str], *, count: int = 1) -> str:
    """Suggest the nearest names to a misspelt one.

    Args:
        word: The misspelt name.
        known: The valid names.
        count: Maximum number of suggestions.

    Returns:
        ``" (did you mean 'this' or 'that'?)"``; empty if none is near.
    """
    near = difflib.get_close_matches(str(word), list(known), n=count)
    if not near:
        return ''
    return f' (did you mean {" or ".join(map(repr, near))}?)'


def closest_match(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that a word misspells; None if there is none.

    One letter may be missing, added, replaced or swapped with the next; two
    if the word has ten letters or more. For a known name the result is None.
    """
    allowed = 2 if len(word) >= 10 else 1
    found = [(_distance(word, name, allowed), name) for name in known]
    steps, name = min(found, default=(allowed + 1, ''))
    return name if 0 < steps <= allowed else None


def _distance(one: str, other: str, most: int) -> int:
    """Return the optimal string alignment distance, at most `most` + 1."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one):
        last, row, before = before, [i + 1], row
        for j, b in enumerate(other):
            step = min(before[j + 1] + 1, row[j] + 1, before[j] + (a != b))
            if i and j and a == other[j - 1] and b == one[i - 1]:
                step = min(step, last[j - 1] + 1)
            row.append(step)
        if min(row) > most:
            return most + 1
    return row[-1]


def one_line(error: BaseException) -> str:
    """Return type and message of an error on one line, cut at 200
    characters, without a period."""
    text = ' '.join(f'{type(error).__name__}: {error}'.split()).rstrip(':.')
    return text if len(text) <= 200 else f'{text[:200]}...'


def remedy_for(error: BaseException) -> str:
    """Suggest a remedy for an error of a config or of third-party code.

    The suggestion follows the type of the error; "that text" in it is the
    original message, which is shown beneath.
    """
    text = str(error)
    if isinstance(error, ImportError):
        name = error.name or text.rpartition(' ')[2]
        return (
            f'Install {name}, or put the folder that holds it on PYTHONPATH.'
        )
    if isinstance(error, KeyError) and 'registry' in text:
        return (
            'Correct the type, or name the module that registers it in '
            'custom_imports and put its folder on PYTHONPATH.'
        )
    if isinstance(error, OSError) and error.filename:
        return f'Give an existing path in place of {error.filename}.'
    if 'pip install' in text:
        return 'Install the package that the message names.'
    return 'Correct the config as the message says.'


def require(
    holds: bool, where: str, what: str, got: object, remedy: str
) -> None:
    """Raise ``<where> must be <what>, got <got>. <remedy>``.

    Args:
        holds: Whether the requirement is met.
        where: The option, as typed in a config.
        what: The requirement.
        got: The value of the option.
        remedy: How to correct it.

    Raises:
        ValueError: If the requirement is not met.
    """
    if not holds:
        raise ValueError(f'{where} must be {what}, got {got!r}. {remedy}')


def check_count(
    where: str, value: object, least: int = 1, *, optional: bool = False
) -> None:
    """Refuse a value that is not an int of at least ``least``.

    Args:
        where: The option, as typed in a config.
        value: Its value.
        least: Smallest number that is allowed.
        optional: Whether None is allowed, too.

    Raises:
        ValueError: If the value is not allowed.
    """
    require(
        (optional and value is None)
        or (type(value) is int and value >= least),
        where,
        f'a whole number of at least {least}',
        value,
        'Correct it.',
    )


def is_number(value: object) -> bool:
    """Return whether a value is an int or a float, and not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
