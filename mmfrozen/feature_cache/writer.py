"""This module collects computed views and writes them into a cache as shards,
within the room that disk and user allow."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..atomic_write import WriteError
from .forward import Batch
from .images import Images
from .samples import encode
from .shard import View, write_shard
from .storage import amount, errors, pack
from .store import FACTS, Facts, FeatureStore, check_key

#: A shard is written when it has this many bytes or is this many seconds old.
#: If the process is killed, no more than that is lost.
SHARD_BYTES, SHARD_SECONDS = 1 << 28, 120


class Job(NamedTuple):
    """View to compute.

    Attributes:
        place: Index of a sample of the data set that shows its image.
        image: Number of the image among the distinct ones.
        digest: Digest of the image.
        view: Number of the view among those of the image, from 0.
    """

    place: int
    image: int
    digest: str
    view: int


class Writer:
    """Writer that adds views to a cache, shard by shard.

    Args:
        folder: Folder of the cache.
        key: Key of the run, from ``key.key_of``.
        images: Images of the data set.
        storage: Dtype on disk, a key of ``storage.STORAGES``.
        forward: Dtype of the forward pass, ``'fp32'`` or ``'bf16'``.
        seed: Seed from which the views are drawn.
        max_bytes: Largest size of all shards; None for no limit.

    Attributes:
        folder: Folder of the cache.
        num_bytes: Size of the folder's shards, in bytes.

    Raises:
        ValueError: If the folder holds a cache with another key or options.
    """

    def __init__(
        self,
        folder: Path,
        key: dict[str, str],
        images: Images,
        *,
        storage: str,
        forward: str,
        seed: int,
        max_bytes: int | None,
    ) -> None:
        self.folder, self.num_bytes = folder, 0
        self._key, self._images, self._max_bytes = key, images, max_bytes
        self._options = dict(storage=storage, forward=forward, seed=seed)
        self._facts: Facts | None = None
        self._there: set[tuple[str, int]] = set()
        self._begin()
        if not (folder / FACTS.name).exists():
            return
        store = FeatureStore(folder)
        check_key(store.facts.key, key, folder)
        for name, wanted in self._options.items():
            found = getattr(store.facts, name)
            if found != wanted:
                raise ValueError(
                    f'--{name} must be {found!r}, as in {folder}, got '
                    f'{wanted!r}. Fill another folder for it.'
                )
        self._facts, self.num_bytes = store.facts, store.num_bytes
        self._there = set(store.usable(images))

    def _begin(self) -> None:
        self._views: list[View] = []
        self._samples: list[bytes] = []
        self._levels: list[list[list[Tensor]]] = []
        self._size, self._began = 0, time.monotonic()

    def missing(self, num_views: int) -> list[Job]:
        """Return the missing views, the first ones of all images first."""
        found = {
            (digest, view): Job(place, image, digest, view)
            for view in range(num_views)
            for image, (place, digest) in enumerate(
                zip(self._images.places, self._images.digests, strict=True)
            )
        }
        return [job for key, job in found.items() if key not in self._there]

    def add(self, jobs: list[Job], batch: Batch) -> None:
        """Add the views of a batch to the current shard.

        Args:
            jobs: The views, in the order of the batch.
            batch: Their features and data samples.

        Raises:
            ValueError: If the views differ in size from earlier ones, hold
                values that cannot be stored, or have no known ``img_path``.
        """
        self._check_shapes(batch)
        packed = [pack(x, str(self._options['storage'])) for x in batch.levels]
        lost = [
            errors(level, parts)
            for level, parts in zip(batch.levels, packed, strict=True)
        ]
        self._levels.append(packed)
        self._size += sum(part.nbytes for parts in packed for part in parts)
        for row, (job, sample) in enumerate(
            zip(jobs, batch.samples, strict=True)
        ):
            path = sample.metainfo.get('img_path')
            if path not in self._images.by_path:
                raise ValueError(
                    'The pipeline must pack the img_path of an image of the '
                    f'data set for a feature cache, got {path!r}. Name it in '
                    'meta_keys of PackDetInputs.'
                )
            self._samples.append(encode(sample))
            self._size += len(self._samples[-1])
            self._views.append(
                View(
                    job.digest,
                    job.view,
                    self._images.by_path[path],
                    self._images.stamps[job.image],
                    [error[row] for error in lost],
                )
            )

    def _check_shapes(self, batch: Batch) -> None:
        facts = Facts(
            key=self._key,
            **self._options,  # type: ignore[arg-type]
            image_shape=list(batch.image_shape),
            levels=[list(level.shape[1:]) for level in batch.levels],
            container=batch.container,
        )
        if self._facts is None:
            FACTS.write(self.folder / FACTS.name, facts)
            self._facts = facts
        if self._facts != facts:
            raise ValueError(
                'Views must have one size for a feature cache, got images of '
                f'{self._facts.image_shape} and {facts.image_shape}. End the '
                'pipeline with RandomCrop and Pad to one size.'
            )

    def check_room(self, num_own: int, num_missing: int) -> str:
        """Check after the first batch that all views will fit.

        Args:
            num_own: Number of missing views of this share.
            num_missing: Number of missing views of all shares.

        Returns:
            The expected size of a view and of this share, for the log.

        Raises:
            ValueError: If the views need more than the disk or ``max_bytes``
                has left.
        """
        each = self._size / len(self._views)
        rooms = [('The disk', shutil.disk_usage(self.folder).free, num_own)]
        if self._max_bytes is not None:
            left = max(self._max_bytes - self.num_bytes, 0)
            rooms.append(('--max-bytes', left, num_missing))
        for name, room, count in rooms:
            if each * count > room:
                more = int(room / each / len(self._images))
                raise ValueError(
                    f'{name} must have room for {amount(each * count)}, '
                    f'{count:,} views of {amount(each)}, got {amount(room)}. '
                    f'It has room for {more} more views of each image: lower '
                    '--views, or use --storage int8.'
                )
        return f'{amount(each)} per view, {amount(each * num_own)} in total'

    def flush(self, *, is_last: bool = False) -> None:
        """Write the current shard if it is large or old enough.

        Args:
            is_last: Whether to write it in any case.

        Raises:
            WriteError: If there is no room; earlier shards are kept.
        """
        is_due = (
            self._size >= SHARD_BYTES
            or time.monotonic() - self._began >= SHARD_SECONDS
        )
        if not self._views or not (is_due or is_last) or not self._facts:
            return
        size = self.num_bytes + self._size
        if self._max_bytes is not None and size > self._max_bytes:
            raise WriteError(
                f'{self.folder} must stay within --max-bytes '
                f'{self._max_bytes:,}, got {size:,}. The written views are '
                'kept: raise --max-bytes and run the command again.'
            )
        levels = [
            [torch.cat(parts) for parts in zip(*batches, strict=True)]
            for batches in zip(*self._levels, strict=True)
        ]
        key = self._facts.digest()
        path = write_shard(
            self.folder, key, self._views, levels, self._samples
        )
        self.num_bytes += path.stat().st_size
        self._there |= {(view.image, view.number) for view in self._views}
        self._begin()
