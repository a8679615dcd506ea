"""Find keys of a config that nothing reads, and values that cannot be."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import did_you_mean
from ..options import EMPTY, Option, fits, options_of, wording
from ..type_names import find_type, known_name
from .places import EXTRA, REGISTRIES, TOP, Registries, known_keys
from .ranges import RANGES

ALWAYS = {'type', '_scope_', '_delete_'}
#: How alike two names are of which one is the other misspelt.
ALIKE = 0.75
ANYTHING = Option(EMPTY, EMPTY)


def check_config(cfg: Mapping[str, Any]) -> list[str]:
    """Check a config of MMDetection before anything is built from it.

    What MMDetection lacks: misspelt keys at the top and in dicts without a
    type are ignored; others end in the middle of a build, in a line that does
    not say where in the config, or in the first step. A key is refused if its
    class does not take it, or if nothing reads it and it is the near miss of
    a key that is read; a value is refused if it is not of the annotated kind,
    or out of the range that its name has everywhere. Classes of others are
    judged by their signatures alone.

    Args:
        cfg: The config, resolved.

    Returns:
        Warnings: top-level keys that look misspelt, where the key that may be
        meant is there too. Configs may have variables of their own.

    Raises:
        ValueError: At the first fault, with the key's path.
    """
    for fault in faults(cfg):
        raise fault
    return [
        f'{key} is read by nothing, got {cfg[key]!r:.60}. Did you mean '
        f'{meant!r}? Rename it if it is a variable of your own.'
        for key, meant in _near_misses(cfg, TOP)
    ]


def faults(cfg: Mapping[str, Any]) -> Iterator[ValueError]:
    """All faults of a config, from the outside to the inside."""
    for key, meant in _near_misses(cfg, TOP):
        if meant not in cfg:
            yield _unknown(key, cfg[key], 'a key that is read', [meant])
    for key, value in cfg.items():
        if key in TOP:
            places = REGISTRIES.get(key, {})
            yield from _faults(key, value, places, places.get('', ()))


def _near_misses(
    names: Iterable[str], known: Iterable[str]
) -> Iterator[tuple[str, str]]:
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1, ALIKE)
            if near:
                yield name, near[0]


def _unknown(
    path: str, value: Any, what: str, known: Iterable[str]
) -> ValueError:
    known = [name for name in known if name not in ALWAYS]
    name = path.rpartition('.')[2]
    return ValueError(
        f'{path} must be {what}, got {name!r} ({value!r:.60})'
        f'{did_you_mean(name, known)}. Correct or remove it; there is '
        f'{", ".join(known)}.'
    )


def _faults(
    path: str,
    value: Any,
    places: Mapping[str, Registries],
    registries: Registries,
) -> Iterator[ValueError]:
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _faults(f'{path}.{i}', item, places, registries)
    if not isinstance(value, Mapping):
        return
    if value.get('type') is not None and registries:
        yield from _typed_faults(path, value, registries)
    else:
        known = known_keys(path)
        for key, meant in _near_misses(value, known or ()):
            yield _unknown(
                f'{path}.{key}', value[key], 'a key that is read', known or ()
            )
        for key in value:
            if known and key in known:
                yield from _range_faults(f'{path}.{key}', key, value[key])
    for key, item in value.items():
        yield from _faults(
            f'{path}.{key}', item, places, places.get(key, registries)
        )


def _typed_faults(
    path: str, value: Mapping[str, Any], registries: Registries
) -> Iterator[ValueError]:
    kind = value['type']
    found = ((find_type(kind, r), r) for r in registries)
    target, registry = next((f for f in found if f[0]), (None, registries[0]))
    if target is None:
        names = [n for r in registries for n in _names(r)]
        yield ValueError(
            f'{path}.type must be a registered class, got {kind!r}'
            f'{did_you_mean(str(kind).rpartition(".")[2], names)}. Correct it, '
            'or name the module that registers it in custom_imports.'
        )
        return
    options, is_whole = options_of(target)
    extra = EXTRA.get(registry.name, set()) | ALWAYS
    named = {k: v for k, v in value.items() if k not in extra}
    wrong = (
        (k for k in named if k not in options)
        if is_whole
        else (k for k, _ in _near_misses(named, options))
    )
    for key in wrong:
        what = f'an option of {target.__name__}'
        yield _unknown(f'{path}.{key}', value[key], what, options)
    package = target.__module__.partition('.')[0]
    is_judged = known_name(target) or package == 'torch'
    for key, item in value.items():
        if key in ALWAYS:
            continue
        option = options.get(key, ANYTHING)
        if not _is_kind(item, option, is_loose=package != 'mmfrozen'):
            yield ValueError(
                f'{path}.{key} must be {wording(_kind(option))}, got '
                f'{item!r}. Correct it.'
            )
        elif is_judged and not (item is None and option.default is None):
            yield from _range_faults(f'{path}.{key}', key, item)


def _names(registry: Any) -> Iterator[str]:
    while registry is not None:
        yield from registry.module_dict
        registry = registry.parent


def _is_kind(value: Any, option: Option, *, is_loose: bool) -> bool:
    if value is None and option.default is None:
        return True
    return fits(value, _kind(option), is_loose=is_loose)


def _kind(option: Option) -> Any:
    """The annotation, or what the default is where there is none."""
    if option.hint is not EMPTY:
        return option.hint
    for kind in (bool, int, float, str, tuple, list):
        if isinstance(option.default, kind):
            return {int: float, tuple: list}.get(kind, kind)
    return EMPTY


def _range_faults(path: str, key: str, value: Any) -> Iterator[ValueError]:
    rule = RANGES.get(key)
    if isinstance(value, float) and math.isnan(value):
        yield ValueError(f'{path} must be a number, got nan. Correct it.')
    elif rule is not None and not rule.holds(value):
        yield ValueError(
            f'{path} must be {rule.words}, got {value!r}. Correct it.'
        )
