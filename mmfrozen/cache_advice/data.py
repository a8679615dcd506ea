"""This module builds the train data set that a cache would hold and yields
batches for timing steps; the batches are synthetic if the data are missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ..config_file import build_train_dataset
from ..steps_in_turn import load_batches
from ..tracing.fake_targets import make_samples
from ..tracing.workload import Workload


def build_dataset(cfg: Config) -> Any:
    """Return the train data set; None if an annotation file is missing.

    Raises:
        ValueError: If the files exist, but the data set cannot be built.
    """
    settings = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    files = list(_annotation_files(settings))
    if not files or not all(file.is_file() for file in files):
        return None
    return build_train_dataset(cfg)


def _annotation_files(settings: Any) -> Iterator[Path]:
    """Yield the annotation files of a data set's config and nested ones."""
    if isinstance(settings, (list, tuple)):
        for item in settings:
            yield from _annotation_files(item)
    elif isinstance(settings, dict):
        if settings.get('ann_file'):
            yield Path(settings.get('data_root') or '', settings['ann_file'])
        for key in ('dataset', 'datasets'):
            yield from _annotation_files(settings.get(key))


def count_images(dataset: Any) -> int:
    """Return the number of distinct images, without repetitions."""
    parts = getattr(dataset, 'datasets', None)
    if parts is not None:
        return sum(map(count_images, parts))
    inner = getattr(dataset, 'dataset', None)
    return len(dataset) if inner is None else count_images(inner)


def timed_batches(
    cfg: Config, work: Workload, dataset: Any
) -> Iterator[tuple[Any, float | None]]:
    """Yield batches of a data set with the seconds that loading each took.

    Without a data set, yield the same synthetic batch with None.
    """
    if dataset is None:
        yield from repeat((_make_up(work), None))
    batches = load_batches(cfg, dataset)
    while True:
        start = time.perf_counter()
        batch = next(batches)
        yield batch, time.perf_counter() - start


def _make_up(work: Workload) -> dict[str, Any]:
    """Return a batch of noise images with objects of typical sizes."""
    samples = make_samples(
        work.batch_size,
        work.shape,
        objects=work.objects,
        num_classes=1,  # the class does not change the time of a step
        masks=work.masks,
    )
    images = torch.randint(
        256, (work.batch_size, 3, *work.shape), dtype=torch.uint8
    )
    return dict(inputs=list(images), data_samples=samples)
