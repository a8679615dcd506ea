"""Views on their way into the folder of a cache."""

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
from .storage import errors, pack
from .store import FACTS, Facts, FeatureStore, check_key

#: A shard is written when it has so many bytes, or is so many seconds old:
#: what a kill can lose.
SHARD_BYTES, SHARD_SECONDS = 1 << 28, 120


class Job(NamedTuple):
    """A view to compute.

    Attributes:
        place: Of its image in the data set.
        image: Number of the image among the distinct ones.
        digest: Of the image.
        view: Its number.
    """

    place: int
    image: int
    digest: str
    view: int


class Writer:
    """Adds views to a cache, shard by shard.

    Args:
        folder: Of the cache.
        key: Of the run.
        images: Of the data set.
        storage: Of ``storage.STORAGES``.
        forward: ``'fp32'`` or ``'bf16'``.
        seed: Of the views.
        max_bytes: That the folder may have.

    Attributes:
        num_bytes: Of the folder's shards.

    Raises:
        ValueError: If the folder is the cache of something else.
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
        """Views that are not there, the first ones of all images first."""
        found = {
            (digest, view): Job(place, image, digest, view)
            for view in range(num_views)
            for image, (place, digest) in enumerate(
                zip(self._images.places, self._images.digests, strict=True)
            )
        }
        return [job for key, job in found.items() if key not in self._there]

    def add(self, jobs: list[Job], batch: Batch) -> None:
        """Take the views of a batch.

        Raises:
            ValueError: If they are of another size than those before, hold
                what cannot be stored, or do not say what they show.
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
        """After the first batch: say what all will take.

        Args:
            num_own: Views of this share.
            num_missing: Views of all shares.

        Raises:
            ValueError: If the disk or ``max_bytes`` do not suffice.
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
                    f'It holds {more} more of each image: lower --views, or '
                    'use --storage int8.'
                )
        return f'{amount(each)} a view, {amount(each * num_own)} in all'

    def flush(self, *, is_last: bool = False) -> None:
        """Write a shard if it is time to.

        Raises:
            WriteError: If there is no room; what was written is kept.
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
                f'{self._max_bytes:,}, got {size:,}. What was written is '
                'kept: give more and go on.'
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


def amount(size: float) -> str:
    """Bytes in words: ``'1.5 GB'``."""
    units = ['bytes', 'kB', 'MB', 'GB', 'TB']
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f'{size:.3g} {units[0]}'
