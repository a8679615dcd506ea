"""Refuse a misspelt option, and parts that do not fit, by name."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from mmengine.registry import Registry
from torch import nn

from .fit import check_fit

UNKNOWN_OPTION = re.compile(r"unexpected keyword argument '(\w+)'")


def check_builds(registry: Registry) -> None:
    """Look after everything that a registry builds.

    What the host lacks: a misspelt option ends in Python's TypeError, which
    before 3.13 names neither the class nor what was meant; parts that do not
    fit are found at the first image.

    Args:
        registry: Of models. Its ``build_func`` is wrapped, once.
    """
    build = registry.build_func
    if hasattr(build, '__wrapped__'):
        return

    @functools.wraps(build)
    def build_checked(cfg: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            built = build(cfg, *args, **kwargs)
        except TypeError as error:
            raise _explain_option(error, cfg, registry) from error
        except KeyError as error:
            raise _explain_type(error, cfg, registry) from error
        if isinstance(built, nn.Module) and hasattr(built, 'backbone'):
            check_fit(built)
        return built

    registry.build_func = build_checked


def _explain_option(
    error: TypeError, cfg: Any, registry: Registry
) -> TypeError:
    found = UNKNOWN_OPTION.search(str(error))
    name = cfg.get('type') if isinstance(cfg, dict) else None
    if not found or found[1] not in cfg or not isinstance(name, str):
        return error
    with registry.switch_scope_and_registry(cfg.get('_scope_')) as scoped:
        built = scoped.get(name)
    known = _options(built) if built is not None else []
    if found[1] in known:  # then it is an option of something inside
        return error
    return TypeError(
        f'{name} must have options that it knows, got {found[1]!r}. '
        f'{_suggest(found[1], known)}'
    )


def _explain_type(error: KeyError, cfg: Any, registry: Registry) -> KeyError:
    name = cfg.get('type') if isinstance(cfg, dict) else None
    if f'{name} is not in the' not in str(error):
        return error
    known: list[str] = []
    with registry.switch_scope_and_registry(cfg.get('_scope_')) as scoped:
        while scoped is not None:
            known += scoped.module_dict
            scoped = scoped.parent
    return KeyError(
        f'type must name a registered module, got {name!r}. '
        f'{_suggest(name, known)}'
    )


def _options(built: Callable[..., Any]) -> list[str]:
    """Names that a class takes, and its bases where it hands options on."""
    inits: Iterable[Any] = [built]
    if inspect.isclass(built):
        inits = [
            c.__dict__['__init__']
            for c in built.__mro__
            if '__init__' in c.__dict__ and c is not object
        ]
    names: list[str] = []
    for init in inits:
        parameters = inspect.signature(init).parameters.values()
        names += [
            p.name
            for p in parameters
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            and p.name != 'self'
        ]
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    if near:
        return f'Did you mean {" or ".join(near)}?'
    return f'It is one of {", ".join(sorted(known)[:20])}.'
