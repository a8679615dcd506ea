"""This module measures in a short test how fast the disk of a folder writes
and reads, which can limit training from a cache."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
MAX_BYTES = 256 * MIB
#: The second read is served from memory. If the first one takes less than
#: this many times as long, it came from memory too.
SAME = 1.5


@dataclass(frozen=True)
class Disk:
    """Free space and speed of a folder's disk; rates are None if not measured.

    Attributes:
        folder: Folder in which the cache would be.
        free: Free bytes.
        write_rate: Bytes per second of writing, fsync included.
        read_rate: Bytes per second of a first read of views in random order.
        memory_rate: Bytes per second of a second read, from memory.
        is_memory: Whether ``read_rate`` is a rate of memory too, since the
            system kept the written file in its page cache.
    """

    folder: str
    free: int
    write_rate: float | None = None
    read_rate: float | None = None
    memory_rate: float | None = None
    is_memory: bool = False


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk on which a folder is or would be."""
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def measure_disk(folder: Path, view_bytes: int, most: int = MAX_BYTES) -> Disk:
    """Time writing a file of views and reading them in random order.

    Args:
        folder: Existing folder; the file in it is temporary.
        view_bytes: Bytes of a view, which are those of one read.
        most: Upper limit of the bytes that are written; a tenth of the free
            bytes is another.

    Returns:
        Free space and rates of the disk.

    Raises:
        ValueError: If the folder is missing, full, or cannot be written.
    """
    if not folder.is_dir():
        raise ValueError(
            f'--folder must be an existing folder, got {folder}. Create it, '
            'or give another one.'
        )
    free = free_bytes(folder)
    size = min(view_bytes, most, max(free // 10, 1))
    count = max(1, min(most, free // 10) // size)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            number = file.fileno()
            write = _write(number, size, count)
            if hasattr(os, 'posix_fadvise'):
                os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            read, again = (_read(number, size, count) for _ in range(2))
    except OSError as error:
        raise ValueError(
            f'--folder must have room for {size * count:,} temporary bytes, '
            f'got {error.strerror or error} in {folder}. Name another.'
        ) from error
    nbytes = size * count
    return Disk(
        str(folder),
        free,
        nbytes / write,
        nbytes / read,
        nbytes / again,
        read < SAME * again,
    )


def _write(number: int, size: int, count: int) -> float:
    view = os.urandom(size)  # no file system can compress it
    start = time.perf_counter()
    for index in range(count):
        os.pwrite(number, view, index * size)
    os.fsync(number)
    return time.perf_counter() - start


def _read(number: int, size: int, count: int) -> float:
    order = random.Random(0).sample(range(count), count)  # noqa: S311
    start = time.perf_counter()
    for index in order:
        os.pread(number, size, index * size)
    return time.perf_counter() - start
