"""Files that would fill the memory of the machine end in an error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUP = Path('/sys/fs/cgroup/memory.max')
#: Bytes of a file that a run leaves in its work dir, which are megabytes.
MOST_OF_A_RECORD = 1 << 28


@contextlib.contextmanager
def memory_limit(*, mapped: int = 0) -> Iterator[None]:
    """Let this process grow by the free memory of the machine, not more.

    A few bytes of JSON become a hundred of Python objects. What needs more
    than there is raises MemoryError here, where Linux would end some process
    or stop to respond. Other systems are left to their own ways.

    Args:
        mapped: Bytes of a file that is mapped meanwhile, and not held.
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
    """Bytes that the machine, or the container, has left."""
    free: int = psutil.virtual_memory().available
    try:
        return max(min(free, int(CGROUP.read_text()) - resident), 0)
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def check_fits(path: Path) -> None:
    """Refuse a file with more bytes than the machine has left.

    For what is read by libraries that end the process without memory.

    Raises:
        ValueError: If it has.
    """
    size, free = path.stat().st_size, _free(psutil.Process().memory_info().rss)
    if size > free:
        raise ValueError(
            f'{path} must fit into memory, got {size:,} bytes where '
            f'{free:,} are free. Use a machine with more, or split the file.'
        )


def read_record(path: Path, remedy: str) -> bytes:
    """Read a file that is small if it is what it should be.

    Args:
        path: The file.
        remedy: What to do if it is not.

    Raises:
        ValueError: If it is large.
    """
    size = path.stat().st_size
    if size > MOST_OF_A_RECORD:
        raise ValueError(
            f'{path} must have at most {MOST_OF_A_RECORD:,} bytes, got '
            f'{size:,}. {remedy}'
        )
    return path.read_bytes()
