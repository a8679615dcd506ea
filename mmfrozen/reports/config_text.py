"""Read the text of a config without executing it."""

from __future__ import annotations

import ast
from typing import Any

from mmdet.registry import MODELS

#: Modules whose classes a backbone's config may name. Detectors are not
#: included: some read and execute further config files.
TRUSTED = (
    'torch.',
    'mmcv.',
    'mmengine.model',
    'mmdet.models.backbones',
    'mmdet.models.layers',
    'mmfrozen.models',
)
#: Arguments of timm that would read a file chosen by the checkpoint.
LOADING = ('checkpoint_path', 'pretrained')


class _NotPlainError(ValueError):
    """Code in the text of a config that would have to be executed."""


def read_plain_config(text: str) -> dict[str, Any]:
    """Parse a config that mmengine dumped to a work dir, without executing it.

    Returns:
        The values by key.

    Raises:
        ValueError: If the text is not plain, see
            :func:`read_backbone_config`.
    """
    found = {}
    for node in _parse(text):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) if name != '_base_':
                found[name] = _value(node.value)
            case ast.Expr(value=ast.Constant()):  # a docstring
                pass
            case _:
                raise _NotPlainError(_show(node))
    return found


def read_backbone_config(text: str) -> dict[str, Any] | None:
    """Find ``model.backbone`` in the text of a config.

    mmengine's own reader executes the text. Here it is only parsed, and may
    contain dicts (also calls of ``dict``), lists, tuples, numbers, text, True,
    False and None.

    Returns:
        The config of the backbone, without wrappers such as FrozenBackbone;
        None if the text has none.

    Raises:
        ValueError: If the config of the backbone contains anything else.
    """
    try:
        return _find_backbone(text)
    except _NotPlainError as error:
        raise ValueError(
            'meta.cfg of a checkpoint must hold a plain model.backbone, got '
            f'{str(error)!r}. Name the classifier with --against.'
        ) from error


def _find_backbone(text: str) -> dict[str, Any] | None:
    for node in _parse(text):
        if not isinstance(node, ast.Assign):
            continue
        (name, *_) = node.targets
        if not (isinstance(name, ast.Name) and name.id == 'model'):
            continue
        found = _items(node.value).get('backbone')
        config = _value(found) if found else None
        while isinstance(config, dict) and 'backbone' in config:
            config = config['backbone']
        return config
    return None


def _parse(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _NotPlainError(str(error) or 'too deep') from error


def _items(node: ast.expr) -> dict[Any, ast.expr]:
    """Return the entries of ``dict(a=1)`` or ``{'a': 1}``."""
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(key) for key in node.keys if key]
        try:
            return dict(zip(keys, node.values, strict=True))
        except TypeError as error:  # an unhashable key
            raise _NotPlainError(_show(node)) from error
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == 'dict'
        and not node.args
        and all(k.arg for k in node.keywords)
    ):
        return {k.arg: k.value for k in node.keywords}
    raise _NotPlainError(_show(node))


def _value(node: ast.expr) -> Any:
    if isinstance(node, (ast.Dict, ast.Call)):
        return {key: _value(value) for key, value in _items(node).items()}
    if isinstance(node, (ast.List, ast.Tuple)):
        kind = list if isinstance(node, ast.List) else tuple
        return kind(_value(item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError) as error:
        raise _NotPlainError(_show(node)) from error


def _show(node: ast.AST) -> str:
    try:
        return ast.unparse(node)[:80]
    except RecursionError:
        return 'too deep'


def check_types(config: Any) -> None:
    """Refuse a config with types other than parts of backbones.

    mmengine's registry imports any dotted name that it does not know, so a
    ``type`` could call any function.

    Raises:
        ValueError: If it has other types, or makes timm load a file.
    """
    if isinstance(config, (list, tuple)):
        for item in config:
            check_types(item)
    if not isinstance(config, dict):
        return
    name = config.get('type')
    if 'type' in config and not _is_trusted(name):
        raise ValueError(
            'model.backbone of a checkpoint must be built of registered '
            f'parts of backbones, got type={name!r}. Compare it with weights '
            'whose tensors have the same names (--against).'
        )
    for key, item in config.items():
        if key == 'model_args' and isinstance(item, dict):
            for argument in item:
                if str(argument).startswith(LOADING):
                    raise ValueError(
                        'model.backbone.model_args of a checkpoint must not '
                        f'load files, got {argument}. Use --against.'
                    )
        check_types(item)


def _is_trusted(name: Any) -> bool:
    if type(name) is not str:
        return False
    scope, name = MODELS.split_scope_key(name)
    if scope is None:
        parts = {**MODELS.root.module_dict, **MODELS.module_dict}
    elif scope in MODELS.root.children:
        parts = MODELS.root.children[scope].module_dict
    else:
        return False
    return name in parts and parts[name].__module__.startswith(TRUSTED)
