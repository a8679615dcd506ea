"""This module computes the views that a feature cache lacks and writes them;
``mmfrozen cache fill`` calls it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from ..atomic_write import remove_parts
from ..config_file import build_train_dataset
from ..seeds import NumberedIndex, seeded
from .forward import Forwarder, build_model
from .images import Images
from .key import backbone_config, check_unchanging, key_of
from .store import FACTS, FeatureStore
from .writer import Job, Writer

Progress = Callable[[Any], Iterable[Any]]
#: Number of batches from which on the search for an inference engine pays.
ENGINE_FROM = 50


@dataclass(frozen=True)
class Filled:
    """Summary of one call of :func:`fill`.

    Attributes:
        num_images: Number of distinct images of the data set.
        num_wanted: Number of views that the complete cache has.
        num_missing: Number of views that are still missing, since they belong
            to other shares.
        num_new: Number of views that this call computed.
        num_bytes: Size of all shards of the cache in bytes.
        seconds: Duration, without building model and data set.
        forward_seconds: The part of it that the backbone took.
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
    """Compute the missing views of a cache and write them.

    View k of an image depends on the seed, the image and k alone, not on
    shares, order or existing views. The first views of all images are
    computed first, then the second ones.

    Args:
        config: Config of a run with a frozen backbone whose pipeline returns
            views of one size.
        folder: Folder of the cache; it is created if it does not exist.
        views: Number of views of each image.
        storage: Dtype on disk, a key of ``storage.STORAGES``.
        forward: Dtype of the forward pass: ``'fp32'``, or ``'bf16'`` by
            autocast.
        seed: Seed from which the views are drawn.
        share: Part of the views to compute: its number, counted from 1, and
            the number of parts.
        max_bytes: Largest size of all shards; None for no limit.
        batch_size: Views per forward pass; None for the config's batch size.
        num_workers: Number of loading workers; None for the config's.
        say: Function that logs a line.
        progress: Function that wraps the batches to show progress.

    Returns:
        A summary with the numbers of views and bytes.

    Raises:
        ValueError: If the features of the config cannot be cached, the folder
            holds another cache, or the views need more room than the disk or
            ``max_bytes`` has.
        WriteError: If a shard cannot be written or exceeds ``max_bytes``.
    """
    backbone_config(config)  # raises if the config has no backbone
    dataset = build_train_dataset(config)
    check_unchanging(dataset)
    model, loader = build_model(config), config.train_dataloader
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
    # with several shares, another process may be writing them
    if is_there and share[1] == 1:
        remove_parts(folder)
    batches = DataLoader(
        _Views(dataset, jobs, seed),
        batch_size=batch_size or loader.get('batch_size', 1),
        num_workers=(
            loader.get('num_workers', 0)
            if num_workers is None
            else num_workers
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


class _Views:
    """Data set of the views to compute, each drawn with its own seed."""

    def __init__(self, dataset: Any, jobs: list[Job], seed: int) -> None:
        self._dataset, self._jobs, self._seed = dataset, jobs, seed

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, number: int) -> Any:
        job = self._jobs[number]
        key = self._seed, int(job.digest, 16), job.view
        with seeded(NumberedIndex(job.place, key)):
            return self._dataset[job.place]
