"""This module finds the shapes of the features that a cache would store from
the config alone, without weights or data."""

from __future__ import annotations

from math import prod

from mmengine.config import Config
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..cost.shape_mode import ShapeMode, drop_data, empty
from ..errors import one_line, remedy_for
from ..feature_cache.key import backbone_config
from ..feature_cache.storage import STORAGES
from ..freeze_config import meta
from ..freezing import find_faults
from ..freezing.stages import ADAPTERS
from ..tracing.workload import find_varying

REMEDY = 'Train without a cache'

Shapes = list[tuple[int, ...]]


def trace_features(cfg: Config, size: tuple[int, int]) -> Shapes:
    """Return the shapes of the feature maps that a config's backbone returns.

    Args:
        cfg: Config of an experiment.
        size: Height and width of the images in pixels.

    Returns:
        The shape of one image's features of each level, without the batch
        dimension; usually (channels, height, width).

    Raises:
        ValueError: If features of this config cannot be stored: its backbone
            is missing, is not frozen as a whole, has adapters or cannot be
            traced, or its images differ in size.
    """
    settings = backbone_config(cfg)
    varying = find_varying(cfg)
    _require(
        varying is None,
        'the train pipeline must make images of one size, since features of '
        'all views have one shape',
        f'{varying}, after which sizes differ',
        'End the pipeline with Pad(size=...)',
    )
    try:
        backbone = meta.build(settings)
    except Exception as error:  # a constructor can raise anything
        raise ValueError(
            'model.backbone must build in this environment, got '
            f'{one_line(error)}. {remedy_for(error)}'
        ) from error
    backbone.train()  # some backbones freeze only there
    _check_frozen(backbone)
    drop_data(backbone)
    try:
        with ShapeMode():
            levels = tree_leaves(backbone(empty(1, 3, *size)))
    except Exception as error:  # a layer can raise anything
        raise ValueError(
            f'model.backbone must run on shapes alone, got {one_line(error)} '
            f'at {size[0]} x {size[1]}. Set another --shape.'
        ) from error
    _require(
        all(isinstance(level, Tensor) for level in levels),
        'model.backbone must return only tensors',
        ', '.join(type(level).__name__ for level in levels),
        REMEDY,
    )
    return [tuple(level.shape[1:]) for level in levels]


def _check_frozen(backbone: nn.Module) -> None:
    _require(
        not hasattr(backbone, ADAPTERS),
        'model.backbone must compute the same features in every step',
        'adapters, which train inside it',
        REMEDY,
    )
    faults = find_faults(backbone)
    _require(
        not faults,
        'model.backbone must be frozen as a whole',
        '; '.join(faults),
        f'{REMEDY}, or freeze it (mmfrozen freeze)',
    )


def _require(holds: bool, what: str, got: str, remedy: str) -> None:
    if not holds:
        raise ValueError(f'For a cache {what}, got {got}. {remedy}.')


def view_bytes(shapes: Shapes, storage: str) -> int:
    """Return the bytes of the features of one view of an image."""
    return STORAGES[storage].itemsize * sum(map(prod, shapes))
