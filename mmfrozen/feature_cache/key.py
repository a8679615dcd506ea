"""This module computes the key of a cache: digests of all that its features
and views depend on besides the image, so that a stale cache is refused."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ..freezing import fingerprint
from ..type_names import type_name
from .images import Images

#: Version of the file format and of the computation; raise it whenever the
#: same config would get other features.
FORMAT = 1
#: Config keys that name weight files; the weights themselves are digested.
WEIGHTS = {'init_cfg', 'checkpoint', 'pretrained'}


def backbone_config(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of the backbone whose features can be cached.

    Args:
        cfg: Config of a run.

    Raises:
        ValueError: If its model has no ``backbone``.
    """
    model = cfg.get('model') or {}
    backbone = model.get('backbone')
    if not isinstance(backbone, dict):
        raise ValueError(
            'For a cache model.backbone must be set, got a '
            f'{type_name(model.get("type")) or "model"} without one. Give the '
            'config of a detector with a backbone of its own.'
        )
    return backbone


def key_of(
    model: dict[str, Any],
    dataset: dict[str, Any],
    backbone: nn.Module,
    built: Any,
    images: Images,
) -> dict[str, str]:
    """Return digests of all that the features of a run depend on.

    Args:
        model: Config of the detector.
        dataset: Config of ``train_dataloader.dataset``.
        backbone: The backbone, with its weights loaded.
        built: The data set that was built from ``dataset``.
        images: Images of the data set.

    Returns:
        Digests by the name of the part, which error messages use. Images are
        part of the key only if one view can show several of them (as with
        copy-paste); otherwise each view stores the digest of its own image.
    """
    pool = images.digest() if _is_mixed(built) else ''
    parts: dict[str, Any] = {
        'weights of the backbone': sorted(fingerprint(backbone).items()),
        'config of the backbone': _without(model.get('backbone'), WEIGHTS),
        'data_preprocessor': model.get('data_preprocessor'),
        'pipeline': list(_pipelines(dataset)),
        'images to mix with': pool,
        'code': _code(backbone, built),
    }
    return {name: _digest(part) for name, part in parts.items()}


def check_unchanging(dataset: Any) -> None:
    """Check that no view depends on samples that were loaded before.

    Raises:
        ValueError: If a transform keeps images, as ``CachedMosaic`` does.
    """
    for transform in _transforms(dataset):
        if hasattr(transform, 'results_cache'):
            name = type(transform).__name__
            raise ValueError(
                'Transforms must not keep images for a feature cache, got '
                f'{name}. Use {name.removeprefix("Cached")}.'
            )


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {
            k: _without(x, names) for k, x in value.items() if k not in names
        }
    if isinstance(value, (list, tuple)):
        return [_without(x, names) for x in value]
    return value


def _pipelines(config: Any) -> Iterator[Any]:
    """Yield type and pipeline of a data set's config and of nested ones."""
    if isinstance(config, dict):
        if 'pipeline' in config:
            yield [config.get('type'), config['pipeline']]
        for name, value in config.items():
            if name != 'pipeline':
                yield from _pipelines(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _pipelines(value)


def _parts(dataset: Any) -> Iterator[Any]:
    yield dataset
    for name in ('dataset', '_dataset'):
        if hasattr(dataset, name):
            yield from _parts(getattr(dataset, name))
    for part in getattr(dataset, 'datasets', ()):
        yield from _parts(part)


def _transforms(dataset: Any) -> Iterator[Any]:
    for part in _parts(dataset):
        pipeline = getattr(part, 'pipeline', ())
        yield from getattr(pipeline, 'transforms', pipeline)


def _is_mixed(dataset: Any) -> bool:
    """Return whether a data set that wraps another has its own pipeline,
    which can mix several images."""
    return any(
        hasattr(part, 'dataset') and hasattr(part, 'pipeline')
        for part in _parts(dataset)
    )


def _code(backbone: nn.Module, dataset: Any) -> dict[str, str]:
    """Return the versions of the packages that compute views and features,
    and a digest of the source of modules without a version."""
    found = {'mmfrozen.feature_cache': str(FORMAT)}
    used = [*backbone.modules(), *_transforms(dataset)]
    for name in {type(one).__module__ for one in used}:
        top = name.partition('.')[0]
        version = getattr(sys.modules[top], '__version__', None)
        if top == 'torch':  # its versions differ in rounding only
            continue
        if version:
            found[top] = str(version)
            continue
        try:
            text = inspect.getsource(sys.modules[name])
        except (OSError, TypeError):
            text = ''
        found[name] = _digest(text)
    return found
