"""This module reads a feature cache, a folder of shards with ``cache.json``,
and finds the views of the images of a data set in it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..run_files import RunFile
from .images import Images
from .samples import decode
from .shard import SUFFIX, Shard, View
from .storage import unpack


@dataclass(frozen=True)
class Facts:
    """Content of ``FOLDER/cache.json``: metadata common to all views.

    Attributes:
        key: Digests of all that the features depend on, from ``key.key_of``.
        storage: Dtype on disk, a key of ``storage.STORAGES``.
        forward: Dtype of the forward pass, ``'fp32'`` or ``'bf16'``.
        seed: Seed from which the views are drawn.
        image_shape: Channels, height and width of a view.
        levels: Shape of one view's feature map of each level.
        container: Type that the backbone returns: ``'tuple'``, ``'list'`` or
            ``'tensor'``.
    """

    key: dict[str, str]
    storage: str
    forward: str
    seed: int
    image_shape: list[int]
    levels: list[list[int]]
    container: str

    def digest(self) -> str:
        """Return the digest by which a shard names its cache."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


FACTS = RunFile('cache.json', Facts, 'mmfrozen cache fill')


class FeatureStore:
    """Reader of the views of a cache.

    A pickled copy, as in a worker process, opens the shards anew.

    Args:
        folder: Folder of the cache.

    Attributes:
        folder: Folder of the cache.
        facts: Metadata that all views have in common.
        shards: The shards, sorted by file name.
        is_checked: Whether all views were compared with their checksums.

    Raises:
        FileNotFoundError: If the folder has no cache.
        ValueError: If a shard is damaged or belongs to another cache.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.facts = _read_facts(self.folder)
        self._open()

    def _open(self) -> None:
        self.is_checked = False
        self._on_device: list[list[list[Tensor]]] = []
        self.shards = [
            _open(path, self.facts)
            for path in sorted(self.folder.glob(f'*{SUFFIX}'))
        ]

    def __getstate__(self) -> dict[str, Any]:
        return dict(folder=self.folder, facts=self.facts)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    @property
    def num_bytes(self) -> int:
        """Size of all shards on disk, in bytes."""
        return sum(shard.path.stat().st_size for shard in self.shards)

    def views(self) -> Iterator[View]:
        """Yield the metadata of all views, shard by shard."""
        for shard in self.shards:
            yield from shard.content.views

    def summary(self) -> dict[str, Any]:
        """Return the numbers of images, views, shards and bytes, and mean and
        largest relative error of storage of each level, in the 2-norm."""
        views = list(self.views())
        lost = np.array([view.error for view in views])
        numbers = Counter(view.number for view in views)
        return dict(
            images=len({view.image for view in views}),
            views=len(views),
            images_by_view=[numbers[k] for k in sorted(numbers)],
            shards=len(self.shards),
            bytes=self.num_bytes,
            mean_error=lost.mean(0).tolist() if views else [],
            max_error=lost.max(0).tolist() if views else [],
        )

    def stamps(self) -> dict[str, str]:
        """Return the digests of the image files by their ``images.stamp``."""
        return {k: x for view in self.views() for k, x in view.stamps.items()}

    def places(self, images: Images, num_views: int | None) -> np.ndarray:
        """Find the views of the images of a data set.

        Args:
            images: Images of the data set.
            num_views: Number of views of each image; None for the largest
                number that every image has.

        Returns:
            Number of the shard and row of each view, (images, views, 2)
            int64.

        Raises:
            ValueError: If an image has fewer views.
        """
        found = self.usable(images)
        wanted = num_views or 1
        if num_views is None:
            while found and all((d, wanted) in found for d in images.digests):
                wanted += 1
        fewer = sum(
            not all((digest, k) in found for k in range(wanted))
            for digest in images.digests
        )
        if fewer:
            raise ValueError(
                f'{self.folder} must hold {wanted} views of each of '
                f'{len(images.digests):,} images, got fewer of {fewer:,}. '
                f'Fill it: mmfrozen cache fill CONFIG --out {self.folder} '
                f'--views {wanted}'
            )
        return np.array(
            [
                [found[digest, k] for k in range(wanted)]
                for digest in images.digests
            ],
            np.int64,
        )

    def usable(self, images: Images) -> dict[tuple[str, int], tuple[int, int]]:
        """Return shard and row by image digest and view number, for the views
        that show an image of the data set."""
        current = set(images.digests)
        return {
            (view.image, view.number): (number, row)
            for number, shard in enumerate(self.shards)
            for row, view in enumerate(shard.content.views)
            if view.source in current
        }

    def check(
        self, progress: Callable[[Iterable[Any]], Iterable[Any]] = lambda x: x
    ) -> None:
        """Compare every view with its checksum, which reads all shards.

        Raises:
            ValueError: At the first view whose checksum differs.
        """
        for shard in progress(self.shards):
            for row in range(len(shard.content.views)):
                shard.check(row)
        self.is_checked = True

    def put_on(self, device: torch.device) -> None:
        """Copy all features to a device, from which batches are then taken."""
        self._on_device = [
            [[part.to(device) for part in parts] for parts in shard.levels]
            for shard in self.shards
        ]

    def sample(self, place: Sequence[int]) -> Any:
        """Return the data sample of a view.

        The view is compared with its checksum, unless :meth:`check` has done
        so for all views.

        Args:
            place: Number of the shard, and row in it.

        Raises:
            ValueError: If the checksum differs.
        """
        shard, row = self.shards[place[0]], int(place[1])
        if not self.is_checked:
            shard.check(row)  # also brings its features into the page cache
        return decode(shard.sample(row))

    def features(
        self,
        places: Sequence[Sequence[int]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> Any:
        """Return the features of a batch in the container of the backbone.

        Args:
            places: Number of the shard and row in it, for each view.
            device: Device of the result.
            dtype: Dtype of the result.

        Returns:
            Feature maps (N, C, ...) of each level, or a single tensor.
        """
        levels = []
        for level in range(len(self.facts.levels)):
            count = len(self.shards[0].levels[level])
            parts = [
                self._batch(places, level, part, device)
                for part in range(count)
            ]
            levels.append(unpack(parts, dtype))
        if self.facts.container == 'tensor':
            return levels[0]
        return levels if self.facts.container == 'list' else tuple(levels)

    def _batch(
        self,
        places: Sequence[Sequence[int]],
        level: int,
        part: int,
        device: torch.device,
    ) -> Tensor:
        shards = self._on_device or [shard.levels for shard in self.shards]
        rows = [shards[shard][level][part][row] for shard, row in places]
        if device.type == 'cpu' or self._on_device:
            return torch.stack(rows)
        batch = torch.empty(
            (len(rows), *rows[0].shape), dtype=rows[0].dtype, pin_memory=True
        )
        torch.stack(rows, out=batch)
        return batch.to(device, non_blocking=True)


def find_damage(
    folder: Path,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = lambda x: x,
) -> tuple[list[str], int]:
    """Find damaged shards by reading the whole cache.

    Args:
        folder: Folder of the cache.
        progress: Function that wraps the files to show progress.

    Returns:
        One line for each damaged shard, and the number of all shards.

    Raises:
        FileNotFoundError: If the folder has no cache.
    """
    facts = _read_facts(folder)
    paths = sorted(folder.glob(f'*{SUFFIX}'))
    found = []
    for path in progress(paths):
        try:
            shard = _open(path, facts)
            for row in range(len(shard.content.views)):
                shard.check(row)
        except ValueError as error:
            found.append(str(error))
    return found, len(paths)


def _read_facts(folder: Path) -> Facts:
    facts = FACTS.read(folder) if folder.is_dir() else None
    if facts is None:
        raise FileNotFoundError(
            f'A feature cache must be a folder with {FACTS.name}, got '
            f'{str(folder)!r}. Fill one: mmfrozen cache fill CONFIG --out '
            f'{folder} --views 1'
        )
    return facts


def _open(path: Path, facts: Facts) -> Shard:
    shard = Shard(path)
    shapes = [list(parts[0].shape[1:]) for parts in shard.levels]
    if shard.content.key != facts.digest() or shapes != facts.levels:
        raise ValueError(
            f'{path} must belong to the cache in its folder, got a shard of '
            'another. Move it to another folder.'
        )
    return shard


def check_key(
    found: Mapping[str, str], wanted: Mapping[str, str], folder: Path
) -> None:
    """Check that a cache was filled for a run's weights, config and data.

    Args:
        found: Key of the cache.
        wanted: Key of the run.
        folder: Folder of the cache, for the message.

    Raises:
        ValueError: If a part of the key differs.
    """
    others = [n for n in wanted if found.get(n) != wanted[n]]
    if others:
        raise ValueError(
            f'{folder} must have been filled for this run, got other '
            f'{" and ".join(others)}. Fill another folder: mmfrozen cache '
            'fill CONFIG --out FOLDER'
        )
