"""Find, load and check configs by path or ``mmdet::`` name, and build their
train data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmdet
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from .config_check import faults
from .errors import did_you_mean, one_line, remedy_for

#: Folder of the configs that MMDetection ships.
ZOO = Path(mmdet.__file__).with_name('.mim').joinpath('configs').resolve()


def locate(config: str) -> Path:
    """Return the absolute path of a config, given by path or ``mmdet::`` name.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    path = Path(config).expanduser()
    if config.startswith('mmdet::'):
        path = ZOO / config.removeprefix('mmdet::')
    if not path.is_file():
        siblings = [file.name for file in path.parent.glob('*.py')]
        raise FileNotFoundError(
            'CONFIG must be an existing config or mmdet::FOLDER/NAME.py, got '
            f'{config!r}{did_you_mean(path.name, siblings)}. Correct the path.'
        )
    return path.resolve()


def load_config(
    config: str,
    options: Mapping[str, Any] | None = None,
    needed: str = 'model',
) -> Config:
    """Load a config and merge options into it.

    Args:
        config: Path or ``mmdet::`` name.
        options: Values by dotted key, as ``--cfg-options`` gives them.
        needed: Key that the config must define as a dict.

    Raises:
        FileNotFoundError: If the config does not exist.
        ValueError: If it does not load, lacks the needed key, or an option is
            misspelt or not valid.
    """
    path = locate(config)
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program and may raise anything
        raise ValueError(
            f'A config must load in this environment, got {one_line(error)} '
            f'from {config}. {remedy_for(error)}'
        ) from error
    if options:
        _merge(cfg, options)
    if not isinstance(cfg.get(needed), dict):
        raise ValueError(
            f'A config must have a {needed}, got {config} without one. Give '
            'the config that is trained.'
        )
    return cfg


def _merge(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge options into a config, and refuse faults that they bring in."""
    known = set(map(str, faults(cfg)))
    try:
        cfg.merge_from_dict(dict(options))
    except Exception as error:  # such as a list's index that does not exist
        raise ValueError(
            f'--cfg-options must fit the config, got {one_line(error)}. '
            'Correct the key.'
        ) from error
    for fault in faults(cfg):
        if str(fault) not in known:
            raise fault


def build_train_dataset(cfg: Config) -> Any:
    """Return the data set of ``train_dataloader``, fully initialised.

    Raises:
        ValueError: If there is none, or it cannot be built.
    """
    settings = (cfg.get('train_dataloader') or {}).get('dataset')
    if not settings:
        raise ValueError(
            'train_dataloader.dataset must be set, got none. Give the config '
            'that is trained.'
        )
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    try:
        dataset = DATASETS.build(settings)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
    except Exception as error:  # a data set can raise anything
        raise ValueError(
            'train_dataloader.dataset must build in this environment, got '
            f'{one_line(error)}. {remedy_for(error)}'
        ) from error
    return dataset
