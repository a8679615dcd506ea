"""Compute what a feature cache lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from ..atomic_write import remove_parts
from ..engine.measure import one_line
from ..errors import remedy_for
from ..seeds import NumberedIndex, seeded
from .forward import Forwarder, build_model
from .images import Images
from .key import check_unchanging, key_of
from .store import FACTS, FeatureStore
from .writer import Job, Writer

Progress = Callable[[Any], Iterable[Any]]
#: Batches for which it pays to look for an engine.
ENGINE_FROM = 50


@dataclass(frozen=True)
class Filled:
    """What was done.

    Attributes:
        num_images: Of the data set.
        num_wanted: Views that the cache should have.
        num_missing: Those that it has not: of other shares.
        num_new: Those that were computed now.
        num_bytes: Of the cache.
        seconds: That it took, without building model and data set.
        forward_seconds: Of the backbone in them.
    """

    num_images: int
    num_wanted: int
    num_missing: int
    num_new: int
    num_bytes: int
    seconds: float
    forward_seconds: float


def fill(
    config: Config,
    folder: Path,
    *,
    views: int,
    storage: str = 'fp16',
    forward: str = 'fp32',
    seed: int = 0,
    share: tuple[int, int] = (1, 1),
    max_bytes: int | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    say: Callable[[str], None] = print,
    progress: Progress = iter,
) -> Filled:
    """Compute the views of a cache that are not there, and write them.

    View k of an image follows from the seed, the image and k alone, not from
    shares, order or what was there. The first views of all images come
    first, then the second ones.

    Args:
        config: Of a run with a frozen backbone and views of one size.
        folder: Of the cache; made if it is not there.
        views: Of each image.
        storage: Of ``storage.STORAGES``.
        forward: ``'fp32'``, or ``'bf16'`` by autocast.
        seed: Of the views.
        share: Which part of the views, from 1, and how many parts there are.
        max_bytes: That the folder may have.
        batch_size: By default that of the config.
        num_workers: Likewise.
        say: Takes a line for the log.
        progress: Wraps the batches.

    Raises:
        ValueError: If the config cannot be cached, the folder is another
            cache, or the bytes do not suffice.
        WriteError: If the disk is full.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    loader = config.train_dataloader
    model, dataset = build_model(config), build_dataset(loader.dataset)
    start = time.perf_counter()
    is_there = (folder / FACTS.name).exists()
    images = Images(dataset, FeatureStore(folder).stamps() if is_there else {})
    writer = Writer(
        folder,
        key_of(config.model, loader.dataset, model.backbone, dataset, images),
        images,
        storage=storage,
        forward=forward,
        seed=seed,
        max_bytes=max_bytes,
    )
    missing = writer.missing(views)
    jobs = [
        job
        for job in missing
        if (int(job.digest, 16) + job.view) % share[1] == share[0] - 1
    ]
    num_wanted = views * len(set(images.digests))
    say(
        f'{len(jobs):,} of {num_wanted:,} views of {len(images):,} images '
        f'are to be computed: {forward} forward, {storage} storage'
    )
    if is_there and share[1] == 1:  # else they may be of others
        remove_parts(folder)
    batches = DataLoader(
        _Views(dataset, jobs, seed),
        batch_size=batch_size or loader.batch_size,
        num_workers=(
            loader.num_workers if num_workers is None else num_workers
        ),
        collate_fn=pseudo_collate,
    )
    forwarder = Forwarder(
        model,
        is_bf16=forward == 'bf16',
        say=say if len(batches) >= ENGINE_FROM else None,
    )
    done = 0
    for data in progress(batches) if jobs else ():
        batch = forwarder(data)
        count = len(batch.samples)
        writer.add(jobs[done : done + count], batch)
        if not done:
            say(writer.check_room(len(jobs), len(missing)))
        done += count
        writer.flush()
    writer.flush(is_last=True)
    return Filled(
        num_images=len(images),
        num_wanted=num_wanted,
        num_missing=len(writer.missing(views)),
        num_new=done,
        num_bytes=writer.num_bytes,
        seconds=time.perf_counter() - start,
        forward_seconds=forwarder.seconds,
    )


def build_dataset(config: Any) -> Any:
    """Build the data set of ``train_dataloader``.

    Raises:
        ValueError: If it cannot be built, or its views depend on others.
    """
    try:
        dataset = DATASETS.build(config)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
    except Exception as error:  # whatever a config makes of itself
        raise ValueError(
            'train_dataloader.dataset of CONFIG must be built, got '
            f'{one_line(error)}. {remedy_for(error)}'
        ) from error
    check_unchanging(dataset)
    return dataset


class _Views:
    """The views as a data set: each from random numbers of its own."""

    def __init__(self, dataset: Any, jobs: list[Job], seed: int) -> None:
        self._dataset, self._jobs, self._seed = dataset, jobs, seed

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, number: int) -> Any:
        job = self._jobs[number]
        key = self._seed, int(job.digest, 16), job.view
        with seeded(NumberedIndex(job.place, key)):
            return self._dataset[job.place]
