"""How fast a folder's disk writes and reads, in a short measurement."""

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
#: A first read that takes less than this many times a second one, which is
#: served from memory, came from memory too.
SAME = 1.5


@dataclass(frozen=True)
class Disk:
    """A folder's disk.

    Attributes:
        folder: Where the cache would lie.
        free: Bytes.
        write_rate: Bytes a second, until they are on the disk; None if it
            was not measured. The next likewise.
        read_rate: Bytes a second, views in random order, once.
        memory_rate: The same, once more: from memory.
        is_memory: Whether ``read_rate`` is of memory too, since this system
            did not let go of what it had written.
    """

    folder: str
    free: int
    write_rate: float | None = None
    read_rate: float | None = None
    memory_rate: float | None = None
    is_memory: bool = False


def free_bytes(folder: Path) -> int:
    """Free bytes where a folder is or would be made."""
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def measure_disk(folder: Path, view_bytes: int, most: int = MAX_BYTES) -> Disk:
    """Write a file of views, and read them in random order.

    Args:
        folder: It is there; the file is removed.
        view_bytes: Of a view: of each read.
        most: Bytes that are written; a tenth of what is free at the most.

    Raises:
        ValueError: If the folder is missing, full, or cannot be written.
    """
    if not folder.is_dir():
        raise ValueError(
            f'--folder must be a folder that is there, got {folder}. Make it, '
            'or name another.'
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
            f'--folder must take {size * count:,} bytes for a moment, got '
            f'{error.strerror or error} in {folder}. Name another.'
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
    view = os.urandom(size)  # which no file system makes smaller
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
