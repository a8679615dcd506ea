"""Wording of errors: one line with requirement, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: object, known: Iterable[str], *, count: int = 1) -> str:
    """Suggest the nearest names to a misspelt one.

    Args:
        word: What came.
        known: What there is.
        count: How many names at the most.

    Returns:
        ``" (did you mean 'this' or 'that'?)"``, or nothing if none is near.
    """
    near = difflib.get_close_matches(str(word), list(known), n=count)
    if not near:
        return ''
    return f' (did you mean {" or ".join(map(repr, near))}?)'


def near_miss(word: str, known: Iterable[str]) -> str | None:
    """The known name of which a word is a slip of the finger: one letter
    lost, added, exchanged or out of order, two in names of ten letters."""
    allowed = 2 if len(word) >= 10 else 1
    found = [(_distance(word, name, allowed), name) for name in known]
    steps, name = min(found, default=(allowed + 1, ''))
    return name if 0 < steps <= allowed else None


def _distance(one: str, other: str, most: int) -> int:
    """Optimal string alignment distance; `most` + 1 if it is larger."""
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


def remedy_for(error: BaseException) -> str:
    """What to do about an error that a config or a class of others raised.

    It advises what fits the kind of error; upstream's own text stands
    beneath.
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
        return f'Give a path that is there in place of {error.filename}.'
    if 'pip install' in text:
        return 'Install what that text names.'
    return 'Correct the config as that text says.'


def require(
    holds: bool, where: str, what: str, got: object, remedy: str
) -> None:
    """Raise ``<where> must be <what>, got <got>. <remedy>``.

    Args:
        holds: Whether all is well.
        where: The option, as typed in a config.
        what: What it must be.
        got: Its value.
        remedy: What to do.

    Raises:
        ValueError: If it does not hold.
    """
    if not holds:
        raise ValueError(f'{where} must be {what}, got {got!r}. {remedy}')


def is_number(value: object) -> bool:
    """Whether a value is a real number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
