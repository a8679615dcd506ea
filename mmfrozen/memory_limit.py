"""Raise an error for files that would exhaust the memory of the machine."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUP = Path('/sys/fs/cgroup/memory.max')
#: Maximum size in bytes of a record in a work dir; real ones take megabytes.
MAX_RECORD_BYTES = 1 << 28


@contextlib.contextmanager
def memory_limit(*, mapped: int = 0) -> Iterator[None]:
    """Limit the growth of this process to the free memory of the machine.

    A few bytes of JSON become a hundred bytes of Python objects. Beyond the
    limit MemoryError is raised; without it Linux would kill a process or stop
    responding. On other systems nothing is limited.

    Args:
        mapped: Bytes of a file that is memory-mapped inside the block, in
            addition to the limit.
    """
    if sys.platform != 'linux':
        yield
        return
    import resource

    process = psutil.Process().memory_info()
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = process.vms + _free(process.rss) + mapped
    known = [x for x in before if x != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most, *known]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _free(resident: int) -> int:
    """Return the free memory of the machine or the container, in bytes."""
    free: int = psutil.virtual_memory().available
    try:
        return max(min(free, int(CGROUP.read_text()) - resident), 0)
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def check_fits(path: Path) -> None:
    """Refuse a file that is larger than the free memory.

    Some libraries abort the process when they run out of memory.

    Raises:
        ValueError: If it is larger.
    """
    size, free = path.stat().st_size, _free(psutil.Process().memory_info().rss)
    if size > free:
        raise ValueError(
            f'{path} must fit into memory, got {size:,} bytes where '
            f'{free:,} are free. Use a machine with more, or split the file.'
        )


def read_record(path: Path, remedy: str) -> bytes:
    """Read a record of a run, unless it is too large to be one.

    Args:
        path: The file.
        remedy: Last sentence of the error.

    Raises:
        ValueError: If it is larger than ``MAX_RECORD_BYTES``.
    """
    size = path.stat().st_size
    if size > MAX_RECORD_BYTES:
        raise ValueError(
            f'{path} must have at most {MAX_RECORD_BYTES:,} bytes, got '
            f'{size:,}. {remedy}'
        )
    return path.read_bytes()
