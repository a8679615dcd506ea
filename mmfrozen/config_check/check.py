"""This module finds keys of a config that nothing reads and values that are
not valid, which MMDetection ignores or reports late."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.runner import Runner

from ..errors import closest_match, did_you_mean
from ..options import EMPTY, PLAIN, Option, describe_hint, fits, options_of
from ..type_names import find_type, known_name
from .detector import detector_faults
from .pipelines import pipeline_faults
from .places import (
    EXTRA,
    FILLED,
    LISTS,
    REGISTRIES,
    REMOVABLE,
    TOP,
    TYPED,
    Registries,
    known_keys,
)
from .ranges import RANGES, SECTION

ALWAYS = {'type', '_scope_', '_delete_'}
#: Options whose type annotation is wrong in MMDetection.
UNTRUE = {
    'in_channels',
    'init_cfg',
    'l2_norm_scale',
    'neck',
    'pad_val',
    'pipeline',
    'ratios',
    'reid',
}
ANYTHING = Option(EMPTY, EMPTY)


def check_config(cfg: Mapping[str, Any]) -> list[str]:
    """Check a config of MMDetection before anything is built from it.

    MMDetection ignores misspelt keys at the top level and in dicts without a
    type. Others fail during the build, without their place in the config, or
    in the first step. This check refuses a key if its class does not accept
    it, or if nothing reads it and it resembles a key that is read. It refuses
    a value if it is not of the annotated type, or outside the range that
    options of that name have in all classes. Classes of other packages are
    judged by their signatures alone.

    Args:
        cfg: The config, with its bases merged.

    Returns:
        One warning for each top-level key that looks misspelt but has a value
        that the key it resembles cannot have. It may be a variable of the
        config.

    Raises:
        ValueError: At the first fault, with the key's path.
    """
    for fault in faults(cfg):
        raise fault
    return [
        f'{key} is read by nothing, got {cfg[key]!r:.60}. Did you mean '
        f'{meant!r}? Rename it if it is a variable of your own.'
        for key, meant in _slips(cfg)
    ]


def faults(cfg: Mapping[str, Any]) -> Iterator[ValueError]:
    """Yield all faults of a config, outer levels first."""
    options, _ = options_of(Runner)
    for key, meant in _slips(cfg):
        if meant not in cfg or _is_kind(
            cfg[key], options.get(meant, ANYTHING), True, True
        ):
            what = 'a key that is read, or a variable named unlike one'
            yield _unknown(key, cfg[key], what, [meant])
    for key, value in cfg.items():
        if key not in TOP:
            continue
        option = options.get(key, ANYTHING)
        if not _is_kind(value, option, True, True):
            yield _wrong_kind(key, value, option)
            continue
        yield from _value_faults(key, key, value)
        if key in FILLED and value == {}:
            yield ValueError(
                f'{key} must be a dict with something in it, got {value!r}. '
                'Fill it, or leave it out.'
            )
        places = REGISTRIES.get(key, {})
        yield from _faults(key, value, places, places.get('', ()))
    yield from detector_faults(cfg)
    yield from pipeline_faults(cfg)


def _slips(cfg: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield top-level keys that look misspelt, with the key they resemble.

    Variables are no misspelt keys: names such as `model2`, and values that
    occur inside another key.
    """
    for key, meant in _near_misses(cfg, TOP):
        bare = ''.join(c for c in key if not c.isdigit())
        if bare != meant and not any(
            _holds(cfg[name], cfg[key]) for name in TOP.intersection(cfg)
        ):
            yield key, meant


def _holds(value: Any, part: Any) -> bool:
    """Return whether a non-empty list or dict occurs inside a value."""
    if not isinstance(part, (Mapping, list, tuple)) or not part:
        return False
    if isinstance(value, Mapping):
        inside = list(value.values())
    else:
        inside = list(value) if isinstance(value, (list, tuple)) else []
    return any(one == part or _holds(one, part) for one in inside)


def _near_misses(
    names: Iterable[str], known: Iterable[str]
) -> Iterator[tuple[str, str]]:
    known = set(known)
    for name in names:
        meant = closest_match(name, known) if name not in known else None
        if meant:
            yield name, meant


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


def _wrong_kind(path: str, value: Any, option: Option) -> ValueError:
    return ValueError(
        f'{path} must be {describe_hint(_kind(option))}, got {value!r:.80}. '
        'Correct it.'
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
    if '_scope_' in value:
        yield from _value_faults(
            f'{path}._scope_', '_scope_', value['_scope_']
        )
    if value.get('type') is not None and registries:
        yield from _typed_faults(path, value, registries)
    else:
        known = known_keys(path)
        for key, _ in _near_misses(value, known):
            what = 'a key that is read'
            yield _unknown(f'{path}.{key}', value[key], what, known)
        for key in (key for key in known if key in value):
            yield from _value_faults(f'{path}.{key}', key, value[key])
    if path == 'default_hooks':
        for key, hook in value.items():
            is_left_out = hook is None and key in REMOVABLE
            if not is_left_out and not _has_type(hook, False):
                yield _not_typed(f'{path}.{key}', hook)
    for key, item in value.items():
        yield from _faults(
            f'{path}.{key}', item, places, places.get(key, registries)
        )


def _not_typed(path: str, value: Any) -> ValueError:
    return ValueError(
        f'{path} must be a dict with a type, got {value!r:.80}. Correct it.'
    )


def _has_type(value: Any, may_be_list: bool) -> bool:
    is_list = may_be_list and isinstance(value, (list, tuple)) and value
    items = value if is_list else [value]
    return all(
        not isinstance(item, PLAIN)
        or (isinstance(item, Mapping) and item.get('type') is not None)
        for item in items
    )


def _typed_faults(
    path: str, value: Mapping[str, Any], registries: Registries
) -> Iterator[ValueError]:
    kind = value['type']
    found = ((find_type(kind, r), r) for r in registries)
    target, registry = next((f for f in found if f[0]), (None, registries[0]))
    if target is None:
        yield from _type_faults(f'{path}.type', str(kind), registries)
        return
    package = target.__module__.partition('.')[0]
    is_ours = package == 'mmfrozen'
    options, is_whole = options_of(target)
    extra = EXTRA.get(registry.name, set()) | ALWAYS
    given = {k: v for k, v in value.items() if k not in ALWAYS}
    for key, item in given.items():
        at, option = f'{path}.{key}', options.get(key, ANYTHING)
        if key in extra:
            yield from _value_faults(at, key, item)
            continue
        if option is ANYTHING:
            # some classes remove further keys before they call this
            # signature; if not, Python refuses the key in the build
            if (is_ours and is_whole) or closest_match(
                key, [*options, *extra]
            ):
                yield _unknown(at, item, f'an option of {kind}', options)
        elif not _is_kind(item, option, is_ours or key not in UNTRUE, is_ours):
            yield _wrong_kind(at, item, option)
        elif (known_name(target) or package == 'torch') and (
            item is not None or not fits(item, option.hint)
        ):
            yield from _value_faults(at, key, item)


def _type_faults(
    path: str, kind: str, registries: Registries
) -> Iterator[ValueError]:
    """Yield the fault of a type that is in no registry.

    Types that resemble no registered class are left to MMEngine in models and
    transforms, where nested dicts may have types of other registries.
    """
    scope, _, name = kind.rpartition('.')
    scopes = registries[0].root.children
    names = [n for r in registries for n in _names(r)]
    if scope and scope not in scopes:
        meant = did_you_mean(scope, scopes)
    elif (
        registries[0].name in ('model', 'transform')
        and not path.endswith(('norm_cfg.type', 'act_cfg.type'))
        and not (len(name) > 4 and closest_match(name, names))
    ):
        return  # such as in heads and Albu
    else:
        meant = did_you_mean(name, names)
    yield ValueError(
        f'{path} must be a registered class, got {kind!r}{meant}. Correct it, '
        'or name the module that registers it in custom_imports.'
    )


def _names(registry: Any) -> Iterator[str]:
    while registry is not None:
        yield from registry.module_dict
        registry = registry.parent


def _is_kind(
    value: Any, option: Option, is_true: bool, is_strict: bool
) -> bool:
    if not is_true or (value is None and option.default is None):
        return True
    return fits(value, _kind(option), lenient=not is_strict)


def _kind(option: Option) -> Any:
    """Return an option's annotation, or else the type of its default."""
    if option.hint is not EMPTY:
        return option.hint
    for kind in (bool, int, float, str, tuple, list):
        if isinstance(option.default, kind):
            return {int: float, tuple: list}.get(kind, kind)
    return EMPTY


def _value_faults(path: str, key: str, value: Any) -> Iterator[ValueError]:
    """Yield the fault of a value that no option of this name can have."""
    rule = RANGES.get(key)
    if value is None and (key in TYPED or rule is SECTION):
        return
    if key in TYPED and not _has_type(value, key in LISTS):
        yield _not_typed(path, value)
    elif isinstance(value, float) and math.isnan(value):
        yield ValueError(f'{path} must be a number, got nan. Correct it.')
    elif rule is not None and not rule.holds(value):
        yield ValueError(
            f'{path} must be {rule.words}, got {value!r:.80}. Correct it.'
        )
