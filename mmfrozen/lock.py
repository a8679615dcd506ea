"""This module locks files and folders against other processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class InUseError(BlockingIOError):
    """Another process has the lock."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Lock an existing file or folder; yield the descriptor with the lock.

    The lock ends with the processes that have the descriptor, which a child
    process can inherit.

    Raises:
        InUseError: If another process has locked it.
        OSError: If the file system has no locks.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(*error.args) from error
        yield handle
    finally:
        os.close(handle)
