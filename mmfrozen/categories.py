"""Map class names to the categories of an annotation file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from .errors import did_you_mean

#: Placeholder id of a class that is not a category of the file.
ABSENT = -(2**63)


def ids_of_classes(
    classes: Sequence[str],
    ids: Sequence[int],
    names: Sequence[str],
    source: str,
    *,
    allow_missing: bool = False,
) -> list[int]:
    """Return the category id of each label, found by its class name.

    Args:
        classes: Class names in the order of the labels.
        ids: Category ids in the order of the file.
        names: Category names in the same order.
        source: Path of the file, for messages.
        allow_missing: Return :data:`ABSENT` for a class that is not a
            category. A class that is spelt nearly like a category still
            raises, and so does a file that has none of the classes.

    Raises:
        ValueError: If a class does not match exactly one category.
    """
    wanted = set(classes)
    twice = next((c for c in wanted if list(classes).count(c) > 1), None)
    if twice is not None:
        raise ValueError(
            f'metainfo.classes must differ from one another, got {twice!r} '
            'more than once. List each class once.'
        )
    found: dict[str, int] = {}
    for number, name in zip(ids, names, strict=True):
        if name in wanted and name in found:
            raise ValueError(
                f'A class must be one category of {source!r}, got {name!r} '
                f'with the ids {found[name]} and {number}. Rename or remove '
                'the one that annotations do not have.'
            )
        found[name] = number
    missing = [c for c in classes if c not in found]
    if missing and allow_missing and len(missing) < len(classes):
        known = [n for n in names if n not in wanted]
        near = [c for c in missing if any(same_name(c, n) for n in known)]
        missing = near
    if missing:
        refuse_classes(missing, names, source)
    return [found.get(c, ABSENT) for c in classes]


def check_positions(
    classes: Sequence[str], names: Sequence[str], source: str
) -> None:
    """Refuse classes that differ from the categories at the same positions.

    Small differences in spelling are accepted: LVIS has stero_equipment,
    mmdet stereo_equipment.

    Raises:
        ValueError: If a class differs; the first one is named.
    """
    wrong = [
        c for c, n in zip(classes, names, strict=False) if not same_name(c, n)
    ]
    wrong += classes[len(names) :] or names[len(classes) :]
    if wrong:
        refuse_classes(wrong, names, source)


def check_order(
    classes: Sequence[str], names: Sequence[str], source: str
) -> None:
    """Refuse classes in another order than the categories of a file.

    Raises:
        ValueError: If the orders differ; both are shown.
    """
    wanted = set(classes)
    listed = [name for name in names if name in wanted]
    if listed != list(classes):
        raise ValueError(
            'Labels must mean the same to the data set and in the file, got '
            f'classes {_abbreviate(classes)} where {source!r} lists '
            f"{_abbreviate(listed)}, whose order MMDetection's data sets "
            "follow. Use type='CheckedCocoDataset', which matches classes by "
            'name, or list the classes in that order.'
        )


def same_name(a: str, b: str) -> bool:
    """Return whether two names are equal or nearly so (a typo)."""
    return a == b or difflib.SequenceMatcher(None, a, b).ratio() > 0.9


def refuse_classes(
    wrong: Sequence[str], names: Sequence[str], source: str
) -> None:
    """Refuse classes that are not categories of a file.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f'metainfo.classes must be categories of {source!r}, got {len(wrong)} '
        f'that are not, the first is {wrong[0]!r}'
        f'{did_you_mean(wrong[0], names)}. Use the names of that file.'
    )


def _abbreviate(names: Sequence[str]) -> str:
    more = ', ...' if len(names) > 6 else ''
    return f'({", ".join(map(repr, names[:6]))}{more})'
