"""This module checks the order of the transforms in the pipelines of a
config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import (
    MultiBranch,
    PackDetInputs,
    PackReIDInputs,
    PackTrackInputs,
)
from mmdet.registry import TRANSFORMS

from ..type_names import find_type, known_name

#: Transforms that pack a sample; MultiBranch does so in its own pipelines.
PACKS = (MultiBranch, PackDetInputs, PackReIDInputs, PackTrackInputs)


def pipeline_faults(cfg: Mapping[str, Any]) -> Iterator[ValueError]:
    """Yield faults that MMDetection would report only at the first sample, as
    a missing key: an image loaded too late, a sample that is not packed."""
    for loader in ('train_dataloader', 'val_dataloader'):
        inside = cfg.get(loader)
        if isinstance(inside, Mapping):
            path = f'{loader}.dataset'
            yield from _faults(path, inside.get('dataset'), True)


def _faults(path: str, dataset: Any, is_last: bool) -> Iterator[ValueError]:
    """Yield the faults of a data set and of those that it wraps.

    Args:
        path: Path of the data set in the config.
        dataset: Config of the data set.
        is_last: Whether the loader receives the output of its pipeline.
    """
    if not isinstance(dataset, Mapping):
        return
    pipeline = dataset.get('pipeline')
    if isinstance(pipeline, (list, tuple)) and pipeline:
        yield from _order(f'{path}.pipeline', pipeline, is_last)
        is_last = False
    yield from _faults(f'{path}.dataset', dataset.get('dataset'), is_last)
    several = dataset.get('datasets')
    if isinstance(several, (list, tuple)):
        for i, one in enumerate(several):
            yield from _faults(f'{path}.datasets.{i}', one, is_last)


def _order(path: str, pipeline: Any, is_last: bool) -> Iterator[ValueError]:
    kinds = [
        find_type(one.get('type'), TRANSFORMS)
        if isinstance(one, Mapping)
        else None
        for one in pipeline
    ]
    if not all(isinstance(kind, type) and known_name(kind) for kind in kinds):
        return
    names = [kind.__name__ for kind in kinds]
    loads = [issubclass(kind, LoadImageFromFile) for kind in kinds]
    packs = [issubclass(kind, PACKS) for kind in kinds]
    early = [name.startswith('Load') for name in names]
    if True in loads and not all(early[: loads.index(True)]):
        yield ValueError(
            f'{path} must load images before all else, got '
            f'{names[early.index(False)]} before '
            f'{names[loads.index(True)]}. Correct the order.'
        )
    elif True in packs[:-1]:
        yield ValueError(
            f'{path} must pack samples once and last, got '
            f'{", ".join(names[packs.index(True) :])}. Correct the order.'
        )
    elif is_last and not packs[-1]:
        yield ValueError(
            f'{path} must end with PackDetInputs, got {names[-1]} as its '
            'last. Add it.'
        )
