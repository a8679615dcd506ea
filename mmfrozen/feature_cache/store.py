"""A folder of shards: the views of the images of a data set."""

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
    """``FOLDER/cache.json``: what all views of a cache have in common.

    Attributes:
        key: Digests of what features depend on, by name: ``key.key_of``.
        storage: Of ``storage.STORAGES``.
        forward: ``'fp32'`` or ``'bf16'``: dtype of the forward pass.
        seed: Of the views.
        image_shape: Of a view: channels, height, width.
        levels: Shapes of the feature maps of one view.
        container: What the backbone returns: ``'tuple'``, ``'list'`` or
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
        """That the shards of the cache carry."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


FACTS = RunFile('cache.json', Facts, 'mmfrozen cache fill')


class FeatureStore:
    """Reads the views of a cache.

    Copies in other processes open the files by themselves.

    Args:
        folder: Of the cache.

    Attributes:
        folder: Of the cache.
        facts: What all views have in common.
        shards: Its files.
        is_checked: Whether all views were compared with their checksums.

    Raises:
        FileNotFoundError: If there is no cache.
        ValueError: If a file is not whole, or of another cache.
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
        """Of all shards."""
        return sum(shard.path.stat().st_size for shard in self.shards)

    def views(self) -> Iterator[View]:
        """What the shards say of their views."""
        for shard in self.shards:
            yield from shard.content.views

    def summary(self) -> dict[str, Any]:
        """Numbers of images, views and bytes, and what storage has lost:
        mean and largest relative error of a level, in the 2-norm."""
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
        """Digests of files that were read, by ``images.stamp``."""
        return {k: x for view in self.views() for k, x in view.stamps.items()}

    def places(self, images: Images, num_views: int | None) -> np.ndarray:
        """Find the views of the images of a data set.

        Args:
            images: Of the data set.
            num_views: Of each image; None for all that every image has.

        Returns:
            (images, views, 2) int64, shard and row.

        Raises:
            ValueError: If views are missing.
        """
        found = self.usable(images)
        wanted = num_views or 1
        if num_views is None:
            while all((d, wanted) in found for d in images.digests):
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
        """Shard and row by digest of the image and number of the view, of
        the views that show an image of the data set."""
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
        """Compare every view with its checksum, which reads all files.

        Raises:
            ValueError: At the first whose bits are others.
        """
        for shard in progress(self.shards):
            for row in range(len(shard.content.views)):
                shard.check(row)
        self.is_checked = True

    def put_on(self, device: torch.device) -> None:
        """Keep all features on a device."""
        self._on_device = [
            [[part.to(device) for part in parts] for parts in shard.levels]
            for shard in self.shards
        ]

    def sample(self, place: Sequence[int]) -> Any:
        """The data sample of a view, compared with its checksum.

        Args:
            place: Shard and row.

        Raises:
            ValueError: If bits are others.
        """
        shard, row = self.shards[place[0]], int(place[1])
        if not self.is_checked:
            shard.check(row)  # and its features are in memory by now
        return decode(shard.sample(row))

    def features(
        self,
        places: Sequence[Sequence[int]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> Any:
        """The features of a batch, as the backbone returns them.

        Args:
            places: Shard and row of each view.
            device: To put them on.
            dtype: To give them.
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
    """Read all shards of a cache.

    Args:
        folder: Of the cache.
        progress: Wraps the files.

    Returns:
        A line for each that is not what was written, and how many there are.

    Raises:
        FileNotFoundError: If there is no cache.
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
            'another. Move it out.'
        )
    return shard


def check_key(
    found: Mapping[str, str], wanted: Mapping[str, str], folder: Path
) -> None:
    """Refuse a cache of something else.

    Args:
        found: Key of the cache.
        wanted: Key of the run.
        folder: Of the cache.

    Raises:
        ValueError: If they differ.
    """
    others = [n for n in wanted if found.get(n) != wanted[n]]
    if others:
        raise ValueError(
            f'{folder} must have been filled with what this run has, got '
            f'other {" and ".join(others)}. Fill another folder: mmfrozen '
            'cache fill CONFIG --out FOLDER'
        )
