"""This module finds the distinct images of a data set and their digests, by
which a cache recognises an image whose file was moved or changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson
from mmengine import fileio

ORJSON = (
    orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
)


class Images:
    """Distinct images of a data set, identified by their content.

    The digest of an image covers the bytes of its files and its annotations,
    but no paths, so that a data set can be moved, grow and shrink. A file
    whose name, size and modification time are known is not read again.

    Args:
        dataset: Initialised data set of MMDetection, also inside
            ``ClassBalancedDataset``, ``RepeatDataset``, ``ConcatDataset`` or
            a multi-image data set.
        known: Digests of files by their :func:`stamp`.

    Attributes:
        rows: (len(dataset),) int64, number of the image of each sample.
        places: Index of the first sample of each image.
        digests: Digest of each image.
        stamps: For each image, the digests of its files by their stamp.
        by_path: Digest of an image by the ``img_path`` of the data set.

    Raises:
        ValueError: If an image has no ``img_path``.
    """

    def __init__(
        self, dataset: Any, known: Mapping[str, str] | None = None
    ) -> None:
        samples = _samples(dataset)
        first: dict[tuple[int, int], int] = {}
        self.places: list[int] = []
        self.rows = np.zeros(len(samples), np.int64)
        for place, (base, number) in enumerate(samples):
            key = id(base), number
            if key not in first:
                first[key] = len(self.places)
                self.places.append(place)
            self.rows[place] = first[key]
        self.digests: list[str] = []
        self.stamps: list[dict[str, str]] = []
        self.by_path: dict[str, str] = {}
        for place in self.places:
            base, number = samples[place]
            info = base.get_data_info(number)
            stamps = _stamps(info, known or {})
            digest = _digest_info(info, stamps.values())
            self.digests.append(digest)
            self.stamps.append(stamps)
            self.by_path[info['img_path']] = digest

    def __len__(self) -> int:
        return len(self.places)

    def digest(self) -> str:
        """Return one digest of all images together."""
        text = ' '.join(sorted(set(self.digests)))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _samples(dataset: Any) -> list[tuple[Any, int]]:
    """Return for each sample the innermost data set and the index in it."""
    if hasattr(dataset, 'repeat_indices'):  # ClassBalancedDataset
        inner = _samples(dataset.dataset)
        return [inner[i] for i in dataset.repeat_indices]
    if hasattr(dataset, 'datasets'):  # ConcatDataset
        return [one for part in dataset.datasets for one in _samples(part)]
    for name in ('dataset', '_dataset'):  # num_batch_per_epoch has the latter
        if hasattr(dataset, name):
            inner = _samples(getattr(dataset, name))
            return [inner[i % len(inner)] for i in range(len(dataset))]
    return [(dataset, i) for i in range(len(dataset))]


def stamp(path: str) -> str:
    """Return name, size and modification time of a file as one text."""
    found = os.stat(path)
    return f'{os.path.basename(path)}|{found.st_size}|{found.st_mtime_ns}'


def _stamps(info: dict[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(info.get('img_path'), str):
        raise ValueError(
            'Each image of train_dataloader.dataset must have an img_path, '
            f'got {sorted(info)}. A feature cache needs files of images.'
        )
    found = {}
    for name in sorted(info):
        path = info[name]
        if not name.endswith('_path') or not isinstance(path, str):
            continue
        is_local = os.path.isfile(path)
        key = stamp(path) if is_local else path
        if is_local and key in known:
            found[key] = known[key]
        elif is_local or name == 'img_path':
            content = fileio.get(path)
            found[key] = hashlib.blake2b(content, digest_size=16).hexdigest()
    return found


def _digest_info(info: dict[str, Any], files: Iterable[str]) -> str:
    said = {
        name: value
        for name, value in info.items()
        if name != 'sample_idx' and not name.endswith('_path')
    }
    content = orjson.dumps(said, option=ORJSON, default=repr)
    state = hashlib.blake2b(content, digest_size=16)
    for one in files:
        state.update(one.encode())
    return state.hexdigest()
