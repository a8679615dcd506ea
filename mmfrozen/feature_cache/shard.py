"""This module writes and reads shards, the files of a feature cache; each is
written atomically and can be verified by its name and checksums."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from torch import Tensor

from ..atomic_write import write_bytes
from ..memory_limit import MAX_RECORD_BYTES

SUFFIX = '.safetensors'
DTYPES = {
    'F32': torch.float32,
    'F16': torch.float16,
    'BF16': torch.bfloat16,
    'U8': torch.uint8,
    'I64': torch.int64,
}
REMEDY = 'Remove it and fill again: mmfrozen cache fill.'


@dataclass(frozen=True)
class View:
    """Metadata of one view in the header of a shard.

    Attributes:
        image: Digest of the image that the view was drawn for.
        number: Number of the view among those of that image.
        source: Digest of the image that the view shows. It differs from
            ``image`` where the pipeline dropped the image and the data set
            took another.
        stamps: Digests of the image's files by their ``images.stamp``.
        error: Relative error of storage of each level, in the 2-norm.
        crc: CRC-32 of data sample and features.
    """

    image: str
    number: int
    source: str
    stamps: dict[str, str]
    error: list[float]
    crc: int = 0


@dataclass(frozen=True)
class Content:
    """Metadata of a shard, stored in its header.

    Attributes:
        key: Digest of the cache's facts, ``store.Facts.digest``.
        views: Metadata of the views, in the order of the rows.
    """

    key: str
    views: list[View]


def write_shard(
    folder: Path,
    key: str,
    views: Sequence[View],
    levels: Sequence[Sequence[Tensor]],
    samples: Sequence[bytes],
) -> Path:
    """Write views into a file that is named after its header.

    The header has the checksum of each row, and the file name is a digest of
    the header.

    Args:
        folder: Folder of the cache.
        key: Digest of the cache's facts.
        views: Metadata of the views; checksums are filled in here.
        levels: For each level, the tensors of ``storage.pack`` of all views.
        samples: Encoded data samples of the views.

    Returns:
        The path of the file.

    Raises:
        WriteError: If it cannot be written.
    """
    tensors = {
        f'{level}.{part}': tensor.contiguous()
        for level, parts in enumerate(levels)
        for part, tensor in enumerate(parts)
    }
    ends = torch.tensor([len(sample) for sample in samples]).cumsum(0)
    tensors['ends'] = ends
    truth = bytearray(b''.join(samples))
    tensors['samples'] = torch.frombuffer(truth, dtype=torch.uint8)
    rows = _Rows(tensors)
    checked = [replace(v, crc=rows.crc(i)) for i, v in enumerate(views)]
    text = msgspec.json.encode(Content(key, checked)).decode()
    content = safetensors.torch.save(tensors, {'mmfrozen': text})
    length = 8 + int.from_bytes(content[:8], 'little')
    path = folder / f'{_digest(content[:length])}{SUFFIX}'
    write_bytes(path, content)
    return path


class _Rows:
    """Tensors of a shard, with access by row."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._ends = [0, *tensors['ends'].tolist()]
        self._samples = tensors['samples']
        names = [n for n in tensors if n not in ('ends', 'samples')]
        count = 1 + max((int(n.partition('.')[0]) for n in names), default=-1)
        self.levels = [
            [tensors[n] for n in sorted(names) if n.startswith(f'{level}.')]
            for level in range(count)
        ]

    def sample(self, row: int) -> bytes:
        """Return the encoded data sample of a row."""
        part = self._samples[self._ends[row] : self._ends[row + 1]]
        return part.numpy().tobytes()

    def crc(self, row: int) -> int:
        """Return the CRC-32 of a row's data sample and features."""
        found = zlib.crc32(self.sample(row))
        for parts in self.levels:
            for part in parts:
                content = part[row].reshape(-1).view(torch.uint8)
                found = zlib.crc32(content.numpy(), found)
        return found


class Shard(_Rows):
    """File of views, mapped into memory.

    Args:
        path: Path of the file.

    Attributes:
        path: Path of the file.
        content: Metadata of the shard and its views.
        levels: For each level, the tensors of ``storage.pack``, (rows, ...).

    Raises:
        ValueError: If the file is truncated or its header is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            super().__init__(self._read())
            rows = {len(part) for parts in self.levels for part in parts}
            if {*rows, len(self._ends) - 1} != {len(self.content.views)}:
                raise ValueError(f'{rows} rows')
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
            RecursionError,
            MemoryError,
            msgspec.MsgspecError,
        ) as error:
            raise ValueError(
                f'{path} must be a complete shard of a feature cache, got '
                f'{str(error).partition(chr(10))[0][:200]}. {REMEDY}'
            ) from error

    def _read(self) -> dict[str, Tensor]:
        size = self.path.stat().st_size
        with self.path.open('rb') as file:
            start = file.read(8)
            length = int.from_bytes(start, 'little')
            if not 0 < length <= min(size - 8, MAX_RECORD_BYTES):
                raise ValueError('no header')
            text = file.read(length)
        if _digest(start + text) != self.path.stem:
            raise ValueError('a header that does not match its name')
        header = json.loads(text)
        about = header.pop('__metadata__')['mmfrozen']
        self.content: Content = msgspec.json.decode(about, type=Content)
        ends = [int(one['data_offsets'][1]) for one in header.values()]
        if 8 + length + max(ends) != size:
            raise ValueError(f'{size:,} bytes of {8 + length + max(ends):,}')
        storage = torch.UntypedStorage.from_file(str(self.path), False, size)
        data = torch.empty(0, dtype=torch.uint8).set_(storage)[8 + length :]
        return {name: _view(data, one) for name, one in header.items()}

    def check(self, row: int) -> None:
        """Compare a row with its checksum, which reads it from the disk.

        Raises:
            ValueError: If the checksum differs.
        """
        if self.crc(row) != self.content.views[row].crc:
            raise ValueError(
                f'{self.path} must be unchanged since it was written, got '
                f'other bits in view {row} of {len(self.content.views)}. '
                f'{REMEDY}'
            )


def _view(data: Tensor, about: dict[str, Any]) -> Tensor:
    begin, end = about['data_offsets']
    if not 0 <= begin <= end:
        raise ValueError('no place for its tensors')
    return data[begin:end].view(DTYPES[about['dtype']]).view(about['shape'])


def _digest(header: bytes) -> str:
    return hashlib.blake2b(header, digest_size=16).hexdigest()
